"""What the MIMIC datasets share: the patients' namespace, formats of times, and one simulated cohort.

MIMIC-IV, MIMIC-IV-ECG, MIMIC-CXR and Symile-MIMIC hold the same people under the same `subject_id`, and their times are moved by
one constant a patient, so differences within a patient are exact. The imitations of these datasets are all written from
`cohort(seed)`, so that they fit together as the originals do. Nothing in it comes from MIMIC: people, times, values and sentences
are invented, and say nothing about medicine.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache
from itertools import count
from typing import TYPE_CHECKING

from assets.splits import FOLDS, fold_of, patient

if TYPE_CHECKING:
    from numpy.random import Generator

NAMESPACE = "mimic"
"""Of patient ids: `assets.splits.patient(NAMESPACE, subject_id)`."""

PER_FOLD = 4
"""Simulated people a fold."""

_MOVED = {(2, 2): "test", (10, 2): "train"}
"""People whom the published X-ray split puts elsewhere than their fold would: it knows nothing of our folds."""


@dataclass(frozen=True)
class Condition:
    """What a simulated person has, and how it shows.

    Attributes:
        findings: SCP codes that the simulated ECG is drawn with.
        statements: what the ECG machine says about it.
        icd10, icd9: diagnoses of the stay, as MIMIC writes codes (without dots).
        labs: factors on the usual value, by item id.
        chexpert: CheXpert labels of the X-ray: 1 present, 0 absent, -1 uncertain.
        sentences: findings and impression of the X-ray's report.
    """

    findings: tuple[str, ...]
    statements: tuple[str, ...]
    icd10: tuple[str, ...]
    icd9: tuple[str, ...]
    labs: dict[int, float]
    chexpert: dict[str, int]
    sentences: tuple[str, str]


CONDITIONS: dict[str, Condition] = {
    "well": Condition(
        ("NORM", "SR"), ("Sinus rhythm", "Normal ECG"), ("R079",), ("78650",), {}, {"No Finding": 1},
        ("The lungs are clear. The heart is of normal size.", "Normal chest."),
    ),
    "heart_failure": Condition(
        ("LVH", "VCLVH", "SR"), ("Sinus rhythm", "Left ventricular hypertrophy", "", "Abnormal ECG"), ("I5021", "I10"), ("42821", "4019"),
        {50912: 2.0, 51006: 2.2}, {"Cardiomegaly": 1, "Edema": 1, "Pleural Effusion": -1},
        ("The heart is enlarged. There is interstitial edema, perhaps a small effusion.", "Cardiomegaly with edema."),
    ),
    "infarct": Condition(
        ("IMI", "QWAVE", "SR"), ("Sinus rhythm", "Inferior infarct, age undetermined", "Abnormal ECG"), ("I214", "I2510"), ("41071", "41401"),
        {50931: 1.6, 51301: 1.5}, {"No Finding": 1},
        ("No consolidation is seen.", "No acute process."),
    ),
    "fibrillation": Condition(
        ("AFIB",), ("Atrial fibrillation", "Abnormal ECG"), ("I4891",), ("42731",),
        {50971: 1.3}, {"Cardiomegaly": 1, "Atelectasis": 1},
        ("The heart is mildly enlarged. There is atelectasis at the left base.", "Basilar atelectasis."),
    ),
    "pneumonia": Condition(
        ("STACH",), ("Sinus tachycardia", "", "Borderline ECG"), ("J189",), ("486",),
        {51301: 2.4, 50912: 1.2}, {"Pneumonia": 1, "Lung Opacity": 1, "Cardiomegaly": 0},
        ("There is an opacity in the right lower lobe.", "Pneumonia of the right lower lobe."),
    ),
}  # fmt: skip
"""By name; people get one each, in turn."""

LAB_ITEMS: dict[int, tuple[str, str, float, float]] = {
    50912: ("Creatinine", "mg/dL", 0.9, 0.15),
    50971: ("Potassium", "mEq/L", 4.1, 0.08),
    50983: ("Sodium", "mEq/L", 139.0, 0.02),
    51006: ("Urea Nitrogen", "mg/dL", 15.0, 0.2),
    50931: ("Glucose", "mg/dL", 105.0, 0.15),
    51222: ("Hemoglobin", "g/dL", 13.0, 0.1),
    51265: ("Platelet Count", "K/uL", 240.0, 0.2),
    51301: ("White Blood Cells", "K/uL", 8.0, 0.2),
    51003: ("Troponin T", "ng/mL", 0.02, 0.3),
}
"""Item id to name, unit, usual value and relative spread of simulated results. Troponin T is none of the 50 that Symile-MIMIC uses."""


@dataclass(frozen=True)
class Person:
    """Someone of the cohort; `died_on` is when they died, in hospital or later, if it is known."""

    subject_id: int
    gender: str
    anchor_age: int
    anchor_year: int
    condition: str
    fold: int
    died_on: date | None = None

    @property
    def patient_id(self) -> str:
        """The id that all MIMIC datasets have in common."""
        return patient(NAMESPACE, str(self.subject_id))


@dataclass(frozen=True)
class Admission:
    """A hospital stay. `codes` are its diagnoses in order of weight, all of one ICD version."""

    hadm_id: int
    subject_id: int
    admitted: datetime
    discharged: datetime
    died: datetime | None
    kind: str
    icd_version: int
    codes: tuple[str, ...]


@dataclass(frozen=True)
class EcgStudy:
    """An ECG: SCP codes that it is drawn with, and the machine's statements, of which some are empty."""

    study_id: int
    subject_id: int
    recorded: datetime
    findings: tuple[str, ...]
    statements: tuple[str, ...]


