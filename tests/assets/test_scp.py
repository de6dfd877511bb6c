"""SCP statements and label tables: class counts, the label rules, and the record counts of the published protocol."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from assets.dataset import DatasetError
from assets.scp import (
    STATEMENTS,
    SUBCLASS_NAMES,
    SUPER_SINGLE,
    SUPERCLASS_NAMES,
    TASK_TITLES,
    class_names,
    label_set,
    label_table,
    task_classes,
)
from models.errors import ConfigurationError

CLASSES = {"all": 71, "diag": 44, "sub": 23, "super": 5, "form": 19, "rhythm": 12}
RECORDS = {
    "all": (17_418, 2_183, 2_198),
    "diag": (17_084, 2_146, 2_158),
    "sub": (17_084, 2_146, 2_158),
    "super": (17_084, 2_146, 2_158),
    "super_single": (12_957, 1_637, 1_650),
    "form": (7_197, 901, 880),
    "rhythm": (16_832, 2_100, 2_098),
}
"""Training, validation and test records of PTB-XL 1.0.3 (Strodthoff et al., IEEE JBHI 2020, recounted)."""


@pytest.mark.parametrize("task", TASK_TITLES)
def test_class_counts_order_and_names(task: str) -> None:
    classes = task_classes(task)
    assert len(classes) == CLASSES[task]
    assert list(classes) == sorted(classes)
    names = class_names(task)
    assert tuple(names) == classes
    assert all(name and name != code for code, name in names.items())


def test_groups_cover_every_statement() -> None:
    assert all(s.diagnostic or s.form or s.rhythm for s in STATEMENTS.values())
    assert all((s.superclass is not None) == s.diagnostic == (s.subclass is not None) for s in STATEMENTS.values())
    assert {s.superclass for s in STATEMENTS.values()} - {None} == set(SUPERCLASS_NAMES)
    assert {s.subclass for s in STATEMENTS.values()} - {None} == set(SUBCLASS_NAMES)
    assert {s.code for s in STATEMENTS.values() if s.form and s.diagnostic} == {"DIG", "LNGQT", "NDT", "NST_"}


def test_two_codes_of_one_superclass_give_one_positive() -> None:
    table = label_table({"a": ["IMI", "ASMI", "SR"], "b": ["NORM"], "c": ["SR"]}, "super")
    assert list(table["record_id"]) == ["a", "b"]
    assert list(table.columns) == ["record_id", "CD", "HYP", "MI", "NORM", "STTC"]
    assert table.iloc[:, 1:].to_numpy().tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]
    assert (table.dtypes.iloc[1:] == "int8").all()


def test_a_record_of_two_superclasses_has_no_single_one() -> None:
    """Two statements of one class are one class; form and rhythm do not count."""
    table = label_table({"a": ["IMI", "ASMI", "SR"], "b": ["NORM", "LVH"], "c": ["SR", "PVC"], "d": ["NORM", "PVC"]}, SUPER_SINGLE)
    assert list(table["record_id"]) == ["a", "d"]
    assert list(table.columns) == ["record_id", "CD", "HYP", "MI", "NORM", "STTC"]
    assert table.iloc[:, 1:].to_numpy().tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]


def test_every_table_holds_the_label_sets() -> None:
    records = {f"r{i}": sorted(STATEMENTS)[i : i + 3] for i in range(60)}
    for task in TASK_TITLES:
        table = label_table(records, task).set_index("record_id")
        sets = {r: label_set(codes, task) for r, codes in records.items()}
        assert set(table.index) == {r for r, s in sets.items() if s}
        for record_id, row in table.iterrows():
            assert {c for c in table.columns if row[c]} == sets[str(record_id)]


def test_unknown_codes_name_the_records() -> None:
    with pytest.raises(DatasetError, match=r"'XYZ' in r1, r3"):
        label_table({"r1": ["XYZ"], "r2": ["SR"], "r3": ["XYZ", "SR"]}, "form")


def test_unknown_task() -> None:
    with pytest.raises(ConfigurationError, match="'diagnosis'"):
        task_classes("diagnosis")


def test_no_record_at_all_keeps_the_columns() -> None:
    assert label_table({}, "rhythm").shape == (0, 13)


def test_published_record_counts(shared_data: Path) -> None:
    with gzip.open(shared_data / "ptb-xl-full" / "labels.csv.gz", "rt", newline="") as stream:
        rows = list(csv.DictReader(stream))
    codes = {row["ecg_id"]: row["scp_codes"].split() for row in rows}
    fold = {row["ecg_id"]: int(row["strat_fold"]) for row in rows}
    for task, expected in RECORDS.items():
        folds = label_table(codes, task)["record_id"].map(fold)
        assert ((folds <= 8).sum(), (folds == 9).sum(), (folds == 10).sum()) == expected, task
    table = label_table(codes, "super")
    test = table[table["record_id"].map(fold) == 10]
    assert test.iloc[:, 1:].sum().to_dict() == {"CD": 496, "HYP": 262, "MI": 550, "NORM": 963, "STTC": 521}
    single = label_table(codes, SUPER_SINGLE)
    assert single.equals(table[table.iloc[:, 1:].sum(axis=1) == 1].reset_index(drop=True))


def test_statement_table_of_the_source(shared_data: Path) -> None:
    with (shared_data / "ptb-xl" / "scp_statements.csv").open(newline="") as stream:
        rows = {row[""]: row for row in csv.DictReader(stream)}
    assert set(rows) == set(STATEMENTS)
    for code, s in STATEMENTS.items():
        row = rows[code]
        assert (s.diagnostic, s.form, s.rhythm) == tuple(row[c] == "1.0" for c in ("diagnostic", "form", "rhythm"))
        assert (s.superclass or "", s.subclass or "") == (row["diagnostic_class"], row["diagnostic_subclass"])
