"""Check of the lab panels of pairing/<rule>: first values of the window, percentiles from the training part alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from assets.outputs import Key
from assets.pairing_rules import LAB_RECIPE, LabPanel
from data_checks.context import CheckContext, TableRules
from data_checks.findings import CheckError
from data_checks.pairing import folds_of_patients, rule_of
from data_checks.suites import panels_suite
from data_checks.tables import Kind, read_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

PANEL_KINDS: dict[str, Kind] = dict.fromkeys(("panel_id", "patient_id", "encounter_id", "part"), "text")
TOLERANCE = 1e-6
COMPARED = 50
"""Panels whose values are looked up in the lab results again."""


def check_panels(c: CheckContext) -> str:
    """Lab panels hold the first values of the window; their percentiles come from the training part alone."""
    rule = rule_of(c)
    if rule.labs is None:
        return f"{rule.name} has no lab panels"
    table = read_table(c.output.path("panels.parquet"))
    values_NP, observed_NP, percentile_NP = (
        _matrix(c, table, name, len(rule.labs.items)) for name in ("values", "observed", "percentiles")
    )
    samples = read_table(c.output.path("samples.parquet")).to_pandas().dropna(subset="panel_id").drop_duplicates("panel_id")
    sample = samples.set_index("panel_id")
    patients = table["patient_id"].to_pylist()
    fold_of_patient = folds_of_patients(c, rule, patients)
    trained_N = np.array([fold_of_patient.get(p) in rule.parts["train"] for p in patients])
    scale, at_least = _Scale(values_NP[trained_N]), rule.labs.at_least
    close_NP: NDArray[np.bool_] = np.abs(percentile_NP - scale.percentiles(values_NP)) <= TOLERANCE

    def derive(frame: pd.DataFrame) -> None:
        own = sample.reindex(frame["panel_id"]).set_index(frame.index)
        frame["as_sampled"] = (frame[["patient_id", "encounter_id", "part"]] == own[["patient_id", "encounter_id", "part"]]).all(axis=1)
        frame["as_valued"] = (observed_NP.astype(bool) == ~np.isnan(values_NP)).all(axis=1)
        frame["enough_items"] = (~np.isnan(values_NP)).sum(axis=1) >= at_least
        frame["recomputed"] = np.asarray(close_NP.all(axis=1))

    c.validate(TableRules("panels.parquet", table.select(list(PANEL_KINDS)), PANEL_KINDS, "panel_id", panels_suite, derive))
    if lost := sorted(set(sample.index) - set(table["panel_id"].to_pylist())):
        c.findings.fail("samples name panels that there are not", lost)
    _check_mapping(c, rule.labs, scale)
    _check_first_values(c, rule.labs, sample, table["panel_id"].to_pylist(), values_NP)
    return f"{table.num_rows} panels of {len(rule.labs.items)} items are as declared"


class _Scale:
    """The empirical distribution of each item, the plain way."""

    def __init__(self, values_NP: NDArray[np.float64]) -> None:
        self.columns = [np.sort(column[~np.isnan(column)]) for column in values_NP.T]
        self.means_P = np.array([self._share(column, column).mean() if len(column) else 0.5 for column in self.columns])

    def percentiles(self, values_NP: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share of training values that are at most each value; the mean where there is none."""
        shares = [
            self._share(column, values_NP[:, p]) if len(column) else np.nan * values_NP[:, p] for p, column in enumerate(self.columns)
        ]
        found_NP = np.stack(shares, axis=1) if shares else values_NP
        return np.where(np.isnan(values_NP) | np.isnan(found_NP), self.means_P, found_NP)

    @staticmethod
    def _share(column: NDArray[np.float64], values_N: NDArray[np.float64]) -> NDArray[np.float64]:
        shares: NDArray[np.float64] = np.searchsorted(column, values_N, "right") / len(column)
        return shares


def _matrix(c: CheckContext, table: pa.Table, name: str, width: int) -> NDArray[np.float64]:
    import pyarrow as pa

    found = table.schema.field(name).type if name in table.column_names else None
    if found is None or not pa.types.is_fixed_size_list(found) or found.list_size != width:
        raise CheckError(
            f"column {name} of {c.output.path('panels.parquet')} is {found}, not a list of {width}; materialise {c.output.key} again"
        )
    array = table[name].combine_chunks()
    flat = array.values.slice(array.offset * width, len(array) * width)
    matrix: NDArray[np.float64] = flat.to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, width)
    return matrix


