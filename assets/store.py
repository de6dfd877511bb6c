"""Writes a signal store: int16 shards, an Arrow index, and tables of what was left out.

    shard-00000.npy ...    int16 [windows, channels, samples], in counts of each channel's scale, memory-mappable
    index.arrow            one row a window: where it is, whose it is, how good it is
    quarantine.parquet     recordings, or parts of them, that cannot be used: reason, explanation, path
    absent.parquet         recordings that the dataset lists but whose files are not there: record_id

Recordings are read one after the other, prepared a few at a time, and written as they come, so memory holds a batch and never
a shard. The folder becomes an output, with its manifest, through `assets.outputs.Workspace.publish`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.channels import ChannelLayout, refusal
from assets.dataset import Dataset, DatasetError
from assets.duplicates import SeenWaveforms, owner, waveform_key
from assets.outputs import Built
from assets.record import Record, RecordError
from assets.shards import INDEX, RowTable, ShardWriter
from assets.signals import quality, repair
from assets.signals.counts import LARGEST_COUNT, to_counts
from assets.signals.peaks import r_peaks
from assets.signals.preprocess import preprocess
from assets.store_tables import FROM_RECORD, index_schema, quarantine_schema, record_rows, refused_row, text_schema
from models.errors import ConfigurationError
from models.recipes import Recipe, Resample
from models.types import LEADS

if TYPE_CHECKING:
    from numpy.typing import NDArray

STORE_FORMAT_VERSION = 2
"""2: source_checksum for source_sha256, columns absent and r_peaks, n_samples counts what was recorded, parts in quarantine."""

SLOWEST_HZ, FASTEST_HZ = 1.0, 100_000.0
SLOWEST_ECG_HZ = 50.0
"""Rates between which a recording is taken; they bound what resampling may allocate."""

_BATCH = 8
"""Recordings that are prepared together, windows that are judged together: few enough to stay in the processor's cache."""
_BATCH_BYTES = 1 << 25
_PROGRESS_EVERY = 64


def build_store(
    folder: Path, dataset: Dataset, recipe: Recipe, *, shard_rows: int = 1024, progress: Callable[[int, int], None] | None = None
) -> Built:
    """Read every record of a dataset and store what can be used.

    Channels are put in the order of `dataset.channels()` by name, missing samples filled, the recipe's steps done, and
    recordings longer than a window cut into windows. What cannot be used is written to the quarantine with a reason and
    stops nothing.

    Args:
        folder: an empty folder that receives the files.
        dataset: read through `records()` and `pieces()` only; its folder is never written.
        recipe: its rate and window, or the dataset's own where it has none.
        shard_rows: windows in a shard file.
        progress: called now and then with the number of records done and the number of all.

    Returns:
        Windows written, and the store's facts.

    Raises:
        DatasetError: the dataset's tables cannot be read, or none of its recordings is there.
    """
    fs_hz = float(recipe.fs_hz or dataset.fs_hz)
    window_s = recipe.window_s or dataset.window_s
    channels = dataset.channels()
    records = dataset.records()
    shape = (len(channels), round(window_s * fs_hz))
    shard_facts = {"channels": [c.name for c in channels], "n_samples": shape[1], "fs_hz": fs_hz}
    with (
        ShardWriter(folder, shape, "<i2", index_schema(), shard_rows=shard_rows, shard_facts=shard_facts) as writer,
        RowTable(folder / "quarantine.parquet", quarantine_schema()) as quarantine,
        RowTable(folder / "absent.parquet", text_schema("record_id")) as absent,
    ):
        builder = _Builder(dataset, recipe, fs_hz, window_s, writer, quarantine, absent)
        for done, row in enumerate(record_rows(records), start=1):
            builder.take(row)
            if progress is not None and (done % _PROGRESS_EVERY == 0 or done == len(records)):
                progress(done, len(records))
        builder.finish()
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
        "index": INDEX,
        "window_s": window_s,
        "n_records": len(records),
        "n_absent": len(absent),
    }
    return Built(rows=writer.n_rows, facts=facts | builder.facts())


