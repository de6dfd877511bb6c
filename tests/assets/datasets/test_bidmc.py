"""BIDMC: columns by name, units that its tables do not state, people of MIMIC."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from assets.dataset import DatasetError
from assets.datasets.bidmc import BIDMC
from assets.datasets.mimic_iii_waveform import MIMICIIIWaveform
from assets.record import RecordError
from assets.splits import fold_of

SHARED = os.environ.get("EINTHOVEN_SHARED_DATA")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bidmc")
    BIDMC.make_fixture(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A recording that a test may spoil."""
    (tmp_path / "bidmc_csv").mkdir()
    for ending in ("Signals.csv", "Fix.txt"):
        shutil.copy(original / "bidmc_csv" / f"bidmc_01_{ending}", tmp_path / "bidmc_csv")
    return tmp_path


def test_columns_are_found_by_name_in_any_order(original: Path) -> None:
    dataset = BIDMC(original)
    orders = set()
    for record_id in ("bidmc_01", "bidmc_02", "bidmc_03"):
        record = dataset.read(record_id)
        orders.add(record.leads)
        assert set(record.leads) == {"II", "PLETH", "RESP"}, "no chest lead, no pressure"
        by_name = dict(zip(record.leads, zip(record.signal_LT, record.units, strict=True), strict=True))
        assert by_name["II"][1] == "uV" and 600 < by_name["II"][0].max() < 1500
        assert by_name["PLETH"][1] == by_name["RESP"][1] == "NU" and by_name["PLETH"][0].max() <= 1
    assert len(orders) > 1
    assert record.fs_hz == 125.0 and record.signal_LT.dtype == np.float32


def test_one_person_may_have_several_recordings(original: Path) -> None:
    records = BIDMC(original).records().set_index("record_id")
    assert records["patient_id"].nunique() == 20 and len(records) == 22
    assert records.loc[["bidmc_05", "bidmc_06", "bidmc_07"], "patient_id"].nunique() == 1
    assert np.isnan(records.loc["bidmc_01", "age"]) and records.loc["bidmc_02", ["age", "sex", "site"]].tolist() == [41.0, "female", "csru"]
    assert records.loc["bidmc_01", "acquired_at"] == "3195-12-01T05:38:00"


def test_a_person_has_one_id_in_both_collections_of_mimic(folder: Path, tmp_path: Path) -> None:
    fix = folder / "bidmc_csv" / "bidmc_01_Fix.txt"
    fix.write_text("bidmc_01\nMIMIC II matched wdb ID: s00020\n")
    (tmp_path / "waves").mkdir()
    (tmp_path / "waves" / "RECORDS-waveforms").write_text("p00/p000020/p000020-2183-04-28-17-47\n")
    ours, theirs = BIDMC(folder).records(), MIMICIIIWaveform(tmp_path / "waves").records()
    assert (
        ours[["patient_id", "fold"]].to_numpy().tolist()
        == theirs[["patient_id", "fold"]].to_numpy().tolist()
        == [["mimic3:20", fold_of("mimic3:20")]]
    )


def test_what_is_amiss_is_told(original: Path, folder: Path) -> None:
    assert BIDMC(original).present(["bidmc_17", "bidmc_18"]) == [True, False]
    table = folder / "bidmc_csv" / "bidmc_01_Signals.csv"
    text = table.read_text()
    table.write_text(text[: text.rindex(",")])
    for record_id, reason in (("bidmc_01", "ragged"), ("bidmc_18", "absent"), ("../bidmc_01", "absent")):
        with pytest.raises(RecordError) as caught:
            BIDMC(folder).read(record_id)
        assert caught.value.reason == reason


def test_a_recording_of_nobody_stops_the_dataset(folder: Path) -> None:
    fix = folder / "bidmc_csv" / "bidmc_01_Fix.txt"
    fix.write_text("bidmc_01\nAge: 65\n")
    with pytest.raises(DatasetError, match="names no subject"):
        BIDMC(folder).records()
    fix.unlink()
    with pytest.raises(DatasetError, match=r"bidmc_01_Fix\.txt is missing"):
        BIDMC(folder).records()


