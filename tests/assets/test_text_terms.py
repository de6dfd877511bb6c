from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from assets.text import terms
from assets.text.phrases import PHRASES
from assets.text.terms import detect_language, term_table, to_english
from models.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "language", "english"),
    [
        ("sinusrhythmus", "de", "sinus rhythm"),
        ("sinusrhythmus lagetyp normal normales ekg", "de", "sinus rhythm, normal axis, normal ecg"),
        ("ueberdrehter linkstyp", "de", "left axis deviation"),
        ("überdrehter linkstyp", "de", "left axis deviation"),
        ("Überdrehter LINKSTYP", "de", "left axis deviation"),
        ("linkstyp", "de", "leftward axis"),
        ("inferiorer infarkt     alter unbest. normales ekg", "de", "inferior infarction of undetermined age, normal ecg"),
        ("inferiore ischämie", "de", "inferior ischaemia"),
        ("inferioren ableitungen", "de", "inferior leads"),
        ("a-v block i", "de", "first degree av block"),
        ("mÄssige amplitudenkriterien fÜr linkshypertrophie", "de", "moderate voltage criteria for left ventricular hypertrophy"),
        ("mässige amplitudenkriterien f#r linkshypertrophie", "de", "moderate voltage criteria for left ventricular hypertrophy"),
        ("vorhofflimmern/-flattern", "de", "atrial fibrillation or flutter"),
        ("ventrikuläre extrasystole(n) sinusrhythmus", "de", "ventricular premature beat(s), sinus rhythm"),
        ("st-senkung in v4-6 sinusrhythmus", "de", "st depression in v4-6, sinus rhythm"),
        ("myokardschaden nicht auszuschliessen", "de", "myocardial damage cannot be excluded"),
        (
            "st & t abnorm, wahrscheinlich    laterale ischämie oder linksbelastung",
            "de",
            "st and t abnormal, probably lateral ischaemia or left ventricular strain",
        ),
        ("4.46       unbestätigter bericht", "de", "unconfirmed report"),
        ("sinusrytm vÄnster el-axel", "sv", "sinus rhythm, leftward axis"),
        ("sinusrytm vanster el-axel", "sv", "sinus rhythm, leftward axis"),
        ("Ålder ej bestÄmmbar", "sv", "of undetermined age"),
        ("t-förändring, såsom vid    lateral myokardaffektion", "sv", "t wave change, as in lateral myocardial involvement"),
        ("sinus rhythm. normal ecg.", "en", "sinus rhythm. normal ecg."),
    ],
)
def test_reports_in_english(text: str, language: str, english: str) -> None:
    assert to_english(text, language) == (english, 1.0)


def test_decomposed_umlauts_match() -> None:
    assert to_english(unicodedata.normalize("NFD", "überdrehter linkstyp"), "de")[0] == "left axis deviation"


def test_the_longest_phrase_wins() -> None:
    assert to_english("linksschenkelblock", "de")[0] == "left bundle branch block"
    assert to_english("unvollständiger linksschenkelblock", "de")[0] == "incomplete left bundle branch block"
    assert to_english("schenkelblock vollständig links", "de")[0] == "complete left bundle branch block"


def test_words_are_never_cut_in_the_middle() -> None:
    english, coverage = to_english("infarktxyz altbau sinusrhythmus", "de")
    assert english == "infarktxyz altbau sinus rhythm"
    assert coverage == pytest.approx(1 / 3)


def test_coverage_counts_words_not_phrases() -> None:
    assert to_english("a-v block i quxfoo", "de")[1] == pytest.approx(4 / 5)
    assert to_english("", "de") == ("", 1.0)
    assert to_english("...", "unknown")[1] == 1.0
    assert to_english("zzz yyy", "unknown") == ("zzz yyy", 0.0)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("sinusrhythmus normales ekg", "de"),
        ("sinusrhythmus lagetyp normal low voltage", "de"),
        ("UEBERDREHTER LINKSTYP", "de"),
        ("sinusrytm normalt ekg", "sv"),
        ("förmaksflimmer vänster el-axel", "sv"),
        ("sinus rhythm. no definite pathology.", "en"),
        ("trace only requested.", "en"),
        ("", "unknown"),
        ("4.46", "unknown"),
        ("xyzzy", "unknown"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert detect_language(text) == language


def test_own_phrases_are_recognised_and_covered() -> None:
    for language, table in PHRASES.items():
        for sentence in (s for sentences in table.values() for s in sentences):
            assert to_english(sentence, language)[1] == 1.0, sentence
    # A word or two is too little to tell a language by; whole reports are not.
    assert all(detect_language(" ".join(table["SR"] + table["LVH"])) == language for language, table in PHRASES.items())


def test_every_entry_of_the_tables_comes_out_as_it_says() -> None:
    for language in ("de", "sv"):
        for key, term in term_table(language).items():
            assert term.english == term.english.strip().lower(), key
            assert key, language


def test_a_bad_line_of_a_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "_FOLDER", tmp_path)
    for bad in ("infarkt\tinfarction", "infarkt\tinfarction\tx"):
        (tmp_path / "terms_sv.tsv").write_text(f"# comment\n{bad}\n")
        with pytest.raises(ConfigurationError, match=r"terms_sv\.tsv, line 2"):
            term_table.__wrapped__("sv")
    with pytest.raises(ConfigurationError, match="no term table"):
        term_table.__wrapped__("fr")


def test_the_reports_of_ptb_xl_are_covered(shared_data: Path) -> None:
    import numpy as np
    import pandas as pd

    reports = pd.read_csv(shared_data / "ptb-xl" / "ptbxl_database.csv", usecols=["report"])["report"].dropna()
    languages = reports.map(detect_language)
    coverage = np.array([to_english(*pair)[1] for pair in zip(reports, languages, strict=True)])
    assert coverage.mean() >= 0.95
    assert (languages == "unknown").mean() < 0.002
    assert {"de", "en", "sv"} <= set(languages)
    german = [to_english(r, "de")[0] for r in reports[languages == "de"]]
    assert not any(word in text for text in german for word in ("infarkt", "schenkelblock", "sinusrhythmus", "wahrscheinlich"))
