"""Who is who: facts about the collections that were published twice, and the published splits themselves."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from pathlib import Path

import pytest

from assets.identities import Identity, incart, of_record, ptb, ptb_xl
from assets.splits import fold_of


def table(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as stream:
        return list(csv.DictReader(stream))


def test_ptb_xl_has_its_published_patients_and_folds() -> None:
    people = [ptb_xl(i) for i in range(1, 21838)]
    assert None not in people and ptb_xl(0) is None and ptb_xl(21838) is None
    assert people[0] == Identity("ptb_xl:15709", 3)
    assert len({p.patient_id for p in people if p}) == 18869
    assert len({p for p in people if p}) == 18869  # a patient has one fold
    assert Counter(p.fold for p in people if p).keys() == set(range(1, 11))


@pytest.mark.parametrize(("removed", "kept"), [(137, 138), (11817, 146), (13796, 1371), (3800, 3802), (3801, 3802), (11814, 11816)])
def test_removed_copies_are_the_patient_of_the_record_that_was_kept(removed: int, kept: int) -> None:
    assert ptb_xl(removed) == ptb_xl(kept)


def test_ptb_and_incart_group_their_records_by_patient() -> None:
    ptb_people = Counter(p.patient_id for i in range(1, 550) if (p := ptb(i)))
    assert (sum(ptb_people.values()), len(ptb_people), sum(n > 1 for n in ptb_people.values())) == (549, 290, 113)
    some = [ptb(i) for i in (1, 3, 4, 138, 541)]
    assert [p.patient_id for p in some if p] == ["ptb:1", "ptb:1", "ptb:2", "ptb:44", "ptb:288"]
    incart_people = Counter(p.patient_id for i in range(1, 76) if (p := incart(i)))
    assert Counter(incart_people.values()) == {1: 2, 2: 18, 3: 11, 4: 1}
    assert incart(16) == incart(17) != incart(18)
    assert ptb(550) is None and incart(0) is None and incart(76) is None


def test_a_record_without_a_published_split_has_the_fold_of_its_hash() -> None:
    assert of_record("georgia", "E00001") == Identity("georgia:E00001", fold_of("georgia:E00001"))
    assert of_record("sph", "JS00004").fold == fold_of("sph:JS00004")


@pytest.mark.parametrize(
    ("stem", "namespace", "sizes"), [("icbeb", "cpsc2018", (4950, 551, 1376)), ("chapman", "sph", (16546, 1860, 4620))]
)
def test_published_splits(shared_data: Path, stem: str, namespace: str, sizes: tuple[int, int, int]) -> None:
    folds = {"train": set(range(1, 9)), "val": {9}, "test": {10}}
    for (part, allowed), size in zip(folds.items(), sizes, strict=True):
        rows = table(shared_data / "merl_splits" / f"{stem}_{part}.csv.gz")
        records = [r["filename"] if stem == "icbeb" else Path(r["ecg_path"]).stem for r in rows]
        people = [of_record(namespace, r) for r in records]
        assert len(people) == size
        assert {p.fold for p in people} == allowed
        assert [p.patient_id for p in people] == [f"{namespace}:{r}" for r in records]


def test_ptb_xl_agrees_with_the_full_table(shared_data: Path) -> None:
    rows = table(shared_data / "ptb-xl-full" / "labels.csv.gz")
    assert len(rows) == 21799
    assert all(ptb_xl(int(r["ecg_id"])) == (f"ptb_xl:{r['patient_id']}", int(r["strat_fold"])) for r in rows)
