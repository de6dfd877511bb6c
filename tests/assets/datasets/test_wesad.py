"""WESAD: conditions as records, the protocol as a check on them, subjects as folds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from assets.dataset import DatasetError
from assets.datasets.wesad import CONDITIONS, SUBJECTS, WESAD, magnitude
from assets.record import RecordError
from assets.signals.repair import fill_missing

SHARED = os.environ.get("EINTHOVEN_SHARED_DATA")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wesad")
    WESAD.make_fixture(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """Two subjects that a test may spoil."""
    for subject in ("S2", "S4"):
        shutil.copytree(original / subject, tmp_path / subject)
    return tmp_path


def reason(dataset: WESAD, record_id: str) -> str:
    with pytest.raises(RecordError) as caught:
        dataset.read(record_id)
    assert str(dataset.folder) in str(caught.value)
    return caught.value.reason


def test_every_subject_has_five_records_and_a_fold_of_its_own(original: Path) -> None:
    records = WESAD(original).records()
    assert len(records) == 75
    assert "S12" not in SUBJECTS and len(SUBJECTS) == 15
    assert records.groupby("patient_id")["fold"].agg(["nunique", "size"]).to_numpy().tolist() == [[1, 5]] * 15
    assert set(records["fold"]) == set(range(1, 16))
    assert records.set_index("record_id").loc["S3-stress", ["patient_id", "fold", "age", "sex"]].tolist() == ["wesad:S3", 2, 25.0, "female"]
    assert records.set_index("record_id").loc["S13-stress", "sex"] == "unknown"


def test_what_is_not_there_is_absent(original: Path) -> None:
    dataset = WESAD(original)
    ids = dataset.records()["record_id"].tolist()
    there = {r.partition("-")[0] for r, present in zip(ids, dataset.present(ids), strict=True) if present}
    assert there == {"S2", "S3", "S4", "S5", "S6", "S11", "S14", "S15", "S16", "S17"}
    assert reason(dataset, "S9-stress") == reason(dataset, "S13-stress") == "absent"
    assert reason(dataset, "S12-stress") == reason(dataset, "../S2-stress") == "absent"
    assert Path("S9/S9_quest.csv") in dataset.files()


def test_a_record_is_the_stretch_of_its_label(original: Path) -> None:
    dataset = WESAD(original)
    starts = {condition: dataset.read(f"S4-{condition}").start_s for condition in CONDITIONS}
    assert list(dict(sorted(starts.items(), key=lambda item: item[1]))) == [
        "baseline", "stress", "meditation-1", "amusement", "meditation-2",
    ]  # fmt: skip
    record = dataset.read("S4-stress")
    assert record.signal_LT.shape == (9, 7140) and record.signal_LT.dtype == np.float32
    assert starts["stress"] == pytest.approx(0.25 + 10.2 + 0.25)
    assert record.leads == tuple(c.name for c in dataset.channels())
    assert record.units == ("g", "g", "g", "uV", "uV", "uS", "degC", "%", "g")
    assert 900 < record.signal_LT[3].max() < 1300, "microvolts, of a simulated R wave of 1.1 mV"


def test_both_ways_of_the_protocol_are_followed(original: Path) -> None:
    dataset = WESAD(original)
    assert dataset.read("S4-stress").start_s < dataset.read("S4-amusement").start_s
    assert dataset.read("S3-stress").start_s > dataset.read("S3-amusement").start_s


def test_scales_hold_what_the_device_can_measure() -> None:
    largest = {"ACC": 6.6, "ECG": 1500, "EMG": 1500, "EDA": 25, "TEMP": 50, "RESP": 50}
    for channel in WESAD.channels():
        assert largest[channel.kind] * 1.05 < 32767 * channel.scale
    assert all(c.scale <= 0.1 for c in WESAD.channels())


def test_a_temperature_of_absolute_zero_is_missing(original: Path) -> None:
    record = WESAD(original).read("S5-amusement")
    parts = [WESAD(original).read(f"S5-{c}").signal_LT[6] for c in CONDITIONS]
    assert sum(int(np.isnan(part_T).sum()) for part_T in parts) == 3
    assert np.nanmin(np.concatenate(parts)) > 30
    assert np.isfinite(fill_missing(record.signal_LT)).all()


def test_one_subject_is_read_once_and_one_only_is_kept(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.readers import wesad_pickle

    opened: list[str] = []
    whole = wesad_pickle.read_wesad_pickle
    monkeypatch.setattr(wesad_pickle, "read_wesad_pickle", lambda path: (opened.append(path.name), whole(path))[1])
    dataset = WESAD(original)
    for record_id in dataset.records()["record_id"][:10]:
        dataset.read(record_id)
    assert opened == ["S2.pkl", "S3.pkl"]


def test_tasks_leave_meditation_out(original: Path) -> None:
    dataset = WESAD(original)
    three, two = dataset.labels("affect3"), dataset.labels("stress2")
    there = {"S2", "S3", "S4", "S5", "S6", "S11", "S14", "S15", "S16", "S17"}
    assert set(three["record_id"].str.partition("-")[0]) == there, "S9 is not there, S12 never was"
    assert len(three) == len(two) == 30, "one window of 10 s in each stretch of 10.2 s"
    assert three.set_index("record_id").loc["S4-stress", "start"] == dataset.read("S4-stress").start_s
    assert not three["record_id"].str.contains("meditation").any()
    assert (three[["baseline", "stress", "amusement"]].sum(axis=1) == 1).all()
    assert two.set_index("record_id")["stress"].sum() == 10
    assert dataset.task("affect3").classes == ("baseline", "stress", "amusement") and dataset.task("affect3").kind == "single_label"
    assert dataset.task("affect3").per_window and dataset.task("stress2").per_window
    assert dataset.task("stress2").may_be_empty


@pytest.mark.parametrize("n", [6999, 7000, 13_999, 14_000, 840_123])
def test_a_stretch_has_the_windows_that_fit_into_it(n: int) -> None:
    starts = WESAD.window_starts(1400, 1400 + n)
    assert len(starts) == ((n - 7000) // 7000 + 1 if n >= 7000 else 0)
    assert all(round(s * 700) >= 1400 and round(s * 700) + 7000 <= 1400 + n for s in starts)


def test_stretches_without_a_class_never_become_windows(original: Path) -> None:
    dataset = WESAD(original)
    session = dataset._session("S4")
    segments = dataset._segments("S4", session)
    labelled = {"baseline": 1, "stress": 2, "amusement": 3}
    for row in dataset.labels("affect3").query("record_id.str.startswith('S4-')").itertuples():
        condition = row.record_id.partition("-")[2]
        first = round(row.start * 700)
        assert set(session.label_T[first : first + 7000].tolist()) == {labelled[condition]}
        assert segments[condition].first <= first and first + 7000 <= segments[condition].end


def test_the_acceleration_of_a_resting_sensor_is_its_length(original: Path) -> None:
    assert magnitude(np.array([[0.0, 3.0], [0.0, 4.0], [1.0, 0.0]])).tolist() == [1.0, 5.0]
    record = WESAD(original).read("S4-baseline")
    assert record.leads[-1] == "ACC" and record.signal_LT[-1].mean() == pytest.approx(np.linalg.norm([0.9, 0.05, -0.3]), abs=0.01)


def test_no_subject_that_can_be_read_is_a_typed_error(folder: Path) -> None:
    for subject in ("S2", "S4"):
        (folder / subject / f"{subject}.pkl").unlink()
    with pytest.raises(DatasetError, match=f"{folder}.*no subject"):
        WESAD(folder).labels("affect3")


def test_labels_that_do_not_follow_the_protocol_are_refused(folder: Path) -> None:
    quest = folder / "S2" / "S2_quest.csv"
    text = quest.read_text()
    quest.write_text(text.replace("Base;TSST", "TSST;Base"))
    assert reason(WESAD(folder), "S2-baseline") == "protocol_mismatch"
    quest.write_text(text.replace("# START;2.00", "# START;two"))
    assert reason(WESAD(folder), "S2-baseline") == "bad_protocol"
    quest.unlink()
    assert WESAD(folder).read("S2-baseline").signal_LT.shape[0] == 9


def test_the_order_of_columns_in_the_protocol_means_nothing_and_times_do(folder: Path) -> None:
    quest = folder / "S2" / "S2_quest.csv"
    quest.write_text("# Subj:;S2\n# ORDER;Base;TSST;Medi 2;Fun;Medi 1;bRead\n# START;2;33.18;62.22;73.24;84.29;22.14\n")
    assert WESAD(folder).read("S2-meditation-1").start_s < WESAD(folder).read("S2-meditation-2").start_s


def test_another_subjects_file_is_refused(folder: Path) -> None:
    shutil.copy(folder / "S4" / "S4.pkl", folder / "S2" / "S2.pkl")
    assert reason(WESAD(folder), "S2-stress") == "wrong_subject"


def test_a_poisoned_subject_stops_no_other(folder: Path) -> None:
    (folder / "S2" / "S2.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    dataset = WESAD(folder)
    assert reason(dataset, "S2-stress") == "unsafe_pickle"
    assert dataset.read("S4-stress").signal_LT.shape[0] == 9


@pytest.mark.skipif(SHARED is None, reason="EINTHOVEN_SHARED_DATA is not set")
def test_the_protocols_and_descriptions_of_the_real_subjects_are_read() -> None:
    dataset = WESAD(Path(str(SHARED)) / "wesad")
    orders = {subject: dataset._protocol(subject) for subject in SUBJECTS}
    assert all(sorted(order) == sorted(CONDITIONS.values()) and order[0] == 1 for order in orders.values())
    assert {tuple(order) for order in orders.values()} == {(1, 2, 4, 3, 4), (1, 3, 4, 2, 4)}
    records = dataset.records().set_index("record_id")
    assert records.loc["S16-stress", ["age", "sex"]].tolist() == [24.0, "male"]
    assert not any(dataset.present(records.index.tolist())), "only a cut of S16 under another name is held"
    assert len(dataset.files()) == 16


@pytest.mark.skipif(SHARED is None, reason="EINTHOVEN_SHARED_DATA is not set")
def test_the_real_cut_of_s16_has_no_labelled_stretch(tmp_path: Path) -> None:
    (tmp_path / "S16").mkdir()
    shutil.copy(Path(str(SHARED)) / "wesad" / "S16" / "S16_git.pkl", tmp_path / "S16" / "S16.pkl")
    assert reason(WESAD(tmp_path), "S16-baseline") == "protocol_mismatch"
