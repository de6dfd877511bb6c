"""Scores that somebody brought, as a prediction table of the benchmark: exactly the records that are judged, each once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.external.tables import places, read_scores
from models.external.truth import ExternalError, read_truth, some
from models.predictions import Origin, Predictions

if TYPE_CHECKING:
    from assets.benchmark import Entry, Question
    from assets.dataset import Split
    from assets.outputs import Output


def predictions_of(path: Path, raw: Output, labels: Output, split: Split, entry: Entry, question: Question, sha256: str) -> Predictions:
    """Join scores with records and labels.

    Args:
        path: Parquet with record_id and one column a class.
        raw: output with the table of records.
        labels: output with the label table.
        split: folds that choose and judge.
        entry: whose scores these are.
        question: what they answer.
        sha256: of the file.

    Raises:
        ExternalError: a labelled test record is missing, a record is none of those that are judged, only some of the validation
            records are there, or the table cannot be used.
    """
    import numpy as np

    truth = read_truth(raw.path("records.parquet"), labels.path("labels.parquet"))
    ids, scores_NC = read_scores(path, truth.classes)
    test_N, validation_N = truth.of_folds(split.test), truth.of_folds(split.validation)
    judged = {"test": set(truth.record_id[test_N].tolist()), "validation": set(truth.record_id[validation_N].tolist())}
    if extra := sorted(set(ids) - judged["test"] - judged["validation"]):
        raise ExternalError(
            f"{path} scores {len(extra)} records that task {question.task!r} does not judge: {some(extra)}; leave them out "
            "(training records, records without a label of the task, or ids of another dataset)"
        )
    places(truth, test_N, ids, path, "test")
    kept_N = test_N
    if set(ids) & judged["validation"]:
        places(truth, validation_N, ids, path, "validation")
        kept_N = np.sort(np.concatenate([validation_N, test_N]))
    order = places(truth, kept_N, ids, path, "judged")
    selection = "scores as they were brought" + (f"; {entry.source}" if entry.source else "")
    origin = Origin(
        question.dataset, question.task, entry.method, entry.name, question.protocol, "pretrained", question.seed, sha256,
        fraction=question.fraction, selection=selection, kind=labels.facts["kind"],
    )  # fmt: skip
    rows = (truth.record_id[kept_N], truth.patient_id[kept_N], truth.fold[kept_N])
    return Predictions(origin, truth.classes, *rows, scores_NC[order], truth.labels_NC[kept_N])
