"""Simulated bedside recordings: what is written is what is shown, and the note knows what no signal tells alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.dataset import DatasetError
from assets.datasets.synthetic_monitor import SyntheticMonitor, generate
from assets.record import RecordError
from models.errors import ConfigurationError
from models.types import Modality


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SyntheticMonitor:
    folder = tmp_path_factory.mktemp("monitor") / "made"
    generate(folder, n_records=300)
    return SyntheticMonitor(folder)


def test_it_offers_ecg_pulse_wave_and_text(dataset: SyntheticMonitor) -> None:
    assert dataset.offers() == {Modality.ECG, Modality.PPG, Modality.TEXT}
    record = dataset.read("00001")
    assert record.leads == ("II", "PLETH") and record.units == ("uV", "NU") and record.signal_LT.shape == (2, 1250)
    assert 500 < record.signal_LT[0].max() < 1600 and 0 <= record.signal_LT[1].min() < record.signal_LT[1].max() <= 1
    for name in ("99999", "../records"):
        with pytest.raises(RecordError) as caught:
            dataset.read(name)
        assert caught.value.reason == "absent"


def _beats(signal_T: np.ndarray, height: float, apart: int) -> np.ndarray:
    from scipy.signal import find_peaks

    return find_peaks(signal_T, height=height, distance=apart)[0]


def test_signals_show_what_the_labels_say(dataset: SyntheticMonitor) -> None:
    from sklearn.metrics import roc_auc_score

    rhythm, pulse = dataset.labels("rhythm").set_index("record_id"), dataset.labels("perfusion").set_index("record_id")
    rows = []
    for record_id in rhythm.index[:150]:
        ecg_T, wave_T = dataset.read(record_id).signal_LT
        steps = np.diff(_beats(ecg_T, 0.6 * ecg_T.max(), 30))
        waves = np.diff(_beats(wave_T, wave_T.min() + 0.6 * np.ptp(wave_T), 30))
        rows.append((len(steps), steps.std() / steps.mean(), waves.std() / waves.mean(), -np.ptp(wave_T)))
    found = np.array(rows)
    truth = rhythm.iloc[:150].join(pulse.iloc[:150])
    whole = (truth["deficit"] == 0).to_numpy()
    assert roc_auc_score(truth["fast"], found[:, 0]) > 0.95 and roc_auc_score(truth["slow"], -found[:, 0]) > 0.95
    assert roc_auc_score(truth["irregular"], found[:, 1]) > 0.95 and roc_auc_score(truth["weak"], found[:, 3]) > 0.95
    assert roc_auc_score(truth["uneven"][whole], found[whole, 2]) > 0.9


def test_whether_they_agree_is_known_to_both_together_only(dataset: SyntheticMonitor) -> None:
    rhythm, pulse = dataset.labels("rhythm"), dataset.labels("perfusion")
    text = dataset.reports()["text"]
    apart = text.str.contains("does not follow|disagree|out of step")
    told = text != ""
    assert (apart == (rhythm["irregular"] != pulse["uneven"]))[told].all() and 0 < (~told).sum() < 20
    for alone in (rhythm["irregular"], pulse["uneven"], pulse["weak"], rhythm["fast"]):
        assert abs(apart[told & (alone == 1)].mean() - apart[told & (alone == 0)].mean()) < 0.15


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        SyntheticMonitor.make_fixture(tmp_path / name, seed=seed)
    sums = [
        [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()]
        for name in ("a", "b", "c")
    ]
    assert sums[0] == sums[1] != sums[2]
    with pytest.raises(DatasetError, match="not empty"):
        generate(tmp_path / "a")
    with pytest.raises(ConfigurationError):
        generate(tmp_path / "few", n_records=9)


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("fold", "11", "a fold other"),
        ("rhythm", "dancing", "an unknown rhythm"),
        ("pulse", "strong", "an unknown pulse"),
        ("age", "x", "an age"),
    ],
)
def test_a_damaged_table_is_refused_by_record(tmp_path: Path, column: str, value: str, complaint: str) -> None:
    SyntheticMonitor.make_fixture(tmp_path / "a")
    path = tmp_path / "a" / "records.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[5, column] = value
    table.to_csv(path, index=False)
    with pytest.raises(DatasetError, match=rf"records\.csv holds {complaint}.*records 00006"):
        SyntheticMonitor(tmp_path / "a").records()


def test_the_heart_rate_is_that_of_the_ecg_and_mostly_of_the_pulse(dataset: SyntheticMonitor) -> None:
    rates = dataset.labels("heart_rate").set_index("record_id")["heart_rate"]
    assert rates.dtype == np.float32 and dataset.task("heart_rate").unit == "beats/min"
    found = []
    for record_id in rates.index[:60]:
        beats = _beats(*(lambda ecg_T: (ecg_T, 0.6 * ecg_T.max(), 30))(dataset.read(record_id).signal_LT[0]))
        found.append(60 * 125 * (len(beats) - 1) / (beats[-1] - beats[0]))
    assert np.median(np.abs(found - rates.iloc[:60])) < 1
    slow = dataset.labels("rhythm").set_index("record_id")["slow"] == 1
    assert rates[slow].max() < rates[~slow].median()


def test_a_folder_of_layout_1_is_read_without_heart_rates(tmp_path: Path) -> None:
    SyntheticMonitor.make_fixture(tmp_path / "a")
    path, about = tmp_path / "a" / "records.csv", tmp_path / "a" / "dataset.json"
    pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns="heart_rate").to_csv(path, index=False)
    about.write_text(about.read_text().replace('"format_version": 2', '"format_version": 1'))
    dataset = SyntheticMonitor(tmp_path / "a")
    assert len(dataset.records()) == len(dataset.labels("rhythm")) == 40
    with pytest.raises(DatasetError, match="layout 1, which had no heart rates; generate"):
        dataset.labels("heart_rate")
