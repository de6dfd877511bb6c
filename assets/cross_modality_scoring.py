"""Scores of the cross-modality matrix: from the tables of its job to matrices, numbers beside them, and the text that says what they mean.

A cell is a network of one signal (`source`) that is shown another (`target`). It is pooled over the test windows of all folds of a split, a
mean over seeds; beside it stand mean and standard deviation over subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from assets.scoring import metric_row

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from models.predictions import Origin

CELL = ["split", "variant", "source", "target"]
UNCHANGED, MAJORITY, TIME_ONLY = "unchanged", "majority", "time_only"
ACCURACY = "accuracy"
STRESS = "stress"
N_RESAMPLES = 1000


def matrix_rows(predictions: pd.DataFrame, seed: int = 0, n_resamples: int = N_RESAMPLES) -> pd.DataFrame:
    """Metrics of every cell and of the two baselines, one row a cell and metric.

    Columns: split, variant, source, target, metric, value, low, high (accuracy alone: 95 % interval over resampled subjects),
    subject_mean, subject_deviation (n - 1), n_windows, n_subjects, n_seeds. The task with two outcomes, stress against the rest, is read
    from the likeliest of the three classes.
    """
    import pandas as pd

    from models.metrics.retrieval import mean_estimate

    classes, rows = classes_of(predictions), []
    true_N, called_N = numbers_of(predictions)
    subject_N, seed_N = predictions["patient_id"].to_numpy(), predictions["seed"].to_numpy()
    for named, cell in predictions.assign(row=range(len(predictions))).groupby(CELL, sort=False)["row"]:
        about, place_N = dict(zip(CELL, cast("tuple[str, ...]", named), strict=True)), cell.to_numpy()
        mine = (true_N[place_N], called_N[place_N], subject_N[place_N], seed_N[place_N])
        subjects, seeds = sorted(set(mine[2].tolist())), sorted(set(mine[3].tolist()))
        pooled = pd.DataFrame([_scores(mine[0][mine[3] == s], mine[1][mine[3] == s], classes) for s in seeds]).mean()
        single = pd.DataFrame([_mean_of(mine, subject, seeds, classes) for subject in subjects])
        estimate = mean_estimate((mine[0] == mine[1]).astype(float), patient_ids=mine[2].tolist(), n=n_resamples, seed=seed)
        counts = {"n_windows": len(place_N) // len(seeds), "n_subjects": len(subjects), "n_seeds": len(seeds)}
        for metric in pooled.index:
            low, high = (estimate.low, estimate.high) if metric == ACCURACY else (float("nan"), float("nan"))
            spread = {"subject_mean": single[metric].mean(), "subject_deviation": single[metric].std()}
            rows.append({**about, "metric": metric, "value": float(pooled[metric]), "low": low, "high": high, **spread, **counts})
    return pd.DataFrame(rows)


def classes_of(predictions: pd.DataFrame) -> list[str]:
    """Names of the classes, in the order of their logits."""
    return [str(c).removeprefix("logit:") for c in predictions.columns if str(c).startswith("logit:")]


def numbers_of(predictions: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the true class and of the likeliest one of every row."""
    classes = classes_of(predictions)
    true_N = predictions["class"].map({name: i for i, name in enumerate(classes)}).to_numpy("int64")
    called_N: NDArray[np.int64] = predictions[[f"logit:{c}" for c in classes]].to_numpy().argmax(axis=1)
    return true_N.astype("int64"), called_N


def confusion_of(predictions: pd.DataFrame) -> NDArray[np.int64]:
    """True classes (rows) by called classes (columns)."""
    from models.metrics.confusion import confusion

    return confusion(*numbers_of(predictions), len(classes_of(predictions)))


