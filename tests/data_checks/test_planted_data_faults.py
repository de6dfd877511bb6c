"""Every kind of fault in raw, cleaned, labels, reports and prompts gives a failed verdict that names the rows at fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.outputs import Built, Key


def assert_found(verdict: Any, *expected: tuple[str, str]) -> None:
    """Each (part of a problem, row) is said in one problem, and nothing else is."""
    assert not verdict.passed
    problems = list(verdict.details["problems"])
    for text, row in expected:
        hits = [p for p in problems if text in p and row in p]
        assert len(hits) == 1, f"{text!r} with {row!r} in {len(hits)} of:\n" + "\n".join(problems)
        problems.remove(hits[0])
    assert not problems


def drop(column: str) -> Any:
    return lambda frame: frame.drop(columns=column)


# raw


def test_manifest_names_files_and_records_at_fault(world: Any, edit: Any) -> None:
    files = edit(path={1: "a/0.dat", 2: ""}, sha256={3: "not-a-sum"}, bytes={4: -1})
    records = edit(record_id={1: "r00", 2: None}, patient_id={3: None, 4: " "}, fold={5: 11}, age={6: 131.0, 8: -1.0}, sex={7: "f"})
    verdict = world.judge(world.raw(files, records), "manifest")
    assert_found(
        verdict,
        ("no file path appears twice", "a/0.dat"),
        ("file path is not blank", "row 2"),
        ("64 hexadecimal digits", "a/3.dat"),
        ("size is not negative", "a/4.dat"),
        ("no record id appears twice", "r00"),
        ("every row has a record id", "row 2"),
        ("every record has a patient", "r03"),
        ("patient id is not blank", "r04"),
        ("fold is one of the split's", "r05"),
        ("age is unknown or between", "r06, r08"),
        ("sex is one of", "r07"),
    )
    assert {"a/0.dat", "r05", "r08"} <= set(verdict.details["rows"])
    site = Path(verdict.details["data_docs"]).parent
    pages = "".join(p.read_text() for p in (site / "validations").rglob("*.html"))
    assert "age is unknown or between 0 and 130 years" in pages and "131" in pages


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        (
            {"records": lambda f: f.drop(columns="site").assign(age="old"), "files": lambda f: f.iloc[:0]},
            ("site (declared text, found absent)", "age (declared number, found", "there is at least one file"),
        ),
        ({"records": lambda f: f.assign(present=False)}, ("none of 40 records has its signal files",)),
        ({"facts": lambda f: f | {"n_present": 39, "n_records": 41}}, ("n_present = 39, the tables 40", "n_records = 41, the tables 40")),
    ],
)
def test_manifest_finds_faults_of_whole_tables(world: Any, edits: Any, said: tuple[str, ...]) -> None:
    verdict = world.judge(world.raw(**edits), "manifest")
    assert not verdict.passed and all(text in verdict.message for text in said), verdict.message


def test_patient_in_two_parts_is_named_with_records(world: Any, edit: Any) -> None:
    # p18 has r36 and r37 in fold 10; p01 stays within train when one record moves from fold 1 to 5.
    verdict = world.judge(world.raw(records=edit(fold={36: 2, 2: 5})), "patient_leakage")
    assert_found(verdict, ("1 patients", "patient p18 (test: r37; train: r36)"))
    assert verdict.details["rows"] == ["r36", "r37"]


# cleaned


def test_index_names_windows_at_fault(world: Any, edit: Any) -> None:
    world.raw()
    index = edit(
        dataset={0: "other"}, record_id={1: "r02", 3: "stranger"}, start={4: -1.0}, row={5: 20}, shard={6: 2}, n_samples={7: 51}, fold={8: 4},
        sex={9: "m"}, missing_fraction={10: 1.5}, flat={12: 4096}, noisy={13: -1}, source_checksum={14: "xyz"}, age={15: 200.0}, patient_id={16: ""},
    )  # fmt: skip
    verdict = world.judge(world.cleaned(index), "index")
    assert_found(
        verdict,
        ("dataset is tiny", "r00"),
        ("record and start time tell windows apart", "r02"),
        ("the record is one of the raw stage's", "stranger"),
        ("start time is not negative", "r04"),
        ("within the shards of the manifest", "r05"),
        ("n_samples is at least 1 and at most", "r06, r07"),
        ("the fold is the record's own", "r08"),
        ("sex is one of", "r09"),
        ("missing_fraction lies between", "r10"),
        ("flat is a bit mask of 12 leads", "r12"),
        ("noisy is a bit mask", "r13"),
        ("source checksum", "r14"),
        ("age is unknown", "r15"),
        ("patient id is not blank", "r16"),
    )


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        (
            {"index": lambda f: f.drop(columns="noisy").iloc[:-1]},
            ("noisy (declared integer, found absent)", "the index has 38 rows, the shards 39, the manifest 38"),
        ),
        (
            {"shards": lambda a: [a[0].astype(np.float32), a[1][:, :11]]},
            ("shard-00000.npy is float32 (20, 12, 50)", "shard-00001.npy is int16 (19, 11, 50), the manifest declares int16 (19, 12, 50)"),
        ),
        ({"shards": lambda a: [np.asfortranarray(a[0]), a[1]]}, ("shard-00000.npy is int16 (20, 12, 50), the manifest declares",)),
        (
            {"facts": lambda f: f | {"channels": f["channels"][:11]}},
            ("the dataset's are I, II, III, aVR", "shard-00000.npy holds", "shard-00001.npy holds"),
        ),
        (
            {"facts": lambda f: f | {"channels": [c | {"name": c["name"].upper(), "scale": 0.0, "fs_hz": 500.0} for c in f["channels"]]}},
            ("declares channels I, II, III, AVR", "channel V6 has scale 0.0", "at 100 Hz, which is not what"),
        ),
    ],
)
def test_index_finds_faults_of_shards_and_manifest(world: Any, edits: Any, said: tuple[str, ...]) -> None:
    world.raw()
    verdict = world.judge(world.cleaned(**edits), "index")
    assert not verdict.passed and all(text in verdict.message for text in said), verdict.message


def test_index_finds_a_shard_changed_after_publication(world: Any) -> None:
    world.raw()
    output = world.cleaned()
    array = np.load(output.path("shard-00001.npy"), mmap_mode="r+")
    array[3, 2, 1] += 1
    array.flush()
    assert "shard-00001.npy differs from its checksum" in world.judge(output, "index").message


def test_index_finds_recordings_without_signal(world: Any) -> None:
    world.raw()

    def silence(rows: int) -> Any:
        def apply(arrays: list[Any]) -> list[Any]:
            arrays[1][:rows] = 7
            return arrays

        return apply

    verdict = world.judge(world.cleaned(shards=silence(19)), "index")
    assert_found(verdict, ("16 of 16 windows looked at are constant in every lead", "r20"))
    one = world.judge(world.cleaned(shards=silence(1)), "index")
    assert one.passed and "1 of 16 windows looked at are constant in every lead: r20" in one.message


def test_quarantine_says_how_many_why_and_which(world: Any) -> None:
    world.raw()

    def many(bad: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "record_id": ["r37", "r38", "r39"],
                "patient_id": "p",
                "start": 0.0,
                "reason": ["gain", "sum", "sum"],
                "explanation": "",
                "path": "",
            }
        )

    verdict = world.judge(world.cleaned(index=lambda f: f.iloc[:-2], quarantine=many), "quarantine")
    assert_found(verdict, ("3 of 40 present records (7.5%) are in quarantine, limit 5.0%", "2 sum (r38, r39), 1 gain (r37)"))
    assert verdict.details["reasons"] == {"gain": 1, "sum": 2}


def test_quarantine_finds_records_lost_stored_twice_or_without_reason(world: Any) -> None:
    world.raw()
    lost = world.judge(world.cleaned(index=lambda f: f.iloc[1:]), "quarantine")
    assert_found(lost, ("neither stored nor in quarantine nor absent", "r00"))
    both = world.judge(world.cleaned(quarantine=lambda f: f.assign(record_id="r05", reason="")), "quarantine")
    assert_found(both, ("without a reason", "r05"), ("windows that are stored and in quarantine at once", "r05"), ("neither stored", "r39"))


def test_absent_records_are_neither_lost_nor_counted_as_present(world: Any) -> None:
    world.raw()
    verdict = world.judge(world.cleaned(index=lambda f: f.iloc[1:], absent=("r00",)), "quarantine")
    assert verdict.passed and "1 of 39 present records" in verdict.message
    assert_found(world.judge(world.cleaned(absent=("r05",)), "quarantine"), ("absent, yet stored", "r05"))


def repeat(source: int, target: int) -> Any:
    def apply(arrays: list[Any]) -> list[Any]:
        arrays[target // 20][target % 20] = arrays[source // 20][source % 20]
        return arrays

    return apply


def test_duplicates_between_patients_or_parts_fail_and_within_one_warn(world: Any, edit: Any) -> None:
    world.raw()
    patients = world.judge(world.cleaned(shards=repeat(3, 30)), "duplicates")
    assert_found(patients, ("1 waveforms", "r03 (patient p01, train) = r30 (patient p15, train)"))
    moved = edit(fold={1: 9})
    parts = world.judge(world.cleaned(index=moved, shards=repeat(0, 1)), "duplicates")
    assert_found(parts, ("1 waveforms", "r00 (patient p00, train) = r01 (patient p00, validation)"))
    within = world.judge(world.cleaned(shards=repeat(0, 1)), "duplicates")
    assert within.passed and "warning: 1 waveforms are stored more than once" in within.message and "r00" in within.message


def test_window_hashes_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    import data_checks.cleaned as cleaned

    array = np.random.default_rng(1).integers(-9, 9, (7, 2, 5)).astype(np.int16)
    array[4] = array[1]
    whole = list(cleaned.window_hashes(array))
    monkeypatch.setattr(cleaned, "_CHUNK_BYTES", 1)
    assert list(cleaned.window_hashes(array)) == whole
    assert [i for i, h in enumerate(whole) if whole.count(h) > 1] == [1, 4] and len(whole) == 7
    assert whole[0] != next(cleaned.window_hashes(array[:1].reshape(1, 5, 2)))


# labels


def test_labels_name_records_at_fault(world: Any, edit: Any) -> None:
    world.raw()
    verdict = world.judge(world.labels(edit(record_id={1: "r00", 2: "stranger"}, MI={3: 2}, NORM={4: 0})), "labels")
    assert_found(
        verdict,
        ("no record id appears twice", "r00"),
        ("one of the raw stage's", "stranger"),
        ("MI is 0 or 1", "r03"),
        ("at least one positive", "r03, r04"),
    )


@pytest.mark.parametrize(
    ("table", "classes", "said"),
    [
        (drop("MI"), ("MI", "NORM"), "MI (declared integer, found absent)"),
        (lambda f: f.assign(CD=0), ("MI", "NORM"), "CD (declared nothing, found int64)"),
        (lambda f: f[["record_id", "NORM", "MI"]], ("MI", "NORM"), "another order than the task: record_id, NORM, MI"),
        (lambda f: f.assign(MI=0.5), ("MI", "NORM"), "MI (declared integer, found double)"),
        (lambda f: f, ("NORM", "MI"), "the manifest lists the classes NORM, MI"),
        (lambda f: f.iloc[:0], ("MI", "NORM"), "at least one labelled record"),
    ],
)
def test_labels_columns_are_the_tasks(world: Any, table: Any, classes: Any, said: str) -> None:
    world.raw()
    verdict = world.judge(world.labels(table, classes), "labels")
    assert not verdict.passed and said in verdict.message


def test_class_without_positive_in_train_is_noted(world: Any) -> None:
    world.raw()

    def only_test(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(MI=(frame.index == 37).astype(np.int8), NORM=(frame.index != 37).astype(np.int8))

    verdict = world.judge(world.labels(only_test), "labels")
    assert verdict.passed and "classes without a positive in train, so nothing can be learned about them: MI" in verdict.message
    assert verdict.details["positives"]["test"] == {"MI": 1, "NORM": 3}


# reports


def test_reports_name_records_at_fault(world: Any, edit: Any) -> None:
    world.raw()
    table = edit(
        record_id={1: "r00", 2: "stranger"},
        fold={3: 2},
        text={4: None},
        language={5: "klingon"},
        source={6: "oracle", 37: "template"},
        coverage={7: 1.5},
    )
    verdict = world.judge(world.reports(table), "reports")
    assert_found(
        verdict,
        ("no record id appears twice", "r00"),
        ("one of the raw stage's", "stranger"),
        ("the fold is the record's own", "r03"),
        ("text is there", "r04"),
        ("language is one of", "r05"),
        ("source is one of", "r06"),
        ("training folds only", "r37"),
        ("coverage lies between", "r07"),
        ("records without a row", "r01, r02"),
    )


def test_reports_in_another_language_are_told(world: Any, edit: Any) -> None:
    world.raw()
    verdict = world.judge(world.reports(edit(language={3: "unknown", 5: "unknown"}, coverage={3: 0.1})), "reports")
    assert verdict.passed and "warning: 1 reports are in none of en, de, sv (r03)" in verdict.message
    assert verdict.details["n_not_understood"] == 1


def test_too_many_empty_reports_fail(world: Any, edit: Any) -> None:
    world.raw()
    few = world.judge(world.reports(edit(text=dict.fromkeys(range(4), ""))), "reports")
    assert few.passed and few.details["n_empty"] == 4
    many = world.judge(world.reports(edit(text=dict.fromkeys(range(5), " "))), "reports")
    assert_found(many, ("at most 10% of reports are empty", "found 0.125"))


# prompts


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (lambda s: {"plain": s["plain"]}, "own prompt sets einthoven are missing"),
        (lambda s: s | {"plain": {}}, "prompt set 'plain' is empty"),
        (lambda s: s | {"plain": {"MI": " ", "NORM": "NORM"}}, '"a prompt is not blank": plain/MI'),
        (lambda s: s | {"mine": {"MI": ["list", 1]}}, '"a prompt is text": mine/MI'),
        (lambda s: s | {"mine": ["MI"]}, "must hold one JSON object"),
    ],
)
def test_prompt_sets(world: Any, sets: Any, said: str) -> None:
    verdict = world.judge(world.prompts(sets), "prompts")
    assert not verdict.passed and said in verdict.message


def test_equal_prompts_are_noted(world: Any) -> None:
    verdict = world.judge(world.prompts(lambda s: s | {"mine": {"MI": "x", "CD": "x"}}), "prompts")
    assert verdict.passed and "'mine' says the same of several classes" in verdict.message


def test_patients_whom_another_dataset_places_elsewhere_are_told(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.dataset import get_dataset

    other = type("Other", (world.dataset,), {"name": "other"})
    monkeypatch.setattr("data_checks.raw.list_datasets", lambda: ["other", world.dataset.name])
    monkeypatch.setattr("data_checks.raw.get_dataset", lambda name: other if name == "other" else get_dataset(name))
    theirs = world.records().assign(fold=lambda f: f["fold"].where(f["patient_id"] != "p00", 10)).iloc[:6]

    def build(folder: Path) -> Built:
        theirs.to_parquet(folder / "records.parquet", index=False)
        return Built(len(theirs), {})

    world.publish(Key(("raw", "other")), build)
    verdict = world.judge(world.raw(), "patient_leakage")
    assert verdict.passed
    assert "1 of 3 patients that other holds too are in another part there" in verdict.message
    assert verdict.details["also_in"] == {"other": {"patients": 3, "in_another_part": 1}}


def test_records_too_short_for_a_recipe_with_a_longer_window_are_no_fault_of_the_dataset(world: Any) -> None:
    world.raw()

    def short(bad: pd.DataFrame) -> pd.DataFrame:
        rest = bad.assign(record_id="r38", reason="too_short", path="")
        return pd.concat([bad, *(rest.assign(record_id=f"r{i}") for i in range(30, 39))])

    def judge(window_s: float) -> Any:
        return world.judge(
            world.cleaned(index=lambda f: f.iloc[:30], quarantine=short, facts=lambda f: f | {"window_s": window_s}), "quarantine"
        )

    assert not judge(10.0).passed
    verdict = judge(12.0)
    assert verdict.passed
    assert "9 records are shorter than the recipe's windows of 12 s" in verdict.message


def test_r_peaks_out_of_order_or_place_are_found(world: Any) -> None:
    world.raw()

    def with_peaks(**wrong: list[int]) -> Any:
        return lambda f: f.assign(r_peaks=[wrong.get(r, [3, 30]) for r in f["record_id"]])

    assert world.judge(world.cleaned(index=with_peaks(r01=[])), "index").passed
    verdict = world.judge(world.cleaned(index=with_peaks(r02=[9, 5], r03=[-1], r04=[4, 50])), "index")
    assert_found(verdict, ("R peaks that are out of order or outside", "r02, r03, r04"))
