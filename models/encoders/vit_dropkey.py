"""ViT-B/16-like trunk with DropKey, and its tokenisers for an X-ray and a 12-lead ECG: the two encoders of MoRE.

Parameters of the trunk have the usual names (`patch_embed.proj`, `cls_token`, `pos_embed`, `blocks.0.norm1`, `blocks.0.attn.qkv`,
`blocks.0.mlp.fc1`, `norm`), so that public weights load. Maps of query, key and value have no bias. Source: Dosovitskiy et al.
2021 (arXiv 2010.11929), Li et al. 2023 (DropKey, arXiv 2208.02646), Thapa et al. 2024 (MoRE, arXiv 2410.16239).

Letters: N tokens with the class token, P tokens without, F width, H heads, K width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.errors import ConfigurationError
from models.types import LEADS

DropKeySchedule = Literal["constant", "linear"]

_KERNEL = 5
"""Width of both convolutions of the ECG tokeniser; the first one's stride too."""


def dropkey_rates(rate: float, depth: int, schedule: DropKeySchedule) -> list[float]:
    """Share of keys that each layer drops: `rate` everywhere, or from `rate` in the first layer down to 0 in the last.

    Raises:
        ConfigurationError: a rate outside [0, 1).
    """
    if not 0 <= rate < 1:
        raise ConfigurationError(f"dropkey must be at least 0 and below 1, not {rate}")
    if schedule == "constant":
        return [rate] * depth
    return [rate * (1 - layer / max(depth - 1, 1)) for layer in range(depth)]


def drop_keys(shape: Sequence[int], rate: float, like: Tensor) -> Tensor:
    """What is added to attention logits: 0, or for a share `rate` of (record, head, query, key) so little that its weight is 0.

    The lowest number of the type is halved, so that a logit can be added to it without an overflow: where all keys of a query are
    dropped, its weights are equal and none is NaN.
    """
    dropped = torch.rand(tuple(shape), device=like.device) < rate
    return torch.zeros_like(dropped, dtype=like.dtype).masked_fill_(dropped, torch.finfo(like.dtype).min / 2)


class DropKeyAttention(nn.Module):
    """Multi-head self-attention that in training masks keys at random before the softmax, so that weights still sum to 1.

    Attributes:
        rate: share of keys that is dropped.
    """

    def __init__(self, width: int, heads: int, rate: float) -> None:
        super().__init__()
        if width % heads:
            raise ConfigurationError(f"an attention width of {width} cannot be divided among {heads} heads")
        self.heads, self.rate = heads, rate
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def split(self, qkv_BNX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, N, K), of what `qkv` gives."""
        B, N, X = qkv_BNX.shape
        query, key, value = qkv_BNX.view(B, N, 3, self.heads, X // 3 // self.heads).permute(2, 0, 3, 1, 4)
        return query, key, value

    def forward(self, x_BNF: Tensor) -> Tensor:
        """Map (B, N, F) to (B, N, F)."""
        query, key, value = self.split(self.qkv(x_BNF))
        mask = None
        if self.training and self.rate > 0:
            mask = drop_keys((*query.shape[:3], key.shape[2]), self.rate, query)
        mixed_BHNK = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: Tensor = self.proj(mixed_BHNK.transpose(1, 2).reshape(x_BNF.shape))
        return out


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x_BNF: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x_BNF)))
        return out


class DropKeyBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int, rate: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = DropKeyAttention(width, heads, rate), _Mlp(width, hidden)

    def forward(self, x_BNF: Tensor) -> Tensor:
        """Map (B, N, F) to (B, N, F)."""
        x_BNF = x_BNF + self.attn(self.norm1(x_BNF))
        out: Tensor = x_BNF + self.mlp(self.norm2(x_BNF))
        return out


class ImagePatches(nn.Module):
    """Cuts square images into square patches.

    Attributes:
        n_tokens: P.
        side: patches of a row or column.
    """

    def __init__(self, size: int, patch: int, width: int) -> None:
        super().__init__()
        if size % patch:
            raise ConfigurationError(f"images of {size} pixels cannot be cut into patches of {patch}; choose a divisor as patch")
        self.size, self.side = size, size // patch
        self.n_tokens = self.side**2
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Tokens (B, P, F), row by row.

        Raises:
            ConfigurationError: images of another size.
        """
        if image_B3HW.shape[2:] != (self.size, self.size):
            rows, columns = image_B3HW.shape[2:]
            raise ConfigurationError(
                f"this network was built for images of {self.size} x {self.size}, got {rows} x {columns}; set image_size to theirs"
            )
        tokens: Tensor = self.proj(image_B3HW).flatten(2).transpose(1, 2)
        return tokens


