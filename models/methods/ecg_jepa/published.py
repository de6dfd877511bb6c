"""Results that the readme of Weimann and Conrad's code prints: macro AUROC on PTB-XL, as fractions, the mean of ten runs.

Parsed on import. The first column is fine-tuning, the second what they call linear: an attentive probe of their own networks, a true
linear layer for the rows of others. Standard deviations of the last digits stand in brackets. As the readme has it, JEPA is fine-tuned
from the attentive probe where all statements are predicted, and directly where one superclass is. Of rows of the same protocol the
leaderboard puts the first beside ours.
"""

from __future__ import annotations

import re

from models.spec import Published

SINGLE = "ptb_xl/super_single"
"""Records with exactly one diagnostic superclass."""

_README = "readme of kweimann/ECG-JEPA (arXiv 2410.13867), mean of 10 runs"
_QUOTED = _README + "; quoted there from the ST-MEM paper, which splits otherwise"

_ALL_STATEMENTS = """
ECG-JEPA ViT-S on PTB-XL                        | .930(01) | .926(02)
ECG-JEPA ViT-B on all                           | .940(01) | .935(01)
ECG-JEPA ViT-S on all                           | .945(01) | .938(02)
ECG-JEPA ViT-S on MIMIC-IV-ECG                  | .944(01) | .940(02)
ECG-JEPA ViT-XS on all                          | .939(00) | .933(02)
ECG-JEPA ViT-XS on MIMIC-IV-ECG                 | .943(01) | .933(03)
ECG-JEPA ViT-XS on PTB-XL                       | .940(01) | .931(02)
ViT-B, no pretraining                           | .837(17) | .867(05)
ViT-S, no pretraining                           | .883(04) | .833(06)
ViT-XS, no pretraining                          | .911(04) | .815(10)
inception1d, no pretraining                     | .925(08) | -
xresnet1d50, no pretraining                     | .924(05) | .721(16)
4FC+2LSTM+2FC, no pretraining                   | .932(03) | .711(07)
xresnet1d50, SimCLR                             | .927(03) | .883(03)
xresnet1d50, BYOL                               | .929(02) | .878(02)
4FC+2LSTM+2FC, CPC on CinC2020                  | .942(01) | .927(01)
4FC+2LSTM+2FC, CPC on CinC2020 without PTB-XL   | .940(02) | .919(01)
S4, CPC on CinC2021                             | .945(02) | -
"""

_SUPERCLASSES = """
ECG-JEPA ViT-S on PTB-XL                        | .929(02) | .917(01)
ECG-JEPA ViT-B on all                           | .928(03) | .920(02)
ECG-JEPA ViT-S on all                           | .935(02) | .928(03)
ECG-JEPA ViT-S on MIMIC-IV-ECG                  | .932(02) | .921(03)
ECG-JEPA ViT-XS on all                          | .930(01) | .924(02)
ECG-JEPA ViT-XS on MIMIC-IV-ECG                 | .928(02) | .920(02)
ECG-JEPA ViT-XS on PTB-XL                       | .928(02) | .919(02)
ViT-B, MoCo v3                                  | .913(02) | .739(06)
ViT-B, CMSC                                     | .877(03) | .797(38)
ViT-B, MTAE                                     | .910(01) | .807(06)
ViT-B, MTAE+RLM                                 | .911(04) | .806(05)
ViT-B, MLAE                                     | .915(01) | .779(08)
ViT-B, ST-MEM                                   | .933(03) | .838(11)
4FC+2LSTM+2FC, CPC with all of PTB-XL           | .934(02) | -
"""

_CELL = re.compile(r"(\.\d{3})\(\d{2}\)")


def _rows(table: str, task: str) -> list[Published]:
    found = []
    for line in table.strip().splitlines():
        model, *cells = (cell.strip() for cell in line.split("|"))
        jepa = model.startswith("ECG-JEPA")
        untrained = model.startswith("ViT") and model.endswith("no pretraining")
        protocols = (
            "finetune_after_probe" if jepa and task != SINGLE else "finetune",
            "attentive_probe" if jepa or untrained else "linear_probe",
        )
        source = _README if jepa or task != SINGLE else _QUOTED
        for protocol, cell in zip(protocols, cells, strict=True):
            if match := _CELL.fullmatch(cell):
                found.append(Published(model, task, protocol, float(match[1]), source, fraction=1.0, printed=f"0{cell}"))
    return found


PUBLISHED = (*_rows(_ALL_STATEMENTS, "ptb_xl/all"), *_rows(_SUPERCLASSES, SINGLE))
