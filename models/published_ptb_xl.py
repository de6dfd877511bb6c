"""What others printed on the six tasks of the PTB-XL benchmark, beside the rows of methods' own specs. Parsed on import.

Two sources, each a protocol of its own: numbers of different protocols never stand in one column.

- The benchmark's leaderboard (Strodthoff et al., IEEE JBHI 2020, and helme/ecg_ptbxl_benchmarking): networks trained on labels alone
  from crops of 2.5 s at 100 Hz, scores of seven crops combined by their maximum; records of release 1.0.1. Printed as
  "0.925(08)": half-width in thousandths, a 90 % interval over 100 resamples of records.
- "Benchmarking ECG Foundation Models: A Reality Check Across Clinical Tasks" (arXiv 2509.25095, ICLR 2026;
  AI4HealthUOL/ecg-fm-benchmarking): point estimates; crops of each model's own length and rate, learning rates that fall by layer
  group, up to 100 epochs. "ECG-JEPA" there is the model of Kim, another than Weimann and Conrad's.
"""

from __future__ import annotations

from models.spec import Published

TASKS = ("all", "diag", "sub", "super", "form", "rhythm")
SUPERVISED, FINETUNE, ATTENTIVE, LINEAR = "supervised_crops", "finetune_crops", "attentive_probe_crops", "linear_probe_crops"
"""Protocols of the two sources."""

_LEADERBOARD_SOURCE = "PTB-XL benchmark leaderboard (Strodthoff et al., JBHI 2020); release 1.0.1, crops of 2.5 s, maximum"
_REALITY_CHECK_SOURCE = "AI4HealthUOL ecg-fm-benchmarking (ICLR 2026); crops of the model's own length"

_LEADERBOARD = """
inception1d   | .925(08) .931(09) .930(10) .921(06) .899(22) .953(13)
xresnet1d101  | .925(07) .937(08) .929(14) .928(05) .896(12) .957(19)
resnet1d_wang | .919(08) .936(08) .928(10) .930(05) .880(15) .946(10)
fcn_wang      | .918(08) .926(10) .927(11) .925(06) .869(12) .931(08)
lstm          | .907(08) .927(08) .928(10) .927(05) .851(15) .953(09)
lstm_bidir    | .914(08) .932(07) .923(12) .921(06) .876(15) .949(11)
Wavelet+NN    | .849(13) .855(15) .859(16) .874(07) .757(29) .890(24)
"""

_REALITY_CHECK = """
ECG-CPC           | .9493 .9313 .9043 | .9509 .9398 .9336 .9341 .9594
ECG-JEPA (Kim)    | .9404 .9339 .9283 | .9458 .9350 .9211 .9116 .9558
ECGFounder        | .9338 .9271 .9313 | .9499 .9428 .9347 .8752 .9652
ECG-FM            | .9267 .8841 .8415 | .9264 .9321 .9156 .9044 .9594
MERL (ResNet)     | .9246 .9093 .8830 | .9415 .9374 .9302 .8908 .9120
HuBERT-ECG base   | .9146 .8835 .8672 | .9250 .9185 .9085 .8598 .9503
ST-MEM            | .9082 .9098 .9078 | .9042 .9159 .9010 .8874 .9514
ECGFM-KED         | .8885 .8099 .7063 | .9133 .9079 .9046 .8287 .8884
S4 supervised     | .9411             | .9428 .9379 .9320 .9187 .9564
Net1D supervised  | .9286             | .9396 .9263 .9237 .8931 .9367
"""
"""Task all by fine-tuning with a linear head, by attention pooling and by a linear head on the frozen encoder; then the other tasks by
fine-tuning. Networks without pretraining have fine-tuning alone."""


def _leaderboard() -> list[Published]:
    rows = []
    for line in _LEADERBOARD.strip().splitlines():
        model, cells = (part.strip() for part in line.split("|"))
        for task, cell in zip(TASKS, cells.split(), strict=True):
            value = float(cell[:4])
            rows.append(Published(model, f"ptb_xl/{task}", SUPERVISED, value, _LEADERBOARD_SOURCE, fraction=1.0, printed=f"0{cell}"))
    return rows


def _reality_check() -> list[Published]:
    rows = []
    for line in _REALITY_CHECK.strip().splitlines():
        model, on_all, others = (part.strip() for part in line.split("|"))
        found = [("all", p, v) for p, v in zip((FINETUNE, ATTENTIVE, LINEAR), on_all.split(), strict=False)]
        found += [(task, FINETUNE, v) for task, v in zip(TASKS[1:], others.split(), strict=True)]
        rows += [Published(model, f"ptb_xl/{task}", p, float(v), _REALITY_CHECK_SOURCE, fraction=1.0) for task, p, v in found]
    return rows


PUBLISHED_PTB_XL = (*_leaderboard(), *_reality_check())