def _scores(true_N: NDArray[np.int64], called_N: NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    """Three classes, then stress against the rest."""
    from models.metrics.confusion import confusion, macro_scores

    found = macro_scores(confusion(true_N, called_N, len(classes)))
    if STRESS in classes:
        stress = classes.index(STRESS)
        two = macro_scores(confusion((true_N == stress).astype("int64"), (called_N == stress).astype("int64"), 2))
        found |= {"stress_accuracy": two["accuracy"], "stress_macro_f1": two["macro_f1"]}
    return found


def _mean_of(mine: tuple[NDArray[Any], ...], subject: str, seeds: Sequence[int], classes: Sequence[str]) -> dict[str, float]:
    """The metrics of one subject, their mean over seeds."""
    true_N, called_N, subject_N, seed_N = mine
    parts = [(subject_N == subject) & (seed_N == seed) for seed in seeds]
    found = [_scores(true_N[part], called_N[part], classes) for part in parts]
    return {name: sum(values[name] for values in found) / len(found) for name in found[0]}


def square(matrix: pd.DataFrame, signals: Sequence[str], split: str, variant: str = UNCHANGED, metric: str = ACCURACY) -> pd.DataFrame:
    """One matrix: sources in rows, targets in columns, both in the order of `signals`."""
    chosen = matrix[(matrix["split"] == split) & (matrix["variant"] == variant) & (matrix["metric"] == metric)]
    return chosen[chosen["target"] != ""].pivot(index="source", columns="target", values="value").loc[list(signals), list(signals)]


def cell(matrix: pd.DataFrame, split: str, source: str, target: str = "", metric: str = ACCURACY) -> dict[Any, Any]:
    """The row of one unchanged network, or of a baseline where there is no target."""
    held = matrix[(matrix["split"] == split) & (matrix["variant"] == UNCHANGED) & (matrix["metric"] == metric)]
    (row,) = held[(held["source"] == source) & (held["target"] == target)].to_dict("records")
    return row


def correlations(
    matrix: pd.DataFrame, variance: pd.DataFrame, embeddings: pd.DataFrame, signals: Sequence[str], split: str
) -> pd.DataFrame:
    """Pearson correlation over signals of what varies with the means of a signal's row (as source) and column (as target) of the matrix.

    Columns: quantity, mean_of ("row", "column"), correlation; NaN where a side does not vary.
    """
    import numpy as np
    import pandas as pd

    accuracy = square(matrix, signals, split)
    data = variance[(variance["split"] == split) & (variance["class"] == "")].groupby(["signal", "name"])["value"].mean().unstack()
    own = embeddings[(embeddings["split"] == split) & (embeddings["source"] == embeddings["target"])]
    own = own.groupby(["source", "name"])["value"].mean().unstack()
    quantities = {f"signal {c}": data[c] for c in ("within", "between", "between_share")}
    quantities |= {c.replace("_", " "): own[c] for c in ("embedding_variance", "between_class_share")}
    rows = []
    means = {"row": accuracy.to_numpy(float).mean(axis=1), "column": accuracy.to_numpy(float).mean(axis=0)}
    for name, values in quantities.items():
        for side, second in means.items():
            first = values.loc[list(signals)].to_numpy(float)
            varies = len(signals) > 1 and np.ptp(first) > 0 and np.ptp(second) > 0
            rows.append({"quantity": name, "mean_of": side, "correlation": np.corrcoef(first, second)[0, 1] if varies else np.nan})
    return pd.DataFrame(rows)


def leaderboard_rows(matrix: pd.DataFrame, origin: Origin, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every network on its own signal, by split, as rows of a metrics.parquet; chance is the majority class."""
    import dataclasses

    rows = []
    for split in dict.fromkeys(matrix["split"]):
        of = dataclasses.replace(origin, protocol=f"finetune_{split}")
        chance, by_time = (cell(matrix, split, name)["value"] for name in (MAJORITY, TIME_ONLY))
        for signal in facts["signals"]:
            found = cell(matrix, split, signal, signal)
            note = (
                f"windows of {facts['window_s']:g} s, {facts['normalisation']}; mean over subjects {found['subject_mean']:.3f}, standard deviation "
                f"{found['subject_deviation']:.3f}; time alone {by_time:.3f}; {shared_words(split, facts)}"
            )
            rows.append(
                metric_row(
                    of, ACCURACY, found["value"], low=found["low"], high=found["high"], chance=chance, direction=signal, note=note,
                    n_records=int(found["n_windows"]), n_patients=int(found["n_subjects"]), n_classes=len(facts["classes"]),
                    interval=f"95% patient bootstrap, {N_RESAMPLES} resamples",
                )
            )  # fmt: skip
    return rows


def shared_words(split: str, facts: Mapping[str, Any]) -> str:
    """Whether those who judge also train, in words."""
    shared = facts["shared_subjects"][split]
    return f"{shared} of {facts['subjects']} subjects train and judge" if shared else "no subject trains and judges"
