"""Checks of cleaned/<dataset>: index against shards and records, share of quarantined records, duplicate waveforms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.outputs import sha256_file
from data_checks.context import CheckContext, TableRules
from data_checks.findings import NAMED_IN_DETAILS, CheckError, name_rows
from data_checks.lab_tables import check_lab_tables
from data_checks.overlap import shared_recordings
from data_checks.suites import image_index_suite, index_suite
from data_checks.tables import Kind, read_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

INDEX_COLUMNS: dict[str, Kind] = {
    "dataset": "text",
    "record_id": "text",
    "patient_id": "text",
    "start": "number",
    "row": "integer",
    "shard": "integer",
    "fold": "integer",
    "age": "number",
    "sex": "text",
    "site": "text",
    "device": "text",
    "acquired_at": "text",
    "n_samples": "integer",
    "missing_fraction": "number",
    "absent": "integer",
    "flat": "integer",
    "saturated": "integer",
    "noisy": "integer",
    "limb_swap": "flag",
    "source_checksum": "text",
}
PEAKS = "r_peaks"
IMAGE_COLUMNS: dict[str, Kind] = {
    name: INDEX_COLUMNS[name]
    for name in (
        "dataset",
        "record_id",
        "patient_id",
        "row",
        "shard",
        "fold",
        "age",
        "sex",
        "site",
        "device",
        "acquired_at",
        "source_checksum",
    )
}
SAMPLED_WINDOWS_PER_SHARD = 16
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Shard:
    """A shard as the manifest declares it: int16 [rows, channels, n_samples] of signals or uint8 [rows, height, width]."""

    path: Path
    dtype: str
    shape: tuple[int, int, int]
    channels: tuple[str, ...] = ()
    fs_hz: float = 0.0

    @property
    def rows(self) -> int:
        """Number of items."""
        return self.shape[0]

    def open(self) -> NDArray[Any]:
        """Memory-map the shard.

        Raises:
            CheckError: it is missing, not a plain array of its type, or has another shape than declared.
        """
        import numpy as np

        try:
            array: NDArray[Any] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CheckError(f"{self.path} cannot be read as an array ({type(error).__name__}); materialise the store again") from error
        if array.dtype != self.dtype or array.shape != self.shape or not array.flags.c_contiguous:
            declared = f"{self.dtype} {self.shape} in C order"
            raise CheckError(f"{self.path} is {array.dtype} {array.shape}, the manifest declares {declared}; materialise the store again")
        return array


def shards_of(c: CheckContext) -> list[Shard]:
    """The shards that a store's manifest declares; lab tables have none."""
    found = []
    for s in c.output.facts.get("shards", []):
        path = c.output.folder / s["file"]
        if c.output.facts["kind"] == "image_store":
            found.append(Shard(path, "uint8", (s["rows"], s["height"], s["width"])))
        else:
            found.append(Shard(path, "int16", (s["rows"], len(s["channels"]), s["n_samples"]), tuple(s["channels"]), s["fs_hz"]))
    return found


def check_index(c: CheckContext) -> str:
    """Index, shards and manifest of a store agree with each other, with the dataset's declaration and with its records."""
    if c.output.facts["kind"] == "labs":
        return check_lab_tables(c)
    shards = shards_of(c)
    images = c.output.facts["kind"] == "image_store"
    if not images:
        _check_declaration(c, shards)
    table, records = read_table(c.output.path(c.output.facts["index"])), c.records()
    frames = c.validate(
        TableRules(
            "index.arrow",
            table.drop_columns([PEAKS]) if PEAKS in table.column_names else table,
            IMAGE_COLUMNS if images else INDEX_COLUMNS,
            "record_id",
            lambda: image_index_suite(c.dataset) if images else index_suite(c.dataset, len(c.output.facts["channels"])),
            lambda frame: _derive(frame, shards, records),
        )
    )
    if c.output.rows != table.num_rows or sum(s.rows for s in shards) != table.num_rows:
        c.findings.fail(f"the index has {table.num_rows} rows, the shards {sum(s.rows for s in shards)}, the manifest {c.output.rows}")
    if PEAKS in table.column_names:
        _check_peaks(c, table)
    index = frames.get("index.arrow")
    checksums = {f["path"]: f["sha256"] for f in c.output.manifest["files"]}
    for number, shard in enumerate(shards):
        try:
            array = shard.open()
        except CheckError as error:
            c.findings.fail(str(error))
            continue
        if sha256_file(shard.path) != checksums.get(shard.path.name):
            c.findings.fail(
                f"{shard.path} differs from its checksum in the manifest; restore it with `dvc pull` or materialise {c.output.key} again"
            )
        elif index is not None:
            _check_sample(c, shard, number, array, index)
    return f"{table.num_rows} windows in {len(shards)} shards are as declared"


