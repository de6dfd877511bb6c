"""Published results of ECG-Mamba: macro over the classes, five-fold cross-validation on the public training data of the Challenges.

They are not scores on the Challenges' hidden tests, where AUROCs of 0.88 to 0.90 won. The companion chose its epoch on the fold that
it reports.
"""

from __future__ import annotations

from models.metrics.names import CHALLENGE_METRIC
from models.spec import Published

_PAPER = "arXiv 2510.13046, cross-validation"
_COMPANION = "companion of the same first author (ECG-Mamba), cross-validation"
_AGAIN = "re-run of the companion by its author, 3 seeds of 5 folds by patient"
_LATER = "later work of the same author (ECG-Mamba-V2), cross-validation"

_ROWS: tuple[tuple[str, str, float, float, str], ...] = (
    ("1D CNN ECG Mamba", "cinc2021/dx", 0.6410, 0.9695, _PAPER),
    ("1D CNN ECG Mamba", "cinc2020/dx", 0.5787, 0.9571, _PAPER),
    ("ECG-Mamba, 24 blocks", "cinc2021/dx", 0.6100, 0.9643, _COMPANION),
    ("ECG-Mamba, 24 blocks, Non-Uniform-Mix", "cinc2021/dx", 0.6271, 0.9671, _COMPANION),
    ("ECG-Mamba, run again", "cinc2021/dx", 0.6083, 0.9643, _AGAIN),
    ("ECG-Mamba, run again", "cinc2020/dx", 0.5554, 0.9524, _AGAIN),
    ("ECG-Mamba-V2", "cinc2021/dx", 0.6494, 0.9716, _LATER),
    ("ECG-Mamba-V2", "cinc2020/dx", 0.5681, 0.9561, _LATER),
)

PUBLISHED = (
    *(
        Published(model, task, "finetune", value, source, fraction=1.0, metric=metric)
        for model, task, auprc, auroc, source in _ROWS
        for metric, value in (("macro_auprc", auprc), ("macro_auroc", auroc))
    ),
    Published(
        "1D CNN ECG Mamba", "cinc2021/dx", "finetune", 0.6996, "secondary source on arXiv 2510.13046", fraction=1.0, metric=CHALLENGE_METRIC
    ),
)
