"""Runs Great Expectations suites on frames and leaves Data Docs in the workspace.

Every call has a file context of its own (suites as JSON, validation results, the HTML site), built under a temporary
name and renamed, so that pages never grow with the number of validations. For data that is not open, unexpected values
stay out of results and pages; rows are named by their ids.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_checks.findings import NAMED_IN_DETAILS
from data_checks.tables import ROW_NAME

if TYPE_CHECKING:
    import pandas as pd

_SITE = Path("gx", "uncommitted", "data_docs", "local_site")


@dataclass(frozen=True)
class Suite:
    """Expectations about a frame that has the column `ROW_NAME`; every expectation has a description.

    Attributes:
        name: what the frame is called in messages and Data Docs.
    """

    name: str
    frame: pd.DataFrame
    expectations: Sequence[Any]


@dataclass(frozen=True)
class Fault:
    """An expectation that was not met, the number of rows at fault and the names of the first."""

    text: str
    count: int
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Validation:
    """Result of some suites; `docs` is the index page of their Data Docs, None where pages might hold restricted values."""

    faults: tuple[Fault, ...]
    docs: Path | None


def validate(docs: Path, name: Path, suites: Sequence[Suite], *, restricted: bool) -> Validation:
    """Run suites and publish their Data Docs as `docs / name`, replacing what is there.

    Args:
        docs: `<workspace>/data_docs`.
        name: relative folder of this output, check and data version.
        suites: at least one; names differ.
        restricted: whether unexpected values must not be shown.
    """
    final = docs / name
    building = final.with_name(f".building-{final.name}-{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        outcomes = _run(building, suites, restricted)
        faults = tuple(_fault(suite, r, restricted) for suite, results in outcomes for r in results if not r.success)
        shutil.rmtree(final, ignore_errors=True)
        if restricted and any(_raised(r) for _, results in outcomes for r in results):  # pages quote tracebacks, those may quote values
            return Validation(faults, None)
        _share_static(building / _SITE, final / _SITE, docs / "static")
        os.replace(building, final)
        return Validation(faults, final / _SITE / "index.html")
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _run(project: Path, suites: Sequence[Suite], restricted: bool) -> list[tuple[str, list[Any]]]:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    gx = importlib.import_module("great_expectations")  # it declares types for a part of its names only
    update_data_docs = importlib.import_module("great_expectations.checkpoint").UpdateDataDocsAction

    context = gx.get_context(mode="file", project_root_dir=str(project))
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("workspace")
    shown = {
        "result_format": "SUMMARY",
        "partial_unexpected_count": NAMED_IN_DETAILS,
        "unexpected_index_column_names": [ROW_NAME],
        "exclude_unexpected_values": restricted,
    }
    outcomes = []
    for suite in suites:
        batch = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("whole")
        stored = context.suites.add(gx.ExpectationSuite(suite.name, expectations=list(suite.expectations)))
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=suite.name, data=batch, suite=stored))
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name=suite.name, validation_definitions=[definition], actions=[update_data_docs(name="data_docs")], result_format=shown
            )
        )
        run = checkpoint.run(batch_parameters={"dataframe": suite.frame})
        outcomes.append((suite.name, [r for results in run.run_results.values() for r in results.results]))
    return outcomes


def _raised(result: Any) -> bool:
    information = result.exception_info or {}
    return bool(information.get("raised_exception", bool(information)))


def _fault(suite: str, result: Any, restricted: bool) -> Fault:
    expectation = f'"{result.expectation_config.description}"'
    if _raised(result):
        why = "" if restricted else f" ({str(result.exception_info)[-200:]})"
        return Fault(f"{suite}: {expectation} could not be evaluated{why}", 0, ())
    values = result.result
    if "unexpected_count" not in values:
        observed = values.get("observed_value")
        found = f" (found {float(observed):.6g})" if isinstance(observed, (int, float)) else ""
        return Fault(f"{suite}: {expectation} does not hold{found}", 0, ())
    rows: list[str] = []
    for entry in values.get("partial_unexpected_index_list") or []:
        name = entry[ROW_NAME]  # where values are excluded there is one entry with a list of names
        rows += [str(n) for n in name] if isinstance(name, list) else [str(name)]
    count = int(values["unexpected_count"])
    return Fault(f"{suite}: {count} rows break {expectation}", count, tuple(rows[:NAMED_IN_DETAILS]))


def _share_static(built: Path, final: Path, shared: Path) -> None:
    """Keep one copy of the site's pictures and fonts (4 MB) for all sites of the workspace."""
    static = built / "static"
    try:
        os.rename(static, shared)
    except OSError:  # another site has brought them already
        shutil.rmtree(static)
    static.symlink_to(os.path.relpath(shared, final))
