"""EDF and EDF+ against edfio, and every way in which a header can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest

from assets.readers import read_record
from assets.record import RecordError
from tests.fuzz.encoders import PATIENT, edf, edf_signal

COUNTS = np.random.default_rng(3).integers(-2000, 2000, (2, 3, 50))


def signals(**fields: Any) -> list[dict[str, Any]]:
    return [edf_signal("ECG II", list(COUNTS[0]), **fields), edf_signal("V1", list(COUNTS[1]))]


def reason_of(folder: Path, data: bytes) -> str:
    (folder / "a.edf").write_bytes(data)
    with pytest.raises(RecordError) as caught:
        read_record(folder / "a.edf")
    assert PATIENT not in str(caught.value)
    return caught.value.reason


def test_reads_what_edfio_writes(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    written = [
        edfio.EdfSignal(rng.normal(0, 0.6, 1000), 250, label="ECG I", physical_dimension="mV"),
        edfio.EdfSignal(rng.normal(0, 300, 1000), 250, label="V2", physical_dimension="uV"),
        edfio.EdfSignal(rng.normal(0, 1, 1000), 250, label="Resp", physical_dimension=""),
    ]
    edfio.Edf(written, annotations=[edfio.EdfAnnotation(1, None, "note")]).write(tmp_path / "a.edf")
    record, peer = read_record(tmp_path / "a.edf"), edfio.read_edf(tmp_path / "a.edf")
    assert (record.leads, record.units, record.fs_hz) == (("I", "V2", "Resp"), ("uV", "uV", "NU"), 250.0)
    for row, signal, factor in zip(record.signal_LT, peer.signals, (1000, 1, 1), strict=True):
        np.testing.assert_allclose(row, signal.data * factor, rtol=1e-6, atol=1e-3)


def test_physical_range_and_rate_come_from_the_header(tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_bytes(
        edf(signals(low="-10", high="10", digital_low="-2000", digital_high="2000", unit="mV"), duration="0.5")
    )
    record = read_record(tmp_path / "a.edf")
    assert record.fs_hz == 100.0
    np.testing.assert_allclose(record.signal_LT[0], COUNTS[0].reshape(-1) * 5.0, rtol=1e-6)


def test_an_inverted_range_turns_the_signal(tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_bytes(edf(signals(low="3276.8", high="-3276.7")))
    assert np.corrcoef(read_record(tmp_path / "a.edf").signal_LT[0], COUNTS[0].reshape(-1))[0, 1] < -0.999


def test_channels_of_several_rates_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_bytes(edf([*signals(), edf_signal("Resp", list(COUNTS[0][:, :5]))]))
    with pytest.raises(RecordError, match=r"V1 50 Hz, Resp 5 Hz") as caught:
        read_record(tmp_path / "a.edf")
    assert caught.value.reason == "several_rates"


SOUND = edf(signals())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (SOUND[:-1], "truncated"),
        (SOUND[:300], "truncated"),
        (SOUND[:100], "bad_header"),
        (SOUND + b"\0", "length_mismatch"),
        (edf(signals(), kind="EDF+D"), "discontinuous"),
        (edf(signals(), n_records="-1"), "bad_header"),
        (edf(signals(), n_records="99999999"), "truncated"),
        (edf(signals(), n_records="2"), "length_mismatch"),
        (edf(signals(), n_records="x"), "bad_header"),
        (edf(signals(), n_bytes="512"), "bad_header"),
        (edf(signals(), n_signals="0", n_bytes="256"), "bad_header"),
        (edf(signals(), n_signals="9999", n_bytes="2560000"), "truncated"),
        (edf(signals(), duration="0"), "sampling_rate"),
        (edf(signals(), duration="-1"), "sampling_rate"),
        (edf(signals(), duration="nan"), "bad_header"),
        (edf(signals(), duration="1e99"), "sampling_rate"),
        (edf(signals(low="0", high="0")), "zero_gain"),
        (edf(signals(high="x")), "bad_header"),
        (edf(signals(digital_high="-32768")), "bad_gain"),
        (edf(signals(low="-9999999", high="9999999", unit="mV")), "bad_gain"),
        (edf(signals(unit="MV")), "bad_units"),
        (edf([edf_signal("V1", list(COUNTS[0])), edf_signal("ECG V1", list(COUNTS[1]))]), "duplicate_leads"),
        (edf([edf_signal("", list(COUNTS[0]))]), "unnamed_lead"),
        (edf([edf_signal("EDF Annotations", list(COUNTS[0]))], kind="EDF+C"), "no_signals"),
    ],
)
def test_every_fault_has_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason_of(tmp_path, data) == reason
