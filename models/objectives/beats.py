"""Contrast of the beats of ECGs with the sentences of reports (MELP, section 3.3; after GLoRIA, Huang et al., 2021).

Letters: L beats, S sentences, D width. M_{b,i} says how well the beats of ECG b account for the sentences of report i; the loss
is InfoNCE over M. In the form of the published code ("code"), with <.,.> the raw dot product:

    p_{l,s} = softmax_s <b_l, S_s>      alpha_{l,s} = softmax_l 4 p_{l,s}      c_s = sum_l alpha_{l,s} b_l
    M = 10 log sum_s exp(5 cos(S_s, c_s))

In the form of the paper ("paper"), where the printed sum over sentences must be one over beats:

    alpha_{l,s} = softmax_l (cos(S_s, b_l) / 0.25)      M = log sum_s exp(cos(S_s, c_s) / 0.1)
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from models.objectives.contrastive import full

BeatLoss = Literal["code", "paper"]
Aggregate = Literal["sum", "mean"]

_FOCUS, _SHARPNESS, _GAIN = 4.0, 5.0, 10.0  # temperatures of the code
_TAU_BEATS, _TAU_SENTENCES = 0.25, 0.1  # temperatures of the paper


def beat_logits(beat_BLD: Tensor, sentence_ISD: Tensor, mask_IS: Tensor, form: BeatLoss = "code", aggregate: Aggregate = "sum") -> Tensor:
    """M, shape (B, I): every ECG against every report.

    Args:
        beat_BLD: beats of B ECGs.
        sentence_ISD: sentences of I reports, padded.
        mask_IS: bool, True for sentences; every report needs one.
        form: of the published code, or of the paper.
        aggregate: "sum" over a report's sentences as published, which favours reports of many, or their "mean".
    """
    beat_BLD, sentence_ISD = full(beat_BLD), full(sentence_ISD)
    absent_IS = ~mask_IS
    if form == "code":
        dot_BILS = torch.einsum("bld,isd->bils", beat_BLD, sentence_ISD)
        share_BILS = dot_BILS.masked_fill(absent_IS[None, :, None], float("-inf")).softmax(dim=3)
        weight_BILS = (_FOCUS * share_BILS).softmax(dim=2)
    else:
        dot_BILS = torch.einsum("bld,isd->bils", functional.normalize(beat_BLD, dim=2), functional.normalize(sentence_ISD, dim=2))
        weight_BILS = (dot_BILS / _TAU_BEATS).softmax(dim=2)
    context_BISD = torch.einsum("bils,bld->bisd", weight_BILS, beat_BLD)
    cosine_BIS = functional.cosine_similarity(context_BISD, sentence_ISD[None], dim=3)
    scale, gain = (_SHARPNESS, _GAIN) if form == "code" else (1 / _TAU_SENTENCES, 1.0)
    total_BI = (scale * cosine_BIS).masked_fill(absent_IS[None], float("-inf")).logsumexp(dim=2)
    if aggregate == "mean":
        total_BI = total_BI - mask_IS.sum(dim=1).to(total_BI.dtype).log()
    return gain * total_BI


def beat_loss(beat_BLD: Tensor, sentence_BSD: Tensor, mask_BS: Tensor, form: BeatLoss = "code", aggregate: Aggregate = "sum") -> Tensor:
    """Mean of both directions of cross-entropy over `beat_logits`; the records of this process only.

    Arguments are as there, with record i's beats and sentences in row i.
    """
    with torch.autocast(beat_BLD.device.type, enabled=False):
        logits_BB = beat_logits(beat_BLD, sentence_BSD, mask_BS, form, aggregate)
        target_B = torch.arange(len(logits_BB), device=logits_BB.device)
        return (functional.cross_entropy(logits_BB, target_B) + functional.cross_entropy(logits_BB.T, target_B)) / 2
