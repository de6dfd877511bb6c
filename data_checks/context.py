"""What a check is given: the output, its dataset, what it was made from, and a way to run suites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.access import Access
from assets.dataset import Dataset, get_dataset
from assets.outputs import Key, Output, Workspace
from data_checks.findings import Findings
from data_checks.lineage import origin
from data_checks.tables import Kind, compare_columns, read_table, to_frame

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_BY_NAME = ("raw", "cleaned", "labels", "reports", "questions")
"""Stages whose outputs are named after their dataset; what belongs to a method is partitioned by dataset."""
_SHARED = ("prompts", "pairing")


def dataset_of(key: Key) -> type[Dataset] | None:
    """The dataset that an output belongs to; None for outputs that all datasets share.

    Raises:
        ConfigurationError: it belongs to a dataset that does not exist.
    """
    if key.stage in _SHARED:
        return None
    return get_dataset(key.parts[1] if key.stage in _BY_NAME else str(key.partition))


@dataclass(frozen=True)
class TableRules:
    """What is expected of one table.

    Attributes:
        name: what it is called in messages and Data Docs; a file name.
        table: as read.
        columns: declared kind by column name.
        named_by: the column whose values name rows.
        expectations: makes the GX expectations about values.
        derive: adds columns to the frame that expectations need, after the columns were found to fit.
        exact: whether columns that are not declared are a fault.
    """

    name: str
    table: pa.Table
    columns: Mapping[str, Kind]
    named_by: str
    expectations: Callable[[], Sequence[Any]]
    derive: Callable[[pd.DataFrame], None] = lambda frame: None
    exact: bool = False


@dataclass
class CheckContext:
    """The surroundings of one run of a check."""

    workspace: Workspace
    output: Output
    check: str
    findings: Findings = field(default_factory=Findings)

    @cached_property
    def dataset(self) -> type[Dataset]:
        """The dataset's declaration."""
        dataset = dataset_of(self.output.key)
        assert dataset is not None, f"{self.output.key} belongs to no single dataset"
        return dataset

    @property
    def restricted(self) -> bool:
        """Whether values of the output must not be shown."""
        return self.output.access is not Access.OPEN

    def part(self, fold: int) -> str:
        """Which of train, validation and test a fold belongs to; "no part" for folds that the split does not name."""
        return self.dataset.part(fold)

    def origin(self, key: Key) -> Output:
        """The version of another output that this one was made from, else its current one.

        Raises:
            CheckError: it is not in the workspace.
        """
        return origin(self.workspace, self.output, key)

    def records(self, dataset: type[Dataset] | None = None) -> pd.DataFrame:
        """The records of a dataset (default: the output's) as the raw stage published them, indexed by record_id."""
        path = self.origin(Key(("raw", (dataset or self.dataset).name))).path("records.parquet")
        frame: pd.DataFrame = read_table(path).to_pandas().set_index("record_id", drop=False)
        return frame

    def validate(self, *rules: TableRules) -> dict[str, pd.DataFrame]:
        """Compare columns, then values, with what is declared; faults become problems.

        Returns:
            The frames, by name, of the tables whose columns fit; only their values were looked at.
        """
        from data_checks.suites import columns_suite, declared_columns
        from data_checks.validation import Suite, validate

        suites: list[Suite] = []
        frames: dict[str, pd.DataFrame] = {}
        for rule in rules:
            columns = compare_columns(rule.table, rule.columns, exact=rule.exact)
            if not columns["fits_declaration"].all():
                suites.append(Suite(f"columns of {rule.name}", columns, columns_suite()))
                continue
            frame = to_frame(rule.table, rule.named_by)
            rule.derive(frame)
            frames[rule.name] = frame
            suites.append(Suite(rule.name, frame, [*declared_columns(list(rule.columns)), *rule.expectations()]))
        name = Path(*self.output.key.path.parts, self.check, self.output.data_version[:16])
        validation = validate(self.workspace.root / "data_docs", name, suites, restricted=self.restricted)
        for fault in validation.faults:
            self.findings.fail(fault.text, fault.rows, fault.count)
        if validation.docs is not None:
            self.findings.facts["data_docs"] = str(validation.docs)
        self.findings.facts["expectations"] = sum(len(s.expectations) for s in suites)
        return frames
