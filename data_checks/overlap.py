"""Finds recordings that two datasets share, whatever they are called there, at whatever rate and gain they were published.

A recording's shape is the change of leads I, II, V2 and V5 from one twenty-fifth of a second to the next over ten seconds, each
lead scaled to length one. Shapes are compared through 64 random projections first (Johnson and Lindenstrauss 1984), candidates
then in full. Of 12 PTB-XL recordings that the Challenge published again at five times the rate, copies agree to 0.94 at least,
and no two others of 163 x 4,000 real recordings to more than 0.69.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from assets.dataset import get_dataset, list_datasets
from assets.outputs import Key, Output, Workspace
from data_checks.tables import read_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

LEADS = ("I", "II", "V2", "V5")
SECONDS, BINS_A_SECOND = 10, 25
N_PROJECTIONS = 64
CANDIDATE, SAME = 0.8, 0.9
"""Cosine similarity of projections above which two recordings are compared in full, and of shapes above which they are one."""

_ROWS = 512


def shared_recordings(workspace: Workspace, output: Output) -> dict[str, pd.DataFrame]:
    """Recordings that current stores of other datasets hold too: their record, patient and part there and here, by dataset.

    Stores without the four leads, or of windows shorter than ten seconds, are not compared.
    """
    found: dict[str, pd.DataFrame] = {}
    for name in list_datasets():
        key = Key(("cleaned", name), output.key.partition)
        other = workspace.current(key)
        if name == output.key.parts[1] or other is None or not (_comparable(output) and _comparable(other)):
            continue
        pairs = _pairs(workspace, output, other)
        if len(pairs):
            found[name] = pairs
    return found


def _comparable(output: Output) -> bool:
    facts = output.facts
    return facts["kind"] == "store" and {*LEADS} <= {c["name"] for c in facts["channels"]} and facts["window_s"] >= SECONDS


def _pairs(workspace: Workspace, output: Output, other: Output) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    here, there = _sketches(workspace, output), _sketches(workspace, other)
    candidates = [
        (first + i, j)
        for first in range(0, len(here), _ROWS)
        for i, j in zip(*np.nonzero(here[first : first + _ROWS].astype(np.float32) @ there.T.astype(np.float32) > CANDIDATE), strict=True)
    ]
    rows_here, rows_there = _first_windows(output), _first_windows(other)
    same = []
    for block in range(0, len(candidates), _ROWS):
        i, j = np.array(candidates[block : block + _ROWS]).T
        alike = (_shapes(output, rows_here.iloc[i]) * _shapes(other, rows_there.iloc[j])).sum(axis=1) > SAME
        same.append(np.stack([i[alike], j[alike]], axis=1))
    i, j = np.concatenate(same).T if same else np.empty((2, 0), np.int64)
    columns = ["record_id", "patient_id", "part"]
    return pd.concat(
        [rows_here[columns].iloc[i].reset_index(drop=True), rows_there[columns].iloc[j].reset_index(drop=True).add_suffix("_there")], axis=1
    )


def _first_windows(output: Output) -> pd.DataFrame:
    """Where the first window of each recording lies, and whose it is."""
    dataset = get_dataset(output.key.parts[1])
    columns = ["record_id", "patient_id", "fold", "start", "shard", "row"]
    frame: pd.DataFrame = read_table(output.path(output.facts["index"])).select(columns).to_pandas()
    frame["part"] = frame["fold"].map(dataset.part)
    return frame[frame["start"] == 0].reset_index(drop=True)


def _sketches(workspace: Workspace, output: Output) -> NDArray[np.float16]:
    """Projections of all first windows, float16 (recordings, 64); kept for the next comparison."""
    import numpy as np

    cache = workspace.root / "cache" / "sketches" / f"{output.data_version}.npy"
    if cache.exists():
        return np.asarray(np.load(cache, allow_pickle=False))
    rng = np.random.default_rng(0)
    projection = rng.standard_normal((len(LEADS) * (SECONDS * BINS_A_SECOND - 1), N_PROJECTIONS)).astype(np.float32)
    blocks = [_unit(_shapes(output, rows) @ projection) for rows in _blocks(_first_windows(output))]
    sketches = np.concatenate([np.zeros((0, N_PROJECTIONS), np.float32), *blocks]).astype(np.float16)
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(".partial.npy")
    np.save(partial, sketches)
    partial.replace(cache)
    return sketches


def _blocks(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for first in range(0, len(rows), _ROWS):
        yield rows.iloc[first : first + _ROWS]


def _shapes(output: Output, rows: pd.DataFrame) -> NDArray[np.float32]:
    """Shapes of some windows, float32 (windows, 4 * 249), of length one."""
    import numpy as np

    names = [c["name"] for c in output.facts["channels"]]
    fs_hz = output.facts["channels"][0]["fs_hz"]
    leads = [names.index(lead) for lead in LEADS]
    edges = np.round(np.arange(SECONDS * BINS_A_SECOND + 1) * fs_hz / BINS_A_SECOND).astype(np.int64)
    shards = {n: np.load(output.folder / output.facts["shards"][n]["file"], mmap_mode="r") for n in rows["shard"].unique()}
    signal_NLT = np.stack([shards[s][r][leads, : edges[-1]] for s, r in zip(rows["shard"], rows["row"], strict=True)]).astype(np.float32)
    means_NLT = np.add.reduceat(signal_NLT, edges[:-1], axis=2) / np.diff(edges)
    return _unit(_unit(np.diff(means_NLT, axis=2)).reshape(len(rows), -1))


def _unit(values: NDArray[Any]) -> NDArray[np.float32]:
    """Scaled to length one along the last axis; zeros stay."""
    import numpy as np

    length = np.sqrt(np.square(values).sum(axis=-1, keepdims=True))
    return np.asarray(values / np.where(length > 0, length, 1), np.float32)