def _check_declaration(c: CheckContext, shards: list[Shard]) -> None:
    import math

    channels = c.output.facts["channels"]
    names, expected = tuple(ch["name"] for ch in channels), tuple(ch.name for ch in c.dataset.channels())
    if names != expected:
        c.findings.fail(f"the store declares channels {', '.join(names)}; the dataset's are {', '.join(expected)}")
    for channel in channels:
        if not (math.isfinite(channel["scale"]) and channel["scale"] > 0):
            c.findings.fail(f"channel {channel['name']} has scale {channel['scale']}; physical units per count must be a positive number")
    rates = {ch["name"]: ch["fs_hz"] for ch in channels}
    for shard in shards:
        if not set(shard.channels) <= set(names) or any(rates[n] != shard.fs_hz for n in shard.channels):
            c.findings.fail(
                f"{shard.path.name} holds {', '.join(shard.channels)} at {shard.fs_hz:g} Hz, which is not what the store's channels declare"
            )


def _check_peaks(c: CheckContext, table: pa.Table) -> None:
    """R peaks lie within their windows, in order."""
    import numpy as np

    lists = table[PEAKS].combine_chunks()
    window_N = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
    peak_N = lists.flatten().to_numpy()
    n_samples = table["n_samples"].to_numpy()
    wrong = (peak_N < 0) | (peak_N >= n_samples[window_N])
    wrong[1:] |= (np.diff(peak_N) <= 0) & (np.diff(window_N) == 0)
    if wrong.any():
        ids = table["record_id"].take(np.unique(window_N[wrong])).to_pylist()
        c.findings.fail("R peaks that are out of order or outside their window", ids)


def _derive(frame: pd.DataFrame, shards: list[Shard], records: pd.DataFrame) -> None:
    import numpy as np

    rows, lengths = np.array([s.rows for s in shards] or [0]), np.array([s.shape[2] for s in shards] or [0])
    known = frame["shard"].between(0, len(shards) - 1)
    shard = frame["shard"].where(known, 0).to_numpy(np.int64)
    frame["row_in_shard"] = known & (frame["row"] >= 0) & (frame["row"] < rows[shard])
    if "n_samples" in frame:
        frame["length_of_shard"] = known & (frame["n_samples"] > 0) & (frame["n_samples"] <= lengths[shard])
    frame["known_record"] = frame["record_id"].isin(records.index)
    frame["same_fold_as_record"] = same_fold(frame, records)


def same_fold(frame: pd.DataFrame, records: pd.DataFrame) -> Any:
    """Whether rows have the fold of their record; True for unknown records, which are a fault of their own."""
    fold = frame["record_id"].map(records.loc[~records.index.duplicated(), "fold"])
    return (fold == frame["fold"]) | fold.isna()


def _check_sample(c: CheckContext, shard: Shard, number: int, array: NDArray[Any], index: pd.DataFrame) -> None:
    """Look at evenly spaced windows: most of them being constant in every lead is a shard that was not written."""
    import numpy as np

    rows = np.unique(np.linspace(0, len(array) - 1, min(len(array), SAMPLED_WINDOWS_PER_SHARD)).astype(np.int64))
    flat = [row for row in rows.tolist() if not np.ptp(array[row], axis=-1).any()]
    if not flat:
        return
    names = index[(index["shard"] == number) & index["row"].isin(flat)]["record_id"]
    said = f"{shard.path.name}: {len(flat)} of {len(rows)} windows looked at are constant in every lead"
    if 2 * len(flat) > len(rows):
        c.findings.fail(said, names)
    else:  # a stretch of a long recording may be
        c.findings.note(f"{said}: {name_rows([str(n) for n in names])}")


def check_quarantine(c: CheckContext) -> str:
    """Few records are in quarantine, each with a reason, and every record is stored, quarantined or known to be absent."""
    if c.output.facts["kind"] == "labs":
        return "lab results without a number are kept as such; none is left out"
    bad = read_table(c.output.path("quarantine.parquet")).select(["record_id", "start", "reason"]).to_pandas()
    table = read_table(c.output.path(c.output.facts["index"]))
    index = table.select([name for name in ("record_id", "start") if name in table.column_names]).to_pandas()
    twice = bad.merge(index, how="inner")["record_id"]
    absent = set(read_table(c.output.path("absent.parquet"))["record_id"].to_pylist())
    present = set(c.records().index) - absent
    stored = set(index["record_id"])
    if c.output.facts["kind"] == "store" and c.output.facts["window_s"] > c.dataset.window_s:
        # The recipe asks for more than the dataset promises: what is too short for it is no fault of the dataset.
        too_short = set(bad[bad["reason"] == "too_short"]["record_id"]) - stored
        c.findings.note(f"{len(too_short)} records are shorter than the recipe's windows of {c.output.facts['window_s']:g} s")
        present -= too_short
        bad = bad[~bad["record_id"].isin(too_short)]
    quarantined, parts = set(bad["record_id"]) - stored, set(bad["record_id"]) & stored
    nameless = bad[bad["reason"].isna() | (bad["reason"] == "")]["record_id"]
    for problem, records in (
        ("quarantined records without a reason", set(nameless)),
        ("windows that are stored and in quarantine at once", set(twice)),
        ("records that are absent, yet stored or in quarantine", absent & (stored | quarantined)),
        ("records that are neither stored nor in quarantine nor absent", present - stored - quarantined),
    ):
        if records:
            c.findings.fail(problem, sorted(records))
    share = len(quarantined) / len(present) if present else 0.0
    reasons = {str(k): sorted(map(str, set(v))) for k, v in bad.groupby("reason")["record_id"]}
    c.findings.facts |= {
        "n_quarantined": len(quarantined),
        "n_partly_quarantined": len(parts),
        "n_present": len(present),
        "n_absent": len(absent),
        "share": share,
        "limit": c.dataset.quarantine_limit,
        "reasons": {k: len(v) for k, v in reasons.items()},
    }
    told = ", ".join(f"{len(v)} {k} ({name_rows(v)})" for k, v in sorted(reasons.items(), key=lambda item: -len(item[1])))
    said = f"{len(quarantined)} of {len(present)} present records ({share:.1%}) are in quarantine, limit {c.dataset.quarantine_limit:.1%}"
    if share > c.dataset.quarantine_limit:
        c.findings.fail(f"{said}: {told}", sorted(quarantined), named=True)
    return f"{said}{': ' + told if told else ''}"


