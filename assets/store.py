"""Writes a signal store: int16 shards, an Arrow index, and tables of what was left out.

    shard-00000.npy ...    int16 [windows, channels, samples], in counts of each channel's scale, memory-mappable
    index.arrow            one row a window: where it is, whose it is, how good it is
    quarantine.parquet     recordings that cannot be used: record_id, patient_id, reason, explanation, path
    absent.parquet         recordings that the dataset lists but whose files are not there: record_id

Records are read one after the other and written in small batches, so memory holds a record and a batch, never a shard.
The folder becomes an output, with its manifest, through `assets.outputs.Workspace.publish`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from assets.dataset import Channel, Dataset, DatasetError
from assets.outputs import Built
from assets.record import Record, RecordError
from assets.signals import quality, repair
from assets.signals.preprocess import preprocess
from models.recipes import Recipe
from models.types import LEADS

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

STORE_FORMAT_VERSION = 1
LARGEST_COUNT = 32767
SLOWEST_HZ, FASTEST_HZ = 50.0, 100_000.0
"""Rates between which a recording is taken; they bound what resampling may allocate."""

_BATCH = 8
"""Windows that are judged and written together: few enough to stay in the processor's cache."""

_PROGRESS_EVERY = 64


@dataclass(frozen=True)
class _Window:
    """A piece of a recording that becomes one row; `signal_LT` is in the channels' units at the store's rate."""

    signal_LT: NDArray[np.float32]
    start_s: float
    missing_fraction: float


def build_store(
    folder: Path, dataset: Dataset, recipe: Recipe, *, shard_rows: int = 1024, progress: Callable[[int, int], None] | None = None
) -> Built:
    """Read every record of a dataset and store what can be used.

    Channels are put in the order of `dataset.channels()` by name, missing samples filled, signals resampled where the
    recipe's rate is not the record's, and recordings longer than `dataset.window_s` cut into windows. What cannot be used
    is written to the quarantine with a reason and stops nothing.

    Args:
        folder: an empty folder that receives the files.
        dataset: read through `records()` and `read()` only; its folder is never written.
        recipe: its rate, or the dataset's own where it has none.
        shard_rows: windows in a shard file.
        progress: called now and then with the number of records done and the number of all.

    Returns:
        Windows written, and the store's facts.

    Raises:
        DatasetError: the dataset's tables cannot be read, or none of its recordings is there.
    """
    fs_hz = float(recipe.fs_hz or dataset.fs_hz)
    records = dataset.records()
    channels = dataset.channels()
    writer = _Writer(folder, dataset.name, channels, round(dataset.window_s * fs_hz), fs_hz, shard_rows)
    quarantine: list[dict[str, str]] = []
    absent: list[str] = []
    n_remainders = 0
    with writer:
        for done, row in enumerate(records.to_dict("records"), start=1):
            try:
                record = dataset.read(row["record_id"], fs_hz)
                windows, remainder = cut_windows(record, channels, recipe, fs_hz, dataset.window_s)
            except RecordError as error:
                if error.reason == "absent":
                    absent.append(row["record_id"])
                else:
                    quarantine.append(_quarantine_row(row, error, dataset.folder))
            else:
                n_remainders += remainder
                for window in windows:
                    writer.add(window, row, record.source_checksum)
            if progress is not None and (done % _PROGRESS_EVERY == 0 or done == len(records)):
                progress(done, len(records))
    if len(absent) == len(records):
        raise DatasetError(
            f"none of the {len(records)} recordings that {dataset.name} lists is in {dataset.folder} at {fs_hz:g} Hz; download them"
        )
    facts = {
        "kind": "store",
        "format_version": STORE_FORMAT_VERSION,
        "dataset": dataset.name,
        "recipe": recipe.name,
        "channels": [asdict(channel) | {"fs_hz": fs_hz} for channel in channels],
        "shards": writer.shards,
        "index": "index.arrow",
        "window_s": dataset.window_s,
        "n_records": len(records),
    }
    return Built(rows=writer.n_rows, facts=facts | {"n_remainders": n_remainders} | _write_left_out(folder, quarantine, absent))


def _write_left_out(folder: Path, quarantine: list[dict[str, str]], absent: list[str]) -> dict[str, Any]:
    """Write the tables of what was left out; returns their facts."""
    _write_parquet(folder / "quarantine.parquet", ("record_id", "patient_id", "reason", "explanation", "path"), quarantine)
    _write_parquet(folder / "absent.parquet", ("record_id",), [{"record_id": r} for r in absent])
    reasons = dict(sorted(Counter(q["reason"] for q in quarantine).items()))
    return {"n_quarantined": len(quarantine), "n_absent": len(absent), "quarantine_reasons": reasons}


