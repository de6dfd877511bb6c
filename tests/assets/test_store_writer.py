"""The store writer: nothing lost, nothing silently dropped, the user's folder untouched."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import pytest

from assets.dataset import Channel, DatasetError
from assets.datasets.ptb_xl import PTBXL
from assets.outputs import Built, Key, Output, Workspace
from assets.readers.wfdb_write import write_record
from assets.record import Record
from assets.signals.resample import resample
from assets.store import build_store
from models.recipes import BandPass, HighPass, Recipe
from models.registry import get_recipe
from models.store import Store, open_store
from models.types import LEADS

NATIVE = get_recipe("native")
RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ptb_xl")
    PTBXL.make_fixture(folder)
    return folder


@pytest.fixture
def damaged(source: Path, tmp_path: Path) -> PTBXL:
    """A copy whose records may be harmed."""
    return PTBXL(shutil.copytree(source, tmp_path / "raw"))


def publish(dataset: PTBXL, root: Path, recipe: Recipe = NATIVE, shard_rows: int = 1024) -> Output:
    def build(folder: Path) -> Built:
        return build_store(folder, dataset, recipe, shard_rows=shard_rows)

    return Workspace(root).publish(Key(("cleaned", dataset.name), recipe.name), build, code_version="1", access=dataset.access)


def quarantine(output: Output) -> dict[str, str]:
    table = pd.read_parquet(output.path("quarantine.parquet"))
    assert (table["explanation"] != "").all()
    return dict(zip(table["record_id"], table["reason"], strict=True))


def tree_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        stat = path.stat()
        digest.update(f"{path}{stat.st_mtime_ns}{stat.st_mode}".encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()


def make_record(signal_LT: np.ndarray, fs_hz: float = 100.0, leads: tuple[str, ...] = LEADS, unit: str = "uV") -> Record:
    return Record(signal_LT.astype(np.float32), leads, fs_hz, (unit,) * len(leads), "")


def noise(seconds: float, fs_hz: float = 100.0) -> np.ndarray:
    return RNG.normal(0, 300, (12, round(seconds * fs_hz)))


def test_store_is_bit_equal_to_the_source_in_every_shard(source: Path, tmp_path: Path) -> None:
    dataset = PTBXL(source)
    output = publish(dataset, tmp_path, shard_rows=64)
    store = open_store(output.folder)
    records = dataset.records()
    assert [s["rows"] for s in output.facts["shards"]] == [64, 64, 64, 8]
    assert store.record_ids() == records["record_id"].tolist()
    assert output.rows == len(store) == 200
    signals = store.signals(np.arange(200))
    for row, record_id in enumerate(records["record_id"]):
        record = dataset.read(record_id)
        np.testing.assert_array_equal(signals[row], record.signal_LT)
        assert store.index["source_checksum"][row].as_py() == record.source_checksum
    index = store.index.to_pandas()
    for column in ("patient_id", "fold", "sex", "site", "device", "acquired_at"):
        assert index[column].tolist() == records[column].tolist()
    np.testing.assert_array_equal(index["age"], records["age"].astype("float32"))
    assert (index["start"] == 0).all()
    assert (index["missing_fraction"] == 0).all()


def test_a_step_may_be_for_one_site_of_a_dataset_alone(source: Path, tmp_path: Path) -> None:
    step = HighPass(0.5)
    plain, everywhere, limited = (
        open_store(publish(PTBXL(source), tmp_path / str(i), Recipe("made", steps=steps)).folder)
        for i, steps in enumerate([(), (step,), (dataclasses.replace(step, sources=("code15", "ptb_xl/1")),)])
    )
    rows = np.arange(200)
    meant = np.array([site == "1" for site in limited.index["site"].to_pylist()])
    assert 20 < meant.sum() < 180 and plain.record_ids() == limited.record_ids()
    np.testing.assert_array_equal(limited.signals(rows)[meant], everywhere.signals(rows)[meant])
    np.testing.assert_array_equal(limited.signals(rows)[~meant], plain.signals(rows)[~meant])
    assert (everywhere.signals(rows) != plain.signals(rows)).any(axis=(1, 2)).all()


def test_facts(source: Path, tmp_path: Path) -> None:
    facts = publish(PTBXL(source), tmp_path).facts
    assert facts["kind"] == "store"
    assert [c["name"] for c in facts["channels"]] == list(LEADS)
    assert facts["channels"][0] == {"name": "I", "kind": "ECG", "unit": "uV", "scale": 1.0, "fs_hz": 100.0}
    assert facts["shards"] == [{"file": "shard-00000.npy", "rows": 200, "channels": list(LEADS), "n_samples": 1000, "fs_hz": 100.0}]
    assert (facts["n_records"], facts["n_quarantined"], facts["n_absent"], facts["n_remainders"]) == (200, 0, 0, 0)


def test_same_source_gives_the_same_data_version(source: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(source, tmp_path / "elsewhere")
    (moved / "records100" / "00000" / "00009_lr.dat").unlink()
    other = shutil.copytree(moved, tmp_path / "and_elsewhere")
    first, second = publish(PTBXL(moved), tmp_path / "a"), publish(PTBXL(other), tmp_path / "b")
    assert first.facts["n_quarantined"] == 1
    assert first.data_version == second.data_version


def test_raw_folder_is_left_alone_even_when_it_cannot_be_written(damaged: PTBXL, tmp_path: Path) -> None:
    folders = [damaged.folder, *(p for p in damaged.folder.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    before = tree_hash(damaged.folder)
    try:
        assert publish(damaged, tmp_path / "out").rows == 200
    finally:
        after = tree_hash(damaged.folder)
        for folder in folders:
            folder.chmod(0o755)
    assert after == before


def test_unreadable_file_is_quarantined(damaged: PTBXL, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (damaged.folder / "records100" / "00000" / "00003_lr.dat").chmod(0)
    assert quarantine(publish(damaged, tmp_path / "out")) == {"3": "unreadable"}


def test_absent_records_are_counted_and_not_quarantined(source: Path, tmp_path: Path) -> None:
    output = publish(PTBXL(source), tmp_path, get_recipe("native_500hz"))
    assert output.rows == 5
    assert (output.facts["n_absent"], output.facts["n_quarantined"]) == (195, 0)
    assert len(pd.read_parquet(output.path("absent.parquet"))) == 195
    store = open_store(output.folder)
    assert (store.n_samples, store.fs_hz) == (5000, 500.0)
    np.testing.assert_array_equal(store.signals(np.array([1]))[0], PTBXL(source).read("41", 500.0).signal_LT)


def test_no_file_of_the_wanted_rate_at_all(damaged: PTBXL, tmp_path: Path) -> None:
    shutil.rmtree(damaged.folder / "records500")
    with pytest.raises(DatasetError, match=r"none of the 200 recordings that ptb_xl lists is in .* at 500 Hz"):
        publish(damaged, tmp_path / "out", get_recipe("native_500hz"))
    assert not any((tmp_path / "out").rglob("index.arrow"))


def cut_file(folder: Path) -> None:
    path = folder / "00001_lr.dat"
    path.write_bytes(path.read_bytes()[:-1000])


def flip_bit(folder: Path) -> None:
    data = bytearray((folder / "00001_lr.dat").read_bytes())
    data[777] ^= 1
    (folder / "00001_lr.dat").write_bytes(data)


def drop_data(folder: Path) -> None:
    (folder / "00001_lr.dat").unlink()


def drop_header(folder: Path) -> None:
    (folder / "00001_lr.hea").unlink()


def wrong_unit(folder: Path) -> None:
    path = folder / "00001_lr.hea"
    path.write_text(path.read_text().replace("/mV", "/mmHg", 1))


def rewrite(signal: np.ndarray, leads: tuple[str, ...] = LEADS, fs_hz: float = 100, gain: float = 1000) -> Callable[[Path], None]:
    return lambda folder: write_record(folder, "00001_lr", signal, leads, fs_hz, gain)


def with_gap(lead: int, value: float) -> np.ndarray:
    signal = noise(10)
    signal[lead] = value
    return signal


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (cut_file, "truncated"),
        (flip_bit, "checksum"),
        (drop_data, "missing_signal"),
        (drop_header, "missing_header"),
        (wrong_unit, "bad_units"),
        (rewrite(noise(10)[:11], LEADS[:11]), "missing_leads"),
        (rewrite(np.zeros((12, 1000))), "constant"),
        (rewrite(with_gap(2, np.nan)), "no_finite_sample"),
        (rewrite(noise(10) * 200, gain=100), "amplitude"),
        (rewrite(noise(9.99)), "too_short"),
        (rewrite(noise(10), fs_hz=10), "sampling_rate"),
    ],
)
def test_a_bad_record_is_quarantined_with_its_reason_and_stops_nothing(
    damaged: PTBXL, tmp_path: Path, harm: Callable[[Path], None], reason: str
) -> None:
    harm(damaged.folder / "records100" / "00000")
    output = publish(damaged, tmp_path / "out")
    assert quarantine(output) == {"1": reason}
    assert output.facts["quarantine_reasons"] == {reason: 1}
    store = open_store(output.folder)
    assert store.record_ids() == [str(i) for i in range(2, 201)]
    assert store.index["fold"].to_pylist() == damaged.records()["fold"].tolist()[1:]
    table = pd.read_parquet(output.path("quarantine.parquet")).iloc[0]
    assert str(damaged.folder) not in " ".join(map(str, table))
    assert table["patient_id"] == damaged.records()["patient_id"][0]


@pytest.mark.parametrize(("flat", "refused"), [("keep", {}), ("refuse", {"1": "flat_lead"})])
def test_a_recipe_may_refuse_recordings_with_a_lead_that_never_changes(
    damaged: PTBXL, tmp_path: Path, flat: Literal["keep", "refuse"], refused: dict[str, str]
) -> None:
    rewrite(with_gap(2, 40.0))(damaged.folder / "records100" / "00000")
    output = publish(damaged, tmp_path / "out", Recipe("ours", flat=flat))
    assert quarantine(output) == refused
    if refused:
        assert "III: never changes" in " ".join(map(str, pd.read_parquet(output.path("quarantine.parquet")).iloc[0]))


def test_every_broken_record_of_the_collection_is_quarantined_or_stored(shared_data: Path, source: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(shared_data / "broken", tmp_path / "broken")
    names = sorted(h.relative_to(broken).with_name(h.stem).as_posix() for h in broken.rglob("*.hea"))

    class Broken(PTBXL):
        def records(self) -> pd.DataFrame:
            records = super().records().iloc[: len(names)].copy()
            return records.assign(record_id=names)

        def read(self, record_id: str, fs_hz: float | None = None) -> Record:
            from assets.readers import read_record

            return read_record(broken / f"{record_id}.hea")

    output = publish(Broken(source), tmp_path / "out")
    assert open_store(output.folder).record_ids() == ["record_name_with_extension/E00015"]
    assert len(quarantine(output)) == len(names) - 1


def test_gaps_are_filled_and_flagged(damaged: PTBXL, tmp_path: Path) -> None:
    signal = noise(10)
    signal[4, 100:220] = np.nan
    rewrite(signal)(damaged.folder / "records100" / "00000")
    store = open_store(publish(damaged, tmp_path / "out").folder)
    assert store.index["missing_fraction"][0].as_py() == pytest.approx(120 / 12_000)
    stored = store.signals(np.array([0]))[0]
    np.testing.assert_array_equal(stored[:4], np.rint(signal[:4]).astype(np.float32))
    assert stored[4, 160] == np.rint(np.nanmean(np.rint(signal[4])))


def test_long_recordings_are_cut_into_windows_keyed_by_start(damaged: PTBXL, tmp_path: Path) -> None:
    signal = noise(34)
    signal[0, 1000:1100] = np.nan
    rewrite(signal)(damaged.folder / "records100" / "00000")
    output = publish(damaged, tmp_path / "out")
    store: Store = open_store(output.folder)
    assert store.record_ids()[:4] == ["1", "1", "1", "2"]
    assert store.index["start"].to_pylist()[:4] == [0.0, 10.0, 20.0, 0.0]
    assert output.facts["n_remainders"] == 1
    np.testing.assert_array_equal(store.signals(np.array([2]))[0], np.rint(signal[:, 2000:3000]).astype(np.float32))
    np.testing.assert_allclose(store.index["missing_fraction"].to_pylist()[:3], [0, 100 / 12_000, 0], rtol=1e-6)


def test_leads_are_ordered_by_name(damaged: PTBXL, tmp_path: Path) -> None:
    signal = np.rint(noise(10))
    order = RNG.permutation(12)
    rewrite(signal[order], tuple(LEADS[i].upper() for i in order))(damaged.folder / "records100" / "00000")
    stored = open_store(publish(damaged, tmp_path / "out").folder).signals(np.array([0]))[0]
    np.testing.assert_array_equal(stored, signal.astype(np.float32))


def test_quality_flags_reach_the_index(damaged: PTBXL, tmp_path: Path) -> None:
    signal = damaged.read("1").signal_LT.copy()
    signal[7] = 0
    signal[[0, 1]] = signal[[1, 0]]
    rewrite(signal)(damaged.folder / "records100" / "00000")
    index = open_store(publish(damaged, tmp_path / "out").folder).index
    assert index["flat"].to_pylist()[:2] == [1 << 7, 0]
    assert index["limb_swap"].to_pylist()[:2] == [True, False]
    assert set(index["noisy"].to_pylist()) == set(index["saturated"].to_pylist()) == {0}


def test_resampling_keeps_length_and_waveform() -> None:
    t = np.arange(5000) / 500
    signal = (np.stack([np.sin(2 * np.pi * f * t) for f in range(1, 13)]) * 1000 + 700).astype(np.float32)
    down = resample(signal, 500, 100)
    assert down.shape == (12, 1000)
    assert down.dtype == np.float32
    np.testing.assert_allclose(down[:, 20:-20], signal[:, ::5][:, 20:-20], atol=12)
    up = resample(down, 100, 500)
    np.testing.assert_allclose(up[:, 200:-200], signal[:, 200:-200], atol=25)


class Made(PTBXL):
    """Recordings that a test makes, one or several pieces each."""

    recordings: ClassVar[dict[str, list[Record]]] = {}

    def records(self) -> pd.DataFrame:
        return super().records().iloc[: len(self.recordings)].assign(record_id=list(self.recordings))

    def pieces(self, record_id: str, fs_hz: float | None = None) -> Iterator[Record]:
        yield from self.recordings[record_id]


def made(source: Path, **recordings: Record | list[Record]) -> Made:
    pieces = {name: r if isinstance(r, list) else [r] for name, r in recordings.items()}
    return type("Made", (Made,), {"recordings": pieces})(source)


def test_another_rate_and_a_rest(source: Path, tmp_path: Path) -> None:
    output = publish(made(source, a=make_record(noise(10.25, 400), 400)), tmp_path)
    assert open_store(output.folder).signals(np.array([0])).shape == (1, 12, 1000)
    assert (output.rows, output.facts["n_remainders"]) == (1, 1)


def test_too_short_names_both_lengths(source: Path, tmp_path: Path) -> None:
    output = publish(made(source, a=make_record(noise(7)), b=make_record(noise(10))), tmp_path)
    assert quarantine(output) == {"a": "too_short"}
    assert "lasts 7 s, a window of this store 10 s" in pd.read_parquet(output.path("quarantine.parquet"))["explanation"][0]


def test_a_recipe_may_pad_what_is_short_and_choose_its_window(source: Path, tmp_path: Path) -> None:
    short, long = noise(7), noise(33)
    recipe = Recipe("padded", window_s=16.0, short="pad")
    store = open_store(publish(made(source, a=make_record(short), b=make_record(long)), tmp_path, recipe).folder)
    assert store.record_ids() == ["a", "b", "b"]
    assert store.index["n_samples"].to_pylist() == [700, 1600, 1600]
    signals = store.signals(np.arange(3))
    np.testing.assert_array_equal(signals[0, :, :700], np.rint(short).astype(np.float32))
    assert not signals[0, :, 700:].any()
    np.testing.assert_array_equal(signals[2], np.rint(long[:, 1600:3200]).astype(np.float32))


def test_channels_that_a_dataset_does_not_require_are_zeros_and_flagged(source: Path, tmp_path: Path) -> None:
    dead = noise(10)
    dead[7] = np.nan
    dataset = made(
        source, a=make_record(noise(10)[:11], leads=LEADS[:11]), b=make_record(dead), c=make_record(noise(10)[1:], leads=LEADS[1:])
    )
    type(dataset).required_channels = ("I",)
    output = publish(dataset, tmp_path)
    store = open_store(output.folder)
    assert quarantine(output) == {"c": "missing_leads"}
    assert store.index["absent"].to_pylist() == [1 << 11, 1 << 7]
    signals = store.signals(np.arange(2))
    assert not signals[0, 11].any() and not signals[1, 7].any() and signals[1, 11].any()
    everything = publish(dataset, tmp_path / "zero", Recipe("zero", absent="zero"))
    assert open_store(everything.folder).index["absent"].to_pylist() == [1 << 11, 1 << 7, 1]


def test_a_recording_in_pieces_loses_only_what_is_bad(source: Path, tmp_path: Path) -> None:
    def piece(start_s: float, signal: np.ndarray, fs_hz: float = 100.0) -> Record:
        return dataclasses.replace(make_record(signal, fs_hz), start_s=start_s)

    loud = noise(30)
    loud[3, 1500] = 40_000
    still = noise(20)
    still[:, 1000:] = 5
    pieces = [
        piece(0, loud),
        piece(100, noise(3)),
        piece(200, np.zeros((12, 2000))),
        piece(300, still),
        piece(400, noise(25, 200.0), 200.0),
    ]
    output = publish(made(source, a=pieces, b=make_record(np.zeros((12, 1000)))), tmp_path)
    store = open_store(output.folder)
    assert list(zip(store.record_ids(), store.index["start"].to_pylist(), strict=True)) == [("a", s) for s in (0, 20, 300, 400, 410)]
    table = pd.read_parquet(output.path("quarantine.parquet")).sort_values(["record_id", "start"])
    assert table[["record_id", "start", "reason"]].to_numpy().tolist() == [
        ["a", 10.0, "amplitude"], ["a", 100.0, "too_short"], ["a", 200.0, "constant"], ["a", 310.0, "constant"], ["b", 0.0, "constant"],
    ]  # fmt: skip
    assert (output.facts["n_quarantined"], output.facts["n_partly_quarantined"]) == (1, 1)


def test_progress_ends_with_all_records(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    build_store(tmp_path, PTBXL(source), NATIVE, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (200, 200)
    assert len(seen) > 1


def test_real_records_are_stored_bit_for_bit(shared_data: Path, tmp_path: Path) -> None:
    class Sample(PTBXL):
        def records(self) -> pd.DataFrame:
            return super().records().iloc[::20].reset_index(drop=True)

    dataset = Sample(shared_data / "ptb-xl")
    output = publish(dataset, tmp_path)
    store = open_store(output.folder)
    assert (len(store), output.facts["n_quarantined"], output.facts["n_absent"]) == (200, 0, 0)
    signals = store.signals(np.arange(200))
    for row, record_id in enumerate(store.record_ids()):
        np.testing.assert_array_equal(signals[row], dataset.read(record_id).signal_LT)


class OneLeadAndPulse(PTBXL):
    """A dataset of two channels, one of them no ECG."""

    leads = ("PLETH", "II")

    @classmethod
    def channels(cls) -> tuple[Channel, ...]:
        return (Channel("II"), Channel("PLETH", kind="PPG", unit="a.u.", scale=0.001))

    def read(self, record_id: str, fs_hz: float | None = None) -> Record:
        signal_LT = np.stack([np.linspace(-1, 1, 1000), np.full(1000, float(record_id))]).astype(np.float32)
        return Record(signal_LT, self.leads, 100.0, ("a.u.", "uV" if record_id != "2" else "mmHg"), record_id)


def test_a_store_of_other_channels_is_as_much_at_home(source: Path, tmp_path: Path) -> None:
    output = publish(OneLeadAndPulse(source), tmp_path)
    assert [(c["name"], c["kind"], c["unit"]) for c in output.facts["channels"]] == [("II", "ECG", "uV"), ("PLETH", "PPG", "a.u.")]
    assert quarantine(output) == {"2": "bad_units"}
    store = open_store(output.folder)
    ids = np.array([float(r) for r in store.record_ids()])
    signals_BLT = store.signals(np.arange(len(store)))
    assert signals_BLT.shape == (199, 2, 1000)
    np.testing.assert_array_equal(signals_BLT[:, 0], np.repeat(ids[:, None], 1000, axis=1))
    np.testing.assert_allclose(signals_BLT[0, 1], np.linspace(-1, 1, 1000), atol=0.0006)
    assert set(store.index["flat"].to_pylist()) == {1}, "the constant ECG lead is flat; the pulse wave is not judged by ECG thresholds"
    assert not any(store.index["limb_swap"].to_pylist())


def test_leads_of_a_twelve_lead_dataset_have_the_fixed_order_whatever_it_declares() -> None:
    declared = type("Reversed", (PTBXL,), {"leads": tuple(reversed(LEADS))})
    assert tuple(c.name for c in declared.channels()) == LEADS
    assert tuple(c.name for c in type("Single", (PTBXL,), {"leads": ("II",)}).channels()) == ("II",)


def test_a_copy_of_another_patients_recording_is_quarantined_and_one_of_the_same_patient_kept(source: Path, tmp_path: Path) -> None:
    records = PTBXL(source).records()
    first, again = records.index[records["patient_id"] == records["patient_id"][0]][:2]
    signal, other = noise(10), noise(10)
    names = {"a": signal, "b": other, **{f"c{i}": noise(10) for i in range(2, again)}, "same": signal, "copy": signal}
    dataset = made(source, **{name: make_record(values) for name, values in names.items()})
    output = publish(dataset, tmp_path)
    assert (first, again) == (0, len(names) - 2)
    assert quarantine(output) == {"copy": "duplicate"}
    assert "row 0 of the index" in pd.read_parquet(output.path("quarantine.parquet"))["explanation"][0]


def test_a_rate_that_does_not_suit_the_recipe_is_the_recordings_fault_alone(source: Path, tmp_path: Path) -> None:
    band = Recipe("band", fs_hz=100.0, steps=(BandPass(0.5, 40.0),))
    output = publish(
        made(source, slow=make_record(noise(10, 60), 60), odd=make_record(noise(12, 62.4725), 62.4725), a=make_record(noise(10))),
        tmp_path,
        band,
    )
    assert quarantine(output) == {"slow": "sampling_rate", "odd": "sampling_rate"}
    assert "does not fit" in pd.read_parquet(output.path("quarantine.parquet"))["explanation"][0]
    odd = publish(made(source, odd=make_record(noise(12, 62.4725), 62.4725)), tmp_path / "native")
    assert (odd.rows, odd.facts["n_quarantined"]) == (1, 0)


def test_absent_channels_are_not_judged(source: Path, tmp_path: Path) -> None:
    dataset = made(source, a=make_record(noise(10)[:11], leads=LEADS[:11]))
    type(dataset).required_channels = ()
    index = open_store(publish(dataset, tmp_path).folder).index
    assert (index["absent"].to_pylist(), index["flat"].to_pylist()) == ([1 << 11], [0])


def test_r_peaks_stand_in_the_index(source: Path, tmp_path: Path) -> None:
    t = np.arange(1000) / 100
    beats = np.array([0.7, 1.6, 2.4, 3.5, 4.4, 5.2, 6.1, 7.0, 8.0, 9.1])
    ecg = np.repeat(900 * np.exp(-(((t[:, None] - beats) / 0.015) ** 2)).sum(axis=1)[None], 12, axis=0) + RNG.normal(0, 8, (12, 1000))
    output = publish(made(source, a=make_record(ecg), b=make_record(ecg[:, :750])), tmp_path, Recipe("padded", short="pad"))
    peaks = open_store(output.folder).index["r_peaks"].to_pylist()
    np.testing.assert_allclose(np.array(peaks[0]) / 100, beats, atol=0.02)
    np.testing.assert_allclose(np.array(peaks[1]) / 100, beats[beats < 7.5], atol=0.02)


def test_all_windows_of_a_copied_recording_are_quarantined(source: Path, tmp_path: Path) -> None:
    signal = noise(34)
    output = publish(
        made(source, a=make_record(signal), b=make_record(noise(12)), c=make_record(signal), d=make_record(noise(21))), tmp_path
    )
    assert open_store(output.folder).record_ids() == ["a", "a", "a", "b", "d", "d"]
    table = pd.read_parquet(output.path("quarantine.parquet"))
    assert table[["record_id", "start", "reason"]].to_numpy().tolist() == [["c", start, "duplicate"] for start in (0.0, 10.0, 20.0)]
    assert (output.facts["n_quarantined"], output.facts["n_partly_quarantined"]) == (1, 0)
