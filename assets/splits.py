"""Who is who across datasets, and which fold a patient is in.

A patient id is `<namespace>:<id as published>`. Datasets that hold the same people share a namespace ("mimic" for
MIMIC-IV-ECG, MIMIC-CXR and Symile-MIMIC; "sph" for the Shaoxing and Ningbo records wherever they were published again), so
the same person has the same id, and the same fold, everywhere. Folds are the published ones where there are any, else a hash
of the patient id: they never change when records are added, and all methods share them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

FOLDS = 10


def patient(namespace: str, published_id: str) -> str:
    """A patient id that is the same in every dataset of the namespace.

    Raises:
        ValueError: an empty id.
    """
    if not published_id:
        raise ValueError(f"a patient of {namespace} has no id")
    return f"{namespace}:{published_id}"


def fold_of(patient_id: str, folds: int = FOLDS) -> int:
    """The fold of a patient, 1 to `folds`, by hash."""
    return int.from_bytes(hashlib.sha256(f"fold {patient_id}".encode()).digest()[:8], "big") % folds + 1


def folds_of(patient_ids: Sequence[str], folds: int = FOLDS) -> list[int]:
    """The folds of many patients."""
    known = {p: fold_of(p, folds) for p in set(patient_ids)}
    return [known[p] for p in patient_ids]
