from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.dataset import DatasetError, get_dataset
from assets.datasets.synthetic import Synthetic, generate
from assets.pairing_rules import SYMILE_LABS
from assets.record import RecordError
from assets.simulated_visits import DAMAGED
from assets.text.phrases import PHRASES
from models.errors import ConfigurationError
from models.types import LEADS, Modality


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    folder = tmp_path_factory.mktemp("synthetic") / "small"
    Synthetic.make_fixture(folder)
    return Synthetic(folder)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    folder = tmp_path_factory.mktemp("synthetic") / "full"
    generate(folder)
    return Synthetic(folder)


def hashes(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def with_cell(small: Synthetic, folder: Path, line: int, column: str, value: str) -> Synthetic:
    """A dataset whose records.csv has another value in one cell; the header is line 1."""
    table = pd.read_csv(small.folder / "records.csv", dtype=str, keep_default_na=False)
    table.loc[line - 2, column] = value
    table.to_csv(folder / "records.csv", index=False)
    return Synthetic(folder)


def test_it_is_registered() -> None:
    assert get_dataset("synthetic") is Synthetic


def test_layout(small: Synthetic) -> None:
    files = [str(p) for p in small.files()]
    assert len(files) == 2 * 40 + len(list((small.folder / "images").iterdir())) + 4
    assert files == sorted(files)
    assert {"records.csv", "xrays.csv", "labs.csv", "dataset.json", "records100/00001.hea", "records100/00001.dat"} <= set(files)
    assert all((small.folder / f).is_file() for f in files)


def test_records(small: Synthetic) -> None:
    records = small.records()
    assert list(records.columns) == ["record_id", "patient_id", "fold", "age", "sex", "site", "device", "acquired_at"]
    assert records["record_id"].is_unique
    assert sorted(records["fold"].unique()) == list(range(1, 11))
    assert (records.groupby("patient_id")["fold"].nunique() == 1).all()
    assert (records.groupby("patient_id")["sex"].nunique() == 1).all()


def test_read_gives_the_twelve_leads_in_microvolts(small: Synthetic) -> None:
    record = small.read("00001")
    assert record.leads == LEADS
    assert record.signal_LT.shape == (12, 1000)
    assert record.fs_hz == 100.0
    assert set(record.units) == {"uV"}
    assert 250 < np.ptp(record.signal_LT, axis=1).max() < 9000
    lead = record.signal_LT.astype(np.float64)
    np.testing.assert_allclose(lead[2], lead[1] - lead[0], atol=1.6)


def test_a_record_that_is_not_there_is_absent(small: Synthetic) -> None:
    for name in ("99999", "../records"):
        with pytest.raises(RecordError) as caught:
            small.read(name)
        assert caught.value.reason == "absent"


def test_same_seed_same_bytes(small: Synthetic, tmp_path: Path) -> None:
    Synthetic.make_fixture(tmp_path / "again")
    Synthetic.make_fixture(tmp_path / "other", seed=1)
    assert hashes(tmp_path / "again") == hashes(small.folder)
    assert hashes(tmp_path / "other") != hashes(small.folder)


def test_an_interrupted_generation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import assets.readers.wfdb_write as writer

    calls = []

    def fail(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == 5:
            raise OSError("no space left on device")

    monkeypatch.setattr(writer, "write_record", fail)
    with pytest.raises(OSError, match="no space"):
        Synthetic.make_fixture(tmp_path / "broken")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DatasetError, match="not empty"):
        generate(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    generate(tmp_path / "empty", n_records=20)
    assert len(Synthetic(tmp_path / "empty").records()) == 20


def test_too_few_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        generate(tmp_path / "x", n_records=9)


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("record_id", "00004", "repeats a record_id"),
        ("record_id", "abc", "has no record_id"),
        ("patient_id", "", "has no patient_id"),
        ("fold", "11", "has a fold other"),
        ("fold", "", "has a fold other"),
        ("age", "old", "has an age that is no number"),
        ("age", "-3", "has an age that is no number"),
        ("sex", "F", "has a sex other"),
        ("report_source", "oracle", "has a report_source other"),
    ],
)
def test_a_damaged_table_is_refused_by_name_and_line(small: Synthetic, tmp_path: Path, column: str, value: str, complaint: str) -> None:
    damaged = with_cell(small, tmp_path, 7, column, value)
    for call in (damaged.records, damaged.reports):
        with pytest.raises(DatasetError, match=rf"records\.csv, line 7: {complaint}"):
            call()