@dataclass(frozen=True)
class XrayImage:
    """An image of a study; view is AP, PA or LATERAL."""

    dicom_id: str
    view: str


@dataclass(frozen=True)
class XrayStudy:
    """A chest X-ray study. `split` is the part of the published split: train, validate or test."""

    study_id: int
    subject_id: int
    taken: datetime
    images: tuple[XrayImage, ...]
    chexpert: dict[str, int]
    report: str
    split: str

    @property
    def study_date(self) -> str:
        """StudyDate as MIMIC-CXR writes it: yyyymmdd."""
        return f"{self.taken:%Y%m%d}"

    @property
    def study_time(self) -> str:
        """StudyTime as MIMIC-CXR writes it: a number hhmmss.fff without leading zeros."""
        return f"{int(self.taken.strftime('%H%M%S'))}.{self.taken.microsecond // 1000:03d}"


@dataclass(frozen=True)
class LabResult:
    """A lab result; `hadm_id` is None outside of stays and `value` None where the source has no number."""

    labevent_id: int
    subject_id: int
    hadm_id: int | None
    item_id: int
    charted: datetime
    value: float | None
    unit: str


@dataclass(frozen=True)
class Cohort:
    """People and all that was recorded of them, each list sorted by subject and time."""

    people: tuple[Person, ...]
    admissions: tuple[Admission, ...]
    ecgs: tuple[EcgStudy, ...]
    xrays: tuple[XrayStudy, ...]
    labs: tuple[LabResult, ...]


def stamp(moment: datetime | None) -> str:
    """A time as the MIMIC tables write it; "" for None."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


@cache
def cohort(seed: int = 0) -> Cohort:
    """The simulated cohort: the same for the same seed.

    `PER_FOLD` people are in each of the ten folds. The first of a fold comes to hospital once and has everything (ECG, labs, X-ray);
    the second comes twice; the third also has an ECG and an X-ray as an outpatient; the fourth lacks the X-ray (odd folds) or the
    ECG (even folds) of the stay. Edges of the published pairing windows and deaths are dealt to some of them.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    maker = _Maker(rng)
    places: Counter[int] = Counter()
    for subject_id in count(10_000_000 + int(rng.integers(5_000_000))):
        fold = fold_of(patient(NAMESPACE, str(subject_id)))
        if places[fold] < PER_FOLD:
            maker.live(subject_id, fold, places[fold])
            places[fold] += 1
        if places.total() == PER_FOLD * FOLDS:
            return maker.finish()
    raise AssertionError("unreachable: ids do not end")


