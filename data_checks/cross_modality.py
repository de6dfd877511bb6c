"""Check of cross_modality/<method>: the matrix is whole, people are kept apart where the split says so, and numbers follow from the tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from assets.cross_modality_scoring import CELL, classes_of, numbers_of
from data_checks.context import CheckContext
from data_checks.cross_validation import BY_PATIENT
from data_checks.evaluation import RECOMPUTED_TO
from data_checks.tables import read_table

if TYPE_CHECKING:
    import pandas as pd


def check_matrix(c: CheckContext) -> str:
    """Every source is shown every target in every split, no window is judged twice by a network, and metrics follow from the tables."""
    predictions = read_table(c.output.path("predictions.parquet")).to_pandas()
    matrix = read_table(c.output.path("matrix.parquet")).to_pandas()
    signals, labelled = c.output.facts["signals"], _labelled(c)
    _check_windows(c, predictions, labelled)
    for (split, variant), cells in matrix[matrix["target"] != ""].groupby(["split", "variant"]):
        held = set(zip(cells["source"], cells["target"], strict=True))
        if lacking := sorted({(s, t) for s in signals for t in signals} - held):
            c.findings.fail(f"matrix.parquet: {split}, {variant} lacks {len(lacking)} cells, for example {' shown '.join(lacking[0])}")
    _check_values(c, predictions, matrix)
    return f"{len(matrix)} metrics of {len(signals)} x {len(signals)} signals are as declared; recomputed to {RECOMPUTED_TO:g}"


def _labelled(c: CheckContext) -> dict[str, str]:
    """The true class of each window, by the label table that the output was made from."""
    from assets.outputs import Key
    from models.predictions import window_name

    task, dataset = c.output.facts["task"], c.output.facts["dataset"]
    frame = read_table(c.workspace.require(Key(("labels", dataset), task)).path("labels.parquet")).to_pandas()
    names = [window_name(record, start) for record, start in zip(frame["record_id"], frame["start"], strict=True)]
    classes = frame.drop(columns=["record_id", "start"])
    return dict(zip(names, classes.idxmax(axis=1), strict=True))


def _check_windows(c: CheckContext, predictions: pd.DataFrame, labelled: dict[str, str]) -> None:
    logits = predictions[[f"logit:{name}" for name in classes_of(predictions)]].to_numpy()
    if bad := int((logits != logits).any(axis=1).sum()):
        c.findings.fail(f"predictions.parquet: {bad} rows with a logit that is no number")
    told = predictions["record_id"].map(labelled)
    if len(wrong := predictions[told != predictions["class"]]):
        c.findings.fail(
            f"predictions.parquet: {len(wrong)} rows whose class is not their window's, for example {wrong['record_id'].iloc[0]}"
        )
    again = predictions.duplicated([*CELL, "seed", "record_id"])
    if again.any():
        c.findings.fail(
            f"predictions.parquet: {int(again.sum())} windows are judged twice, for example {predictions[again]['record_id'].iloc[0]}"
        )
    parted = predictions[predictions["split"].isin(BY_PATIENT)]
    folds = parted.groupby(["split", "patient_id"])["fold"].nunique()
    if len(several := folds[folds > 1]):
        c.findings.fail(f"predictions.parquet: {len(several)} subjects are judged in several folds of a split that keeps them apart")


def _check_values(c: CheckContext, predictions: pd.DataFrame, matrix: pd.DataFrame) -> None:
    """Accuracy and macro recall, computed with scikit-learn and not with the code that wrote them."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    held = {tuple(row[name] for name in (*CELL, "metric")): row["value"] for row in matrix.to_dict("records")}
    true_N, called_N = numbers_of(predictions)
    numbered = predictions.assign(true=true_N, called=called_N)
    for named, cell in numbered.groupby(CELL):
        seeds = [rows for _, rows in cell.groupby("seed")]
        for metric, measure in (("accuracy", accuracy_score), ("macro_recall", balanced_accuracy_score)):
            value = sum(measure(rows["true"], rows["called"]) for rows in seeds) / len(seeds)
            stored = held.get((*named, metric), math.nan)
            if not abs(stored - value) <= RECOMPUTED_TO:
                c.findings.fail(f"matrix.parquet: {' '.join(map(str, named))} {metric} is {stored:.6f}, its table gives {value:.6f}")
