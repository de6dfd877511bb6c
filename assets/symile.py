"""What Symile-MIMIC's files hold, and an imitation of it from the simulated MIMIC cohort, by the rules by which it was made.

Of each stay: the earliest ECG within a day of admission, the earliest frontal X-ray more than one and at most three days after
it, and the earliest value of each lab test within a day of it. Stays that lack one of the three are left out.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.chexpert_labels import FINDINGS
from assets.mimic import Admission, EcgStudy, Person, XrayImage, XrayStudy, cohort, stamp
from assets.tables import write_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

COHORT = "symile_mimic_data.csv"
FILE_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
"""In the arrays' order, which is MIMIC's: aVF before aVL."""

LAB_ITEMS = (
    "50802", "50804", "50813", "50818", "50820", "50821", "50861", "50862", "50863", "50868", "50878", "50882", "50885",
    "50893", "50902", "50910", "50912", "50931", "50934", "50947", "50960", "50970", "50971", "50983", "51006", "51133",
    "51146", "51200", "51221", "51222", "51237", "51244", "51248", "51249", "51250", "51254", "51256", "51265", "51274",
    "51275", "51277", "51279", "51301", "51678", "52069", "52073", "52074", "52075", "52135", "52172",
)  # fmt: skip
"""The 50 blood tests by MIMIC's item id, ascending, as in the arrays of lab results."""

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""By which the three equal channels of a picture, in [0, 1], were normalised."""

FIXTURE_CANDIDATES = 4
"""Stays that a query of the imitation is told from, itself included; the original has ten."""

_SIDE = 40
_DAY = timedelta(hours=24)
_PART_FINDINGS = ("Atelectasis", "Cardiomegaly", "Edema", "Lung Opacity", "No Finding", "Pleural Effusion")
"""Findings that the tables of parts have."""

_COHORT_COLUMNS = (
    "subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type", "gender", "anchor_age", "anchor_year", "age",
    "cxr_dicom_id", "cxr_study_id", "cxr_ViewPosition", "cxr_StudyDateTime", "cxr_path", "study_id", *FINDINGS,
    "ecg_study_id", "ecg_file_name", "ecg_time", "ecg_path", *LAB_ITEMS, "labs_all_nan",
)  # fmt: skip
_PART_COLUMNS = (
    "subject_id", "hadm_id", "cxr_path", *_PART_FINDINGS, "ecg_path", *LAB_ITEMS, *(f"{item}_percentile" for item in LAB_ITEMS),
)  # fmt: skip

Row = dict[str, Any]


def write_symile_fixture(folder: Path, seed: int) -> None:
    """Write tables and arrays of a small Symile-MIMIC; arrays of `val_retrieval` are left out, as in a partial download."""
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = _stays(seed)
    _write(folder / COHORT, _COHORT_COLUMNS, rows)
    subjects = sorted({row["subject_id"] for row in rows})
    place = {subject: ("train", "train", "val", "train", "train", "test")[i % 6] for i, subject in enumerate(subjects)}
    parts: dict[str, list[Row]] = {part: [row for row in rows if place[row["subject_id"]] == part] for part in ("train", "val", "test")}
    parts["train"].pop()  # some stays of the cohort are in no part
    means = _add_percentiles(parts)
    (folder / "labs_means.json").write_text(json.dumps(means, indent=4))
    retrieval = {part: _candidates(parts[part], rng) for part in ("val", "test")}
    with_label = (*_PART_COLUMNS, "label_hadm_id", "label")
    _write(folder / "train.csv", _PART_COLUMNS, parts["train"])
    _write(folder / "val.csv", with_label, [row | {"label_hadm_id": row["hadm_id"], "label": 1} for row in parts["val"]])
    _write(folder / "val_retrieval.csv", with_label, retrieval["val"])
    _write(folder / "test.csv", with_label, retrieval["test"])
    signals = {row["hadm_id"]: (_signal(row["ecg_findings"], rng), _picture(row, rng)) for row in rows}
    for part, held in (("train", parts["train"]), ("val", parts["val"]), ("test", retrieval["test"])):
        into = folder / "data_npy" / part
        into.mkdir(parents=True)
        ids = [row["hadm_id"] for row in held]
        np.save(into / f"hadm_id_{part}.npy", np.array(ids))
        np.save(into / f"ecg_{part}.npy", np.stack([signals[i][0] for i in ids]))
        np.save(into / f"cxr_{part}.npy", np.stack([signals[i][1] for i in ids]))
        observed = [[int(row[item] != "") for item in LAB_ITEMS] for row in held]
        percentiles = [
            [row[f"{item}_percentile"] if row[item] != "" else means[f"{item}_percentile"] for item in LAB_ITEMS] for row in held
        ]
        np.save(into / f"labs_missingness_{part}.npy", np.array(observed))
        np.save(into / f"labs_percentiles_{part}.npy", np.array(percentiles, np.float32))


def _write(path: Path, columns: tuple[str, ...], rows: list[Row]) -> None:
    """Write the named columns of rows that know more."""
    write_table(path, columns, ({column: row.get(column, "") for column in columns} for row in rows))


def _stays(seed: int) -> list[Row]:
    """Rows of the cohort's table."""
    known = cohort(seed)
    people = {person.subject_id: person for person in known.people}
    rows = []
    for stay in known.admissions:
        start = stay.admitted
        own_ecgs = [e for e in known.ecgs if e.subject_id == stay.subject_id and -_DAY <= e.recorded - start <= _DAY]
        own_xrays = [
            (x, image)
            for x in known.xrays
            for image in x.images
            if x.subject_id == stay.subject_id and image.view != "LATERAL" and _DAY < x.taken.replace(microsecond=0) - start <= 3 * _DAY
        ]
        values: Row = dict.fromkeys(LAB_ITEMS, "")
        for result in known.labs:  # in order of time
            item = str(result.item_id)
            if result.subject_id == stay.subject_id and values.get(item) == "" and -_DAY <= result.charted - start <= _DAY:
                values[item] = "" if result.value is None else result.value
        observed = any(value != "" for value in values.values())
        if own_ecgs and own_xrays and observed:
            rows.append(_row(stay, people[stay.subject_id], own_ecgs[0], *own_xrays[0]) | values | {"labs_all_nan": 0})
    return rows


