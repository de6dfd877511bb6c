"""MIMIC-III waveforms: segments, gaps, leads that come and go, parts of a download."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.dataset import DatasetError
from assets.datasets.mimic_iii_waveform import MIMICIIIWaveform
from assets.outputs import Key, Output, Workspace
from assets.readers.mit_write import Signal, write_signals
from assets.record import Record, RecordError
from models.registry import get_recipe
from models.store import open_store

SHARED = os.environ.get("EINTHOVEN_SHARED_DATA")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mimic3")
    MIMICIIIWaveform.make_fixture(folder)
    return folder


def cleaned(dataset: MIMICIIIWaveform, root: Path) -> Output:
    from assets.store import build_store

    return Workspace(root).publish(
        Key(("cleaned", dataset.name), "native"),
        lambda f: build_store(f, dataset, get_recipe("native")),
        code_version="1",
        access=dataset.access,
    )


def parts(dataset: MIMICIIIWaveform, record_id: str) -> tuple[list[Record], RecordError | None]:
    found = []
    try:
        for part in dataset.pieces(record_id):
            found.append(part)
    except RecordError as error:
        return found, error
    return found, None


def place(dataset: MIMICIIIWaveform, n: int) -> str:
    """The n-th recording that was written, which its surrogate minute counts."""
    ids = dataset.records()["record_id"]
    return str(ids[ids.str[22:24].astype(int) == n].iloc[0])


def test_recordings_people_and_times_are_in_their_names(original: Path) -> None:
    records = MIMICIIIWaveform(original).records()
    assert len(records) == 30 and records["patient_id"].str.fullmatch("mimic3:[1-9][0-9]*").all()
    first = records.iloc[0]
    assert first["patient_id"] == f"mimic3:{int(first['record_id'][1:7])}"
    assert first["acquired_at"].startswith("2183-04-") and first["acquired_at"].endswith(":00")
    assert records["sex"].eq("unknown").all() and records["age"].isna().all()


def test_parts_are_segments_without_gaps(original: Path) -> None:
    dataset = MIMICIIIWaveform(original)
    found, fault = parts(dataset, place(dataset, 1))
    assert fault is None
    assert [part.start_s for part in found] == [5.0, 28.0, 40.0, 41.0]
    assert found[0].leads == ("II", "PLETH") and found[0].units == ("uV", "NU")
    assert found[1].leads == ("II", "I", "III", "aVR", "ABP")
    assert all(np.isnan(part.signal_LT[0, 60:63]).all() and np.isfinite(part.signal_LT[0, 63:]).all() for part in found)
    assert 400 < np.nanmax(found[0].signal_LT[0]) < 1500 and np.nanmax(found[0].signal_LT[1]) <= 1


def test_a_segment_that_cannot_be_used_is_told_after_the_others(original: Path) -> None:
    dataset = MIMICIIIWaveform(original)
    for n, reason in ((9, "missing_signal"), (14, "bad_gain")):
        found, fault = parts(dataset, place(dataset, n))
        assert fault is not None and fault.reason == reason
        assert "_0002" in str(fault.path)
        assert [part.leads[-1] for part in found] == ["PLETH", "PLETH", "ABP" if n % 3 == 0 else "PLETH"]


def test_several_bad_segments_are_counted(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path / "copy")
    dataset = MIMICIIIWaveform(tmp_path / "copy")
    record_id = place(dataset, 1)
    for path in sorted((tmp_path / "copy" / record_id[:3] / record_id[:7]).glob("*_000[13].dat")):
        path.write_bytes(path.read_bytes()[:-9])
    found, fault = parts(dataset, record_id)
    assert len(found) == 2
    assert fault is not None and fault.reason == "truncated" and "2 segments" in str(fault)


def test_a_long_segment_comes_in_parts_of_ten_minutes(tmp_path: Path) -> None:
    folder = tmp_path / "p00" / "p000020"
    counts_LT = np.tile(np.arange(-100, 100), (1, 1500 * 125 // 200 + 1))[:, : 1500 * 125]
    write_signals(folder, "3544749_0001", 80, counts_LT, [Signal("127(-64)/mV", "II", bits=8)], "125")
    (folder / "3544749_layout.hea").write_text("3544749_layout 1 125 0\n~ 0 127(-64)/mV 8 0 -128 0 0 II\n")
    name = "p000020-2183-04-28-17-47"
    (folder / f"{name}.hea").write_text(f"{name}/2 1 125 187500 17:47:17.000 28/04/2183\n3544749_layout 0\n3544749_0001 187500\n")
    dataset = MIMICIIIWaveform(tmp_path)
    found, fault = parts(dataset, name)
    assert fault is None
    assert [(part.start_s, part.signal_LT.shape[1]) for part in found] == [(0.0, 75_000), (600.0, 75_000), (1200.0, 37_500)]
    opened = open_store(cleaned(dataset, tmp_path / "store").folder)
    assert opened.index["start"].to_pylist() == [10.0 * i for i in range(150)]
    whole_T = dataset.read(name).signal_LT[0]
    assert np.array_equal(np.rint(whole_T), opened.signals(np.arange(150))[:, 1].ravel())


def test_windows_say_which_channels_they_lack(original: Path, tmp_path: Path) -> None:
    dataset = MIMICIIIWaveform(original)
    output = cleaned(dataset, tmp_path)
    opened, names = open_store(output.folder), [c.name for c in dataset.channels()]
    index = opened.index.to_pandas()
    first = index[index["record_id"] == place(dataset, 1)]
    lacks = [{names[i] for i in range(len(names)) if mask >> i & 1} for mask in first["absent"]]
    assert lacks[0] == {"I", "III", "aVR", "V", "MCL1"} and lacks[2] == {"V", "MCL1", "PLETH"}
    signals_BLT = opened.signals(first.index.to_numpy())
    assert (signals_BLT[0, [0, 2, 3, 4, 5]] == 0).all() and signals_BLT[0, 6].max() > 0.5
    reasons = pd.read_parquet(output.path("quarantine.parquet"))["reason"].value_counts().to_dict()
    assert reasons == {"too_short": 29, "missing_leads": 10, "missing_signal": 1, "bad_gain": 1}
    assert output.facts["n_quarantined"] == 0 and output.facts["n_absent"] == 1


def test_numbers_of_the_monitor_are_not_read(original: Path) -> None:
    names = {path.name for path in MIMICIIIWaveform(original).files()}
    assert not any(name.endswith(("n.hea", "n.dat")) for name in names)
    assert "RECORDS-waveforms" in names and "RECORDS-numerics" not in names


def test_one_patients_folder_is_enough(original: Path, tmp_path: Path) -> None:
    record_id = place(MIMICIIIWaveform(original), 1)
    shutil.copytree(original / record_id[:3] / record_id[:7], tmp_path / record_id[:3] / record_id[:7])
    dataset = MIMICIIIWaveform(tmp_path)
    assert dataset.records()["record_id"].tolist() == [record_id]
    assert dataset.present([record_id]) == [True]
    assert len(parts(dataset, record_id)[0]) == 4


def test_what_is_listed_only_is_absent(original: Path) -> None:
    dataset = MIMICIIIWaveform(original)
    found, fault = parts(dataset, place(dataset, 4))
    assert not found and fault is not None and fault.reason == "absent"
    assert dataset.present([place(dataset, 4)]) == [False]
    assert parts(dataset, "../../etc/passwd")[1] is not None


@pytest.mark.parametrize(
    "text",
    ["", "p00/p000020/../../etc\n", "p01/p000020/p000020-2183-04-28-17-47\n", "p00/p000020/p000021-2183-04-28-17-47\n",
     "p00/p000020/p000020-2183-04-28-17-47n\n", "p00/p000020/p000020-2183-04-28-17-47\n" * 2],
)  # fmt: skip
def test_a_list_of_something_else_stops_the_dataset(text: str, tmp_path: Path) -> None:
    (tmp_path / "RECORDS-waveforms").write_text(text)
    with pytest.raises(DatasetError, match="RECORDS-waveforms"):
        MIMICIIIWaveform(tmp_path).records()


def test_a_list_as_long_as_the_original_is_read_quickly(tmp_path: Path) -> None:
    lines = [f"p{i % 99:02d}/p{i % 99:02d}{i % 9999:04d}/p{i % 99:02d}{i % 9999:04d}-2183-04-28-17-{i // 9999:02d}" for i in range(22_317)]
    (tmp_path / "RECORDS-waveforms").write_text("\n".join(lines) + "\n")
    dataset = MIMICIIIWaveform(tmp_path)
    assert len(dataset.records()) == 22_317
    assert not any(dataset.present(dataset.records()["record_id"].tolist()))


@pytest.mark.skipif(SHARED is None, reason="EINTHOVEN_SHARED_DATA is not set")
def test_a_real_monitor_recording_as_a_segment(tmp_path: Path) -> None:
    folder = tmp_path / "p00" / "p000020"
    folder.mkdir(parents=True)
    for ending in ("hea", "dat"):
        shutil.copy(Path(str(SHARED)) / "wfdb-samples" / f"03700181.{ending}", folder)
    name = "p000020-2183-04-28-17-47"
    (folder / f"{name}.hea").write_text(f"{name}/2 3 125 76250 17:47:17.000 28/04/2183\n~ 1250\n03700181 75000\n")
    dataset = MIMICIIIWaveform(tmp_path)
    found, fault = parts(dataset, name)
    assert fault is None
    assert [(p.leads, p.start_s, p.signal_LT.shape) for p in found] == [(("MCL1", "ABP", "RESP"), 10.0, (3, 75_000))]
    opened = open_store(cleaned(dataset, tmp_path / "store").folder)
    assert len(opened) == 60
    mcl1_BT = opened.signals(np.arange(60))[:, [c.name for c in opened.channels].index("MCL1")]
    assert 200 < np.median(np.ptp(mcl1_BT, axis=1)) < 3000
