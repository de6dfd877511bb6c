"""Text encoders: a small BERT of our own that needs no download, and an adapter for a pretrained one in a local folder.

Both give the hidden states and BERT's pooler output tanh(W h_[CLS]), which is what MERL embeds a report with. Letters:
N tokens, W width of the text encoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.encoders.wordpiece import WordPiece, learn_vocabulary
from models.errors import CheckpointError, ConfigurationError
from models.layers import Mlp, SelfAttention


@dataclass
class Tokens:
    """Token numbers, int64 (B, N), and a bool mask (B, N) that is True for real tokens."""

    number_BN: Tensor
    mask_BN: Tensor


@dataclass
class TextFeatures:
    """Hidden states of the last layer (B, N, W) and the pooler output (B, W)."""

    hidden_BNW: Tensor
    pooled_BW: Tensor


class TextEncoder(nn.Module, ABC):
    """A language model that turns texts into vectors.

    Only the last `trainable_layers` layers and the pooler learn; with 0 nothing does and no gradient is recorded.
    """

    trainable_layers: int

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
    def encode(self, tokens: Tokens) -> TextFeatures:
        """Hidden states and pooler output."""

    def forward(self, texts: list[str]) -> TextFeatures:
        """Tokenize and encode."""
        with nullcontext() if self.trainable_layers else torch.no_grad():
            return self.encode(self.tokenize(texts))

    def _freeze(self, layers: nn.ModuleList, pooler: nn.Module) -> None:
        self.requires_grad_(False)
        if self.trainable_layers > len(layers):
            raise ConfigurationError(f"text_trainable_layers is {self.trainable_layers}, but the text encoder has {len(layers)} layers")
        if self.trainable_layers:
            pooler.requires_grad_(True)
            for layer in list(layers)[-self.trainable_layers :]:
                layer.requires_grad_(True)


class OfflineBert(TextEncoder):
    """BERT (Devlin et al., 2019) with random weights and a vocabulary learned from the training texts.

    What differs from BERT: no segment embeddings, since there is only ever one segment, and the initial weights. With BERT's
    spread of 0.02 a frozen network of width 32 gives every text nearly the same vector, and nothing would ever correct
    that. Here the spread is 1 / sqrt(width), positions are a tenth of that, so that words count more than their places,
    and the attention's value and output maps are sqrt(3) times larger, so that [CLS] takes in the words rather than
    staying itself. On 4,000 PTB-XL reports the mean cosine between pooled vectors is 1.00 with BERT's spread, where the
    cross-modal loss never leaves chance, and 0.71 with this one.

    Args:
        vocabulary: rows of the embedding table, the largest vocabulary that can be learned.
        max_tokens: rows of the table of positions; texts are cut to this length.
    """

    def __init__(
        self, vocabulary: int, width: int, layers: int, heads: int, max_tokens: int, dropout: float, trainable_layers: int = 0
    ) -> None:
        super().__init__()
        self.max_tokens, self.trainable_layers = max_tokens, trainable_layers
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(max_tokens, width)
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)
        self.layers = nn.ModuleList(_PostNormBlock(width, heads, dropout) for _ in range(layers))
        self.pooler = nn.Linear(width, width)
        self.tokenizer = WordPiece(learn_vocabulary([], vocabulary))
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=width**-0.5)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.positions.weight.mul_(0.1)
            for attention in (m for m in self.modules() if isinstance(m, SelfAttention)):
                attention.value.weight.mul_(3**0.5)
                attention.out.weight.mul_(3**0.5)
        self._freeze(self.layers, self.pooler)

    def prepare(self, texts: list[str]) -> None:
        """Learn the vocabulary."""
        self.tokenizer = WordPiece(learn_vocabulary(texts, self.embedding.num_embeddings))

    def state(self) -> dict[str, Any]:
        """The vocabulary."""
        return {"vocabulary": self.tokenizer.vocabulary}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a vocabulary.

        Raises:
            CheckpointError: the state holds none, or one that is larger than the embedding table.
        """
        vocabulary = state.get("vocabulary")
        if not isinstance(vocabulary, list) or len(vocabulary) > self.embedding.num_embeddings:
            raise CheckpointError(
                f"the saved text encoder has no vocabulary of at most {self.embedding.num_embeddings} pieces; train the encoder again"
            )
        self.tokenizer = WordPiece(vocabulary)

    def tokenize(self, texts: list[str]) -> Tokens:
        """Token numbers, padded to the longest text of the batch."""
        return _padded([self.tokenizer.numbers(t, self.max_tokens) for t in texts], self.embedding.weight.device)

    def encode(self, tokens: Tokens) -> TextFeatures:
        """Hidden states and pooler output."""
        place_N = torch.arange(tokens.number_BN.shape[1], device=tokens.number_BN.device)
        x_BNW = self.dropout(self.norm(self.embedding(tokens.number_BN) + self.positions(place_N)))
        for layer in self.layers:
            x_BNW = layer(x_BNW, tokens.mask_BN)
        return TextFeatures(x_BNW, torch.tanh(self.pooler(x_BNW[:, 0])))


