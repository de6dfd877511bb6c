"""What an embedding space is made of: how it divides by class and by subject, its variance, and a map of it in two dimensions.

Letters: N windows, F features, C classes, T samples.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SEED = 42
_SAMPLE = 1000
"""Windows that silhouettes are measured on, drawn with a fixed seed where there are more."""

_NEIGHBOURS, _MIN_DISTANCE = 15, 0.1


def embedding_numbers(
    embedding_NF: NDArray[np.floating[Any]], class_N: NDArray[np.integer[Any]], subject_N: NDArray[np.str_]
) -> dict[str, float]:
    """Silhouettes by class and by subject, the subject probe, the variance and its share between classes.

    `embedding_variance` is the trace of the covariance; `between_class_share` that of the class means over it.
    """
    centred_NF = embedding_NF.astype(np.float64) - embedding_NF.mean(axis=0, dtype=np.float64)
    total = float(centred_NF.var(axis=0).sum())
    between = sum(float(np.square(centred_NF[class_N == c].mean(axis=0)).sum()) * float((class_N == c).mean()) for c in np.unique(class_N))
    return {
        "silhouette_class": silhouette(embedding_NF, class_N),
        "silhouette_subject": silhouette(embedding_NF, subject_N),
        "subject_probe": subject_probe(embedding_NF, subject_N),
        "subject_probe_chance": float(np.unique(subject_N, return_counts=True)[1].max() / len(subject_N)),
        "embedding_variance": total,
        "between_class_share": between / total if total > 0 else float("nan"),
    }


def silhouette(embedding_NF: NDArray[np.floating[Any]], group_N: NDArray[Any]) -> float:
    """Mean silhouette of groups in Euclidean distance, on at most 1,000 windows; NaN where there is one group alone."""
    from sklearn.metrics import silhouette_score

    chosen = np.arange(len(group_N))
    if len(chosen) > _SAMPLE:
        chosen = np.random.default_rng(_SEED).choice(len(group_N), _SAMPLE, replace=False)
    n_groups = len(np.unique(group_N[chosen]))
    if not 1 < n_groups < len(chosen):
        return float("nan")
    return float(silhouette_score(embedding_NF[chosen], group_N[chosen]))


def subject_probe(embedding_NF: NDArray[np.floating[Any]], subject_N: NDArray[np.str_]) -> float:
    """How often the nearest centroid is the window's own subject: every second window makes the centroids, the others are asked."""
    subjects, number_N = np.unique(subject_N, return_inverse=True)
    turn_N = np.empty(len(number_N), np.int64)
    for subject in range(len(subjects)):
        turn_N[number_N == subject] = np.arange((number_N == subject).sum()) % 2
    learned, asked = turn_N == 0, turn_N == 1
    if not asked.any():
        return float("nan")
    centre_SF = np.stack([embedding_NF[learned & (number_N == s)].mean(axis=0) for s in range(len(subjects))])
    distance_NS = np.square(embedding_NF[asked][:, None] - centre_SF[None]).sum(axis=2)
    return float((distance_NS.argmin(axis=1) == number_N[asked]).mean())


def signal_variance(mean_N: NDArray[np.floating[Any]], variance_N: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Variance of normalised windows from the mean and the variance over time of each: within, between, and the share between.

    `within` is the mean of the windows' variances, `between` the variance of their means.
    """
    within, between = float(variance_N.mean(dtype=np.float64)), float(mean_N.var(dtype=np.float64))
    total = within + between
    return {"within": within, "between": between, "between_share": between / total if total > 0 else float("nan")}


class Projection:
    """A map to two dimensions, fitted on some embeddings and applied to others: UMAP where the package is there, else PCA.

    Attributes:
        name: "umap" or "pca".
    """

    def __init__(self, embedding_NF: NDArray[np.floating[Any]], use_umap: bool | None = None) -> None:
        """Fit the map; `use_umap` None takes UMAP where it can be imported and there are windows enough for its neighbours."""
        there = importlib.util.find_spec("umap") is not None and len(embedding_NF) > _NEIGHBOURS
        self.name = "umap" if (there if use_umap is None else use_umap) else "pca"
        self._mean_F = embedding_NF.mean(axis=0)
        if self.name == "umap":
            umap = importlib.import_module("umap")
            self._map = umap.UMAP(n_neighbors=_NEIGHBOURS, min_dist=_MIN_DISTANCE, metric="euclidean", random_state=_SEED)
            self._map.fit(embedding_NF)
            return
        _, _, axes_FF = np.linalg.svd(embedding_NF - self._mean_F, full_matrices=False)
        axes_2F = axes_FF[:2]
        # The largest entry of an axis is positive, so that a map is not mirrored from one machine to the next.
        largest = np.abs(axes_2F).argmax(axis=1)
        self._axes_2F = axes_2F * np.sign(axes_2F[np.arange(2), largest])[:, None]

    def __call__(self, embedding_NF: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Coordinates (N, 2)."""
        found = self._map.transform(embedding_NF) if self.name == "umap" else (embedding_NF - self._mean_F) @ self._axes_2F.T
        coordinates_N2: NDArray[np.float32] = np.asarray(found, np.float32)
        return coordinates_N2
