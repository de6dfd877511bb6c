"""Rules that say which recordings, pictures and lab results of a patient belong together.

A rule is declared here and becomes the asset `pairing/<rule>`; `assets.pairing_tables` carries it out. Times are compared in
whole seconds. Patients are in the part of their fold, the same for all rules and methods; only rules over the records of one
dataset keep that dataset's own folds and split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from assets.dataset import get_dataset
from assets.outputs import Key

HOUR_S = 3600
DAY_S = 24 * HOUR_S

LAB_RECIPE, REPORT_FORM = "labs", "original"
"""Partitions of `cleaned` and `reports` that rules read."""

PARTS: Mapping[str, tuple[int, ...]] = {"train": (1, 2, 3, 4, 5, 6, 7, 8), "validation": (9,), "test": (10,)}
"""Folds of the parts, where patients are put into folds by hash."""

ROLES = ("ecg", "image", "labs", "ecg_text", "image_text")
"""What bits 0, 1, ... of `observed` stand for. The first three are modalities of which a sample has at least two."""
MODALITIES = ROLES[:3]


@dataclass(frozen=True)
class Window:
    """Where the time of a thing may lie, seen from the anchor: low <= time - anchor <= high, or < at an open end.

    Attributes:
        low_s, high_s: seconds; negative is before the anchor.
        low_open, high_open: whether that very moment is outside.
        day: whether the thing counts from 00:00 of its day.
    """

    low_s: int
    high_s: int
    low_open: bool = False
    high_open: bool = False
    day: bool = False

    @property
    def first_s(self) -> int:
        """The earliest whole second inside."""
        return self.low_s + self.low_open

    @property
    def last_s(self) -> int:
        """The latest whole second inside."""
        return self.high_s - self.high_open


@dataclass(frozen=True)
class Member:
    """Recordings or pictures of a dataset that a rule pairs; those whose files are not there, or without a time, are not used.

    Attributes:
        window: None for the anchor itself, and where everything is of one record.
        views: projections of an X-ray that are used; all when empty.
        text: whether its report belongs to the sample.
    """

    dataset: str
    window: Window | None = None
    views: tuple[str, ...] = ()
    text: bool = False


@dataclass(frozen=True)
class LabPanel:
    """The earliest number of each item within the window; at least `at_least` items must be there.

    Attributes:
        items: item ids, in the order of the panel.
        window: None where the results of a record are its own, whenever they were taken.
    """

    dataset: str
    items: tuple[str, ...]
    window: Window | None
    at_least: int = 1


@dataclass(frozen=True)
class PairingRule:
    """How samples are made.

    Attributes:
        name: of the asset.
        anchor: "ecg": a sample is an ECG with one of the pictures in its window, all combinations. "encounter": a sample is a hospital
            stay with the earliest ECG, the earliest picture and the panel in their windows from admission; stays are the labs' dataset's.
            "record": a sample is a record of one dataset with its recording, its picture and the lab results of the stay of the same id.
        complete: whether every member must be there; else any two modalities make a sample.
        candidates: largest size of the lists for retrieval (one true, the others of the same part); 0 for none. Where the records
            of a rule over one dataset come with lists (column `candidates`), those are taken, else they are drawn.
        seed: of those lists.
        version: raised by hand when the rule changes what it yields.
    """

    name: str
    title: str
    anchor: Literal["ecg", "encounter", "record"]
    ecg: Member
    image: Member
    labs: LabPanel | None = None
    complete: bool = True
    candidates: int = 0
    seed: int = 0
    version: str = "1"

    def describe(self) -> dict[str, Any]:
        """The rule as JSON."""
        return asdict(self)

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets that the rule reads, each once."""
        members = (self.ecg.dataset, self.image.dataset, *((self.labs.dataset,) if self.labs else ()))
        return tuple(dict.fromkeys(members))

    @property
    def parts(self) -> Mapping[str, tuple[int, ...]]:
        """Folds of train, validation and test: those of the dataset's split where everything is of one record."""
        if self.anchor != "record":
            return PARTS
        split = get_dataset(self.ecg.dataset).split
        return {"train": split.train, "validation": split.validation, "test": split.test}

    def texts(self) -> dict[str, tuple[Key, str]]:
        """Output and file that hold the reports of "ecg" and "image", as far as they belong to the samples.

        One dataset has its recordings' reports in reports.parquet and its pictures' in image_reports.parquet.
        """
        own = {"ecg": "reports.parquet", "image": "image_reports.parquet" if self.anchor == "record" else "reports.parquet"}
        return {
            role: (Key(("reports", member.dataset), REPORT_FORM), own[role])
            for role, member in (("ecg", self.ecg), ("image", self.image))
            if member.text
        }


