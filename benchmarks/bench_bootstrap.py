"""Patient bootstrap of macro AUROC at the size of PTB-XL's test fold, beside a loop over scikit-learn.

Run `OMP_NUM_THREADS=1 python benchmarks/bench_bootstrap.py`. One core; 2,198 records, 71 classes with PTB-XL's positives, 1,000 resamples.
The peer judges a few of the same resamples with `roc_auc_score(sample_weight=...)`; its time for all is that rate times
1,000. The limit is one pass over the same weights: gathering them in the order of each class's scores and adding them up.
"""

from __future__ import annotations

import json
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from models.metrics.bootstrap import paired_bootstrap, patient_bootstrap, resample_patients
from models.metrics.classification import weighted_auroc

RECORDS, PATIENTS, RESAMPLES, PEER_RESAMPLES = 2198, 1950, 1000, 10
# Test positives of the 71 statements in PTB-XL 1.0.3, fold 10.
POSITIVES = (
    *(1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 5, 6, 7, 8, 8, 8, 9, 10, 10, 11, 12, 13, 14, 14, 17, 18, 18, 18, 18, 20, 22, 22, 27, 28),
    *(
        29,
        34,
        35,
        40,
        42,
        42,
        44,
        48,
        54,
        54,
        55,
        64,
        66,
        77,
        77,
        79,
        79,
        82,
        87,
        101,
        112,
        114,
        128,
        152,
        162,
        182,
        214,
        234,
        267,
        322,
        963,
        1674,
    ),
)


def main() -> None:
    rng = np.random.default_rng(0)
    labels = np.stack([np.isin(np.arange(RECORDS), rng.choice(RECORDS, p, replace=False)) for p in POSITIVES], axis=1).astype(np.int8)
    scores = (rng.normal(size=labels.shape) + labels).astype(np.float32)
    other = scores + rng.normal(size=labels.shape).astype(np.float32)
    patients = rng.integers(0, PATIENTS, RECORDS)

    start = time.perf_counter()
    interval = patient_bootstrap(scores, labels, patients, n=RESAMPLES)
    ours_s = time.perf_counter() - start
    start = time.perf_counter()
    paired_bootstrap(scores, other, labels, patients, n=RESAMPLES)
    paired_s = time.perf_counter() - start

    drawn = resample_patients(labels, patients, RESAMPLES, 0)
    weights = np.take(drawn.counts_RK, drawn.patient_N, axis=1)
    start = time.perf_counter()
    peer = [roc_auc_score(labels, scores, average=None, sample_weight=w) for w in weights[:PEER_RESAMPLES]]
    peer_s = (time.perf_counter() - start) * RESAMPLES / PEER_RESAMPLES
    difference = float(np.abs(np.array(peer) - weighted_auroc(scores, labels, weights[:PEER_RESAMPLES])).max())

    orders = np.argsort(-scores, axis=0)
    start = time.perf_counter()
    for c in range(labels.shape[1]):
        for block in range(0, RESAMPLES, 64):
            np.cumsum(np.take(weights[block : block + 64], orders[:, c], axis=1), axis=1, dtype=np.int64)
    limit_s = time.perf_counter() - start

    print(
        json.dumps(
            {
                "records": RECORDS,
                "classes": len(POSITIVES),
                "resamples": RESAMPLES,
                "draws_thrown_away": interval.n_redrawn,
                "ours_s": round(ours_s, 3),
                "paired_s": round(paired_s, 3),
                "sklearn_loop_s": round(peer_s, 1),
                "times_faster": round(peer_s / ours_s, 1),
                "one_pass_limit_s": round(limit_s, 3),
                "largest_difference": difference,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