def test_sentences_and_labels_are_the_means_of_what_the_monitor_showed(original: Path) -> None:
    dataset = BIDMC(original)
    texts = dataset.reports().set_index("record_id")["text"]
    assert (
        texts["bidmc_01"] == "Man in the medical intensive care unit. Mean heart rate 57, breathing rate 12, oxygen saturation 99 percent."
    )
    assert texts["bidmc_04"] == "43 year old woman in the cardiac surgery recovery unit.", "its numbers are not there"
    labels = dataset.labels("vitals").set_index("record_id")
    assert "bidmc_04" not in labels.index and len(labels) == 21
    assert labels.loc["bidmc_01"].tolist() == [0, 1, 0, 0] and (labels.sum() > 0).all() and (labels.sum(axis=1) == 0).any()


@pytest.mark.parametrize("value", ["high", "-3", "inf", "1e9"])
def test_a_number_that_no_monitor_shows_is_refused_by_file(original: Path, folder: Path, value: str) -> None:
    path = folder / "bidmc_csv" / "bidmc_01_Numerics.csv"
    lines = (original / "bidmc_csv" / path.name).read_text().splitlines()
    path.write_text("\n".join([*lines[:3], f"2,80,80,{value},97", *lines[4:]]))
    for call in (BIDMC(folder).reports, lambda: BIDMC(folder).labels("vitals")):
        with pytest.raises(DatasetError, match=rf"Numerics\.csv: column RESP holds {value}"):
            call()


@pytest.mark.skipif(SHARED is None, reason="EINTHOVEN_SHARED_DATA is not set")
def test_the_nine_real_recordings() -> None:
    dataset = BIDMC(Path(str(SHARED)) / "bidmc")
    records = dataset.records().set_index("record_id")
    assert len(records) == 9 and records["patient_id"].nunique() == 6
    assert set(records.loc["bidmc_06":"bidmc_09", "patient_id"]) == {"mimic3:3386"}
    assert records.loc["bidmc_02", ["age", "sex", "site"]].tolist() == [65.0, "male", "micu"]
    text = dataset.reports().set_index("record_id").loc["bidmc_09", "text"]
    assert text == (
        "64 year old woman in the medical intensive care unit. Mean heart rate 77, breathing rate 20, oxygen saturation 93 percent."
    )
    assert dataset.labels("vitals").sum(numeric_only=True).to_dict() == {
        "tachycardia": 0, "bradycardia": 0, "tachypnoea": 1, "desaturation": 3,
    }  # fmt: skip
    for record_id in ("bidmc_02", "bidmc_09", "bidmc_10"):
        record = dataset.read(record_id)
        rows = dict(zip(record.leads, record.signal_LT, strict=True))
        assert record.signal_LT.shape == (3, 60_001) and record.fs_hz == 125.0
        assert -510 < rows["II"].min() < rows["II"].max() < 1510, "the range of MIMIC's converter in microvolts"
        assert 0 <= rows["PLETH"].min() < rows["PLETH"].max() <= 1


def test_numbers_of_a_window_are_means_of_what_the_monitor_showed(original: Path) -> None:
    dataset = BIDMC(original)
    rates = dataset.labels("heart_rate")
    assert dict(rates.dtypes.astype(str))["heart_rate"] == "float32" and set(rates["start"]) == {0.0, 10.0}
    assert "bidmc_04" not in set(rates["record_id"]), "it has no table of numbers"
    first = rates[rates["record_id"] == "bidmc_01"]
    shown = {second: 56 + second % 3 for second in range(20) if second != 4}
    assert first["heart_rate"].tolist() == pytest.approx(
        [np.mean([v for s, v in shown.items() if s // 10 == window]) for window in (0, 1)], abs=1e-4
    )
    assert dataset.labels("spo2")["spo2"].between(90, 100).all() and dataset.task("respiration").per_window


def test_windows_with_few_numbers_are_left_out(tmp_path: Path) -> None:
    BIDMC.make_fixture(tmp_path)
    path = tmp_path / "bidmc_csv" / "bidmc_01_Numerics.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:1], *(f"{i},NaN,60,16,97" if i < 6 else line for i, line in enumerate(lines[1:]))]) + "\n")
    rates = BIDMC(tmp_path).labels("heart_rate")
    assert rates.loc[rates["record_id"] == "bidmc_01", "start"].tolist() == [10.0]
    path.write_text(path.read_text().replace("7,", "x,", 1))
    with pytest.raises(DatasetError, match=r"column Time \[s\] holds x"):
        BIDMC(tmp_path).labels("heart_rate")
