"""The decoder of masked pretraining over channels and text: it sees all places, of hidden ones only where they are.

MAE's form (He et al., 2022). Letters: N patches, W pieces of a text, F width of the encoder, D of the decoder, P samples of a patch,
L channels, V vocabulary, M tokens of any record.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.encoders.channel_transformer import HeadedBlock, Patches, Words, real_tokens
from models.objectives.masked import Chosen


class ChannelwiseLinear(nn.Module):
    """A linear map of its own for each channel. It starts near 0, the mean of what it writes: unlearning noise costs the states."""

    def __init__(self, channels: int, width: int, width_out: int) -> None:
        super().__init__()
        self.weight_LDP = nn.Parameter(0.02 * torch.randn(channels, width, width_out))
        self.bias_LP = nn.Parameter(torch.zeros(channels, width_out))

    def forward(self, x_BMD: Tensor, channel_BM: Tensor) -> Tensor:
        """Map (B, M, D) to (B, M, P), each token by its channel.

        All maps are applied in one product and each token's own is taken: a weight gathered for every token would need far more
        memory, and the maps are narrow.
        """
        L, D, P = self.weight_LDP.shape
        all_BMX = x_BMD @ self.weight_LDP.transpose(0, 1).reshape(D, L * P) + self.bias_LP.flatten()
        all_BMLP = all_BMX.view(*x_BMD.shape[:2], L, P)
        return all_BMLP.gather(2, channel_BM[:, :, None, None].expand(-1, -1, 1, P)).squeeze(2)


class ChannelDecoder(nn.Module):
    """Decoder with tables and output maps of its own.

    Args:
        width_in: F.
        channels: rows of the table of channels.
        places: rows of the table of times.
        patch: P.
        vocabulary: V.
        text_places: longest text, in pieces.
        width: D.
        depth: blocks.
        heads: of attention.
        head_width: width of a head.
        hidden: width inside the MLP.
    """

    def __init__(
        self,
        *,
        width_in: int,
        channels: int,
        places: int,
        patch: int,
        vocabulary: int,
        text_places: int,
        width: int,
        depth: int,
        heads: int,
        head_width: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(width_in, width)
        self.hidden_patch, self.hidden_word = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))
        self.channel_table = nn.Parameter(torch.randn(channels, width))
        self.time_table = nn.Parameter(torch.randn(places, width))
        self.text_table = nn.Parameter(torch.randn(text_places, width))
        self.blocks = nn.ModuleList(HeadedBlock(width, heads, head_width, hidden, 0.0) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.signal_head = ChannelwiseLinear(channels, width, patch)
        self.word_head = nn.Linear(width, vocabulary)

    def forward(self, state_BXF: Tensor, seen: Chosen, spoken: Chosen, patches: Patches, words: Words) -> tuple[Tensor, Tensor]:
        """Decode all places.

        Args:
            state_BXF: the encoder's states of class token, visible patches and visible pieces.
            seen: which of all patches the visible ones are.
            spoken: which of all pieces the visible ones are.
            patches: all N of them; only their channels and times are read.
            words: all W pieces; only their positions are read.

        Returns:
            States of all patches (B, N, D) and of all pieces (B, W, D).
        """
        N = patches.channel_BN.shape[1]
        cls_B1D, signal_BKD, text_BJD = self.enter(state_BXF).split([1, seen.place_BM.shape[1], spoken.place_BM.shape[1]], dim=1)
        signal_BND = _spread(signal_BKD, seen, self.hidden_patch, N)
        signal_BND = signal_BND + self.channel_table[patches.channel_BN] + self.time_table[patches.place_BN]
        text_BWD = _spread(text_BJD, spoken, self.hidden_word, words.number_BW.shape[1]) + self.text_table[words.place_BW]
        x_BMD, real_BM = torch.cat([cls_B1D, signal_BND, text_BWD], dim=1), real_tokens(patches, words)
        for block in self.blocks:
            x_BMD = block(x_BMD, real_BM)
        x_BMD = self.norm(x_BMD)
        return x_BMD[:, 1 : 1 + N], x_BMD[:, 1 + N :]


def _spread(state_BKD: Tensor, chosen: Chosen, hidden_D: Tensor, count: int) -> Tensor:
    """Visible states at their places among `count`, a learned vector everywhere else, shape (B, count, D)."""
    B, _, D = state_BKD.shape
    place_BK = chosen.place_BM.masked_fill(~chosen.real_BM, count)  # padding goes to a place behind the last, which is cut off
    return hidden_D.expand(B, count + 1, D).scatter(1, place_BK[:, :, None].expand(-1, -1, D), state_BKD.to(hidden_D.dtype))[:, :count]
