"""Features and scores as others hand them over: .npy arrays and Parquet tables. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.external.truth import ExternalError, Truth, some

FloatArray = NDArray[np.float32]
_OTHER_COLUMNS = ("record_id", "patient_id", "fold")
_SCORE, _LABEL = "score:", "label:"


def read_features(path: Path, ids: Path | None) -> tuple[list[str], FloatArray]:
    """Record ids and features (N, F), float32.

    Args:
        path: a .npy array (N, F), or a Parquet table with a column record_id and one numeric column a feature.
        ids: for a .npy array the record of each row: .txt (a line each), .npy, or Parquet with a column record_id.

    Raises:
        ExternalError: a file cannot be read, sizes differ, a record comes twice, or a feature is not finite.
    """
    if path.suffix == ".parquet":
        table = _parquet(path)
        names = [c for c in table.column_names if c not in _OTHER_COLUMNS]
        held, features = _ids_of(table, path), _matrix(table, names, path)
    else:
        if ids is None:
            raise ExternalError(f"{path} does not say which record a row is about; name the records by --ids (.txt, .npy or Parquet)")
        held, features = read_ids(ids), _array(path)
        if features.ndim != 2 or features.dtype.kind not in "fiu" or not features.size:
            raise ExternalError(
                f"{path} is an array of shape {features.shape} and type {features.dtype}; it must hold numbers, (records, features)"
            )
        features = features.astype(np.float32)
    if len(held) != len(features):
        raise ExternalError(f"{path} has {len(features)} rows and {ids} names {len(held)} records; give one id a row")
    _require_distinct(held, path)
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise ExternalError(f"{path}: features of {len(bad)} records are not finite: {some([held[i] for i in bad])}; repair them")
    return held, features


def read_ids(path: Path) -> list[str]:
    """Record ids of a .txt, .npy or Parquet file.

    Raises:
        ExternalError: it cannot be read.
    """
    if path.suffix == ".parquet":
        return _ids_of(_parquet(path), path)
    if path.suffix == ".npy":
        return [str(v) for v in _array(path).ravel().tolist()]
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ExternalError(f"{path} cannot be read as a list of record ids ({error})") from error


def read_scores(path: Path, classes: Sequence[str]) -> tuple[list[str], FloatArray]:
    """Record ids and scores (N, C) in the order of `classes`.

    Args:
        path: Parquet with a column record_id and one column a class, named as the class or as "score:<class>".
        classes: all classes of the task.

    Raises:
        ExternalError: it cannot be read, lacks a class, has a column that is none, names a record twice, or a score is not finite.
    """
    table = _parquet(path)
    names = [c for c in table.column_names if c not in _OTHER_COLUMNS and not c.startswith(_LABEL)]
    columns = {name.removeprefix(_SCORE): name for name in names}
    if len(columns) < len(names):
        raise ExternalError(f"{path} has a class twice, with and without {_SCORE!r}; keep one column a class")
    for what, found in (
        ("lacks the classes", set(classes) - set(columns)),
        ("has columns that are no class of the task:", set(columns) - set(classes)),
    ):
        if found:
            raise ExternalError(f"{path} {what} {some(sorted(found))}; the task's classes are {', '.join(classes)}")
    ids = _ids_of(table, path)
    _require_distinct(ids, path)
    scores_NC = _matrix(table, [columns[c] for c in classes], path)
    bad = np.flatnonzero(~np.isfinite(scores_NC).all(axis=1))
    if len(bad):
        raise ExternalError(
            f"{path}: scores of {len(bad)} records are not finite: {some([ids[i] for i in bad])}; every class needs a number"
        )
    return ids, scores_NC


def places(truth: Truth, positions: NDArray[np.int64], ids: Sequence[str], path: Path, what: str) -> NDArray[np.int64]:
    """The row of `ids` for each of some records of a task.

    Raises:
        ExternalError: a record is missing; says how many, and names some.
    """
    row = {record: i for i, record in enumerate(ids)}
    wanted = truth.record_id[positions].tolist()
    if missing := [record for record in wanted if record not in row]:
        raise ExternalError(
            f"{path} lacks {len(missing)} of the {len(wanted)} labelled records of the {what} folds: {some(missing)}; every one of them must be there"
        )
    return np.array([row[record] for record in wanted], dtype=np.int64)


def _parquet(path: Path) -> Any:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ExternalError(f"{path} cannot be read as a Parquet table ({error})") from error


def _array(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ExternalError(
            f"{path} cannot be read as a .npy array ({error}); arrays of Python objects are not read, save plain numbers"
        ) from error
    if not isinstance(found, np.ndarray):
        raise ExternalError(f"{path} is an archive of arrays; save the one array as .npy")
    return found


def _ids_of(table: Any, path: Path) -> list[str]:
    if "record_id" not in table.column_names:
        raise ExternalError(f"{path} has no column record_id; it has {some(table.column_names)}")
    return [str(v) for v in table["record_id"].to_pylist()]


def _matrix(table: Any, names: Sequence[str], path: Path) -> FloatArray:
    if not names:
        raise ExternalError(f"{path} has no column beside {', '.join(_OTHER_COLUMNS)}")
    if bad := [n for n in names if not (pa.types.is_floating(table[n].type) or pa.types.is_integer(table[n].type))]:
        raise ExternalError(f"{path}: the columns {some(bad)} hold no numbers")
    return np.stack([table[n].to_numpy() for n in names], axis=1).astype(np.float32)


def _require_distinct(ids: Sequence[str], path: Path) -> None:
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
        raise ExternalError(f"{path} names {len(twice)} records twice: {some(twice)}; one row a record")
