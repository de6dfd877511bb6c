"""Simulated patients and the records that they come with: who they are, what the ECG shows, when, and its report.

Every finding is dealt to the patients of each fold equally often, so that each class can be judged in every fold.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from assets.text.phrases import write_report

if TYPE_CHECKING:
    from numpy.random import Generator

FOLDS = 10

# What lasts in a patient: diagnoses and their form. Each card is dealt to the patients of each fold equally often.
PATIENT_CARDS = (
    *(("NORM",),) * 8,
    ("NORM", "LVOLT"),
    ("AMI", "ABQRS"),
    ("AMI", "LVOLT"),
    ("ASMI", "ABQRS"),
    ("ASMI", "1AVB", "LPR", "ABQRS"),
    ("IMI", "QWAVE"),
    ("IMI", "QWAVE", "ABQRS"),
    ("IMI", "1AVB", "LPR", "QWAVE"),
    ("CLBBB",),
    ("CRBBB", "LVOLT"),
    ("CRBBB", "LAFB", "1AVB", "LPR"),
    ("IRBBB", "NDT"),
    ("LAFB", "1AVB", "LPR"),
    ("LVH", "VCLVH"),
    ("LVH", "LAO/LAE", "VCLVH"),
    ("LVH", "STD_", "VCLVH"),
    ("RVH", "INVT"),
    ("LAO/LAE", "NST_"),
    ("NDT", "LOWT"),
    ("NDT",),
    ("NST_", "STD_"),
    ("NST_", "LOWT", "1AVB", "LPR"),
    ("ISC_", "INVT"),
    ("ISC_", "STD_"),
    ("LNGQT",),
    ("LNGQT", "LOWT"),
    ("LNGQT", "INVT"),
)
# What changes from record to record, dealt likewise.
RHYTHM_CARDS = (
    *(("SR",),) * 6,
    ("SR", "PVC"),
    ("SR", "PAC"),
    ("SR", "PAC"),
    *(("SBRAD",),) * 2,
    *(("STACH",),) * 2,
    *(("SARRH",),) * 2,
    *(("AFIB",),) * 3,
    *(("AFLT",),) * 2,
    *(("SR", "BIGU", "PVC"),) * 2,
    *(("PACE",),) * 2,
)
_NEEDS_P_WAVE = frozenset({"1AVB", "LPR", "LAO/LAE"})


def deal_records(rng: Generator, n_records: int) -> list[dict[str, str]]:
    """Deal patients to folds, lasting findings to patients, passing ones to records, and number the records by date."""
    rows: list[dict[str, str]] = []
    for fold in range(1, FOLDS + 1):
        wanted = n_records // FOLDS + (fold <= n_records % FOLDS)
        lasting, passing = _deck(PATIENT_CARDS, wanted, rng), _deck(RHYTHM_CARDS, wanted, rng)
        while wanted:
            card = lasting.pop()
            person = _person(card, rng) | {"patient_id": f"{fold}-{wanted}", "fold": str(fold)}
            for _ in range(min(int(rng.integers(1, 3)), wanted)):
                rows.append(person | _visit(person, _findings(card, passing.pop()), rng))
                wanted -= 1
    rows.sort(key=lambda row: (row["acquired_at"], row["patient_id"]))
    patients = {patient: f"P{i:05d}" for i, patient in enumerate(dict.fromkeys(row["patient_id"] for row in rows), start=1)}
    return [row | {"record_id": f"{i:05d}", "patient_id": patients[row["patient_id"]]} for i, row in enumerate(rows, start=1)]


def _deck(cards: tuple[tuple[str, ...], ...], n: int, rng: Generator) -> list[tuple[str, ...]]:
    """At least `n` cards: whole packs, each shuffled by itself, so that any run of draws is balanced."""
    packs = -(-n // len(cards))
    return [cards[i] for _ in range(packs) for i in rng.permutation(len(cards))]


def _findings(lasting: tuple[str, ...], passing: tuple[str, ...]) -> list[str]:
    """SCP codes of one record: a pacemaker hides the patient's own QRS and T, and what needs a P wave goes with the P wave."""
    if "PACE" in passing:
        return ["PACE"]
    hidden: set[str] = set()
    if {"AFIB", "AFLT"} & set(passing):
        hidden |= _NEEDS_P_WAVE
    if {"AFIB", "AFLT", "BIGU"} & set(passing):
        hidden.add("NORM")
    return [c for c in lasting if c not in hidden] + list(passing)


def _person(card: tuple[str, ...], rng: Generator) -> dict[str, str]:
    age = rng.normal(45.0, 15.0) if "NORM" in card else rng.normal(66.0, 11.0)
    return {"age": str(int(min(max(age, 18), 94))), "sex": str(rng.choice(["female", "male"])), "site": f"site-{rng.integers(1, 4)}"}


def _visit(person: dict[str, str], codes: list[str], rng: Generator) -> dict[str, str]:
    day = date(2010, 1, 4) + timedelta(days=int(rng.integers(0, 3650)))
    language = "de" if rng.random() < 0.35 else "en"
    return {
        "device": f"SIM-{rng.integers(1, 3)}{person['site'][-1]}",
        "acquired_at": f"{day.isoformat()}T{rng.integers(7, 19):02d}:{rng.integers(0, 60):02d}:00",
        "scp_codes": ";".join(codes),
        "report": "" if rng.random() < 0.02 else write_report(codes, language, rng),
        "report_source": "machine" if rng.random() < 0.4 else "human",
    }
