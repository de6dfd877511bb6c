"""Whether this installation can do its work, and whether data is what it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from assets.dataset import Dataset, get_dataset, list_datasets
from assets.outputs import Key, OutputError, Workspace, sha256_file, verify
from assets.settings import Settings, load
from models.errors import EinthovenError
from orchestration.versioning import current_outputs

_FREE_BYTES_WANTED = 5 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    state: Literal["ok", "note", "bad"]
    what: str
    text: str


def examine() -> list[Finding]:
    """Look at everything; a look that fails is a finding, not an error."""
    settings = load()
    looks: list[tuple[str, Callable[[Settings], Finding]]] = [
        ("workspace", _workspace),
        ("selection parser", _selection_parser),
        ("definitions", _definitions),
        ("torch", _torch),
        ("MLflow", _mlflow),
    ]
    findings = []
    for what, look in looks:
        try:
            findings.append(look(settings))
        except Exception as error:
            findings.append(Finding("bad", what, f"{type(error).__name__}: {error}"))
    return findings + [_dataset(settings, name) for name in list_datasets()]


def _workspace(settings: Settings) -> Finding:
    settings.home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.home).free
    if not os.access(settings.home, os.W_OK):
        return Finding("bad", "workspace", f"{settings.home} is not writable; set EINTHOVEN_HOME to a folder that is")
    state: Literal["ok", "bad"] = "ok" if free > _FREE_BYTES_WANTED else "bad"
    return Finding(state, "workspace", f"{settings.home}, {free / 2**30:.0f} GiB free")


def _selection_parser(_: Settings) -> Finding:
    """Dagster's asset selection parser breaks when another package has pulled in an older antlr runtime."""
    import dagster as dg

    dg.AssetSelection.from_string('key:"raw/*"')
    return Finding("ok", "selection parser", "asset selections parse")


def _definitions(_: Settings) -> Finding:
    from orchestration.definitions import defs

    return Finding("ok", "definitions", f"{len(list(defs.resolve_asset_graph().get_all_asset_keys()))} assets load")


def _torch(_: Settings) -> Finding:
    import torch

    device = (
        torch.cuda.get_device_name(0)
        if torch.cuda.is_available()
        else "no GPU: training runs on the CPU, presets other than tiny will be slow"
    )
    return Finding("ok" if torch.cuda.is_available() else "note", "torch", f"{torch.__version__}, {device}")


def _mlflow(settings: Settings) -> Finding:
    from assets.tracking import ensure_database

    ensure_database(settings)
    import mlflow

    mlflow.MlflowClient(settings.tracking_uri).search_experiments(max_results=1)
    return Finding("ok", "MLflow", f"{settings.tracking_uri} answers")


def _dataset(settings: Settings, name: str) -> Finding:
    dataset = get_dataset(name)
    folder = settings.dataset_folder(name)
    what = f"dataset {name}"
    if not folder.is_dir():
        if dataset.simulated:
            return Finding("ok", what, "is made on first use")
        return Finding("note", what, f"not at {folder}; {dataset.source.terms} {_remedy(dataset)}")
    try:
        present = sum(dataset(folder).present(dataset(folder).records()["record_id"].tolist()))
    except EinthovenError as error:
        return Finding("bad", what, str(error))
    return Finding("ok" if present else "bad", what, f"{present} records at {folder}")


def _remedy(dataset: type[Dataset]) -> str:
    named = f"name its folder in settings.yaml as `datasets.{dataset.name}`"
    return (
        f"Then {named}"
        if dataset.source.download.credentials == "manual"
        else f"`einthoven data download {dataset.name}` fetches it; or {named}"
    )


def verify_dataset(name: str) -> Iterator[tuple[str, str | None]]:
    """Compare every file of a dataset and of everything current that was made from it with what was recorded.

    Yields:
        What was compared, and the fault found or None.
    """
    import pandas as pd

    settings = load()
    workspace = Workspace(settings.home)
    raw = workspace.require(Key(("raw", name)))
    folder = settings.dataset_folder(name)
    files = pd.read_parquet(raw.path("files.parquet"))
    faults = 0
    for row in files.itertuples():
        path = folder / str(row.path)
        if not path.is_file():
            faults += 1
            yield str(path), f"{path} is missing"
        elif sha256_file(path) != row.sha256:
            faults += 1
            yield str(path), f"{path} has changed since it was scanned; if that is intended, materialise raw/{name} again"
    if not faults:
        yield f"{folder}: {len(files)} files", None
    for output in current_outputs(workspace, name):
        try:
            verify(output)
            yield str(output.key), None
        except OutputError as error:
            yield str(output.key), str(error)
