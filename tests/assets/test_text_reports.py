from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from assets.dataset import DatasetError
from assets.datasets.synthetic import Synthetic, generate
from assets.text import terms
from assets.text.phrases import PHRASES
from assets.text.reports import UNDERSTOOD, build_image_reports, build_reports
from assets.text.templates import named_labels, template_report
from assets.text.terms import detect_language, to_english


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """A synthetic dataset in which every second report is empty."""
    folder = tmp_path_factory.mktemp("reports") / "synthetic"
    generate(folder, n_records=60)
    table = pd.read_csv(folder / "records.csv", dtype=str, keep_default_na=False)
    table.loc[::2, "report"] = ["", "  "] * (len(table) // 4)
    table.to_csv(folder / "records.csv", index=False)
    return Synthetic(folder)


def test_one_row_a_record_in_order_with_the_columns_agreed(dataset: Synthetic) -> None:
    records = dataset.records().sample(frac=1.0, random_state=0)
    for form in ("original", "english"):
        table = build_reports(dataset, form, records, templates=True)  # type: ignore[arg-type]
        assert list(table.columns) == ["record_id", "patient_id", "fold", "text", "original", "language", "source", "coverage"]
        assert table["record_id"].tolist() == records["record_id"].tolist()
        assert table["coverage"].between(0, 1).all()
        assert not table["text"].isna().any()
        given = dataset.reports().set_index("record_id").loc[table["record_id"], "text"].tolist()
        assert table["original"].tolist() == given


def test_labels_never_become_text_outside_the_training_folds(dataset: Synthetic) -> None:
    table = build_reports(dataset, "english", dataset.records(), templates=True)
    blank = table["original"].str.strip() == ""
    training = table["fold"].isin(dataset.split.train)
    assert (table.loc[~training, "source"] != "template").all()
    assert (table.loc[blank & ~training, "text"] == "").all()
    assert (table.loc[blank, "coverage"] == 1.0).all()
    filled = table[blank & training]
    assert (filled["source"] == "template").all()
    assert filled["text"].str.startswith("this ecg shows ").all()
    assert (table.loc[~blank, "source"] != "template").all()


def test_templates_can_be_left_out(dataset: Synthetic) -> None:
    table = build_reports(dataset, "english", dataset.records(), templates=False)
    assert "template" not in set(table["source"])
    assert (table.loc[table["original"].str.strip() == "", "text"] == "").all()


def test_the_forms_differ_only_where_the_language_does(dataset: Synthetic) -> None:
    original, english = (build_reports(dataset, form, dataset.records(), templates=True) for form in ("original", "english"))
    pd.testing.assert_frame_equal(original.drop(columns="text"), english.drop(columns="text"))
    differ = original["text"] != english["text"]
    assert differ[english["language"] == "de"].all()
    assert not differ[english["language"] == "en"].any()
    assert not english["text"].str.contains("rhythmus|block links|ekg").any()


def test_templates_say_each_thing_once_and_rhythm_first(dataset: Synthetic) -> None:
    record_ids = dataset.records()["record_id"].tolist()
    names = named_labels(dataset, record_ids)
    assert set(names.index) == set(record_ids)
    assert all(len(set(n)) == len(n) for n in names)
    rhythms = set(dataset.task("rhythm").class_names.values())
    assert all(n[0] in rhythms for n in names)
    assert template_report(["sinus rhythm", "low T waves", "normal ECG"]) == "This ECG shows sinus rhythm, low T waves and normal ECG."
    assert template_report(["bigeminy"]) == "This ECG shows bigeminy."
    assert template_report([]) == ""


def test_two_reports_for_one_record_or_one_for_none_are_refused(dataset: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = dataset.reports()
    records = dataset.records()
    monkeypatch.setattr(dataset, "reports", lambda: pd.concat([reports, reports.iloc[:1]]))
    with pytest.raises(DatasetError, match="two reports: 00001"):
        build_reports(dataset, "original", records, templates=True)
    monkeypatch.setattr(dataset, "reports", lambda: reports)
    with pytest.raises(DatasetError, match="not listed: 00001"):
        build_reports(dataset, "original", records.iloc[1:], templates=True)


def test_a_record_without_a_row_of_text_stays(dataset: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = dataset.reports()
    monkeypatch.setattr(dataset, "reports", lambda: reports.iloc[:-1])
    table = build_reports(dataset, "original", dataset.records(), templates=False)
    assert table["text"].iloc[-1] == ""


STRANGE = {
    "Spanish": "Ritmo sinusal normal. Bloqueo completo de rama derecha.",
    "Spanish of an X-ray": "El corazón es de tamaño normal. No hay derrame pleural.",
    "Portuguese": "Ritmo sinusal, eixo normal, sem isquemia",
    "French": "Rythme sinusal. Bloc de branche gauche complet.",
    "Chinese": "窦性心律 正常心电图",
    "Russian": "Синусовый ритм",
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
def test_a_report_in_another_language_is_told_and_has_no_english(dataset: Synthetic, tmp_path: Path, text: str) -> None:
    (tmp_path / "other").mkdir()
    for name in ("records.csv", "xrays.csv"):
        shutil.copy(dataset.folder / name, tmp_path / "other")
    table = pd.read_csv(tmp_path / "other" / "records.csv", dtype=str, keep_default_na=False)
    table.loc[3, "report"] = text
    table.to_csv(tmp_path / "other" / "records.csv", index=False)
    other = Synthetic(tmp_path / "other")
    original, english = (build_reports(other, form, other.records(), templates=True) for form in ("original", "english"))
    for found in (original, english):
        assert found.loc[3, "language"] == "unknown" and found.loc[3, "coverage"] < UNDERSTOOD and found.loc[3, "original"] == text
        assert found.loc[3, "source"] != "template"
    assert original.loc[3, "text"] != "" and english.loc[3, "text"] == "", "methods that ask for words leave it out"
    assert (english["text"] == "").sum() == (original["text"] == "").sum() + 1


def test_short_english_of_unknown_language_stays() -> None:
    for text in ("AFIB", "LVH 1AVB", "123"):
        assert detect_language(text) == "unknown" and to_english(text, "unknown") == (text, 1.0)


def test_signs_of_other_languages_are_words_of_none_of_ours() -> None:
    signs = (Path(terms.__file__).parent / "other_signs.txt").read_text(encoding="utf-8").split()
    for text in (*PHRASES["en"].values(), *PHRASES["de"].values()):
        assert not set(signs) & set(" ".join(text).lower().split())
    for language in ("de", "sv"):
        assert not set(signs) & {word for key in terms.term_table(language) for word in key}


def test_reports_of_x_rays_are_of_the_x_rays(dataset: Synthetic) -> None:
    table = build_image_reports(dataset, "original", dataset.records(), templates=True)
    pictured = dataset.labels("chest")["record_id"].tolist()
    assert table["record_id"].tolist() == pictured
    told = table["text"] != ""
    assert table.loc[told, "text"].str.contains("impression|this chest x-ray shows").all()
    assert (table.loc[table["source"] == "template", "text"].str.startswith("this chest x-ray shows ")).all()
    ecgs = build_reports(dataset, "original", dataset.records(), templates=True)
    assert not ecgs["text"].str.contains("effusion|cardiomegaly|x-ray").any(), "an ECG's text says nothing of the X-ray"


def test_ptb_xl_in_english(shared_data: Path) -> None:
    from assets.dataset import list_datasets

    if "ptb_xl" not in list_datasets():
        pytest.skip("ptb_xl is not among the datasets")
    from assets.dataset import get_dataset

    ptb_xl = get_dataset("ptb_xl")(shared_data / "ptb-xl")
    table = build_reports(ptb_xl, "english", ptb_xl.records(), templates=True)
    assert len(table) == 4000
    assert table["coverage"].mean() >= 0.95
    assert (table.loc[table["source"] == "template", "fold"] <= 8).all()
