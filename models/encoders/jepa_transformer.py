"""Encoder and predictor of both methods named ECG-JEPA.

Weimann and Conrad (arXiv 2410.13867) cut all leads together into patches of time and add a table of positions once; Kim (arXiv
2410.08559) makes a token of each lead and time, adds positions to the input of every block, and lets a token attend to its own
lead and its own time only (cross-pattern attention, CroPA). Options of `JepaShape` tell them apart.

A recording is a grid of G rows and N columns of patches: one row where leads are fused, one a lead otherwise. Columns are hidden,
never single tokens. Letters: G rows, N columns, K kept columns, H hidden ones, X samples of a patch, D width, R registers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.errors import ConfigurationError

Layout = Literal["fused", "leads"]
Attention = Literal["full", "cross"]
Positions = Literal["once", "every_block"]
Biases = Literal["none", "norms", "all"]
Residual = Literal["depth", "layer"]


@dataclass(frozen=True, kw_only=True)
class JepaShape:
    """Size and kind of encoder and predictor.

    Attributes:
        n_leads: L.
        n_samples: longest recording, a multiple of `patch`.
        patch: samples of a patch.
        layout: whether a patch holds all leads ("fused") or one ("leads").
        width: D of the encoder, a multiple of its heads.
        depth: blocks of the encoder.
        heads: of the encoder.
        predictor_width: D of the predictor.
        predictor_depth: its blocks.
        predictor_heads: its heads.
        mlp_ratio: hidden width of the MLPs over D.
        registers: learned tokens before the patches.
        biases: "none"; of the layer norms alone, as older published weights have them; or of everything but query, key and value.
        eps: of the layer norms.
        attention: of the encoder; "cross" lets a token attend to its row and its column.
        positions: whether positions are added once, or to the input of every block.
        residual: what the two output maps of a block are initialised by: 0.02 / sqrt(2 depth of the encoder), or of the block's
            own number, counted from 1.
        drop_path: rate in the last block of student and predictor; rates rise from 0 in the first.
    """

    n_leads: int
    n_samples: int
    patch: int
    layout: Layout = "fused"
    width: int
    depth: int
    heads: int
    predictor_width: int
    predictor_depth: int
    predictor_heads: int
    mlp_ratio: int = 4
    registers: int = 1
    biases: Biases = "none"
    eps: float = 1e-6
    attention: Attention = "full"
    positions: Positions = "once"
    residual: Residual = "depth"
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        """Raises ConfigurationError where sizes do not fit each other."""
        if self.patch < 1 or self.n_samples < self.patch or self.n_samples % self.patch:
            raise ConfigurationError(
                f"records of {self.n_samples} samples cannot be cut into patches of {self.patch}; choose a divisor of n_samples as patch"
            )
        for part, width, heads in (("", self.width, self.heads), ("predictor_", self.predictor_width, self.predictor_heads)):
            if width % heads:
                raise ConfigurationError(f"{part}width={width} cannot be divided among {part}heads={heads}; choose a multiple as width")
            if width % 4:
                raise ConfigurationError(f"{part}width={width} is no multiple of 4, which sines and cosines over leads and time need")

    @property
    def rows(self) -> int:
        """G."""
        return 1 if self.layout == "fused" else self.n_leads

    @property
    def columns(self) -> int:
        """N of the longest recording."""
        return self.n_samples // self.patch

    @property
    def patch_values(self) -> int:
        """X, the values of a patch."""
        return self.patch * (self.n_leads if self.layout == "fused" else 1)


class Attend(nn.Module):
    """Multi-head self-attention over one map of query, key and value without bias."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads, self.dropout = heads, 0.0
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=bias)

    def forward(self, x_BND: Tensor, allowed: Tensor | None) -> Tensor:
        """Map (B, N, D) to (B, N, D); `allowed` broadcasts to (B, heads, N, N) and is True where a token may be attended to."""
        B, N, D = x_BND.shape
        query, key, value = self.qkv(x_BND).view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return _drop(self.proj(mixed.transpose(1, 2).reshape(B, N, D)), self.dropout, self.training)


