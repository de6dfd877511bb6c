"""What every text encoder offers: tokens, hidden states, and what language modelling needs beside them.

Letters: N tokens, W width of the text encoder, V rows of its table of embeddings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import ConfigurationError


@dataclass
class Tokens:
    """Tokens of a batch of texts.

    Attributes:
        number_BN: int64 numbers.
        mask_BN: bool, True for real tokens.
        place_N: int64 rows of the table of positions; None counts from 0.
    """

    number_BN: Tensor
    mask_BN: Tensor
    place_N: Tensor | None = None


@dataclass(frozen=True)
class Marks:
    """Numbers of the tokens that mean something to a language model.

    Attributes:
        stop: of the full stop, or None if the vocabulary has none.
        known: numbers below this one stand for a piece of text or are special.
    """

    pad: int
    unknown: int
    cls: int
    sep: int
    bos: int
    mask: int
    stop: int | None
    known: int

    @property
    def special(self) -> tuple[int, ...]:
        """Numbers that stand for no text."""
        return (self.pad, self.unknown, self.cls, self.sep, self.bos, self.mask)

    @cached_property
    def ordinary(self) -> list[int]:
        """Numbers that stand for text."""
        return [n for n in range(self.known) if n not in self.special]


@dataclass
class TextFeatures:
    """Hidden states of the last layer (B, N, W) and the pooler output (B, W)."""

    hidden_BNW: Tensor
    pooled_BW: Tensor


class TextEncoder(nn.Module, ABC):
    """A language model that turns texts into vectors.

    Args:
        max_tokens: texts are cut to this length.
        trainable_layers: only so many of the last layers and the pooler learn; with 0 nothing does and no gradient is
            recorded, with None everything does.
        language: whether it is made for language modelling: with [BOS] and [MASK], embeddings that learn whichever layers do,
            reading with or without looking ahead, and no pooler.
    """

    def __init__(self, max_tokens: int, trainable_layers: int | None, language: bool) -> None:
        super().__init__()
        self.max_tokens, self.trainable_layers, self.language = max_tokens, trainable_layers, language

    @property
    @abstractmethod
    def marks(self) -> Marks:
        """Numbers of special tokens.

        Raises:
            ConfigurationError: the encoder is not made for language modelling, or has no vocabulary yet.
        """

    @property
    @abstractmethod
    def embedding_table(self) -> Tensor:
        """The table of token embeddings."""

    @abstractmethod
    def prepare(self, texts: list[str]) -> None:
        """Get ready for training: learn a vocabulary from the training texts, or read pretrained weights."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """JSON from which `restore` rebuilds everything but the weights."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state`, before weights are loaded."""

    @abstractmethod
    def tokenize(self, texts: list[str]) -> Tokens:
        """Token numbers on the encoder's device, padded to the longest text."""

    @abstractmethod
    def pieces(self, texts: list[str]) -> list[list[int]]:
        """Token numbers of texts alone, nothing before or behind, cut to `max_tokens`."""

    @abstractmethod
    def decode(self, numbers: list[int]) -> str:
        """The text that token numbers stand for; special tokens are left out."""

    @abstractmethod
    def encode(self, tokens: Tokens) -> TextFeatures:
        """Hidden states and pooler output."""

    @abstractmethod
    def hidden(self, tokens: Tokens, causal: bool = False) -> Tensor:
        """Hidden states (B, N, W); where `causal`, each token sees itself and those before it alone."""

    def forward(self, texts: list[str]) -> TextFeatures:
        """Tokenize and encode."""
        with torch.no_grad() if self.trainable_layers == 0 else nullcontext():
            return self.encode(self.tokenize(texts))

    def _freeze(self, layers: nn.ModuleList, pooler: nn.Module | None, embeddings: list[nn.Module]) -> None:
        if self.trainable_layers is None:
            return
        self.requires_grad_(False)
        if self.trainable_layers > len(layers):
            raise ConfigurationError(f"text_trainable_layers is {self.trainable_layers}, but the text encoder has {len(layers)} layers")
        learning = embeddings if self.language else []
        if self.trainable_layers:
            learning = [*learning, *list(layers)[-self.trainable_layers :], *([] if pooler is None else [pooler])]
        for module in learning:
            module.requires_grad_(True)

    def _no_language(self) -> ConfigurationError:
        return ConfigurationError(f"this {type(self).__name__} is not made for language modelling, or not prepared for it yet")


def causal_mask(mask_BN: Tensor) -> Tensor:
    """What each token may see of real tokens, itself and those before it, bool (B, N, N)."""
    N = mask_BN.shape[1]
    return torch.ones(N, N, dtype=torch.bool, device=mask_BN.device).tril() & mask_BN[:, None]


def padded(numbers: list[list[int]], device: torch.device, pad: int = 0) -> Tokens:
    """Lists of token numbers as a batch, padded to the longest."""
    length = max(map(len, numbers))
    number_BN = torch.tensor([n + [pad] * (length - len(n)) for n in numbers], dtype=torch.int64, device=device)
    lengths_B1 = torch.tensor([[len(n)] for n in numbers], device=device)
    return Tokens(number_BN, torch.arange(length, device=device) < lengths_B1)
