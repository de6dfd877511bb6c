from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.text.normalise import MIN_WORDS, clean_report, normalise


@pytest.mark.parametrize(
    ("fields", "text", "n_words"),
    [
        (["Sinus rhythm", "Normal ECG"], "sinus rhythm. normal ecg.", 4),
        (["Sinus rhythm"], "sinus rhythm.", 2),
        (["*** Sinus rhythm, normal EKG ***"], "sinus rhythm, normal ecg.", 4),
        (["", "Sinus rhythm", "  ", "Normal EKG"], "sinus rhythm. normal ecg.", 4),
        (["--- abnormal ekg ---"], "abnormal ecg.", 2),
        (["one\ntwo\tthree\rfour"], "one two three four.", 4),
        (["sinus rhythm. normal ecg."], "sinus rhythm. normal ecg.", 4),
        (["", " "], "", 0),
        ([], "", 0),
        (["***"], "", 0),
    ],
)
def test_cleaning(fields: list[str], text: str, n_words: int) -> None:
    assert clean_report(fields) == (text, n_words)


def test_the_threshold_keeps_and_drops_the_published_examples() -> None:
    assert clean_report(["Sinus rhythm", "Normal ECG"])[1] >= MIN_WORDS
    assert clean_report(["Sinus rhythm"])[1] < MIN_WORDS


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="abÄü EKGekg.*=-\n\t", max_size=40))
def test_a_clean_report_is_lower_case_on_one_line_and_stays_as_it_is(text: str) -> None:
    clean, _ = clean_report([text])
    assert clean == clean.lower()
    assert not set(clean) & set("\n\t\r")
    assert clean == "" or clean.endswith(".")
    assert "ekg" not in clean or "ekg" in text.lower()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("mÄssige st-senkung", "mässige st-senkung"),
        ("unbestÄtigter  bericht ", "unbestätigter bericht"),
        ("vÄnster  el-axel", "vänster el-axel"),
        ("ÖvervÄgas", "övervägas"),
        ("r-s Übergang", "r-s Übergang"),
        ("MÄSSIGE", "MÄSSIGE"),
        (unicodedata.normalize("NFD", "möglich"), "möglich"),
    ],
)
def test_umlauts_are_put_right(raw: str, expected: str) -> None:
    assert normalise(raw) == expected