def test_an_age_may_be_missing(small: Synthetic, tmp_path: Path) -> None:
    assert with_cell(small, tmp_path, 7, "age", "").records()["age"].isna().sum() == 1


def test_a_lacking_column_is_named(small: Synthetic, tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text((small.folder / "records.csv").read_text().replace("scp_codes", "codes", 1))
    with pytest.raises(DatasetError, match=r"records\.csv lacks the columns scp_codes"):
        Synthetic(tmp_path).labels("super")


def test_an_unknown_code_is_refused_by_line(small: Synthetic, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"records\.csv, line 7: SCP codes other"):
        with_cell(small, tmp_path, 7, "scp_codes", "SR;WHAT").labels("super")


def test_a_missing_table_says_how_to_make_it(tmp_path: Path) -> None:
    for call in (Synthetic(tmp_path).records, Synthetic(tmp_path).files, Synthetic(tmp_path).reports):
        with pytest.raises(DatasetError, match=r"records\.csv is not there"):
            call()


def test_tasks_and_labels_agree(full: Synthetic) -> None:
    for name in Synthetic.task_names:
        task, labels = full.task(name), full.labels(name)
        assert list(labels.columns) == ["record_id", *task.classes]
        assert set(task.class_names) == set(task.classes)
        assert (labels[list(task.classes)].sum(axis=1) > 0).all()
        assert labels["record_id"].is_unique
    with pytest.raises(ConfigurationError):
        full.task("sub")
    with pytest.raises(ConfigurationError):
        full.labels("sub")


def test_every_class_can_be_judged_at_the_default_size(full: Synthetic) -> None:
    records = full.records()
    assert len(records) == 1200
    assert 1.3 < len(records) / records["patient_id"].nunique() < 1.7
    for name in Synthetic.task_names:
        labels = full.labels(name).merge(records[["record_id", "fold"]], on="record_id")
        for fold in (9, 10):
            assert labels[labels["fold"] == fold][list(full.task(name).classes)].sum().min() >= 7


def test_reports_are_of_both_languages_and_a_few_are_empty(full: Synthetic) -> None:
    reports = full.reports()
    assert list(reports.columns) == ["record_id", "text", "source"]
    assert set(reports["source"]) == {"human", "machine"}
    assert 0 < (reports["text"] == "").sum() < 60
    assert reports["text"].str.contains("sinusrhythmus|vorhofflimmern", case=False).sum() > 50
    assert reports["text"].str.contains("sinus rhythm|atrial fibrillation", case=False).sum() > 50


def test_every_code_has_words_in_every_language() -> None:
    table = {code for codes in PHRASES.values() for code in codes}
    assert all(set(phrases) == table for phrases in PHRASES.values())


def test_labels_can_be_learned_from_the_signals(full: Synthetic) -> None:
    """A logistic regression on random convolutions, trained on folds 1 to 8, tells the superclasses of fold 10 apart."""
    from scipy.signal import fftconvolve
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = full.labels("super").merge(full.records()[["record_id", "fold"]], on="record_id")
    signals_NLT = np.stack([full.read(r).signal_LT for r in labels["record_id"]])
    signals_NLT -= np.median(signals_NLT, axis=2, keepdims=True)
    rng = np.random.default_rng(0)
    features = []
    for _ in range(80):
        kernel = rng.standard_normal(int(rng.choice([5, 9, 17, 31])))
        y = fftconvolve(signals_NLT[:, rng.integers(12)], (kernel - kernel.mean())[None], mode="valid", axes=1)
        features += [y.max(axis=1), y.min(axis=1), y.std(axis=1)]
    features_NF = np.sign(features) * np.log1p(np.abs(features))
    train, test = (labels["fold"] <= 8).to_numpy(), (labels["fold"] == 10).to_numpy()
    scores = []
    for name in full.task("super").classes:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=200))
        model.fit(features_NF.T[train], labels[name][train])
        scores.append(roc_auc_score(labels[name][test], model.decision_function(features_NF.T[test])))
    assert np.mean(scores) > 0.88