def _row(stay: Admission, person: Person, ecg: EcgStudy, xray: XrayStudy, image: XrayImage) -> Row:
    subject = person.subject_id
    return {
        "subject_id": subject,
        "hadm_id": stay.hadm_id,
        "admittime": stamp(stay.admitted),
        "dischtime": stamp(stay.discharged),
        "deathtime": stamp(stay.died),
        "admission_type": stay.kind,
        "gender": person.gender,
        "anchor_age": person.anchor_age,
        "anchor_year": person.anchor_year,
        "age": person.anchor_age + stay.admitted.year - person.anchor_year,
        "cxr_dicom_id": image.dicom_id,
        "cxr_study_id": xray.study_id,
        "cxr_ViewPosition": image.view,
        "cxr_StudyDateTime": stamp(xray.taken),
        "cxr_path": f"files/p{str(subject)[:2]}/p{subject}/s{xray.study_id}/{image.dicom_id}.jpg",
        "study_id": xray.study_id,  # of the X-ray, not of the ECG
        "ecg_study_id": ecg.study_id,
        "ecg_file_name": ecg.study_id,
        "ecg_time": stamp(ecg.recorded),
        "ecg_path": f"files/p{str(subject)[:4]}/p{subject}/s{ecg.study_id}/{ecg.study_id}",
        "ecg_findings": ecg.findings,
        **{finding: f"{state:.1f}" for finding, state in xray.chexpert.items()},
    }


def _add_percentiles(parts: dict[str, list[Row]]) -> dict[str, float]:
    """Add each value's place among the training part's values, and return the mean place of each test."""
    means = {}
    for item in LAB_ITEMS:
        fitted = sorted(row[item] for row in parts["train"] if row[item] != "")
        for row in (row for rows in parts.values() for row in rows):
            row[f"{item}_percentile"] = "" if row[item] == "" else sum(value <= row[item] for value in fitted) / max(len(fitted), 1)
        places = [row[f"{item}_percentile"] for row in parts["train"] if row[item] != ""]
        means[f"{item}_percentile"] = sum(places) / len(places) if places else 0.5
    return means


def _candidates(rows: list[Row], rng: Generator) -> list[Row]:
    """Every stay as a query with itself as candidate, then the other candidates of each query."""
    table = [row | {"label_hadm_id": row["hadm_id"], "label": 1} for row in rows]
    for i, query in enumerate(rows):
        others = rng.permutation([k for k in range(len(rows)) if k != i])[: FIXTURE_CANDIDATES - 1]
        table += [rows[k] | {"label_hadm_id": query["hadm_id"], "label": 0} for k in others]
    return table


def _signal(findings: tuple[str, ...], rng: Generator) -> NDArray[np.float32]:
    """An ECG stretched to [-1, 1] over all leads, shape (1, samples, leads)."""
    import numpy as np

    from assets.signals.simulate import simulate
    from models.types import LEADS

    signal_LT = np.round(simulate(findings, rng, fs_hz=500.0) / 5).astype(np.float64)
    low, high = signal_LT.min(), signal_LT.max()
    stretched_LT = 2 * (signal_LT - low) / (high - low) - 1
    signal_1TL: NDArray[np.float32] = stretched_LT[[LEADS.index(lead) for lead in FILE_LEADS]].T[None].astype(np.float32)
    return signal_1TL


def _picture(row: Row, rng: Generator) -> NDArray[np.float32]:
    """A square picture normalised as the original's, shape (3, rows, columns)."""
    import numpy as np

    from assets.simulated_images import simulate_chest

    shown = [finding for finding in FINDINGS if row.get(finding) == "1.0"]
    grey = simulate_chest(shown, rng, _SIDE, _SIDE) / 255
    normalised = [(grey - mean) / deviation for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)]
    return np.stack(normalised).astype(np.float32)