class FeedForward(nn.Module):
    """Two linear maps with GELU between."""

    def __init__(self, width: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.dropout = 0.0
        self.fc1, self.fc2 = nn.Linear(width, hidden, bias=bias), nn.Linear(hidden, width, bias=bias)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        hidden = _drop(functional.gelu(self.fc1(x_BND)), self.dropout, self.training)
        return _drop(self.fc2(hidden), self.dropout, self.training)


class JepaBlock(nn.Module):
    """Pre-norm transformer block.

    Attributes:
        drop_path: share of records for which a branch of the block is left out in training.
    """

    def __init__(self, width: int, heads: int, shape: JepaShape, drop_path: float) -> None:
        super().__init__()
        bias, norm_bias = shape.biases == "all", shape.biases != "none"
        self.drop_path = drop_path
        self.norm1, self.norm2 = (nn.LayerNorm(width, shape.eps, bias=norm_bias) for _ in range(2))
        self.attn, self.mlp = Attend(width, heads, bias), FeedForward(width, shape.mlp_ratio * width, bias)

    def forward(self, x_BND: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        x_BND = x_BND + self._branch(self.attn(self.norm1(x_BND), allowed))
        out: Tensor = x_BND + self._branch(self.mlp(self.norm2(x_BND)))
        return out

    def _branch(self, x_BND: Tensor) -> Tensor:
        if not (self.drop_path and self.training):
            return x_BND
        kept_B11 = torch.rand(len(x_BND), 1, 1, device=x_BND.device) >= self.drop_path
        return x_BND * (kept_B11 / (1 - self.drop_path))


def _drop(x: Tensor, rate: float, training: bool) -> Tensor:
    return functional.dropout(x, rate) if rate and training else x


class Trunk(nn.Module):
    """Blocks with a layer norm behind."""

    def __init__(self, width: int, depth: int, heads: int, shape: JepaShape) -> None:
        super().__init__()
        self.shape = shape
        rates = [shape.drop_path * layer / max(1, depth - 1) for layer in range(depth)]
        self.blocks = nn.ModuleList(JepaBlock(width, heads, shape, rate) for rate in rates)
        self.norm = nn.LayerNorm(width, shape.eps, bias=shape.biases != "none")

    @property
    def layers(self) -> list[JepaBlock]:
        """The blocks."""
        return [cast(JepaBlock, block) for block in self.blocks]

    def run(self, x_BND: Tensor, positions: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Tokens (B, N, D) through all blocks; `positions` broadcasts to them."""
        if self.shape.positions == "once":
            x_BND = x_BND + positions
        for block in self.blocks:
            x_BND = block(x_BND if self.shape.positions == "once" else x_BND + positions, allowed)
        out: Tensor = self.norm(x_BND)
        return out


class JepaEncoder(Trunk):
    """Signals to tokens. Hidden patches never enter it."""

    table_GND: Tensor

    def __init__(self, shape: JepaShape) -> None:
        super().__init__(shape.width, shape.depth, shape.heads, shape)
        self.embed = nn.Linear(shape.patch_values, shape.width, bias=shape.biases == "all")
        self.register = nn.Parameter(torch.empty(1, shape.registers, shape.width)) if shape.registers else None
        self.register_buffer("table_GND", position_table(shape, shape.width, shape.rows), persistent=False)
        initialise(self, shape)

    def forward(self, signal_BLT: Tensor, keep_BK: Tensor | None = None, present_BL: Tensor | None = None) -> Tensor:
        """Normalised tokens (B, R + G K, D), registers first, then row after row.

        Args:
            signal_BLT: normalised signals, at most as long as the network's.
            keep_BK: columns that are read; all without it.
            present_BL: where rows are leads: the leads that a record has; no token attends to those of others.
        """
        patch_BGNX = self.cut(signal_BLT)
        table_GND = self.table_GND[:, : patch_BGNX.shape[2]]
        if keep_BK is None:
            position_BGKD = table_GND[None]
        else:
            patch_BGNX = torch.take_along_dim(patch_BGNX, keep_BK[:, None, :, None], dim=2)
            position_BGKD = table_GND[:, keep_BK].transpose(0, 1)
        x_BND, position_BND = self.embed(patch_BGNX).flatten(1, 2), position_BGKD.flatten(1, 2)
        if self.register is not None:
            x_BND = torch.cat([self.register.expand(len(x_BND), -1, -1).to(x_BND.dtype), x_BND], dim=1)
            position_BND = functional.pad(position_BND, (0, 0, self.shape.registers, 0))
        return self.run(x_BND, position_BND, self._allowed(patch_BGNX.shape[2], present_BL))

    def cut(self, signal_BLT: Tensor) -> Tensor:
        """Patches (B, G, N, X).

        Raises:
            ConfigurationError: another number of leads, a length that is no multiple of the patch, or one that is too long.
        """
        shape = self.shape
        B, L, T = signal_BLT.shape
        if shape.n_leads != L:
            raise ConfigurationError(
                f"this network was built for {shape.n_leads} leads, the records have {L}; choose a store with its channels"
            )
        if T % shape.patch or not shape.patch <= T <= shape.n_samples:
            raise ConfigurationError(
                f"records of {T} samples cannot be read: the network takes multiples of {shape.patch} samples up to {shape.n_samples}; "
                "set n_samples, or the crop, to one of them"
            )
        patch_BLNP = signal_BLT.view(B, L, T // shape.patch, shape.patch)
        return patch_BLNP.transpose(1, 2).flatten(2)[:, None] if shape.layout == "fused" else patch_BLNP

    def _allowed(self, columns: int, present_BL: Tensor | None) -> Tensor | None:
        """Which token may attend to which, (B or 1, 1, N, N), or None where all may attend to all."""
        shape, device = self.shape, self.table_GND.device
        allowed: Tensor | None = None
        if shape.attention == "cross":
            place_N = torch.arange(shape.rows * columns, device=device)
            row_N, column_N = place_N // columns, place_N % columns
            own_NN = (row_N[:, None] == row_N) | (column_N[:, None] == column_N)
            allowed = functional.pad(own_NN, (shape.registers, 0, shape.registers, 0), value=True)[None, None]
        if present_BL is not None and shape.layout == "leads":
            some_BL = present_BL | ~present_BL.any(dim=1, keepdim=True)
            key_BN = functional.pad(some_BL.repeat_interleave(columns, dim=1), (shape.registers, 0), value=True)[:, None, None]
            allowed = key_BN if allowed is None else allowed & key_BN
        return allowed


class JepaPredictor(Trunk):
    """What the encoder would say of hidden columns, from what it says of kept ones; each row of the grid apart."""

    table_GND: Tensor

    def __init__(self, shape: JepaShape) -> None:
        super().__init__(shape.predictor_width, shape.predictor_depth, shape.predictor_heads, shape)
        bias = shape.biases == "all"
        self.embed = nn.Linear(shape.width, shape.predictor_width, bias=bias)
        self.mask_token = nn.Parameter(torch.empty(1, 1, shape.predictor_width))
        self.proj = nn.Linear(shape.predictor_width, shape.width, bias=bias)
        self.register_buffer("table_GND", position_table(shape, shape.predictor_width, 1), persistent=False)
        initialise(self, shape)

    def forward(self, kept_BGKD: Tensor, keep_BK: Tensor, hide_BH: Tensor) -> Tensor:
        """Predictions (B, G, H, D) at hidden columns."""
        B, G, K, _ = kept_BGKD.shape
        H = hide_BH.shape[1]
        kept = self.embed(kept_BGKD).flatten(0, 1)
        x_RND = torch.cat([kept, self.mask_token.expand(B * G, H, -1).to(kept.dtype)], dim=1)
        position_BND = self.table_GND[0, torch.cat([keep_BK, hide_BH], dim=1)]
        hidden_RHD: Tensor = self.proj(self.run(x_RND, position_BND.repeat_interleave(G, dim=0))[:, K:])
        return hidden_RHD.view(B, G, H, -1)


def line_table(width: int, columns: int) -> Tensor:
    """Sines and cosines of time in turns: entry (p, 2i) is sin(p 10000^(-2i / D)), entry (p, 2i + 1) the cosine; (N, D)."""
    angle_NF = _angles(width, columns)
    return torch.stack([angle_NF.sin(), angle_NF.cos()], dim=2).flatten(1).float()


def grid_table(width: int, rows: int, columns: int) -> Tensor:
    """Sines, then cosines of time in the first half, those of the row in the second (Kim); (G, N, D)."""
    parts = [torch.cat([angle.sin(), angle.cos()], dim=1) for angle in (_angles(width // 2, columns), _angles(width // 2, rows))]
    time_ND, row_GD = parts
    return torch.cat([time_ND.expand(rows, -1, -1), row_GD[:, None].expand(-1, columns, -1)], dim=2).float()


def position_table(shape: JepaShape, width: int, rows: int) -> Tensor:
    """The fixed positions of all tokens, (G, N, D)."""
    return line_table(width, shape.columns)[None] if shape.layout == "fused" else grid_table(width, rows, shape.columns)


def _angles(width: int, n: int) -> Tensor:
    frequency_F = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
    return torch.arange(n, dtype=torch.float64)[:, None] * frequency_F


def initialise(trunk: Trunk, shape: JepaShape) -> None:
    """Truncated normal of 0.02, cut at 2, for matrices and learned tokens; less for the output maps of blocks; zero biases."""
    for name, value in trunk.named_parameters():
        if value.ndim > 1:
            nn.init.trunc_normal_(value, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(value)
    for number, block in enumerate(trunk.layers, 1):
        std = 0.02 / math.sqrt(2 * (shape.depth if shape.residual == "depth" else number))
        nn.init.trunc_normal_(block.attn.proj.weight, std=std)
        nn.init.trunc_normal_(block.mlp.fc2.weight, std=std)