# X-rays, bloods, and what they have to do with the ECG


def test_x_rays_and_bloods_of_most_records(full: Synthetic) -> None:
    records = full.records()
    pictured = sum(full.images_present(records["record_id"].tolist()))
    labs = pd.concat(full.labs())
    assert 0.91 * 1200 < pictured == len(full.labels("chest")) == len(full.image_reports()) < 0.97 * 1200
    assert 0.91 * 1200 < labs["encounter_id"].nunique() < 0.97 * 1200
    assert set(labs["item_id"]) - set(SYMILE_LABS) == {"51003", "50963"} and set(SYMILE_LABS) <= set(labs["item_id"])
    of_panel = labs[labs["item_id"].isin(SYMILE_LABS)].groupby("encounter_id")["item_id"].nunique()
    assert 32 < of_panel.mean() < 38
    assert 0 < labs["value"].isna().mean() < 0.02 and (labs["value"].dropna() > 0).all()
    reports = full.image_reports()
    assert 0 < (reports["text"] == "").sum() < 60 and reports["text"].str.startswith("FINDINGS: ").sum() > 1000
    assert full.task("chest").modality is Modality.IMAGE and full.task("rhythm").modality is Modality.ECG


def test_an_x_ray_that_is_not_there_is_absent(small: Synthetic) -> None:
    records = small.records()["record_id"].tolist()
    missing = next(r for r, there in zip(records, small.images_present(records), strict=True) if not there)
    for name in (missing, "../records"):
        with pytest.raises(RecordError) as caught:
            small.image(name)
        assert caught.value.reason == "absent"


def _features(full: Synthetic, record_ids: list[str]) -> dict[str, np.ndarray]:
    """What a small eye sees: the picture on a grid, the logarithms of the bloods, and which codes the ECG has."""
    grids = [np.log1p(full.image(r).reshape(16, 4, 16, 4).mean(axis=(1, 3))).ravel() for r in record_ids]
    labs = pd.concat(full.labs()).dropna(subset="value").drop_duplicates(["encounter_id", "item_id"])
    table = labs.pivot(index="encounter_id", columns="item_id", values="value").reindex(record_ids)
    bloods = np.log(table.fillna(table.median())).to_numpy()
    codes = pd.read_csv(full.folder / "records.csv", dtype=str).set_index("record_id")["scp_codes"]
    ecgs = [[float(bool(set(codes[r].split(";")) & held)) for held in (DAMAGED, {"LVH", "RVH"}, {"AFIB", "AFLT"})] for r in record_ids]
    return {"image": np.array(grids), "labs": bloods, "ecg": np.array(ecgs)}