class _Maker:
    """Deals out lives. Ids rise with time; each kind has a range of its own, as in MIMIC."""

    def __init__(self, rng: Generator) -> None:
        self._rng = rng
        self._people: list[Person] = []
        self._admissions: list[Admission] = []
        self._ecgs: list[EcgStudy] = []
        self._xrays: list[XrayStudy] = []
        self._labs: list[LabResult] = []
        self._events = count(1)

    def finish(self) -> Cohort:
        return Cohort(
            tuple(self._people),
            tuple(sorted(self._admissions, key=lambda a: (a.subject_id, a.admitted))),
            tuple(sorted(self._ecgs, key=lambda e: (e.subject_id, e.recorded))),
            tuple(sorted(self._xrays, key=lambda x: (x.subject_id, x.taken))),
            tuple(sorted(self._labs, key=lambda r: (r.subject_id, r.charted, r.labevent_id))),
        )

    def live(self, subject_id: int, fold: int, place: int) -> None:
        """One person; `place` is 0 to 3 within the fold."""
        year = int(self._rng.integers(2110, 2200))
        arrival = datetime(year, 1, 1) + timedelta(days=int(self._rng.integers(90, 270)), minutes=int(self._rng.integers(1440)))
        condition = list(CONDITIONS)[(fold + place) % len(CONDITIONS)]
        days_to_death = {(2, 0): 4.0, (4, 0): 20.0, (5, 0): 200.0, (10, 0): 3.9, (9, 1): 25.0}.get((fold, place))
        death = arrival + timedelta(days=days_to_death) if days_to_death else None
        gender = "FM"[int(self._rng.integers(2))]
        age = int(self._rng.integers(25, 92))
        self._people.append(Person(subject_id, gender, age, year, condition, fold, death.date() if death else None))
        stay = self._admit(subject_id, condition, arrival, 5.0, death)
        if place == 3 and fold % 2 == 0:
            self._ecg(subject_id, condition, arrival + timedelta(days=100))
        else:
            self._ecg(subject_id, condition, arrival + timedelta(hours=-24.0 if (fold, place) == (1, 0) else 2.0))
        self._sample(stay, condition, hours=1.0)
        self._sample(stay, condition, hours=26.0)
        if (fold, place) == (1, 0):
            self._xray(subject_id, fold, place, condition, arrival + timedelta(hours=24), ("AP",))  # just before the window opens
            self._xray(subject_id, fold, place, condition, arrival + timedelta(hours=72), ("PA", "LATERAL"))  # as it closes
        elif place != 3 or fold % 2 == 0:
            self._xray(subject_id, fold, place, condition, arrival + timedelta(hours=30, seconds=7.25), ("AP",))
        if place == 1:  # the second stay of fold 6 begins so soon that one ECG serves both
            if fold == 6:
                self._admissions[-1] = replace(stay, discharged=arrival + timedelta(hours=20))
            again = self._admit(subject_id, condition, arrival + timedelta(hours=26 if fold == 6 else 1200), 4.0, None)
            self._ecg(subject_id, condition, again.admitted - timedelta(hours=3))
            self._sample(again, condition, hours=-2.0)
            self._xray(subject_id, fold, place, condition, again.admitted + timedelta(hours=48), ("PA", "LATERAL"))
        if place == 2:
            self._ecg(subject_id, condition, arrival - timedelta(days=40))
            self._xray(subject_id, fold, place, condition, arrival - timedelta(days=101 if fold == 3 else 50), ("PA", "LATERAL"))

    def _admit(self, subject_id: int, condition: str, admitted: datetime, days: float, death: datetime | None) -> Admission:
        discharged = admitted + timedelta(days=days)
        died = death if death is not None and death < discharged else None
        version = 9 if subject_id % 3 == 0 else 10
        codes = CONDITIONS[condition].icd9 if version == 9 else CONDITIONS[condition].icd10
        kind = ("EW EMER.", "URGENT", "OBSERVATION ADMIT")[len(self._admissions) % 3]
        stay = Admission(20_000_000 + 37 * len(self._admissions), subject_id, admitted, died or discharged, died, kind, version, codes)
        self._admissions.append(stay)
        return stay

    def _ecg(self, subject_id: int, condition: str, recorded: datetime) -> None:
        number = len(self._ecgs)
        said = CONDITIONS[condition].statements
        if number == 7:
            said = ()  # the machine says nothing about a few
        elif number == 8:
            said = ("*** Poor data quality, interpretation may be adversely affected ***", *said)
        self._ecgs.append(EcgStudy(40_000_000 + 41 * number, subject_id, recorded, CONDITIONS[condition].findings, said))

    def _xray(self, subject_id: int, fold: int, place: int, condition: str, taken: datetime, views: tuple[str, ...]) -> None:
        shown = CONDITIONS[condition]
        split = _MOVED.get((fold, place), "train" if fold <= 8 else "validate" if fold == 9 else "test")
        number = len(self._xrays)
        images = tuple(XrayImage("-".join(f"{int(v):08x}" for v in self._rng.integers(0, 2**32, 5)), view) for view in views)
        examination = "CHEST (PA AND LAT)" if "LATERAL" in views else "CHEST (PORTABLE AP)"
        report = f" EXAMINATION:  {examination}\n\n FINDINGS:\n\n {shown.sentences[0]}\n\n IMPRESSION:\n\n {shown.sentences[1]}\n"
        if number == 5:
            report = report.partition(" FINDINGS:")[0] + f" {shown.sentences[1]}\n"  # neither heading, as some are
        self._xrays.append(XrayStudy(50_000_000 + 43 * number, subject_id, taken, images, shown.chexpert, report, split))

    def _sample(self, stay: Admission, condition: str, hours: float) -> None:
        """A blood sample: most items, each a value near what the condition makes of the usual one."""
        charted = stay.admitted + timedelta(hours=hours)
        for item_id, (_, unit, usual, spread) in LAB_ITEMS.items():
            value = usual * CONDITIONS[condition].labs.get(item_id, 1.0) * float(self._rng.lognormal(0.0, spread))
            left_out, no_number = self._rng.random(2) < (0.25, 0.05)
            if not left_out:
                hadm_id = stay.hadm_id if hours >= 0 else None  # taken before the stay: in the emergency department
                number = None if no_number else round(value, 3)
                self._labs.append(LabResult(next(self._events), stay.subject_id, hadm_id, item_id, charted, number, unit))