def _check_mapping(c: CheckContext, panel: LabPanel, scale: _Scale) -> None:
    """The stored mapping is the one of the training part, and its fingerprint the manifest's."""
    from assets.pairing_labs import LabScale

    items = read_table(c.output.path("items.parquet")).to_pandas()
    steps = read_table(c.output.path("percentiles.parquet")).to_pandas()
    if tuple(items["item_id"]) != panel.items or tuple(c.output.facts["items"]) != panel.items:
        c.findings.fail("items.parquet or the manifest lists other items than the rule, or in another order")
        return
    held = [steps[steps["item_id"] == item] for item in panel.items]
    stored = LabScale(
        panel.items,
        tuple(h["value"].to_numpy() for h in held),
        tuple(h["percentile"].to_numpy() for h in held),
        items["mean_percentile"].to_numpy(),
    )
    if stored.fingerprint != c.output.facts["percentiles_sha256"]:
        c.findings.fail("percentiles.parquet and items.parquet do not have the fingerprint of the manifest")
    wrong = []
    for item, column, mean, values, shares, stored_mean in zip(
        panel.items, scale.columns, scale.means_P, stored.values, stored.shares, stored.means_P, strict=True
    ):
        different, counts = np.unique(column, return_counts=True)
        same = np.array_equal(values, different) and np.allclose(shares, np.cumsum(counts) / max(len(column), 1), atol=TOLERANCE)
        if not same or abs(mean - stored_mean) > TOLERANCE:
            wrong.append(item)
    if wrong:
        c.findings.fail("the stored percentiles of items are not those of the training part", wrong)


def _check_first_values(
    c: CheckContext, panel: LabPanel, sample: pd.DataFrame, panel_ids: list[str], values_NP: NDArray[np.float64]
) -> None:
    """A few panels, looked up in the lab results: each value is the earliest number of its item in the window."""
    import pandas as pd
    import pyarrow.parquet as pq

    labs = c.origin(Key(("cleaned", panel.dataset), LAB_RECIPE))
    rows = np.unique(np.linspace(0, len(panel_ids) - 1, min(COMPARED, len(panel_ids))).astype(int))
    chosen = sample.reindex([panel_ids[row] for row in rows]).dropna(subset="patient_id")
    results = pq.read_table(labs.path("labs.parquet"), filters=[("patient_id", "in", sorted(set(chosen["patient_id"])))]).to_pandas()
    results = results[results["item_id"].isin(panel.items) & np.isfinite(results["value"])]
    if panel.window is not None:
        results = results[results["charted_at"] != ""]
    stays = read_table(labs.path("encounters.parquet")).to_pandas().set_index("encounter_id")["admitted_at"]
    place = {item: p for p, item in enumerate(panel.items)}
    row_of = {panel_id: row for row, panel_id in enumerate(panel_ids)}
    wrong = []
    for panel_id, told in chosen.iterrows():
        own = results[results["patient_id"] == told["patient_id"]]
        moments = pd.to_datetime(own["charted_at"].where(own["charted_at"] != "")).dt.floor("s")
        elapsed_s = (moments - pd.Timestamp(stays[told["encounter_id"]])).dt.total_seconds()
        if panel.window is None:
            inside = own["encounter_id"] == told["encounter_id"]
        else:
            inside = elapsed_s.between(panel.window.first_s, panel.window.last_s)
        first = own[inside].assign(elapsed_s=elapsed_s[inside]).sort_values("elapsed_s", kind="stable").drop_duplicates("item_id")
        expected_P = np.full(len(panel.items), np.nan)
        expected_P[[place[item] for item in first["item_id"]]] = first["value"]
        same_span = panel.window is None or (first["elapsed_s"].min(), first["elapsed_s"].max()) == (
            told["dt_labs_s"],
            told["dt_labs_last_s"],
        )
        if not same_span or not np.array_equal(expected_P, values_NP[row_of[str(panel_id)]], equal_nan=True):
            wrong.append(str(panel_id))
    if wrong:
        c.findings.fail("panels that do not hold the earliest results of the window", wrong)
    c.findings.facts["panels_compared"] = len(chosen)
