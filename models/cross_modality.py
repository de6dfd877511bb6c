"""Networks of one signal each that are shown other signals: what is read, how it is normalised, trained and judged.

In a fold every signal has statistics of its own from the fold's training windows, and a network that is shown another signal sees it
normalised by that signal's statistics: otherwise the test would measure the difference of units. Nothing else about a network changes.
Letters: N labelled windows, R rows of the store, T samples, C classes, F features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data import IntArray, Labelled, batch_of
from models.embedding_analysis import signal_variance
from models.errors import ConfigurationError
from models.finetune import Parts, build_classifier, train_head
from models.head_recipes import HeadRecipe
from models.method import Method
from models.readouts import Classifier
from models.registry import create_method
from models.splits_named import Fold, Rows
from models.store import Store

Normalisation = Literal["train_zscore", "per_subject", "per_window"]

_CHUNK = 256
_SMALLEST = 1e-9


@runtime_checkable
class RowScaled(Protocol):
    """A method whose windows can be normalised by what belongs to their row of the store."""

    def use_rows(self, mean_N: Tensor, deviation_N: Tensor) -> None:
        """Mean and deviation of every row of the store, both (R,)."""


class Moments(NamedTuple):
    """Mean and variance over time of each labelled window of a signal, float64 (N,)."""

    mean_N: NDArray[np.float64]
    variance_N: NDArray[np.float64]


class Statistics(NamedTuple):
    """What each labelled window of a signal is normalised by, float64 (N,)."""

    mean_N: NDArray[np.float64]
    deviation_N: NDArray[np.float64]


class Shown(NamedTuple):
    """What a network makes of windows: logits (N, C) and embeddings (N, F)."""

    logits_NC: NDArray[np.float32]
    embedding_NF: NDArray[np.float32]


@dataclass(frozen=True)
class Windows:
    """Labelled windows of several signals.

    Attributes:
        signals: the same windows of each signal, by its name.
        moments: of each signal.
        rows: whose the windows are, and when.
        class_N: number of the class of each.
        position_N: where each lies in its subject's session, from 0 to 1.
        classes: names of the classes.
    """

    signals: Mapping[str, Labelled]
    moments: Mapping[str, Moments]
    rows: Rows
    class_N: IntArray
    position_N: NDArray[np.float64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.class_N)


def windows_of(data: Labelled, names: tuple[str, ...]) -> Windows:
    """The labelled windows of a store, signal by signal.

    Raises:
        ConfigurationError: the task has classes of which several may hold.
        StoreError: the store lacks a signal.
    """
    if data.kind != "single_label" or not isinstance(data.store, Store):
        raise ConfigurationError(f"signals are exchanged on a task of which exactly one class holds, not on a {data.kind} task")
    record_N, start_N = (np.asarray(data.store.index[name])[data.rows_N] for name in ("record_id", "start"))
    rows = Rows(data.column("patient_id"), record_N.astype(np.str_), start_N.astype(np.float64), data.labels_NC)
    signals = {name: dataclasses.replace(data, store=data.store.select((name,))) for name in names}
    return Windows(
        signals, {n: _moments(d) for n, d in signals.items()}, rows, data.labels_NC.argmax(axis=1), _positions(rows), data.classes
    )


def _moments(data: Labelled) -> Moments:
    parts = []
    for start in range(0, len(data.rows_N), _CHUNK):
        batch = batch_of(data.store, data.rows_N[start : start + _CHUNK])
        window_BT = batch.signal_BLT[:, 0].double().numpy()
        parts.append(np.stack([window_BT.mean(axis=1), window_BT.var(axis=1)]))
    mean_N, variance_N = np.concatenate(parts, axis=1)
    return Moments(mean_N, variance_N)


def _positions(rows: Rows) -> NDArray[np.float64]:
    position_N = np.zeros(len(rows))
    for subject in np.unique(rows.patient_N):
        mine = rows.patient_N == subject
        first, last = rows.start_N[mine].min(), rows.start_N[mine].max()
        position_N[mine] = (rows.start_N[mine] - first) / max(last - first, _SMALLEST)
    return position_N


def statistics_of(moments: Moments, train_N: IntArray, patient_N: NDArray[np.str_], by: Normalisation) -> Statistics:
    """What windows are normalised by.

    Args:
        moments: of all labelled windows.
        train_N: positions of the training windows.
        patient_N: whose the windows are.
        by: mean and deviation over the training windows, over all windows of the same subject (those of whoever is judged among them), or
            of the window itself.
    """
    if by == "per_window":
        return Statistics(moments.mean_N, np.sqrt(np.maximum(moments.variance_N, _SMALLEST)))
    everyone, subjects = np.ones(len(patient_N), bool), np.unique(patient_N)
    groups = [(everyone, train_N)] if by == "train_zscore" else [(patient_N == p, np.flatnonzero(patient_N == p)) for p in subjects]
    mean_N, deviation_N = np.empty(len(patient_N)), np.empty(len(patient_N))
    for mine, source in groups:
        mean_N[mine] = moments.mean_N[source].mean()
        deviation = np.sqrt(moments.variance_N[source].mean() + moments.mean_N[source].var())
        deviation_N[mine] = deviation if deviation > _SMALLEST else 1.0
    return Statistics(mean_N, deviation_N)


def use(encoder: Method, data: Labelled, statistics: Statistics) -> None:
    """Have a network normalise windows by the statistics of the signal that it is shown.

    Raises:
        ConfigurationError: the method normalises by itself alone.
    """
    if not isinstance(encoder, RowScaled):
        raise ConfigurationError(f"{type(encoder).__name__} cannot be shown another signal: its normalisation cannot be exchanged")
    mean_R, deviation_R = torch.zeros(len(data.store)), torch.ones(len(data.store))
    mean_R[data.rows_N] = torch.from_numpy(statistics.mean_N).float()
    deviation_R[data.rows_N] = torch.from_numpy(statistics.deviation_N).float()
    encoder.use_rows(mean_R, deviation_R)


def train_on(
    method: str,
    config: Any,
    recipe: HeadRecipe,
    windows: Windows,
    fold: Fold,
    source: str,
    statistics: Statistics,
    seed: int,
    device: torch.device,
) -> Classifier:
    """A network of one signal, trained on a fold's training windows; the best look at its validation windows is kept."""
    torch.manual_seed(seed)
    encoder, data = create_method(method, dataclasses.replace(config, channels=(source,))), windows.signals[source]
    use(encoder, data, statistics)
    parts = Parts(fold.train_N, fold.validation_N, fold.validation_N[:1])
    trained = train_head(encoder, recipe, data, parts, seed, device)
    network = build_classifier(encoder, recipe, data, parts, seed, device)
    network.load_state_dict(network.state_dict() | trained.state)
    return network