FRONTAL = ("AP", "PA")

SYMILE_LABS = (
    "50802", "50804", "50813", "50818", "50820", "50821", "50861", "50862", "50863", "50868", "50878", "50882",
    "50885", "50893", "50902", "50910", "50912", "50931", "50934", "50947", "50960", "50970", "50971", "50983",
    "51006", "51133", "51146", "51200", "51221", "51222", "51237", "51244", "51248", "51249", "51250", "51254",
    "51256", "51265", "51274", "51275", "51277", "51279", "51301", "51678", "52069", "52073", "52074", "52075",
    "52135", "52172",
)  # fmt: skip
"""The 50 blood tests of Symile-MIMIC by MIMIC item id, ascending, as in its published arrays."""

RULES: Mapping[str, PairingRule] = {
    rule.name: rule
    for rule in (
        PairingRule(
            "more",
            "ECGs and chest X-rays of a patient up to 60 days apart, all combinations, with both reports (MoRE)",
            anchor="ecg",
            ecg=Member("mimic_iv_ecg", text=True),
            # The whole days between the ECG and the day of the X-ray, rounded down, are -60 to 60.
            image=Member("mimic_cxr_jpg", Window(-60 * DAY_S, 61 * DAY_S, high_open=True, day=True), FRONTAL, text=True),
        ),
        # The published cohort also leaves out ECGs with gaps or of zeros, before it takes the earliest, and X-rays of the few studies
        # without findings. Here such ECGs are repaired and flagged, or quarantined, by the store: readers skip what is not in it.
        PairingRule(
            "symile_mimic",
            "Hospital stays with the first ECG and bloods of admission and the first X-ray of the two days that follow (Symile-MIMIC)",
            anchor="encounter",
            ecg=Member("mimic_iv_ecg", Window(-24 * HOUR_S, 24 * HOUR_S)),
            image=Member("mimic_cxr_jpg", Window(24 * HOUR_S, 72 * HOUR_S, low_open=True), FRONTAL),
            labs=LabPanel("mimic_iv", SYMILE_LABS, Window(-24 * HOUR_S, 24 * HOUR_S)),
            candidates=10,
        ),
        PairingRule(
            "admission_any",
            "Hospital stays with any two of ECG, X-ray and bloods around admission; the third may be missing",
            anchor="encounter",
            ecg=Member("mimic_iv_ecg", Window(-24 * HOUR_S, 72 * HOUR_S)),
            image=Member("mimic_cxr_jpg", Window(-24 * HOUR_S, 72 * HOUR_S), FRONTAL),
            labs=LabPanel("mimic_iv", SYMILE_LABS, Window(-24 * HOUR_S, 24 * HOUR_S)),
            complete=False,
        ),
        PairingRule(
            "symile_mimic_published",
            "The stays of Symile-MIMIC as published, with its own parts and lists for retrieval",
            anchor="record",
            ecg=Member("symile_mimic"),
            image=Member("symile_mimic"),
            labs=LabPanel("symile_mimic", SYMILE_LABS, None),
            candidates=10,
        ),
        PairingRule(
            "synthetic",
            "Simulated visits with any two of ECG, X-ray and bloods, with both reports",
            anchor="record",
            ecg=Member("synthetic", text=True),
            image=Member("synthetic", text=True),
            labs=LabPanel("synthetic", SYMILE_LABS, None),
            complete=False,
            candidates=10,
        ),
    )
}