def check_duplicates(c: CheckContext) -> str:
    """No waveform or image is stored for two patients, or in two of train, validation and test."""
    import pandas as pd

    if c.output.facts["kind"] == "labs":
        return "lab results are numbers that many patients share; duplicates are not looked for"
    columns = ["record_id", "patient_id", "fold", "shard", "row"]
    index = read_table(c.output.path(c.output.facts["index"])).select(columns).to_pandas()
    hashes = pd.concat(
        [pd.DataFrame({"shard": n, "row": range(s.rows), "hash": list(window_hashes(s.open()))}) for n, s in enumerate(shards_of(c))] or
        [pd.DataFrame({"shard": [], "row": [], "hash": []})]
    )  # fmt: skip
    frame = index.merge(hashes, on=["shard", "row"], how="inner")
    if len(frame) != len(index):
        c.findings.fail(f"{len(index) - len(frame)} rows of the index point to no window, so that duplicates could not be looked for")
    frame["part"] = frame["fold"].map(c.part)
    groups = frame[frame["hash"].duplicated(keep=False)].sort_values("record_id").groupby("hash", sort=False)
    leaking: list[pd.DataFrame] = []
    harmless: list[pd.DataFrame] = []
    for _, rows in groups:
        apart = rows["patient_id"].nunique() > 1 or rows["part"].nunique() > 1
        (leaking if apart else harmless).append(rows)
    if leaking:
        told = [_describe(rows) for rows in leaking[:NAMED_IN_DETAILS]]
        said = f"{len(leaking)} waveforms are stored for several patients or in several of train, validation and test"
        c.findings.fail(f"{said}: {name_rows(told, len(leaking))}", pd.concat(leaking)["record_id"], named=True)
        c.findings.facts["duplicates"] = told
    if harmless:
        told = [_describe(rows) for rows in harmless[:NAMED_IN_DETAILS]]
        c.findings.note(
            f"warning: {len(harmless)} waveforms are stored more than once for one patient within one part: {name_rows(told, len(harmless))}"
        )
        c.findings.facts["harmless_duplicates"] = told
    if c.output.facts["kind"] == "store":
        _note_other_datasets(c)
    return f"{len(frame)} windows, no waveform shared between patients or parts"


def _note_other_datasets(c: CheckContext) -> None:
    """Say which datasets of the workspace hold the same recordings, and what that means for training and judging."""
    shared = shared_recordings(c.workspace, c.output)
    c.findings.facts["also_in"] = {name: len(pairs) for name, pairs in shared.items()}
    for name, pairs in shared.items():
        apart = pairs[pairs["part"] != pairs["part_there"]]
        strangers = pairs[pairs["patient_id"] != pairs["patient_id_there"]]
        c.findings.note(
            f"{len(pairs)} recordings are in {name} too, {len(strangers)} of them under another patient"
            + (f"; warning: {len(apart)} are in another part there ({name_rows(apart['record_id'].tolist())})" if len(apart) else "")
        )


def window_hashes(array: NDArray[Any]) -> Iterator[bytes]:
    """Hash of every window's samples, shape included, reading a few megabytes at a time."""
    import hashlib

    import numpy as np

    window_bytes = max(int(np.prod(array.shape[1:])) * array.itemsize, 1)
    step = max(_CHUNK_BYTES // window_bytes, 1)
    shape = repr(array.shape[1:]).encode()
    for first in range(0, len(array), step):
        for window in np.ascontiguousarray(array[first : first + step]):
            yield hashlib.blake2b(window.data, digest_size=16, key=shape).digest()


def _describe(rows: pd.DataFrame) -> str:
    return " = ".join(f"{r.record_id} (patient {r.patient_id}, {r.part})" for r in rows.head(4).itertuples())