@dataclass(frozen=True)
class _Part:
    """A recording, or a piece of one, in the store's channels: finite samples at the source's rate."""

    row: dict[str, Any]
    signal_LT: NDArray[np.float32]
    fs_hz: float
    start_s: float
    absent: int
    missing_LT: NDArray[np.bool_] | None
    checksum: str


@dataclass(frozen=True)
class _Window:
    """A window at the store's rate; `length` counts the samples that were recorded rather than padded, and copies are looked
    for among the `first` windows of parts."""

    part: _Part
    start_s: float
    length: int
    missing_fraction: float
    first: bool = True


class _Builder:
    """Takes records, groups those alike, prepares them together and writes their windows."""

    def __init__(
        self, dataset: Dataset, recipe: Recipe, fs_hz: float, window_s: float, writer: ShardWriter, quarantine: RowTable, absent: RowTable
    ) -> None:
        channels = dataset.channels()
        self._dataset = dataset
        self._recipe = replace(recipe, fs_hz=fs_hz)
        self._fs_hz = fs_hz
        self._window_s = window_s
        self._width = round(window_s * fs_hz)
        limits = {source for step in recipe.steps if not isinstance(step, Resample) for source in step.sources}
        self._by_site = any(source.startswith(f"{dataset.name}/") for source in limits)
        self._writer, self._quarantine, self._absent = writer, quarantine, absent
        self._layout = ChannelLayout(channels, dataset.required_channels, recipe.absent == "zero")
        self._kinds = [channel.kind for channel in channels]
        self._scale_L = np.array([channel.scale for channel in channels], np.float32)
        self._judged_L = np.array([channel.kind == "ECG" and channel.unit == "uV" for channel in channels])
        self._twelve = tuple(channel.name for channel in channels[: len(LEADS)]) == LEADS and bool(self._judged_L[: len(LEADS)].all())
        # Of the twelve, III and the augmented leads are sums of I and II and tell a detector of beats nothing new.
        self._ecg = [i for i, channel in enumerate(channels) if channel.kind == "ECG" and not (self._twelve and channel.name in LEADS[2:6])]
        self._pending: list[_Part] = []
        self._reasons: Counter[str] = Counter()
        self._refused: set[str] = set()
        self._partly: set[str] = set()
        self._seen = SeenWaveforms()
        self._copied: _Part | None = None
        self._part_of_fold = cache(dataset.part)
        self._last_stored = ""
        self._n_remainders = 0

    def take(self, row: dict[str, Any]) -> None:
        """Read the pieces of a record and take those that can be used."""
        end_s = 0.0
        try:
            for record in self._dataset.pieces(row["record_id"], self._fs_hz):
                end_s = record.start_s
                try:
                    self._admit(self._part(row, record))
                except RecordError as error:
                    self._refuse(row, error, record.start_s)
                end_s += record.signal_LT.shape[1] / max(record.fs_hz, 1e-9)
        except RecordError as error:
            if error.reason == "absent" and not end_s:
                self._absent.add({"record_id": row["record_id"]})
            else:
                self._refuse(row, error, end_s)

    def finish(self) -> None:
        """Write what is pending."""
        self._process()

    def facts(self) -> dict[str, Any]:
        """What the manifest says of what was left out."""
        return {
            "n_quarantined": len(self._refused - self._partly),
            "n_partly_quarantined": len(self._partly),
            "n_remainders": self._n_remainders,
            "quarantine_reasons": dict(sorted(self._reasons.items())),
        }

    def _part(self, row: dict[str, Any], record: Record) -> _Part:
        slowest = SLOWEST_ECG_HZ if "ECG" in self._kinds else SLOWEST_HZ
        if not slowest <= record.fs_hz <= FASTEST_HZ:
            raise refusal(
                "sampling_rate", f"{record.fs_hz:g} Hz is no rate of such a signal; rates from {slowest:g} to {FASTEST_HZ:g} Hz are taken"
            )
        signal_LT, absent_L = self._layout.select(record)
        missing_LT = None
        if not repair.is_whole(signal_LT):
            dead_L = repair.dead_leads(signal_LT) & ~absent_L
            if named := self._layout.lacking(dead_L):
                raise refusal("no_finite_sample", f"{', '.join(named)}: every sample is missing")
            absent_L = absent_L | dead_L
            signal_LT = signal_LT.copy()
            signal_LT[dead_L] = 0
            missing_LT = repair.missing_samples(signal_LT)
            signal_LT = repair.fill_missing(signal_LT)
        if repair.is_constant(signal_LT):
            raise refusal("constant", "no lead ever changes")
        if self._recipe.flat == "refuse" and (still_L := (np.ptp(signal_LT, axis=1) == 0) & ~absent_L).any():
            raise refusal("flat_lead", f"{', '.join(self._layout.named(still_L))}: never changes")
        mask = int(quality.bit_mask(absent_L)) if absent_L.any() else 0
        return _Part(row, signal_LT, record.fs_hz, record.start_s, mask, missing_LT, record.source_checksum)

    def _admit(self, part: _Part) -> None:
        """Check that a window can be made of a part, and put it with others like it."""
        seconds = part.signal_LT.shape[1] / part.fs_hz
        if self._recipe.short == "refuse" and round(seconds * self._fs_hz) < self._width:
            raise refusal("too_short", f"lasts {seconds:g} s, a window of this store {self._window_s:g} s")
        if self._pending and self._alike(self._pending[0]) != self._alike(part):
            self._process()
        self._pending.append(part)
        if len(self._pending) == _BATCH or len(self._pending) * part.signal_LT.nbytes > _BATCH_BYTES:
            self._process()

    def _alike(self, part: _Part) -> tuple[object, ...]:
        """What parts that are prepared together have in common."""
        return part.signal_LT.shape, part.fs_hz, self._sources(part)

    def _sources(self, part: _Part) -> tuple[str, ...]:
        """What steps may call the source of a part; sites are told apart only where a step does."""
        name = self._dataset.name
        return (name, f"{name}/{part.row['site']}") if self._by_site else (name,)

    def _process(self) -> None:
        """Prepare the pending parts together and write their windows."""
        parts, self._pending = self._pending, []
        if not parts:
            return
        try:
            signal_BLT = np.stack([part.signal_LT for part in parts])
            signal_BLT = preprocess(signal_BLT, self._kinds, parts[0].fs_hz, self._recipe, self._sources(parts[0]))
        except ConfigurationError as error:  # these recordings' rate does not suit the recipe; others' may
            for part in parts:
                self._refuse(part.row, refusal("sampling_rate", str(error)), part.start_s)
            return
        n_channels, length = signal_BLT.shape[1:]
        if length < self._width:
            signal_BLT = np.concatenate([signal_BLT, np.zeros((len(parts), n_channels, self._width - length), np.float32)], axis=2)
        n_windows = signal_BLT.shape[2] // self._width
        if n_windows == 1 and signal_BLT.shape[2] == self._width:
            self._write([self._window(part, 0, min(length, self._width)) for part in parts], signal_BLT)
            return
        self._n_remainders += len(parts) * (length % self._width != 0)
        for part, signal_LT in zip(parts, signal_BLT, strict=True):
            signal_KLT = signal_LT[:, : n_windows * self._width].reshape(n_channels, n_windows, self._width).swapaxes(0, 1)
            for k in range(0, n_windows, _BATCH):
                some = range(k, min(k + _BATCH, n_windows))
                self._write([self._window(part, i, self._width) for i in some], np.ascontiguousarray(signal_KLT[k : k + _BATCH]))

    def _window(self, part: _Part, k: int, length: int) -> _Window:
        """What the index says of the window `k` of a part."""
        share = 0.0
        if part.missing_LT is not None:
            first, last = round(k * self._window_s * part.fs_hz), round((k + 1) * self._window_s * part.fs_hz)
            share = float(part.missing_LT[:, first:last].mean())
        return _Window(part, part.start_s + k * self._window_s, length, share, first=k == 0)

    def _write(self, windows: list[_Window], signal_BLT: NDArray[np.float32]) -> None:
        """Turn windows into counts, judge them and write them; windows that cannot be held are refused one by one."""
        counts_BLT, over_BL = to_counts(signal_BLT, self._scale_L)
        good: list[int] = []
        for i, still in enumerate(_still(counts_BLT).tolist()):
            fault = self._fault(windows[i], counts_BLT[i], over_BL[i], still, self._writer.n_rows + len(good))
            if fault is None:
                good.append(i)
            else:
                self._refuse(windows[i].part.row, fault, windows[i].start_s)
        if len(good) < len(windows):
            windows = [windows[i] for i in good]
            signal_BLT, counts_BLT = signal_BLT[good], counts_BLT[good]
        if windows:
            self._writer.add(counts_BLT, self._columns(windows, signal_BLT))
            self._last_stored = windows[-1].part.row["record_id"]
            if self._refused:
                self._partly |= self._refused & {window.part.row["record_id"] for window in windows}

    def _columns(self, windows: list[_Window], signal_BLT: NDArray[np.float32]) -> dict[str, list[Any]]:
        rows = [window.part.row for window in windows]
        judged_L, twelve = self._judged_L, len(LEADS)
        columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in FROM_RECORD}
        columns |= {
            "dataset": [self._dataset.name] * len(windows),
            "start": [window.start_s for window in windows],
            "n_samples": [window.length for window in windows],
            "missing_fraction": [window.missing_fraction for window in windows],
            "absent": [window.part.absent for window in windows],
            "source_checksum": [window.part.checksum for window in windows],
            "limb_swap": quality.limb_swap(signal_BLT[:, :twelve]).tolist() if self._twelve else [False] * len(windows),
        }
        masks_B = quality.bit_mask(judged_L) & ~np.array(columns["absent"], np.int32)
        for name, flags_BL in quality.lead_flags(signal_BLT, self._fs_hz)._asdict().items():
            columns[name] = (quality.bit_mask(flags_BL) & masks_B).tolist()
        peaks_B = r_peaks(signal_BLT, self._fs_hz, self._ecg) if self._ecg else [np.empty(0, np.int64)] * len(windows)
        columns["r_peaks"] = [peaks_N[peaks_N < window.length] for peaks_N, window in zip(peaks_B, windows, strict=True)]
        return columns

    def _fault(self, window: _Window, counts_LT: NDArray[np.int16], over_L: NDArray[np.bool_], still: bool, row: int) -> RecordError | None:
        """Why a window must not be stored, if so; otherwise it will be in a row of the index, and is remembered."""
        if over_L.any():
            return refusal("amplitude", f"{', '.join(self._layout.named(over_L))}: beyond what the store can hold ({LARGEST_COUNT} counts)")
        if still:
            return refusal("constant", "no lead ever changes")
        if window.part is self._copied:
            return refusal("duplicate", "continues a copy of another patient's recording, or of one in another part of the split")
        if window.first:
            record = window.part.row
            owned_by = owner(record["patient_id"], self._part_of_fold(record["fold"]))
            key = waveform_key(counts_LT)
            if (same := self._seen.first_row(key, owned_by)) is not None:
                self._copied = window.part  # what follows in it would be stored twice as well
                said = f"the same waveform is stored already for another patient or part of the split, in row {same} of the index"
                return refusal("duplicate", said)
            self._seen.add(key, owned_by, row)
        return None

    def _refuse(self, row: dict[str, Any], error: RecordError, start_s: float) -> None:
        record_id = row["record_id"]
        self._quarantine.add(refused_row(row, error, self._dataset.folder, start_s))
        self._reasons[error.reason] += 1
        self._refused.add(record_id)
        if self._last_stored == record_id:
            self._partly.add(record_id)


def _still(counts_BLT: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Windows in which nothing moves; a few samples tell it of almost all of them."""
    sparse = slice(None, None, max(counts_BLT.shape[2] // 16, 1))
    still_B = np.asarray((counts_BLT[:, :, sparse] == counts_BLT[:, :, :1]).all(axis=(1, 2)))
    for i in np.flatnonzero(still_B):
        still_B[i] = (counts_BLT[i] == counts_BLT[i, :, :1]).all()
    return still_B