class EcgPatches(nn.Module):
    """Two convolutions of width 5, the first of stride 5: token k sees samples 5k to 5k + 24, and T = 5 (P + 4).

    Attributes:
        n_tokens: P.
    """

    def __init__(self, n_samples: int, channels: int, width: int, n_leads: int = len(LEADS)) -> None:
        super().__init__()
        self.n_samples, self.n_tokens = n_samples, n_samples // _KERNEL - (_KERNEL - 1)
        if self.n_tokens < 1:
            raise ConfigurationError(f"records of {n_samples} samples are too short, {_KERNEL**2} make the first token")
        self.conv1 = nn.Sequential(nn.Conv1d(n_leads, channels, _KERNEL, stride=_KERNEL), nn.ReLU(), nn.BatchNorm1d(channels))
        self.conv2 = nn.Sequential(nn.Conv1d(channels, width, _KERNEL), nn.ReLU(), nn.BatchNorm1d(width))

    def forward(self, signal_BLT: Tensor) -> Tensor:
        """Tokens (B, P, F).

        Raises:
            ConfigurationError: records of another length.
        """
        if signal_BLT.shape[2] != self.n_samples:
            raise ConfigurationError(
                f"this network was built for {self.n_samples} samples, got {signal_BLT.shape[2]}; set n_samples to the length of the records"
            )
        tokens: Tensor = self.conv2(self.conv1(signal_BLT)).transpose(1, 2)
        return tokens

    @staticmethod
    def over_time(token_P: Tensor, n_samples: int) -> Tensor:
        """Spread one value a token over the samples that the token sees, averaged where tokens overlap; shape (T,).

        Samples behind the last whole window of 5 belong to no token and get 0.
        """
        weight_X = token_P.new_ones(1, 1, _KERNEL)
        window_X = functional.conv_transpose1d(token_P[None, None], weight_X) / functional.conv_transpose1d(
            torch.ones_like(token_P)[None, None], weight_X
        )
        seen = window_X.repeat_interleave(_KERNEL, dim=2)[0, 0]
        return functional.pad(seen, (0, n_samples - len(seen)))


class DropKeyViT(nn.Module):
    """Transformer over tokens of one kind of input, with a class token and learned positions.

    Attributes:
        width: F.
    """

    def __init__(
        self, patch_embed: ImagePatches | EcgPatches, width: int, depth: int, heads: int, hidden: int, rates: Sequence[float]
    ) -> None:
        super().__init__()
        if len(rates) != depth:
            raise ConfigurationError(f"{len(rates)} rates of DropKey are given for {depth} layers; give one a layer")
        self.width = width
        self.patch_embed = patch_embed
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, patch_embed.n_tokens + 1, width))
        self.blocks = nn.Sequential(*(DropKeyBlock(width, heads, hidden, rate) for rate in rates))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def layers(self) -> list[DropKeyBlock]:
        """The blocks."""
        return [cast(DropKeyBlock, block) for block in self.blocks]

    @property
    def rates(self) -> list[float]:
        """Share of keys that each layer drops in training."""
        return [layer.attn.rate for layer in self.layers]

    @rates.setter
    def rates(self, rates: Sequence[float]) -> None:
        for layer, rate in zip(self.layers, rates, strict=True):
            layer.attn.rate = rate

    def embed(self, x: Tensor) -> Tensor:
        """Tokens with the class token before them and positions added, (B, N, F)."""
        tokens_BPF = self.patch_embed(x)
        return torch.cat([self.cls_token.expand(len(tokens_BPF), -1, -1), tokens_BPF], dim=1) + self.pos_embed

    def forward(self, x: Tensor) -> Tensor:
        """Normalised tokens (B, N, F), the class token first."""
        tokens_BNF: Tensor = self.norm(self.blocks(self.embed(x)))
        return tokens_BNF
