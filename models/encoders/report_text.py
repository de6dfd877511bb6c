"""Reports as a causal text encoder reads them (MELP, section 3.2): fixed length, one state that has seen all, sentences.

A report becomes [BOS] pieces [SEP], padded to one less than the encoder's length, and a [CLS] in the last place, which sees every
real token. Letters: N tokens, W width, S sentences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.encoders.text import TextEncoder, Tokens
from models.encoders.text_encoder import padded


def clean_report(text: str) -> str:
    """A report as MERL and MELP read it: EKG becomes ECG, decoration at both ends goes, lower case, one line, a full stop behind."""
    text = text.replace("EKG", "ECG").replace("ekg", "ecg").strip(" *").strip("=-").lower()
    text = text.translate(str.maketrans("\n\r\t", "   ")).strip()
    return text if text.endswith(".") else text + "."


def report_tokens(encoder: TextEncoder, texts: list[str]) -> Tokens:
    """Tokens of reports, [CLS] last.

    Padding beyond the longest report is left out, since nothing looks at it; [CLS] keeps the last place of the full length.
    """
    marks, room = encoder.marks, encoder.max_tokens - 3
    rows = [[marks.bos, *pieces[:room], marks.sep] for pieces in encoder.pieces(texts)]
    tokens = padded(rows, encoder.embedding_table.device, marks.pad)
    device = tokens.number_BN.device
    cls_B1 = torch.full((len(rows), 1), marks.cls, device=device)
    last_1 = torch.tensor([encoder.max_tokens - 1], device=device)
    return Tokens(
        torch.cat([tokens.number_BN, cls_B1], dim=1),
        torch.cat([tokens.mask_BN, torch.ones_like(cls_B1, dtype=torch.bool)], dim=1),
        torch.cat([torch.arange(tokens.number_BN.shape[1], device=device), last_1]),
    )


def sentence_means(encoder: TextEncoder, tokens: Tokens, state_BNW: Tensor) -> tuple[Tensor, Tensor]:
    """The mean state of each sentence, its full stop included and special tokens left out.

    What follows the last full stop belongs to no sentence. A report without one is a single sentence; if it has nothing but
    special tokens, they are its sentence, so that every report has one.

    Args:
        encoder: whose tokens they are.
        tokens: of `report_tokens`.
        state_BNW: hidden states of these tokens.

    Returns:
        Means (B, S, W), zeros where a report has fewer sentences, and which are sentences, bool (B, S). S is the largest number
        that a text of the encoder's length can have.
    """
    marks, most = encoder.marks, max(1, encoder.max_tokens - 3)
    number_BN, real_BN = tokens.number_BN[:, :-1], tokens.mask_BN[:, :-1]
    word_BN = real_BN & ~torch.isin(number_BN, torch.tensor(marks.special, device=number_BN.device))
    word_BN = torch.where(word_BN.any(dim=1, keepdim=True), word_BN, real_BN)
    stop_BN = word_BN & (number_BN == (-1 if marks.stop is None else marks.stop))
    ends_BN = stop_BN.cumsum(dim=1)
    count_B1 = ends_BN[:, -1:]
    sentence_BN = ends_BN - stop_BN.long()
    word_BN = word_BN & ((sentence_BN < count_B1) | (count_B1 == 0))
    member_BSN = (sentence_BN[:, None] == torch.arange(most, device=number_BN.device)[:, None]) & word_BN[:, None]
    size_BS = member_BSN.sum(dim=2)
    share_BSN = member_BSN.to(state_BNW.dtype) / size_BS.clamp(min=1)[..., None]
    return share_BSN @ state_BNW[:, :-1], size_BS > 0


def separated_tokens(encoder: TextEncoder, texts: list[str]) -> Tokens:
    """Tokens for masked language modelling: [CLS], then each sentence with [SEP] behind, padded to the longest text."""
    marks, rows = encoder.marks, []
    for pieces in encoder.pieces(texts):
        row = [marks.cls]
        for piece in pieces:
            row += [piece, marks.sep] if piece == marks.stop else [piece]
        row = row[: encoder.max_tokens - 1]
        rows.append(row if row[-1] == marks.sep else [*row, marks.sep])
    return padded(rows, encoder.embedding_table.device, marks.pad)
