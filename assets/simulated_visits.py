"""What a simulated visit brings beside its ECG: a chest X-ray with its report, and bloods. Invented; it says nothing about medicine.

The three are related so that there is something to learn from each pair, and something that no pair tells:

    ECG and X-ray         hypertrophy: a large heart; atrial fibrillation, flutter or an old infarct: oedema; a pacemaker: its leads
    bloods and X-ray      white cells and their kinds: an opacity; carbon dioxide and oxygen: atelectasis
    ECG and bloods        infarct and ischaemia: creatine kinase and its like; tachycardia: white cells
    all three             a pleural effusion where either the ventricles of the ECG are damaged or the kidneys of the bloods fail, but
                          not where both are and not where neither is: from the ECG alone it is a toss-up
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from numpy.random import Generator

CHEST = ("Atelectasis", "Cardiomegaly", "Edema", "Lung Opacity", "No Finding", "Pleural Effusion", "Support Devices")
"""Findings that visits have, by CheXpert's names and in its order."""

DAMAGED = frozenset({"AMI", "ASMI", "IMI", "CLBBB", "CRBBB", "PACE", "BIGU"})
"""SCP codes of ventricles that are scarred or excited out of order."""

WITHOUT_XRAY, WITHOUT_LABS = 0.06, 0.06
"""Shares of visits."""

_NOISE = 0.06
"""Share of visits whose effusion is not what ECG and bloods say."""


class Lab(NamedTuple):
    """A blood test: usual value, relative spread, unit, and the tube that it is measured from."""

    usual: float
    spread: float
    unit: str
    tube: str


LABS: Mapping[str, Lab] = {
    "50802": Lab(2.5, 0.25, "mEq/L", "gas"), "50804": Lab(26, 0.08, "mEq/L", "gas"), "50813": Lab(1.6, 0.25, "mmol/L", "gas"),
    "50818": Lab(40, 0.06, "mm Hg", "gas"), "50820": Lab(7.39, 0.004, "units", "gas"), "50821": Lab(92, 0.08, "mm Hg", "gas"),
    "50861": Lab(25, 0.3, "IU/L", "liver"), "50862": Lab(4.0, 0.08, "g/dL", "liver"), "50863": Lab(75, 0.2, "IU/L", "liver"),
    "50868": Lab(13, 0.1, "mEq/L", "basic"), "50878": Lab(26, 0.25, "IU/L", "liver"), "50882": Lab(25.5, 0.05, "mEq/L", "basic"),
    "50885": Lab(0.6, 0.3, "mg/dL", "liver"), "50893": Lab(9.1, 0.04, "mg/dL", "basic"), "50902": Lab(103, 0.02, "mEq/L", "basic"),
    "50910": Lab(110, 0.35, "IU/L", "heart"), "50912": Lab(0.9, 0.12, "mg/dL", "basic"), "50931": Lab(108, 0.15, "mg/dL", "basic"),
    "50934": Lab(9, 0.5, "", "indices"), "50947": Lab(2, 0.4, "", "indices"), "50960": Lab(2.0, 0.06, "mg/dL", "basic"),
    "50970": Lab(3.4, 0.1, "mg/dL", "basic"), "50971": Lab(4.1, 0.06, "mEq/L", "basic"), "50983": Lab(139, 0.015, "mEq/L", "basic"),
    "51006": Lab(15, 0.18, "mg/dL", "basic"), "51133": Lab(1.7, 0.25, "K/uL", "kinds"), "51146": Lab(0.5, 0.3, "%", "kinds"),
    "51200": Lab(2.0, 0.4, "%", "kinds"), "51221": Lab(39, 0.08, "%", "count"), "51222": Lab(13, 0.08, "g/dL", "count"),
    "51237": Lab(1.1, 0.06, "", "clotting"), "51244": Lab(24, 0.2, "%", "kinds"), "51248": Lab(30, 0.05, "pg", "count"),
    "51249": Lab(33, 0.03, "g/dL", "count"), "51250": Lab(90, 0.04, "fL", "count"), "51254": Lab(7, 0.2, "%", "kinds"),
    "51256": Lab(64, 0.1, "%", "kinds"), "51265": Lab(240, 0.2, "K/uL", "count"), "51274": Lab(12.2, 0.06, "sec", "clotting"),
    "51275": Lab(30, 0.08, "sec", "clotting"), "51277": Lab(13.8, 0.05, "%", "count"), "51279": Lab(4.4, 0.08, "m/uL", "count"),
    "51301": Lab(7.5, 0.18, "K/uL", "count"), "51678": Lab(8, 0.5, "", "indices"), "52069": Lab(0.04, 0.3, "K/uL", "kinds"),
    "52073": Lab(0.15, 0.4, "K/uL", "kinds"), "52074": Lab(0.5, 0.25, "K/uL", "kinds"), "52075": Lab(4.9, 0.2, "K/uL", "kinds"),
    "52135": Lab(0.4, 0.3, "%", "kinds"), "52172": Lab(44, 0.05, "fL", "count"),
    "51003": Lab(0.01, 0.3, "ng/mL", "heart"), "50963": Lab(180, 0.4, "pg/mL", "heart"),
}  # fmt: skip
"""By MIMIC's item ids: the fifty of Symile-MIMIC, then troponin T and NT-proBNP, which are none of them."""