class _PostNormBlock(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention, self.norm_attention = SelfAttention(width, heads), nn.LayerNorm(width)
        self.mlp, self.norm_mlp = Mlp(width, 4 * width, width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BNW: Tensor, mask_BN: Tensor) -> Tensor:
        x_BNW = self.norm_attention(x_BNW + self.dropout(self.attention(x_BNW, mask_BN)))
        out: Tensor = self.norm_mlp(x_BNW + self.dropout(self.mlp(x_BNW)))
        return out


class LocalBert(TextEncoder):
    """A BERT-like model in a local folder, as `transformers` saves it (MedCPT's query encoder in the published method).

    Nothing is downloaded and only safetensors are read. The model's configuration and tokenizer enter the encoder bundle,
    so that a bundle opens without the folder.

    Args:
        folder: local folder, needed by `prepare` only.
        width: hidden width that the rest of the network was built for.
        max_tokens: texts are cut to this length.
    """

    def __init__(self, folder: str | None, width: int, max_tokens: int, trainable_layers: int = 0) -> None:
        super().__init__()
        self.folder, self.width, self.max_tokens, self.trainable_layers = folder, width, max_tokens, trainable_layers
        self.model: Any = None
        self._tokenizer: Any = None

    def prepare(self, texts: list[str]) -> None:
        """Read model and tokenizer from the folder.

        Raises:
            ConfigurationError: no folder is configured, it does not hold such a model, or one of another width.
        """
        transformers = _transformers()
        if self.folder is None or not Path(self.folder).is_dir():
            raise ConfigurationError(
                f"text weights are expected in a local folder, but {self.folder!r} is none; name the folder of a downloaded model"
            )
        try:
            model = transformers.AutoModel.from_pretrained(self.folder, local_files_only=True, use_safetensors=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder, local_files_only=True, use_fast=True)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{self.folder} does not hold a model with config.json, model.safetensors and a tokenizer ({error})"
            ) from error
        self._install(model, tokenizer.backend_tokenizer.to_str())

    def state(self) -> dict[str, Any]:
        """Configuration and tokenizer of the model."""
        if self.model is None:
            raise ConfigurationError("the text encoder has no weights yet; call prepare() first")
        return {"model": self.model.config.to_dict(), "tokenizer": self._tokenizer.to_str()}

    def restore(self, state: dict[str, Any]) -> None:
        """Build the model without weights."""
        transformers = _transformers()
        try:
            known = dict(state["model"])
            config = transformers.AutoConfig.for_model(known.pop("model_type"), **known)
            self._install(transformers.AutoModel.from_config(config), state["tokenizer"])
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"the saved text encoder cannot be rebuilt ({error}); train the encoder again") from error

    def _install(self, model: Any, tokenizer: str) -> None:
        from tokenizers import Tokenizer

        found = int(model.config.hidden_size)
        if found != self.width:
            raise ConfigurationError(
                f"the text model is {found} wide, the configuration says text_width={self.width}; set text_width={found}"
            )
        self.model, self._tokenizer = model, Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        self._freeze(model.encoder.layer, model.pooler)

    def tokenize(self, texts: list[str]) -> Tokens:
        """Token numbers, padded to the longest text of the batch."""
        if self.model is None:
            raise ConfigurationError("the text encoder has no weights yet; call prepare() first")
        return _padded([e.ids for e in self._tokenizer.encode_batch(texts)], next(self.model.parameters()).device)

    def encode(self, tokens: Tokens) -> TextFeatures:
        """Hidden states and pooler output."""
        if self.model is None:
            raise ConfigurationError("the text encoder has no weights yet; call prepare() first")
        out = self.model(input_ids=tokens.number_BN, attention_mask=tokens.mask_BN.long())
        return TextFeatures(out.last_hidden_state, out.pooler_output)


def _padded(numbers: list[list[int]], device: torch.device) -> Tokens:
    length = max(map(len, numbers))
    number_BN = torch.tensor([n + [0] * (length - len(n)) for n in numbers], dtype=torch.int64, device=device)
    lengths_B1 = torch.tensor([[len(n)] for n in numbers], device=device)
    return Tokens(number_BN, torch.arange(length, device=device) < lengths_B1)


def _transformers() -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "local text weights need the package transformers; install it or use a preset with the offline text encoder"
        ) from error
    return transformers
