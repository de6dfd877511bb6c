"""Named splits: who is where, how even the labels are, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import ConfigurationError, TrainingError
from models.splits_named import Fold, Rows, named_split, shared_patients, split_names


def windows(n_subjects: int = 15, per_record: int = 10) -> Rows:
    """Three conditions of each subject, in windows of 10 s."""
    rows = [(f"S{s}", f"S{s}-{c}", 10.0 * w, c) for s in range(n_subjects) for c in range(3) for w in range(per_record)]
    patient, record, start, label = zip(*rows, strict=True)
    return Rows(np.array(patient), np.array(record), np.array(start), np.eye(3, dtype=np.int8)[list(label)])


def recordings(n: int = 600, seed: int = 0) -> Rows:
    """Recordings of patients who have one to three, with four labels of which one is rare."""
    rng = np.random.default_rng(seed)
    labels_NC = (rng.random((n, 4)) < [0.5, 0.3, 0.1, 0.03]).astype(np.int8)
    patients = np.array([f"p{i // 2 if i % 5 else i}" for i in range(n)])
    return Rows(patients, np.array([f"r{i}" for i in range(n)]), np.zeros(n), labels_NC)


def people(rows: Rows, part_N: np.ndarray) -> set[str]:
    return set(rows.patient_N[part_N].tolist())


@pytest.mark.parametrize("name", split_names())
def test_every_row_is_in_exactly_one_part_of_every_fold(name: str) -> None:
    rows = windows()
    for fold in named_split(name, rows, 0):
        assert np.array_equal(np.sort(np.concatenate(fold)), np.arange(len(rows)))
        assert all(len(part) and np.array_equal(part, np.sort(part)) for part in fold)


@pytest.mark.parametrize("name", ["patients5", "loso", "group5"])
def test_no_patient_is_in_two_parts_and_each_judges_once(name: str) -> None:
    rows = windows()
    folds = named_split(name, rows, 0)
    assert all(people(rows, a).isdisjoint(people(rows, b)) for f in folds for a, b in ((f[0], f[1]), (f[0], f[2]), (f[1], f[2])))
    assert np.array_equal(np.sort(np.concatenate([f.test_N for f in folds])), np.arange(len(rows)))
    assert all(shared_patients(fold, rows.patient_N) == 0 for fold in folds)


def test_loso_has_a_fold_a_subject_and_two_that_choose() -> None:
    rows = windows()
    folds = named_split("loso", rows, 0)
    assert len(folds) == 15
    assert all((len(people(rows, f.test_N)), len(people(rows, f.validation_N))) == (1, 2) for f in folds)
    assert len({tuple(sorted(people(rows, f.validation_N))) for f in folds}) > 1


def test_the_first_tenth_of_the_sorted_patients_judges_and_the_last_twentieth_of_the_others_chooses() -> None:
    rows = windows(40, per_record=1)
    (fold,) = named_split("first_tenth", rows, 0)
    names = sorted(set(rows.patient_N.tolist()))
    assert people(rows, fold.test_N) == set(names[:4]) and people(rows, fold.validation_N) == {names[-1]}
    assert people(rows, fold.train_N) == set(names[4:-1])


def test_group5_has_groups_of_three() -> None:
    rows = windows()
    assert [len(people(rows, f.test_N)) for f in named_split("group5", rows, 0)] == [3] * 5


@pytest.mark.parametrize("name", ["random_window", "within_subject_time"])
def test_splits_of_windows_share_their_subjects(name: str) -> None:
    rows = windows()
    (fold,) = named_split(name, rows, 0)
    assert shared_patients(fold, rows.patient_N) == 15


def test_windows_of_a_recording_stay_together() -> None:
    rows = windows()
    (fold,) = named_split("records", rows, 0)
    held = [set(rows.record_N[part].tolist()) for part in fold]
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
    assert [len(h) for h in held] == pytest.approx([31.5, 4.5, 9], abs=1.5)


@pytest.mark.parametrize(("name", "shares"), [("random_window", (0.7, 0.1, 0.2)), ("within_subject_time", (0.6, 0.1, 0.3))])
def test_shares_hold_for_every_class(name: str, shares: tuple[float, ...]) -> None:
    rows = windows()
    (fold,) = named_split(name, rows, 0)
    for part, share in zip(fold, shares, strict=True):
        assert rows.labels_NC[part].sum(axis=0) / rows.labels_NC.sum(axis=0) == pytest.approx(share, abs=0.01)


def test_time_goes_forward_within_each_recording() -> None:
    rows = windows()
    (fold,) = named_split("within_subject_time", rows, 0)
    for record in set(rows.record_N.tolist()):
        starts = [rows.start_N[part][rows.record_N[part] == record] for part in fold]
        assert starts[0].max() < starts[1].min() <= starts[1].max() < starts[2].min()


def test_patients5_spreads_labels_better_than_chance() -> None:
    rows = recordings()
    folds = named_split("patients5", rows, 0)
    share_FC = np.array([rows.labels_NC[f.test_N].sum(axis=0) for f in folds]) / rows.labels_NC.sum(axis=0)
    assert np.abs(share_FC - 0.2).max() < 0.06
    for fold in folds:
        learned, chosen = rows.labels_NC[fold.train_N].sum(axis=0), rows.labels_NC[fold.validation_N].sum(axis=0)
        assert chosen / (learned + chosen) == pytest.approx(0.1, abs=0.07)


@pytest.mark.parametrize("name", split_names())
def test_splits_do_not_depend_on_the_order_of_rows_but_on_the_seed(name: str) -> None:
    rows = windows()
    order = np.random.default_rng(1).permutation(len(rows))
    turned = Rows(rows.patient_N[order], rows.record_N[order], rows.start_N[order], rows.labels_NC[order])

    def ids(held: Rows, folds: list[Fold]) -> list[list[set[tuple[str, float]]]]:
        return [[set(zip(held.record_N[p].tolist(), held.start_N[p].tolist(), strict=True)) for p in fold] for fold in folds]

    first = ids(rows, named_split(name, rows, 0))
    assert ids(turned, named_split(name, turned, 0)) == first
    if name not in ("within_subject_time", "first_tenth"):
        assert ids(rows, named_split(name, rows, 1)) != first


def test_numbers_are_split_without_labels() -> None:
    rows = windows()
    bare = Rows(rows.patient_N, rows.record_N, rows.start_N, np.zeros((len(rows), 0), np.int8))
    assert len(named_split("patients5", bare, 0)) == 5


def test_five_patients_are_enough_for_five_folds() -> None:
    rows = windows(n_subjects=5)
    assert all(len(people(rows, f.validation_N)) == 1 for f in named_split("patients5", rows, 0))


@pytest.mark.parametrize(("name", "subjects"), [("patients5", 4), ("loso", 3), ("group5", 4), ("records", 0)])
def test_too_few_are_refused_by_name(name: str, subjects: int) -> None:
    few = (
        windows(subjects)
        if subjects
        else Rows(*(a[:10] for a in (windows().patient_N, windows().record_N, windows().start_N)), windows().labels_NC[:10])
    )
    with pytest.raises(TrainingError, match=f"{name}.*needs at least"):
        named_split(name, few, 0)


def test_recordings_of_one_window_cannot_be_cut_in_time() -> None:
    with pytest.raises(TrainingError, match="no row for training"):
        named_split("within_subject_time", windows(per_record=1), 0)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"no split 'leave_two_out'.*loso"):
        named_split("leave_two_out", windows(), 0)
