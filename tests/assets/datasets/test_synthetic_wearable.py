"""The synthetic wearable: six signals, three conditions a person, windows with their class, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assets.dataset import DatasetError
from assets.datasets.synthetic_wearable import SyntheticWearable, generate
from assets.record import RecordError
from models.errors import ConfigurationError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SyntheticWearable:
    folder = tmp_path_factory.mktemp("wearable") / "data"
    generate(folder)
    return SyntheticWearable(folder)


def test_six_people_have_three_conditions_of_a_minute(dataset: SyntheticWearable) -> None:
    records = dataset.records()
    assert records.groupby("patient_id")["condition"].nunique().tolist() == [3] * 6
    record = dataset.read("P02-stress")
    assert record.signal_LT.shape == (6, 4200) and record.fs_hz == 70.0
    assert record.units == ("uV", "uS", "uV", "%", "degC", "g")
    assert (record.start_s, dataset.read("P01-stress").start_s) == (90.0, 180.0)


def test_windows_have_one_class_and_begin_where_their_record_does(dataset: SyntheticWearable) -> None:
    labels = dataset.labels("affect3")
    assert len(labels) == 6 * 3 * 6
    assert (labels[["baseline", "stress", "amusement"]].sum(axis=1) == 1).all()
    mine = labels[labels["record_id"] == "P02-stress"]
    assert mine["start"].tolist() == [90 + 10 * k for k in range(6)] and mine["stress"].all()
    assert dataset.labels("stress2")["stress"].sum() == 36


def test_stress_raises_rates_levels_and_amplitudes(dataset: SyntheticWearable) -> None:
    rest, stress = (np.stack([dataset.read(f"P0{p}-{c}").signal_LT for p in range(1, 7)]) for c in ("baseline", "stress"))
    eda, emg, temp, acc = 1, 2, 4, 5
    assert (stress[:, eda].mean(axis=1) > rest[:, eda].mean(axis=1) + 2).all()
    assert (stress[:, emg].std(axis=1) > 2 * rest[:, emg].std(axis=1)).all()
    assert (stress[:, temp].mean(axis=1) < rest[:, temp].mean(axis=1)).all()
    assert (stress[:, acc].std(axis=1) > 2 * rest[:, acc].std(axis=1)).all()


def test_people_differ_at_rest(dataset: SyntheticWearable) -> None:
    levels = [dataset.read(f"P0{p}-baseline").signal_LT[1].mean() for p in range(1, 7)]
    assert np.ptp(levels) > 0.5


def test_a_record_that_is_not_there_is_absent(dataset: SyntheticWearable) -> None:
    with pytest.raises(RecordError) as caught:
        dataset.read("../P01-stress")
    assert caught.value.reason == "absent"


@pytest.mark.parametrize(("old", "new", "said"), [
    (",stress,", ",panic,", "a condition other than"), (",90\n", ",-1\n", "no second"), ("P01-stress", "P01-baseline", "one twice"),
])  # fmt: skip
def test_a_spoilt_table_is_a_typed_error(tmp_path: Path, old: str, new: str, said: str) -> None:
    generate(tmp_path / "data")
    path = tmp_path / "data" / "records.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DatasetError, match=said):
        SyntheticWearable(tmp_path / "data").records()


def test_too_few_people_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="do not fill"):
        generate(tmp_path / "few", n_people=4)
