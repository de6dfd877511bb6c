"""What MoRE reads of radiology reports and ECG statements."""

from __future__ import annotations

import pytest
import torch

from models.methods.more.reports import ecg_text, segments, with_prefixes, xray_text
from models.types import Batch

RADIOLOGY = """
                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old man with shortness of breath, seen at 10:15.

 FINDINGS:

 Heart size is top-normal. There is no focal consolidation,
 pleural effusion or pneumothorax.  A right-sided PICC \u2014 unchanged \u2014 ends in the SVC.

 NOTIFICATION:  Findings were discussed by Dr. ___ with Mrs. ___ by telephone at 4:45 p.m. on ___. No fracture.

 IMPRESSION:

 1. No acute cardiopulmonary process.
 2. Discussed at 5pm.
"""


def test_findings_and_impression_without_names_and_times() -> None:
    assert xray_text(RADIOLOGY) == (
        "Heart size is top-normal. There is no focal consolidation, pleural effusion or pneumothorax. "
        "A right-sided PICC unchanged ends in the SVC. No fracture. 1. No acute cardiopulmonary process. 2."
    )


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("findings: heart is large. impression: cardiomegaly.", "heart is large. cardiomegaly."),
        ("FINDINGS: Lungs are clear.", "Lungs are clear."),
        ("HISTORY: Cough. IMPRESSION: Clear lungs.", "Clear lungs."),
        ("Lungs are clear.\nNo effusion.", "Lungs are clear. No effusion."),
        ("The findings were normal. Tube placed at 3 a.m. yesterday. Unchanged.", "The findings were normal. Unchanged."),
        ("Two 12 mm nodules, 5 ampoules given.", "Two 12 mm nodules, 5 ampoules given."),
        ("___", ""),
        ("", ""),
    ],
)
def test_radiology_reports_of_all_shapes(report: str, expected: str) -> None:
    assert xray_text(report) == expected


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("Sinus rhythm / PVC(s) Possible *old* MI?", "Sinus rhythm PVC s Possible old MI?"),
        ("Sinustachykardie; überdrehter Linkstyp - ST_senkung", "Sinustachykardie; überdrehter Linkstyp ST senkung"),
        ("---", ""),
    ],
)
def test_ecg_statements(report: str, expected: str) -> None:
    assert ecg_text(report) == expected


def test_a_record_has_the_segments_that_are_there() -> None:
    batch = Batch(torch.zeros(4, 12, 1), torch.arange(4), ["sinus rhythm.", "", "af", "--"])
    batch.image_texts = ["IMPRESSION: clear.", "clear", "", "___"]
    xray, ecg = "The report from Xray is: ", "The report from ECG is: "
    assert segments(batch) == [(xray + "clear.", ecg + "sinus rhythm."), (xray + "clear",), (ecg + "af",), ()]
    batch.image_texts = None
    assert segments(batch)[0] == (ecg + "sinus rhythm.",)
    batch.texts, batch.image_texts = None, ["clear"] * 4
    assert segments(batch) == [(xray + "clear",)] * 4


def test_a_vocabulary_is_learned_with_the_words_before_the_reports() -> None:
    words = " ".join(with_prefixes(["af"])).split()
    assert {"Xray", "ECG", "report", "af"} <= set(words)
