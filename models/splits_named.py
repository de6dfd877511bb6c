"""Named splits: other ways to part labelled rows into training, validation and test than by the folds of a dataset.

A result carries the name of its split, for the name says what may leak:

`patients5`            five folds by patient, labels spread evenly; of the other four fifths a tenth chooses (validation)
`loso`                 leave one subject out: every patient is the test once, two others choose
`group5`               five groups of patients, as large as each other; two others choose
`first_tenth`          of the patients by name the first tenth judges, the last twentieth of the others chooses (WearECG)
`records`              70/10/20 of the recordings, labels spread evenly; the windows or images of one stay together
`random_window`        70/10/20 of the windows, whoever they come from, labels spread evenly: the same people everywhere
`within_subject_time`  of each recording the first 60 % of its windows, the next 10 %, the last 30 %: the same people everywhere

Splits are functions of ids, labels and seed, not of the order of rows. Letters: N rows, G groups of rows that stay together, P parts,
C classes, K classes and the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigurationError, TrainingError

IntArray = NDArray[np.int64]

_VALIDATION_SUBJECTS = 2
_SHARES = (0.7, 0.1, 0.2)
_JUDGING, _CHOOSING = 0.1, 0.05
"""Shares of the patients, and of those that do not judge, in the split of WearECG."""


class Fold(NamedTuple):
    """Positions of the rows that train, choose and judge, each ascending."""

    train_N: IntArray
    validation_N: IntArray
    test_N: IntArray


@dataclass(frozen=True)
class Rows:
    """What is parted: windows, images or recordings.

    Attributes:
        patient_N: whose they are.
        record_N: the recording that each is from.
        start_N: when each begins in its recording, seconds.
        labels_NC: zeros and ones, by which parts are made alike; of shape (N, 0) for numbers.
    """

    patient_N: NDArray[np.str_]
    record_N: NDArray[np.str_]
    start_N: NDArray[np.floating[Any]]
    labels_NC: NDArray[np.integer[Any]]

    def __len__(self) -> int:
        return len(self.patient_N)


def split_names() -> tuple[str, ...]:
    """Names of all splits."""
    return tuple(_SPLITS)


def named_split(name: str, rows: Rows, seed: int) -> list[Fold]:
    """The folds of a split.

    Raises:
        ConfigurationError: there is no such split.
        TrainingError: there are too few patients, recordings or windows for it.
    """
    if name not in _SPLITS:
        raise ConfigurationError(f"there is no split {name!r}; choose one of {', '.join(_SPLITS)}")
    folds = _SPLITS[name](rows, seed)
    for number, fold in enumerate(folds, 1):
        if empty := [part for part, held in zip(("training", "validation", "test"), fold, strict=True) if not len(held)]:
            raise TrainingError(f"split {name!r} leaves no row for {' and '.join(empty)} in fold {number}; give it more recordings")
    return folds


def shared_patients(fold: Fold, patient_N: NDArray[np.str_]) -> int:
    """How many of the patients that judge also train or choose: what a report of the split has to say."""
    known = np.concatenate([fold.train_N, fold.validation_N])
    return len(np.intersect1d(patient_N[known], patient_N[fold.test_N]))


def _patients5(rows: Rows, seed: int) -> list[Fold]:
    _, group_N = _groups(rows.patient_N, 5, "patients5", "patients")
    fold_N = _spread(group_N, rows.labels_NC, (0.2,) * 5, seed)
    found = []
    for fold in range(5):
        others_N, test_N = np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)
        _, other_N = np.unique(group_N[others_N], return_inverse=True)
        part_N = _spread(other_N, rows.labels_NC[others_N], (0.9, 0.1), seed + 1 + fold)
        found.append(Fold(others_N[part_N == 0], others_N[part_N == 1], test_N))
    return found


def _loso(rows: Rows, seed: int) -> list[Fold]:
    names, group_N = _groups(rows.patient_N, _VALIDATION_SUBJECTS + 2, "loso", "subjects")
    return [_held_out(group_N, np.array([subject]), seed) for subject in range(len(names))]


def _group5(rows: Rows, seed: int) -> list[Fold]:
    names, group_N = _groups(rows.patient_N, 5, "group5", "subjects")
    order = np.random.default_rng(seed).permutation(len(names))
    return [_held_out(group_N, held, seed) for held in np.array_split(order, 5)]


def _held_out(group_N: IntArray, test: IntArray, seed: int) -> Fold:
    """Some subjects judge, two of the others choose."""
    others = np.setdiff1d(group_N, test)
    if len(others) <= _VALIDATION_SUBJECTS:
        raise TrainingError(
            f"{len(others)} subjects remain to train and to choose, and {_VALIDATION_SUBJECTS} of them choose; add subjects"
        )
    choosing = np.random.default_rng([seed, *sorted(test.tolist())]).choice(others, _VALIDATION_SUBJECTS, replace=False)
    test_N, validation_N = np.isin(group_N, test), np.isin(group_N, choosing)
    return Fold(np.flatnonzero(~test_N & ~validation_N), np.flatnonzero(validation_N), np.flatnonzero(test_N))


def _first_tenth(rows: Rows, seed: int) -> list[Fold]:
    names, group_N = _groups(rows.patient_N, 3, "first_tenth", "patients")
    judging = max(1, int(_JUDGING * len(names)))
    choosing = max(1, int(_CHOOSING * (len(names) - judging)))
    return [_parts(np.where(group_N < judging, 2, np.where(group_N >= len(names) - choosing, 1, 0)))]


def _records(rows: Rows, seed: int) -> list[Fold]:
    _, group_N = _groups(rows.record_N, len(_SHARES), "records", "recordings")
    return [_parts(_spread(group_N, rows.labels_NC, _SHARES, seed))]


def _windows(rows: Rows, seed: int) -> list[Fold]:
    place_N = np.empty(len(rows), np.int64)
    place_N[np.lexsort((rows.start_N, rows.record_N))] = np.arange(len(rows))
    if len(rows) < len(_SHARES):
        raise TrainingError(f"a random split needs {len(_SHARES)} windows and there are {len(rows)}; give it more recordings")
    return [_parts(_spread(place_N, rows.labels_NC, _SHARES, seed))]


def _within_subject_time(rows: Rows, seed: int) -> list[Fold]:
    part_N = np.empty(len(rows), np.int64)
    for record in np.unique(rows.record_N):
        mine = np.flatnonzero(rows.record_N == record)
        mine = mine[np.argsort(rows.start_N[mine], kind="stable")]
        part_N[mine] = np.searchsorted([len(mine) * 6 // 10, len(mine) * 7 // 10], np.arange(len(mine)), side="right")
    return [_parts(part_N)]


def _parts(part_N: IntArray) -> Fold:
    return Fold(*(np.flatnonzero(part_N == part) for part in range(3)))


def _groups(name_N: NDArray[np.str_], least: int, split: str, what: str) -> tuple[NDArray[np.str_], IntArray]:
    """Sorted names and the group of each row. Raises TrainingError where there are fewer than `least`."""
    names, group_N = np.unique(name_N, return_inverse=True)
    if len(names) < least:
        raise TrainingError(f"split {split!r} needs at least {least} {what} and there are {len(names)}; choose another split or add {what}")
    return names, group_N.astype(np.int64)


def _spread(group_N: IntArray, labels_NC: NDArray[np.integer[Any]], shares: Sequence[float], seed: int) -> IntArray:
    """The part of each row (N,): groups stay whole, and every part gets about its share of every class and of the rows.

    Groups with the largest share of some class come first, in random order among equals; each goes where it raises the sum over parts
    and classes of load^2 / share least. A part that stays empty takes the last group of the part with most.
    """
    n_groups = int(group_N.max()) + 1
    counts_NK = np.concatenate([labels_NC, np.ones((len(group_N), 1), labels_NC.dtype)], axis=1)
    load_GK = np.zeros((n_groups, counts_NK.shape[1]))
    np.add.at(load_GK, group_N, counts_NK)
    load_GK /= np.maximum(load_GK.sum(axis=0), 1)
    order = np.random.default_rng(seed).permutation(n_groups)
    order = order[np.argsort(-load_GK[order].max(axis=1), kind="stable")]
    share_P1, held_PK = np.array(shares)[:, None], np.zeros((len(shares), load_GK.shape[1]))
    part_G = np.empty(n_groups, np.int64)
    for group in order.tolist():
        part = int(((2 * held_PK + load_GK[group]) * load_GK[group] / share_P1).sum(axis=1).argmin())
        part_G[group] = part
        held_PK[part] += load_GK[group]
    for empty in sorted(set(range(len(shares))) - set(part_G.tolist())):
        largest = np.bincount(part_G).argmax()
        part_G[order[part_G[order] == largest][-1]] = empty
    return part_G[group_N]


_SPLITS: dict[str, Callable[[Rows, int], list[Fold]]] = {
    "patients5": _patients5,
    "loso": _loso,
    "group5": _group5,
    "first_tenth": _first_tenth,
    "records": _records,
    "random_window": _windows,
    "within_subject_time": _within_subject_time,
}