_DRAWN = {"basic": 0.97, "count": 0.97, "kinds": 0.5, "clotting": 0.65, "liver": 0.6, "heart": 0.6, "gas": 0.45, "indices": 0.6}
"""How often a tube is drawn at all; of one that is, a few results are missing."""

_KIDNEYS = {"50912": 2.3, "51006": 2.3, "50971": 1.18, "50970": 1.4, "50882": 0.84, "50868": 1.2, "51222": 0.85, "51221": 0.85}
_INFECTION = {"51301": 1.9, "52075": 2.1, "51256": 1.22, "51244": 0.55, "52135": 2.5, "50813": 1.4}
_HEART = {"50910": 3.2, "50878": 2.0, "51003": 12.0}
_CONGESTION = {"50963": 8.0, "50885": 1.6, "50861": 1.5, "51237": 1.12}
_SHALLOW_BREATH = {"50818": 1.2, "50821": 0.75, "50804": 1.12}


class Result(NamedTuple):
    """A lab result, `minutes` after the ECG; `value` is "" where the laboratory gave no number."""

    item_id: str
    minutes: int
    value: str
    unit: str


class Visit(NamedTuple):
    """X-ray findings (None for no X-ray), its report ("" where empty), and lab results (none where no blood was taken)."""

    findings: tuple[str, ...] | None
    report: str
    results: tuple[Result, ...]


def draw_visit(codes: Collection[str], rng: Generator) -> Visit:
    """What else a visit with an ECG of these SCP codes brings."""
    shown = frozenset(codes)
    kidneys = rng.random() < 0.5
    infection = rng.random() < (0.6 if "STACH" in shown else 0.22)
    shallow = rng.random() < 0.25
    strained = bool(shown & {"AFIB", "AFLT", "AMI", "ASMI", "IMI"})
    chances = {
        "Atelectasis": 0.8 if shallow else 0.06,
        "Cardiomegaly": 0.85 if shown & {"LVH", "RVH", "LAO/LAE"} else 0.1,
        "Edema": 0.75 if strained else 0.06,
        "Lung Opacity": 0.85 if infection else 0.05,
        "Pleural Effusion": 1 - _NOISE if bool(shown & DAMAGED) != kidneys else _NOISE,
        "Support Devices": 0.95 if "PACE" in shown else 0.05,
    }
    found = [name for name in CHEST if name in chances and rng.random() < chances[name]]
    if not set(found) - {"Support Devices"}:
        found = [name for name in CHEST if name in found or name == "No Finding"]
    factors = [
        (kidneys, _KIDNEYS), (infection, _INFECTION), (shallow, _SHALLOW_BREATH),
        (bool(shown & {"AMI", "ASMI", "IMI", "ISC_"}), _HEART), ("Edema" in found, _CONGESTION),
    ]  # fmt: skip
    report = "" if rng.random() < 0.02 else write_chest_report(found, rng)
    results = _draw_results([effect for there, effect in factors if there], rng)
    without_xray, without_labs = rng.random() < WITHOUT_XRAY, rng.random() < WITHOUT_LABS
    return Visit(None if without_xray else tuple(found), "" if without_xray else report, () if without_labs else results)


