"""Labels that a user brings: what is accepted, what is refused and why, and that no version is ever lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from assets.access import Access
from assets.dataset import Dataset, Task, get_dataset
from assets.labels import make_labels
from assets.outputs import Built, Key, Output, Workspace
from assets.user_labels import Brought, Checked, check_labels, read_csv, run_query
from assets.user_tasks import (
    UserTaskError,
    add_user_task,
    find_user_task,
    remove_user_task,
    task_names,
    user_task_names,
    versions,
)
from assets.verdicts import BLOCKING, Verdict, save

DATASET: type[Dataset] = get_dataset("synthetic")


def records() -> pd.DataFrame:
    """Sixty records, six a fold."""
    ids = [f"r{i:02d}" for i in range(60)]
    return pd.DataFrame(
        {"record_id": ids, "patient_id": [f"p{i}" for i in range(60)], "fold": [i % 10 + 1 for i in range(60)], "age": 50.0}
    )


def publish_raw(home: Path) -> Output:
    def build(folder: Path) -> Built:
        records().to_parquet(folder / "records.parquet", index=False)
        return Built(rows=60)

    output = Workspace(home).publish(Key(("raw", "synthetic")), build, code_version="1", access=Access.OPEN)
    for check in BLOCKING["raw"]:
        save(Workspace(home), output, Verdict(check, True, ""))
    return output


def csv(folder: Path, text: str) -> Brought:
    path = folder / "labels.csv"
    path.write_text(text)
    return read_csv(path)


def wide(folder: Path, header: str = "record_id,AF,MI", **rows: str) -> Brought:
    """A file that labels every record, except where `rows` says otherwise."""
    lines = {f"r{i:02d}": f"{i // 10 % 2},{(i // 10 + 1) % 2}" for i in range(60)} | rows
    return csv(folder, header + "\n" + "".join(f"{r},{values}\n" for r, values in lines.items() if values))


def check(brought: Brought, negatives: bool | None = None) -> Checked:
    return check_labels(DATASET, records(), brought, "mine", "Mine", negatives)


def test_a_column_a_class(tmp_path: Path) -> None:
    found = check(wide(tmp_path))
    assert found.task == Task("mine", "Mine", ("AF", "MI"), {"AF": "AF", "MI": "MI"}, may_be_empty=False)
    assert list(found.table.columns) == ["record_id", "AF", "MI"]
    assert [str(t) for t in found.table.dtypes[1:]] == ["int8", "int8"]
    assert found.table["record_id"].tolist() == records()["record_id"].tolist()
    assert found.table["AF"].tolist() == [i // 10 % 2 for i in range(60)]
    assert found.positives["AF"] == {"train": 24, "validation": 3, "test": 3}
    assert found.notes == []


def test_one_class_a_record(tmp_path: Path) -> None:
    lines = [f"r{i:02d},{'rest' if i // 10 % 2 else 'sport'}" for i in range(60)]
    found = check(csv(tmp_path, "record_id,label\n" + "\n".join(lines)))
    assert found.task.classes == ("rest", "sport")
    assert (found.table["rest"] + found.table["sport"] == 1).all()


def test_classes_separated_by_semicolons(tmp_path: Path) -> None:
    codes = ["AF; MI", "MI", "", "AF"]
    lines = [f"r{i:02d},{codes[i // 10 % 4]}" for i in range(60)]
    brought = csv(tmp_path, "\ufeffrecord_id,codes\r\n" + "\r\n".join(lines))
    with pytest.raises(UserTaskError, match=r"10 records have no class at all \(first: r20, r21, r22 and 7 more\); pass --negatives"):
        check(brought)
    labelled, left_out = check(brought, negatives=True), check(brought, negatives=False)
    assert (len(labelled.table), labelled.task.may_be_empty) == (60, True)
    assert (len(left_out.table), left_out.task.may_be_empty) == (50, False)
    assert left_out.notes == ["10 records without any class are left out"]
    assert labelled.table.loc[0, ["AF", "MI"]].tolist() == [1, 1]


def test_a_part_of_the_records_in_any_order(tmp_path: Path) -> None:
    found = check(wide(tmp_path, **{f"r{i:02d}": "" for i in range(10, 30)}))
    assert len(found.table) == 40
    brought = wide(tmp_path)
    brought.table = brought.table.iloc[::-1]
    assert check(brought).table.equals(check(wide(tmp_path)).table)


REFUSED = {
    "unknown records": (
        {"x1": "0,1", "x2": "1,0"},
        {},
        r"labels 2 records that the dataset does not have: x1, x2; its ids look like 'r00'",
    ),
    "no 0 or 1": ({"r03": "0.5,1"}, {}, r"column 'AF' has 1 values other than 0 and 1 \(record r03: '0.5'\)"),
    "blank": ({"r03": ",1"}, {}, r"column 'AF' has 1 values other than 0 and 1 \(record r03: ''\)"),
    "cut row": ({"r03": "1"}, {}, "row 5 has 2 fields, the header 3"),
    "column twice": ({}, {"header": "record_id,AF,AF"}, "has the column 'AF' twice"),
    "no record_id": ({}, {"header": "ecg,AF,MI"}, "has the columns ecg, AF, MI; it needs record_id and either"),
    "label and more": ({}, {"header": "record_id,label,MI"}, r"has a column 'label' and others beside it \(MI\)"),
    "odd class": ({}, {"header": "record_id,AF,=cmd()"}, "'=cmd\\(\\)' cannot be a class's name"),
    "differ in case": ({}, {"header": "record_id,af,AF"}, "the classes AF, af differ in upper and lower case only"),
    "never in training": ({f"r{i:02d}": "0,1" for i in range(60) if i % 10 < 8}, {}, "no record of the training folds has AF"),
    "always in training": ({f"r{i:02d}": "1,1" for i in range(60)}, {}, "every labelled record of the training folds has AF, MI"),
    "nothing to judge": (
        {f"r{i:02d}": "" for i in range(60) if i % 10 == 9},
        {},
        "labels no record of test; training, choosing and judging",
    ),
}


@pytest.mark.parametrize(("rows", "options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_named(rows: dict[str, str], options: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserTaskError, match=said):
        check(wide(tmp_path, **options, **rows))


def test_a_record_twice_and_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserTaskError, match="has 1 records more than once: r01"):
        check(csv(tmp_path, "record_id,AF\nr01,1\nr01,0\n"))
    with pytest.raises(UserTaskError, match="has no rows"):
        check(csv(tmp_path, "record_id,AF\n"))
    with pytest.raises(UserTaskError, match="has the columns none"):
        check(csv(tmp_path, ""))
    with pytest.raises(UserTaskError, match=r"nowhere\.csv is missing"):
        read_csv(tmp_path / "nowhere.csv")
    (tmp_path / "x.csv").write_bytes(b"record_id,AF\nr\xff,1\n")
    with pytest.raises(UserTaskError, match="cannot be read as CSV in UTF-8"):
        read_csv(tmp_path / "x.csv")
    lines = "".join(f"r{i:02d},{'; '.join(f'text {i} {n}' for n in range(9))}\n" for i in range(60))
    with pytest.raises(UserTaskError, match="column 'codes' has 540 different values; is it free text"):
        check(csv(tmp_path, f"record_id,codes\n{lines}"))


def test_a_class_that_cannot_be_judged_is_told(tmp_path: Path) -> None:
    found = check(wide(tmp_path, **{f"r{i:02d}": "0,1" for i in range(60) if i % 10 == 9}))
    assert found.notes == ["no two different labels in test of AF, MI: it has no AUROC"]


def add(home: Path, folder: Path, access: Access = Access.OPEN, title: str = "Mine", **rows: str) -> int:
    found = check_labels(DATASET, records(), wide(folder, **rows), "mine", title, None)
    return add_user_task(home, DATASET, found.task, found.table, access, {"source": {"file": "labels.csv"}, "n_records": 60}).version


def test_versions_rise_and_none_is_lost(home: Path, tmp_path: Path) -> None:
    assert user_task_names(home, "synthetic") == []
    assert add(home, tmp_path) == 1
    assert add(home, tmp_path) == 1, "the same again is the same"
    assert add(home, tmp_path, r00="1,0") == 2
    assert add(home, tmp_path, r00="1,0", title="Other") == 3
    assert task_names(DATASET, home) == [*DATASET.task_names, "mine"]
    remove_user_task(home, "synthetic", "mine")
    assert (user_task_names(home, "synthetic"), find_user_task(home, "synthetic", "mine")) == ([], None)
    assert versions(home, "synthetic", "mine") == [1, 2, 3]
    first = find_user_task(home, "synthetic", "mine", 1)
    assert first is not None
    assert first.labels()["AF"].tolist() == [i // 10 % 2 for i in range(60)]
    assert add(home, tmp_path) == 4
    with pytest.raises(UserTaskError, match="no task 'other' was added to synthetic; added were mine"):
        remove_user_task(home, "synthetic", "other")


def test_an_addition_that_was_cut_off_changes_nothing(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(home, tmp_path)

    def fail(*_: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr("assets.user_tasks.os.rename", fail)
        with pytest.raises(UserTaskError, match=r"cannot take version 2 \(no space\); nothing was changed"):
            add(home, tmp_path, r00="1,0")
    found = find_user_task(home, "synthetic", "mine")
    assert found is not None
    assert found.version == 1
    assert add(home, tmp_path, r00="1,0") == 2


def test_a_table_that_was_altered_is_not_used(home: Path, tmp_path: Path) -> None:
    add(home, tmp_path)
    found = find_user_task(home, "synthetic", "mine")
    assert found is not None
    path = found.folder / "labels.parquet"
    table = pd.read_parquet(path)
    table["AF"] = 1 - table["AF"]
    table.to_parquet(path, index=False)
    with pytest.raises(UserTaskError, match="is not the table that was added; add it again"):
        found.labels()
    path.write_bytes(b"nothing")
    with pytest.raises(UserTaskError, match="cannot be read"):
        found.labels()
    note = found.folder / "task.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "name": "other"}))
    with pytest.raises(UserTaskError, match="is about task 'other' of synthetic"):
        find_user_task(home, "synthetic", "mine")
    note.write_text("{")
    with pytest.raises(UserTaskError, match=r"task.json cannot be read"):
        find_user_task(home, "synthetic", "mine")


@pytest.mark.parametrize(
    ("name", "said"),
    [("super", "is the name of a task that datasets define"), ("Mine", "cannot be a task's name"), ("../x", "cannot"), ("", "cannot")],
)
def test_names_that_a_task_cannot_have(name: str, said: str, home: Path, tmp_path: Path) -> None:
    found = check_labels(DATASET, records(), wide(tmp_path), name, "Mine", None)
    with pytest.raises(UserTaskError, match=said):
        add_user_task(home, DATASET, found.task, found.table, Access.OPEN, {})
    assert not (home / "tasks").exists()


def test_the_label_stage_publishes_the_version_in_use(home: Path, tmp_path: Path) -> None:
    publish_raw(home)
    add(home, tmp_path)
    source = DATASET(tmp_path / "source")
    first = make_labels(Workspace(home), source, "mine")
    assert pd.read_parquet(first.path("labels.parquet"))["AF"].sum() == 30
    assert (first.facts["classes"], first.access) == (["AF", "MI"], Access.OPEN)
    assert make_labels(Workspace(home), source, "mine").reused
    add(home, tmp_path, r00="1,0")
    second = make_labels(Workspace(home), source, "mine")
    assert not second.reused
    assert second.data_version != first.data_version
    add(home, tmp_path, Access.PRIVATE)
    assert make_labels(Workspace(home), source, "mine").access is Access.PRIVATE


def test_the_blocking_check_looks_at_them(home: Path, tmp_path: Path) -> None:
    from data_checks.checks import run_checks

    publish_raw(home)
    add(home, tmp_path)
    output = make_labels(Workspace(home), DATASET(tmp_path / "source"), "mine")
    assert [v.passed for v in run_checks(Workspace(home), output)] == [True]


@pytest.fixture
def workspace(home: Path) -> Workspace:
    publish_raw(home)
    return Workspace(home)


def test_a_query_over_the_tables(workspace: Workspace, tmp_path: Path) -> None:
    add(workspace.root, tmp_path)
    make_labels(workspace, DATASET(tmp_path / "source"), "mine")
    query = "SELECT r.record_id, l.AF AS af, r.fold % 2 AS odd FROM records r JOIN labels_mine l USING (record_id)"
    brought = run_query(workspace, DATASET, query)
    assert set(brought.upstream) == {"raw/synthetic", "labels/synthetic[mine]"}
    found = check(brought, negatives=True)
    assert found.task.classes == ("af", "odd")
    assert found.table["af"].sum() == 30


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE records",
        "INSERT INTO records SELECT * FROM records",
        "ATTACH DATABASE '/tmp/einthoven-should-not-exist' AS x",
        "PRAGMA writable_schema = 1",
        "SELECT record_id FROM records; SELECT 1",
        "SELECT * FROM labels_super",
        "SELECT load_extension('x')",
        "SELEC",
        "",
    ],
)
def test_a_query_that_is_more_than_a_question(query: str, workspace: Workspace) -> None:
    with pytest.raises(UserTaskError):
        check(run_query(workspace, DATASET, query))
    assert not Path("/tmp/einthoven-should-not-exist").exists()


def test_columns_of_one_name(workspace: Workspace) -> None:
    with pytest.raises(UserTaskError, match=r"columns of one name \(record_id, fold, fold\)"):
        run_query(workspace, DATASET, "SELECT record_id, fold, fold FROM records")


def test_listing_is_light(home: Path) -> None:
    code = (
        "import sys, assets.user_tasks as u\nfrom assets.dataset import get_dataset\n"
        "u.task_names(get_dataset('synthetic'))\nprint([m for m in ('pandas', 'dagster', 'pyarrow') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