def show(network: Classifier, data: Labelled, statistics: Statistics, device: torch.device) -> Shown:
    """What a trained network makes of all windows of a signal, its own or another; no weight changes."""
    use(network.encoder, data, statistics)
    network.eval()
    logits, embeddings = [], []
    with torch.inference_mode():
        for start in range(0, len(data.rows_N), _CHUNK):
            batch = batch_of(data.store, data.rows_N[start : start + _CHUNK], device)
            embedding_BF = network.encoder.finetune_features(network.encoder.encode(batch)).float()
            logits.append(network.logits(embedding_BF, None).cpu().numpy())
            embeddings.append(embedding_BF.cpu().numpy())
    return Shown(np.concatenate(logits), np.concatenate(embeddings))


def refit(embedding_NF: NDArray[np.float32], class_N: IntArray, train_N: IntArray, n_classes: int) -> NDArray[np.float32]:
    """Logits (N, C) of a last layer that is fitted anew on the training windows of a signal, with classes weighted alike."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    return _log_probabilities(model, embedding_NF, class_N, train_N, n_classes)


def time_only(position_N: NDArray[np.float64], class_N: IntArray, train_N: IntArray, n_classes: int) -> NDArray[np.float32]:
    """Logits (N, C) of who sees nothing but where in the session a window lies: a logistic regression on that number."""
    from sklearn.linear_model import LogisticRegression

    return _log_probabilities(LogisticRegression(max_iter=1000), position_N[:, None], class_N, train_N, n_classes)


def majority(class_N: IntArray, train_N: IntArray, n_classes: int) -> NDArray[np.float32]:
    """Logits (N, C) of who always says the most frequent class of the training windows."""
    count_C = np.bincount(class_N[train_N], minlength=n_classes)
    return np.tile(np.log(np.maximum(count_C, 0.5) / len(train_N)).astype(np.float32), (len(class_N), 1))


def _log_probabilities(model: Any, value_NF: NDArray[Any], class_N: IntArray, train_N: IntArray, n_classes: int) -> NDArray[np.float32]:
    model.fit(value_NF[train_N], class_N[train_N])
    logits_NC = np.full((len(class_N), n_classes), -30.0, np.float32)
    logits_NC[:, model.classes_] = np.maximum(model.predict_log_proba(value_NF), -30.0)
    return logits_NC


def variance_rows(windows: Windows, statistics: Mapping[str, Statistics]) -> list[dict[str, Any]]:
    """Variance within and between the normalised windows of each signal: over all ("") and class by class."""
    rows = []
    for name, moments in windows.moments.items():
        scale = statistics[name]
        mean_N = (moments.mean_N - scale.mean_N) / scale.deviation_N
        variance_N = moments.variance_N / scale.deviation_N**2
        for number, of in enumerate(("", *windows.classes)):
            mine = np.ones(len(windows), bool) if not of else windows.class_N == number - 1
            values = signal_variance(mean_N[mine], variance_N[mine])
            rows += [{"signal": name, "class": of, "name": key, "value": value} for key, value in values.items()]
    return rows