def test_an_effusion_is_known_to_ecg_and_bloods_together_only(full: Synthetic) -> None:
    """A linear reader of one sees nothing; one of both, given their product, does. Pictures show every finding."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = full.labels("chest").merge(full.records()[["record_id", "fold"]], on="record_id")
    labels = labels[labels["record_id"].isin(set(pd.concat(full.labs())["encounter_id"]))]
    seen = _features(full, labels["record_id"].tolist())
    train = (labels["fold"] <= 7).to_numpy()

    def auroc(features_NF: np.ndarray, finding: str) -> float:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500)).fit(features_NF[train], labels[finding][train])
        return float(roc_auc_score(labels[finding][~train], model.decision_function(features_NF[~train])))

    kidneys = np.sign(StandardScaler().fit_transform(seen["labs"])[:, [sorted([*SYMILE_LABS, "51003", "50963"]).index("50912")]])
    both = np.concatenate([kidneys * (2 * seen["ecg"][:, :1] - 1), kidneys, seen["ecg"]], axis=1)
    assert abs(auroc(seen["ecg"], "Pleural Effusion") - 0.5) < 0.12
    assert auroc(both, "Pleural Effusion") > 0.8
    assert auroc(seen["ecg"], "Cardiomegaly") > 0.7 and auroc(seen["labs"], "Lung Opacity") > 0.8
    for finding in ("Cardiomegaly", "Edema", "Pleural Effusion"):
        assert auroc(seen["image"], finding) > 0.85


@pytest.mark.parametrize(
    ("table", "line", "complaint"),
    [
        ("labs.csv", "99999,50912,,1.0,mg/dL", r"labs\.csv: records 99999 are not in records\.csv"),
        ("labs.csv", "00001,50912,,hemolyzed,mg/dL", r"labs\.csv: value holds what is no number: hemolyzed"),
        ("xrays.csv", "99999,Edema,,human", r"xrays\.csv holds records that are not in records\.csv: 99999"),
        ("xrays.csv", "{first},Edema,,human", r"xrays\.csv holds a record more than once"),
        ("xrays.csv", "{missing},Measles,,human", r"xrays\.csv holds findings other than"),
    ],
)
def test_damaged_tables_of_x_rays_and_bloods_are_refused(small: Synthetic, tmp_path: Path, table: str, line: str, complaint: str) -> None:
    copy = Synthetic(Path(shutil.copytree(small.folder, tmp_path / "copy")))
    pictured = copy.labels("chest")["record_id"].tolist()
    missing = next(r for r in copy.records()["record_id"] if r not in pictured)
    with (copy.folder / table).open("a") as stream:
        stream.write(line.format(first=pictured[0], missing=missing) + "\n")
    with pytest.raises(DatasetError, match=complaint):
        list(copy.labs()) if table == "labs.csv" else copy.image_reports()


def as_layout_1(small: Synthetic, folder: Path) -> Synthetic:
    """A folder as the version before X-rays and bloods wrote it."""
    shutil.copytree(small.folder, folder, ignore=shutil.ignore_patterns("images", "xrays.csv", "labs.csv"))
    about = json.loads((folder / "dataset.json").read_text()) | {"format_version": 1, "version": "1"}
    (folder / "dataset.json").write_text(json.dumps(about))
    return Synthetic(folder)


def test_a_folder_of_the_older_layout_gets_what_it_lacks(small: Synthetic, tmp_path: Path) -> None:
    old = as_layout_1(small, tmp_path / "old")
    (old.folder / "mine.txt").write_text("keep me")
    stamps = {p: p.stat().st_mtime_ns for p in old.folder.rglob("*") if p.is_file() and p.name != "dataset.json"}
    with pytest.raises(DatasetError, match=r"xrays\.csv is missing; materialise raw/synthetic, which adds"):
        old.image_reports()
    old.prepare()
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert hashes(old.folder) == hashes(small.folder) | {"mine.txt": hashlib.sha256(b"keep me").hexdigest()}
    before = hashes(old.folder)
    old.prepare()
    assert hashes(old.folder) == before


def test_an_interrupted_completion_goes_on_where_it_stopped(small: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import assets.images

    old, write = as_layout_1(small, tmp_path / "old"), assets.images.write_grey
    calls = []

    def fail(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 5:
            raise OSError("no space left on device")
        write(*args)

    before = hashes(old.folder)
    monkeypatch.setattr(assets.images, "write_grey", fail)
    with pytest.raises(DatasetError, match="of an older version and cannot be given what it lacks"):
        old.prepare()
    assert hashes(old.folder) == before and not list(old.folder.glob(".*"))
    shutil.copytree(small.folder / "images", old.folder / "images")  # as if it had stopped after the pictures
    old.prepare()
    assert hashes(old.folder) == hashes(small.folder)


def test_what_a_person_put_there_is_neither_judged_nor_filled(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    Synthetic(tmp_path).prepare()
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
