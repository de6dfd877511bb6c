"""Challenge 2020: what differs from 2021."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from assets.datasets.cinc2020 import CinC2020
from assets.datasets.cinc2021 import CinC2021
from models.errors import ConfigurationError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CinC2020:
    folder = tmp_path_factory.mktemp("cinc2020")
    CinC2020.make_fixture(folder)
    return CinC2020(folder)


def test_six_sources_and_sexes_in_one_letter(dataset: CinC2020) -> None:
    records = dataset.records().set_index("record_id")
    assert sorted(records["site"].unique()) == sorted(CinC2020.sites)
    assert re.search("Sex: [FM]\n", (dataset.folder / "training/st_petersburg_incart/g1/I0017.hea").read_text())
    assert set(records.loc[["I0016", "I0017", "I0020"], "sex"]) <= {"female", "male"}


def test_24_classes_in_the_order_of_the_metric(dataset: CinC2020) -> None:
    task, table = dataset.task("dx"), dataset.labels("dx")
    assert len(task.classes) == 24 and task.classes[:4] == ("IAVB", "AF", "AFL", "Brady")
    assert not {"BBB", "PRWP", "CLBBB"} & set(task.classes)  # scored from 2021 on
    assert list(table.columns) == ["record_id", *task.classes]
    with pytest.raises(ConfigurationError, match="no task 'rhythm'"):
        dataset.labels("rhythm")


def test_a_recording_is_the_same_patient_in_both_years(dataset: CinC2020, tmp_path: Path) -> None:
    CinC2021.make_fixture(tmp_path)
    one, other = (d.records().set_index("record_id") for d in (dataset, CinC2021(tmp_path)))
    assert set(one.index) < set(other.index)
    assert one[["patient_id", "fold", "site"]].equals(other.loc[one.index, ["patient_id", "fold", "site"]])


def test_real_recordings_of_its_sources(shared_data: Path) -> None:
    real = CinC2020(shared_data / "cinc2021")
    records = real.records()
    assert len(records) == 64 and "ningbo" not in set(records["site"])
    table = real.labels("dx").set_index("record_id")
    assert table.loc["A0001"].sum() == table.loc["A0001", "CRBBB"] == 1
    assert table.loc["HR00001"].sum() == table.loc["HR00001", ["LQRSV", "NSR"]].sum() == 2


def test_a_real_header_whose_record_name_has_an_ending_and_which_repeats_a_code(shared_data: Path, tmp_path: Path) -> None:
    shelf = tmp_path / "training" / "georgia" / "g1"
    shutil.copytree(shared_data / "broken" / "record_name_with_extension", shelf)
    found = CinC2020(tmp_path)
    record = found.read("E00015")
    assert (record.signal_LT.shape, record.fs_hz) == ((12, 5000), 500)
    row = found.labels("dx").set_index("record_id").loc["E00015"]
    assert row.sum() == row[["LQRSV", "PAC"]].sum() == 2