def cut_windows(record: Record, channels: tuple[Channel, ...], recipe: Recipe, fs_hz: float, window_s: float) -> tuple[list[_Window], bool]:
    """Order, repair, filter, resample and cut a recording.

    Args:
        record: any rate, any lead order.
        channels: what the store holds, in order.
        recipe: its filters.
        fs_hz: rate of the windows.
        window_s: length of a window.

    Returns:
        Windows one after the other from the start, and whether a rest too short for a window was left out.

    Raises:
        RecordError: reasons missing_leads, bad_units, sampling_rate, no_finite_sample, constant, too_short, amplitude.
    """
    signal_LT = _ordered(record, channels)
    names = [channel.name for channel in channels]
    if not SLOWEST_HZ <= record.fs_hz <= FASTEST_HZ:
        raise _refusal(
            "sampling_rate", f"{record.fs_hz:g} Hz is no rate of such a signal; rates from {SLOWEST_HZ:g} to {FASTEST_HZ:g} Hz are taken"
        )
    if (dead := repair.dead_leads(signal_LT)).any():
        raise _refusal("no_finite_sample", f"{_named(names, dead)}: every sample is missing")
    missing_LT = repair.missing_samples(signal_LT)
    any_missing = bool(missing_LT.any())
    if any_missing:
        signal_LT = repair.fill_missing(signal_LT)
    if repair.is_constant(signal_LT):
        raise _refusal("constant", "no lead ever changes")
    signal_LT = preprocess(signal_LT[None], [channel.kind for channel in channels], record.fs_hz, replace(recipe, fs_hz=fs_hz))[0]
    width, length = round(window_s * fs_hz), signal_LT.shape[1]
    if length < width:
        raise _refusal("too_short", f"lasts {length / fs_hz:g} s, a window of this store {window_s:g} s")
    over = np.abs(signal_LT).max(axis=1) > LARGEST_COUNT * np.array([channel.scale for channel in channels])
    if over.any():
        raise _refusal("amplitude", f"{_named(names, over)}: beyond what the store can hold ({LARGEST_COUNT} counts)")
    windows = []
    for k in range(length // width):
        share = 0.0
        if any_missing:
            first, last = round(k * window_s * record.fs_hz), round((k + 1) * window_s * record.fs_hz)
            share = float(missing_LT[:, first:last].mean())
        windows.append(_Window(signal_LT[:, k * width : (k + 1) * width], k * window_s, share))
    return windows, length % width != 0


def _ordered(record: Record, channels: tuple[Channel, ...]) -> NDArray[np.float32]:
    """The store's channels of a record, in the store's order."""
    if lacking := [channel.name for channel in channels if channel.name not in record.leads]:
        raise _refusal("missing_leads", f"has no lead {', '.join(lacking)}")
    rows = [record.leads.index(channel.name) for channel in channels]
    if wrong := [f"{c.name} in {record.units[i]}, not {c.unit}" for c, i in zip(channels, rows, strict=True) if record.units[i] != c.unit]:
        raise _refusal("bad_units", ", ".join(wrong))
    return record.signal_LT if rows == list(range(len(record.leads))) else record.signal_LT[rows]


def _refusal(reason: str, explanation: str) -> RecordError:
    """A fault of what a record holds rather than of one of its files."""
    return RecordError(reason, "", explanation)


def _named(names: list[str], flags_L: NDArray[np.bool_]) -> str:
    return ", ".join(names[i] for i in np.flatnonzero(flags_L))


def _quarantine_row(row: dict[Any, Any], error: RecordError, root: Path) -> dict[str, str]:
    path = error.path.relative_to(root) if error.path.is_relative_to(root) else error.path
    return {
        "record_id": row["record_id"],
        "patient_id": row["patient_id"],
        "reason": error.reason,
        "explanation": error.explanation,
        "path": "" if path == Path() else path.as_posix(),
    }


def _write_parquet(path: Path, columns: tuple[str, ...], rows: list[dict[str, str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({c: pa.array([row[c] for row in rows], pa.string()) for c in columns}), path)


class _Writer:
    """Appends windows to shard files and collects their index rows; the index is written when the block ends well."""

    def __init__(self, folder: Path, dataset: str, channels: tuple[Channel, ...], n_samples: int, fs_hz: float, shard_rows: int) -> None:
        self.folder = folder
        self.shards: list[dict[str, Any]] = []
        self.n_rows = 0
        self._dataset = dataset
        self._names = tuple(channel.name for channel in channels)
        self._scale_L1 = np.array([[channel.scale] for channel in channels], np.float32)
        self._is_ecg_L = np.array([channel.kind == "ECG" for channel in channels])
        self._shape = (len(channels), n_samples)
        self._fs_hz = fs_hz
        self._shard_rows = shard_rows
        self._stream: BinaryIO | None = None
        self._pending: list[tuple[_Window, dict[Any, Any], str]] = []
        self._columns: dict[str, list[Any]] = {field.name: [] for field in index_schema()}

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            if self._stream is not None:
                self._stream.close()
            return
        self._flush()
        self._close_shard()
        self._write_index()

    def add(self, window: _Window, row: dict[Any, Any], source_checksum: str) -> None:
        """Take a window with its record's row of `Dataset.records()`."""
        self._pending.append((window, row, source_checksum))
        if len(self._pending) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        signal_BLT = np.stack([window.signal_LT for window, _, _ in self._pending])
        counts_BLT = np.rint(signal_BLT / self._scale_L1).astype("<i2")
        for i, (window, row, source_checksum) in enumerate(self._pending):
            self._append(counts_BLT[i], window, row, source_checksum)
        columns, ecg_L = self._columns, self._is_ecg_L  # the thresholds of the flags are those of ECG leads
        columns["flat"] += quality.bit_mask(quality.flat_leads(signal_BLT, self._fs_hz) & ecg_L).tolist()
        columns["saturated"] += quality.bit_mask(quality.saturated_leads(signal_BLT) & ecg_L).tolist()
        columns["noisy"] += quality.bit_mask(quality.noisy_leads(signal_BLT, self._fs_hz) & ecg_L).tolist()
        twelve = self._names[: len(LEADS)] == LEADS
        columns["limb_swap"] += quality.limb_swap(signal_BLT).tolist() if twelve else [False] * len(signal_BLT)
        self._pending.clear()

    def _append(self, counts_LT: NDArray[np.int16], window: _Window, row: dict[Any, Any], source_checksum: str) -> None:
        stream = self._stream or self._open_shard()
        stream.write(counts_LT.tobytes())
        values = {
            "dataset": self._dataset,
            "start": window.start_s,
            "row": self.shards[-1]["rows"],
            "shard": len(self.shards) - 1,
            "n_samples": self._shape[1],
            "missing_fraction": window.missing_fraction,
            "source_checksum": source_checksum,
        }
        for name in ("record_id", "patient_id", "fold", "age", "sex", "site", "device", "acquired_at"):
            values[name] = row[name]
        for name, value in values.items():
            self._columns[name].append(value)
        self.shards[-1]["rows"] += 1
        self.n_rows += 1
        if self.shards[-1]["rows"] == self._shard_rows:
            self._close_shard()

    def _open_shard(self) -> BinaryIO:
        name = f"shard-{len(self.shards):05d}.npy"
        self.shards.append({"file": name, "rows": 0, "channels": list(self._names), "n_samples": self._shape[1], "fs_hz": self._fs_hz})
        self._stream = (self.folder / name).open("wb")
        self._write_header(self._stream, 0)
        return self._stream

    def _close_shard(self) -> None:
        if self._stream is None:
            return
        with self._stream as stream:
            stream.seek(0)
            self._write_header(stream, self.shards[-1]["rows"])
        self._stream = None

    def _write_header(self, stream: BinaryIO, rows: int) -> None:
        """Write the .npy header; numpy pads it so that a larger first dimension does not make it longer."""
        np.lib.format.write_array_header_1_0(stream, {"descr": "<i2", "fortran_order": False, "shape": (rows, *self._shape)})

    def _write_index(self) -> None:
        import pyarrow as pa

        table = pa.table(self._columns, schema=index_schema())
        with pa.OSFile(str(self.folder / "index.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as stream:
            stream.write_table(table)


def index_schema() -> pa.Schema:
    """Columns of `index.arrow`. Quality flags are bit masks, bit i for lead i of the store."""
    import pyarrow as pa

    return pa.schema(
        [
            ("dataset", pa.string()),
            ("record_id", pa.string()),
            ("patient_id", pa.string()),
            ("start", pa.float64()),
            ("row", pa.int64()),
            ("shard", pa.int32()),
            ("fold", pa.int32()),
            ("age", pa.float32()),
            ("sex", pa.string()),
            ("site", pa.string()),
            ("device", pa.string()),
            ("acquired_at", pa.string()),
            ("n_samples", pa.int32()),
            ("missing_fraction", pa.float32()),
            ("flat", pa.int32()),
            ("saturated", pa.int32()),
            ("noisy", pa.int32()),
            ("limb_swap", pa.bool_()),
            ("source_checksum", pa.string()),
        ]
    )
