"""All scores of a Challenge and the choice of its threshold at 70,000 recordings, beside a plain loop over recordings.

Run `OMP_NUM_THREADS=1 python benchmarks/bench_challenge.py`. One core; 26 classes of 2021, 8 % of labels. The loop is the way in which the
official scorers go: recording by recording, class by class. It judges a share of the recordings, and its time for all is that
rate times 70,000; for the threshold it would be needed fifty times.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.metrics.challenge import THRESHOLDS, challenge_metric, challenge_scores, choose_threshold, sinus_column
from models.metrics.challenge_bootstrap import challenge_interval
from models.metrics.challenge_classes import challenge_classes, reward_matrix

RECORDS, LOOPED, YEAR = 70_000, 2_000, 2021


def looped(labels: NDArray[Any], outputs: NDArray[Any], rewards: NDArray[Any], sinus: int) -> float:
    """The challenge metric by loops."""
    n_classes = labels.shape[1]
    inactive = np.zeros_like(labels)
    inactive[:, sinus] = True
    sums = []
    for answers in (outputs, labels, inactive):
        matrix = np.zeros((n_classes, n_classes))
        for i in range(len(labels)):
            either = float(max(np.sum(np.any((labels[i], answers[i]), axis=0)), 1))
            for j in range(n_classes):
                if labels[i, j]:
                    for k in range(n_classes):
                        if answers[i, k]:
                            matrix[j, k] += 1.0 / either
        sums.append(float((rewards * matrix).sum()))
    return (sums[0] - sums[2]) / (sums[1] - sums[2])


def timed(call: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    found = call()
    return found, time.perf_counter() - start


def main() -> None:
    rng = np.random.default_rng(0)
    classes = challenge_classes(YEAR)
    rewards, sinus = reward_matrix(classes), sinus_column(classes)
    labels = rng.random((RECORDS, len(classes))) < 0.08
    scores = np.clip(0.7 * rng.random(labels.shape) + 0.3 * labels, 0, 1)
    outputs, patients = scores > 0.5, rng.integers(0, RECORDS // 2, RECORDS)

    _, scores_s = timed(lambda: challenge_scores(YEAR, labels, outputs, scores))
    _, metric_s = timed(lambda: challenge_metric(labels, outputs, rewards, sinus))
    _, threshold_s = timed(lambda: choose_threshold(YEAR, labels, scores))
    _, interval_s = timed(lambda: challenge_interval(YEAR, labels, [outputs], patients))
    part = slice(0, LOOPED)
    by_loop, part_s = timed(lambda: looped(labels[part], outputs[part], rewards, sinus))
    loop_s = part_s * RECORDS / LOOPED
    print(
        json.dumps(
            {
                "recordings": RECORDS,
                "classes": len(classes),
                "all_scores_s": round(scores_s, 3),
                "challenge_metric_s": round(metric_s, 3),
                "loop_challenge_metric_s": round(loop_s, 1),
                "times_faster": round(loop_s / metric_s),
                "threshold_of_50_s": round(threshold_s, 3),
                "loop_threshold_of_50_s": round(loop_s * len(THRESHOLDS)),
                "interval_of_1000_s": round(interval_s, 2),
                "difference": abs(by_loop - challenge_metric(labels[part], outputs[part], rewards, sinus)),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
