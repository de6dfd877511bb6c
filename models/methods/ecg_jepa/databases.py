"""The ten databases of Weimann and Conrad (arXiv 2410.13867): how often each is drawn, and the scale of its leads.

Means and standard deviations are in millivolts and in the order of `models.types.LEADS`. MIMIC's are printed with aVF before aVL,
since its files store the leads so; here they are in our order. Those of CODE-15 and St Petersburg are of recordings without their
baseline (recipe `jepa_500hz`), those of PTB-XL of folds 1 to 8. The published code takes the constants of cpsc for cpsc-extra,
although it has some for it; here each has its own.
"""

from __future__ import annotations

from models.types import LEADS

_CINC = "cinc2021/"

WEIGHTS: dict[str, float] = {
    "mimic_iv_ecg": 0.70,
    "code15": 0.10,
    "ptb_xl": 0.05,
    _CINC + "chapman_shaoxing": 0.009375,
    _CINC + "cpsc_2018": 0.025,
    _CINC + "cpsc_2018_extra": 0.0125,
    _CINC + "georgia": 0.0375,
    _CINC + "ningbo": 0.028125,
    _CINC + "ptb": 0.01875,
    _CINC + "st_petersburg_incart": 0.01875,
}
"""Share of the training samples that come from each."""

ALL_TEN: tuple[str, ...] = tuple(f"{name} {weight:g}" for name, weight in WEIGHTS.items())
"""The mixture as `TrainingConfig.mixture` writes it."""

WITHOUT_BASELINE: tuple[str, ...] = ("code15", _CINC + "st_petersburg_incart")
"""Those that are high-passed; with their baseline training was unstable."""

_MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")

_MEANS = {
    "mimic_iv_ecg": ".023 .015 -.007 -.019 .004 .014 -.018 -.004 .002 .017 .022 .022",
    "ptb_xl": "-.002 -.002 0 .002 -.001 -.001 0 -.001 -.002 -.001 -.001 -.001",
    _CINC + "chapman_shaoxing": ".002 .005 .003 -.002 -.002 .003 0 .003 .004 .004 .003 -.001",
    _CINC + "georgia": "-.003 -.002 .001 .003 -.002 -.001 -.004 -.004 -.003 -.003 -.003 -.003",
    _CINC + "ningbo": ".002 .004 .002 -.001 -.001 .002 0 .003 .003 .004 .003 0",
}
"""As printed; 0 in every lead where nothing is said."""

_STDS = {
    "mimic_iv_ecg": ".155 .158 .166 .133 .143 .141 .207 .282 .284 .253 .222 .197",
    "code15": ".488 .450 .437 .416 .405 .370 .548 .639 .719 .695 .676 .639",
    "ptb_xl": ".191 .166 .173 .142 .149 .147 .235 .338 .335 .299 .294 .242",
    _CINC + "chapman_shaoxing": ".140 .171 .145 .138 .114 .143 .218 .355 .366 .365 .332 .299",
    _CINC + "cpsc_2018": ".214 .236 .221 .209 .196 .214 .336 .417 .449 .483 .523 .561",
    _CINC + "cpsc_2018_extra": ".182 .183 .184 .163 .164 .165 .288 .370 .371 .380 .375 .392",
    _CINC + "georgia": ".157 .178 .164 .147 .134 .153 .213 .285 .272 .245 .224 .209",
    _CINC + "ningbo": ".145 .179 .159 .142 .123 .153 .228 .368 .377 .394 .405 .444",
    _CINC + "ptb": ".642 .975 .953 .674 .651 .909 .643 .658 .668 .688 .648 .622",
    _CINC + "st_petersburg_incart": ".132 .370 .353 .215 .191 .356 .234 .320 .328 .290 .317 .337",
}


def _ordered(name: str, text: str) -> dict[str, float]:
    values = [float(cell) for cell in text.split()]
    return dict(zip(_MIMIC_LEADS if name == "mimic_iv_ecg" else LEADS, values, strict=True))


SCALES: dict[str, dict[str, tuple[float, float]]] = {
    name: {lead: (_ordered(name, _MEANS.get(name, "0 " * 12))[lead], std) for lead, std in _ordered(name, text).items()}
    for name, text in _STDS.items()
}
"""By database and lead: mean and standard deviation in millivolts."""
