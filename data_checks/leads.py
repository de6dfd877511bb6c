"""What the check of an evaluation looks at in tables of reconstructed leads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from data_checks.context import CheckContext
from data_checks.judged import Values
from models.errors import EinthovenError
from models.reconstruction_tables import ARMS, Reconstructions, read_reconstructions

_METRICS = ("mse", "mae", "pearson")
_WITHIN = 1e-9
_MOST = 1 + 1e-9


def read_leads(c: CheckContext) -> list[Reconstructions]:
    """The output's tables of reconstructions, after a look at what they hold: known records of validation and test, in all arms."""
    tables = []
    for path in sorted((c.output.folder / "reconstructions").glob("*.parquet")):
        try:
            table = read_reconstructions(path)
        except EinthovenError as error:
            c.findings.fail(f"reconstructions/{path.name}: {error}")
            continue
        origin = table.origin
        if (origin.dataset, origin.method, origin.slug) != (c.dataset.name, c.output.key.parts[1], path.stem):
            c.findings.fail(f"reconstructions/{path.name} says it holds {origin.slug} of method {origin.method!r} on {origin.dataset!r}")
        _check_rows(c, table)
        tables.append(table)
    if tables and (arms := {t.origin.arm for t in tables}) != set(ARMS):
        c.findings.fail(
            f"reconstructions: arms {', '.join(sorted(arms))} instead of {', '.join(ARMS)}; nobody can tell what the errors are worth"
        )
    if len({(tuple(t.record_id), t.missing) for t in tables}) > 1:
        c.findings.fail("reconstructions: the arms are not about the same records and leads")
    return tables


def _check_rows(c: CheckContext, table: Reconstructions) -> None:
    import numpy as np

    records, name, judged = c.records(), f"reconstructions/{table.origin.slug}", {*c.dataset.split.validation, *c.dataset.split.test}
    homes = {str(i): (str(p), int(f)) for i, p, f in zip(records.index, records["patient_id"], records["fold"], strict=True)}
    rows = list(zip(table.record_id, table.patient_id, table.fold_N.tolist(), strict=True))
    recording = {i: i if i in homes else i.rpartition("@")[0] for i in table.record_id}
    errors = table.errors
    low_N = np.minimum(errors.mse_NM, errors.mae_NM).min(axis=1)
    # A mean absolute error never exceeds the root of the mean squared one.
    odd_N = ~(low_N >= 0) | (errors.mae_NM**2 > errors.mse_NM * _MOST + _WITHIN).any(axis=1) | (np.abs(errors.pearson_NM) > 1).any(axis=1)
    faults = {
        "unknown records": [i for i, _, _ in rows if recording[i] not in homes],
        "records in another fold, or of another patient, than their own": [
            i for i, patient, fold in rows if recording[i] in homes and homes[recording[i]] != (patient, fold)
        ],
        "records of folds that are neither validation nor test": [i for i, _, fold in rows if fold not in judged],
        "a record appears twice": [i for i, n in Counter(table.record_id).items() if n > 1],
        "errors that cannot be": [i for (i, _, _), odd in zip(rows, odd_N.tolist(), strict=True) if odd],
    }
    for what, found in faults.items():
        if found:
            c.findings.fail(f"{name}: {what}", found)
    distance = table.distance
    if distance is not None and not (math.isfinite(distance.value) and distance.value >= 0 and distance.embedding and distance.sha256):
        c.findings.fail(f"{name}: the distance {distance.value} lacks a value, or the embedding that it was measured in")


def lead_values(table: Reconstructions, test_folds: Sequence[int]) -> Values:
    """Errors on the test folds, over all missing leads and of each, computed with plain loops."""
    rows = [i for i, fold in enumerate(table.fold_N.tolist()) if fold in test_folds]
    found: Values = {}
    for name in _METRICS:
        values_NM = getattr(table.errors, f"{name}_NM")
        for m, lead in enumerate(table.missing):
            held = [v for v in (float(values_NM[i, m]) for i in rows) if not math.isnan(v)]
            found["", f"{name}:{lead}"] = sum(held) / len(held) if held else math.nan
        known = [v for v in (found["", f"{name}:{lead}"] for lead in table.missing) if not math.isnan(v)]
        found["", name] = sum(known) / len(known) if known else math.nan
    if table.distance is not None:
        found["", "fid"] = table.distance.value
    return found