def _draw_results(effects: list[Mapping[str, float]], rng: Generator) -> tuple[Result, ...]:
    """First results of every tube that was drawn, some repeated later."""
    minutes = {tube: int(rng.integers(5, 240)) for tube, share in _DRAWN.items() if rng.random() < share}
    results = []
    for item, lab in LABS.items():
        if lab.tube not in minutes or rng.random() < 0.04:
            continue
        usual = lab.usual
        for effect in effects:
            usual *= effect.get(item, 1.0)
        for later in (0, *((360,) if rng.random() < 0.1 else ())):
            value = usual * float(rng.lognormal(0, lab.spread))
            results.append(Result(item, minutes[lab.tube] + later, "" if rng.random() < 0.005 else f"{value:.4g}", lab.unit))
    return tuple(sorted(results, key=lambda result: (result.minutes, result.item_id)))


_PRESENT: Mapping[str, tuple[str, ...]] = {
    "Atelectasis": ("There is bibasilar atelectasis.", "Linear atelectasis at the lung bases.", "Subsegmental atelectasis is seen."),
    "Cardiomegaly": ("The heart is enlarged.", "There is cardiomegaly.", "The cardiac silhouette is moderately enlarged."),
    "Edema": ("There is pulmonary edema.", "Moderate interstitial edema is present.", "Hazy lungs in keeping with pulmonary edema."),
    "Lung Opacity": ("There is a focal lung opacity.", "A patchy opacity is seen in one lung.", "Ill-defined opacity in the mid lung."),
    "Pleural Effusion": (
        "There is a pleural effusion.",
        "A moderate pleural effusion is present.",
        "Blunted angle from a pleural effusion.",
    ),
    "Support Devices": ("A pacemaker lead is in place.", "A line is seen over the chest.", "A device lead crosses the chest."),
}
_ABSENT: Mapping[str, tuple[str, ...]] = {
    "Cardiomegaly": ("The heart is of normal size.", "Heart size is normal."),
    "Edema": ("There is no edema.", "No sign of congestion."),
    "Lung Opacity": ("No focal opacity.", "The lungs show no consolidation."),
    "Pleural Effusion": ("No pleural effusion.", "The costophrenic angles are sharp."),
}


def write_chest_report(findings: Collection[str], rng: Generator) -> str:
    """A radiologist's report of a picture with these findings: FINDINGS and IMPRESSION, with what is absent said now and then."""
    said = [_PRESENT[name][rng.integers(len(_PRESENT[name]))] for name in CHEST if name in _PRESENT and name in findings]
    denied = [wordings[rng.integers(len(wordings))] for name, wordings in _ABSENT.items() if name not in findings and rng.random() < 0.5]
    order = rng.permutation(len(said) + len(denied))
    body = " ".join((said + denied)[i] for i in order) or "The lungs are clear."
    named = [name.lower() for name in CHEST if name in _PRESENT and name in findings and name != "Support Devices"]
    impression = f"{', '.join(named)}.".capitalize() if named else ("No acute process.", "Normal chest.")[rng.integers(2)]
    return f"FINDINGS: {body} IMPRESSION: {impression}"
