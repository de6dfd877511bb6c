"""Text encoders: a small BERT of our own that needs no download, and an adapter for a pretrained one in a local folder.

Both give the hidden states and BERT's pooler output tanh(W h_[CLS]), which is what MERL embeds a report with. Made for language
modelling, they have [BOS] and [MASK], learn their embeddings, read with or without looking ahead, and have no pooler. Letters:
N tokens, W width of the text encoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.encoders.text_encoder import Marks, TextEncoder, TextFeatures, Tokens, causal_mask, padded
from models.encoders.wordpiece import CLS, PAD, SEP, SPECIAL, UNKNOWN, WordPiece, learn_vocabulary
from models.errors import CheckpointError, ConfigurationError
from models.layers import Mlp, SelfAttention

__all__ = ["LocalBert", "OfflineBert", "TextEncoder", "TextFeatures", "Tokens"]

_LANGUAGE = ("[BOS]", "[MASK]")


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
        self,
        vocabulary: int,
        width: int,
        layers: int,
        heads: int,
        max_tokens: int,
        dropout: float,
        trainable_layers: int | None = 0,
        language: bool = False,
    ) -> None:
        super().__init__(max_tokens, trainable_layers, language)
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(max_tokens, width)
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)
        self.layers = nn.ModuleList(_PostNormBlock(width, heads, dropout) for _ in range(layers))
        self.pooler = None if language else nn.Linear(width, width)
        self._extra = _LANGUAGE if language else ()
        self.tokenizer = WordPiece(learn_vocabulary([], vocabulary, self._extra))
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
        self._freeze(self.layers, self.pooler, [self.embedding, self.positions, self.norm])

    @property
    def marks(self) -> Marks:
        """Numbers of special tokens."""
        if not self.language:
            raise self._no_language()
        bos, mask = (len(SPECIAL) + i for i in range(len(_LANGUAGE)))
        return Marks(PAD, UNKNOWN, CLS, SEP, bos, mask, self.tokenizer.number("."), len(self.tokenizer.vocabulary))

    @property
    def embedding_table(self) -> Tensor:
        """The table of token embeddings."""
        return self.embedding.weight

    def prepare(self, texts: list[str]) -> None:
        """Learn the vocabulary."""
        self.tokenizer = WordPiece(learn_vocabulary(texts, self.embedding.num_embeddings, self._extra))

    def state(self) -> dict[str, Any]:
        """The vocabulary."""
        return {"vocabulary": self.tokenizer.vocabulary}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a vocabulary.

        Raises:
            CheckpointError: the state holds none, or one that is larger than the embedding table or lacks special tokens.
        """
        vocabulary, special = state.get("vocabulary"), [*SPECIAL, *self._extra]
        if (
            not isinstance(vocabulary, list)
            or len(vocabulary) > self.embedding.num_embeddings
            or (self.language and vocabulary[: len(special)] != special)
        ):
            raise CheckpointError(
                f"the saved text encoder has no vocabulary of at most {self.embedding.num_embeddings} pieces; train the encoder again"
            )
        self.tokenizer = WordPiece(vocabulary)

    def tokenize(self, texts: list[str]) -> Tokens:
        """Token numbers, padded to the longest text of the batch."""
        return padded([self.tokenizer.numbers(t, self.max_tokens) for t in texts], self.embedding.weight.device)

    def pieces(self, texts: list[str]) -> list[list[int]]:
        """Token numbers of texts alone, nothing before or behind."""
        return [self.tokenizer.pieces(t, self.max_tokens) for t in texts]

    def decode(self, numbers: list[int]) -> str:
        """The text that token numbers stand for; special tokens are left out."""
        return self.tokenizer.text([n for n in numbers if n not in self.marks.special])

    def encode(self, tokens: Tokens) -> TextFeatures:
        """Hidden states and pooler output."""
        if self.pooler is None:
            raise ConfigurationError("a text encoder made for language modelling has no pooler")
        x_BNW = self.hidden(tokens)
        return TextFeatures(x_BNW, torch.tanh(self.pooler(x_BNW[:, 0])))

    def hidden(self, tokens: Tokens, causal: bool = False) -> Tensor:
        """Hidden states (B, N, W)."""
        place_N = tokens.place_N
        if place_N is None:
            place_N = torch.arange(tokens.number_BN.shape[1], device=tokens.number_BN.device)
        mask = causal_mask(tokens.mask_BN) if causal else tokens.mask_BN
        x_BNW: Tensor = self.dropout(self.norm(self.embedding(tokens.number_BN) + self.positions(place_N)))
        for layer in self.layers:
            x_BNW = layer(x_BNW, mask)
        return x_BNW


class _PostNormBlock(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention, self.norm_attention = SelfAttention(width, heads), nn.LayerNorm(width)
        self.mlp, self.norm_mlp = Mlp(width, 4 * width, width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BNW: Tensor, mask: Tensor) -> Tensor:
        x_BNW = self.norm_attention(x_BNW + self.dropout(self.attention(x_BNW, mask)))
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

    def __init__(self, folder: str | None, width: int, max_tokens: int, trainable_layers: int | None = 0, language: bool = False) -> None:
        super().__init__(max_tokens, trainable_layers, language)
        self.folder, self.width = folder, width
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
        if self.language:  # [BOS] gets a row of its own behind the others
            model.resize_token_embeddings(int(model.config.vocab_size) + 1, mean_resizing=False)
        self._install(model, tokenizer.backend_tokenizer.to_str())

    def state(self) -> dict[str, Any]:
        """Configuration and tokenizer of the model."""
        return {"model": self._ready().config.to_dict(), "tokenizer": self._tokenizer.to_str()}

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
        if self.language:
            model.pooler = None
        self._freeze(model.encoder.layer, model.pooler, [model.embeddings])

    @property
    def marks(self) -> Marks:
        """Numbers of special tokens."""
        if not self.language or self.model is None:
            raise self._no_language()
        names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        found = {name: self._tokenizer.token_to_id(name) for name in names}
        missing = [name for name, number in found.items() if number is None]
        if missing:
            raise ConfigurationError(f"the tokenizer of the text weights has no {', '.join(missing)}; choose a BERT-like model")
        pad, unknown, cls, sep, mask = (int(found[name]) for name in names)
        bos = int(self.model.config.vocab_size) - 1
        return Marks(pad, unknown, cls, sep, bos, mask, self._tokenizer.token_to_id("."), self._tokenizer.get_vocab_size())

    @property
    def embedding_table(self) -> Tensor:
        """The table of token embeddings."""
        weight: Tensor = self._ready().get_input_embeddings().weight
        return weight

    def tokenize(self, texts: list[str]) -> Tokens:
        """Token numbers, padded to the longest text of the batch."""
        device = next(self._ready().parameters()).device
        return padded([e.ids for e in self._tokenizer.encode_batch(texts)], device)

    def pieces(self, texts: list[str]) -> list[list[int]]:
        """Token numbers of texts alone, nothing before or behind."""
        self._ready()
        return [e.ids for e in self._tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decode(self, numbers: list[int]) -> str:
        """The text that token numbers stand for; special tokens are left out."""
        special = self.marks.special
        text: str = self._tokenizer.decode([n for n in numbers if n not in special])
        return text

    def encode(self, tokens: Tokens) -> TextFeatures:
        """Hidden states and pooler output."""
        out = self._ready()(input_ids=tokens.number_BN, attention_mask=tokens.mask_BN.long())
        return TextFeatures(out.last_hidden_state, out.pooler_output)

    def hidden(self, tokens: Tokens, causal: bool = False) -> Tensor:
        """Hidden states (B, N, W)."""
        mask = causal_mask(tokens.mask_BN)[:, None] if causal else tokens.mask_BN.long()
        place_1N = None if tokens.place_N is None else tokens.place_N[None]
        states_BNW: Tensor = self._ready()(input_ids=tokens.number_BN, attention_mask=mask, position_ids=place_1N).last_hidden_state
        return states_BNW

    def _ready(self) -> Any:
        if self.model is None:
            raise ConfigurationError("the text encoder has no weights yet; call prepare() first")
        return self.model


def _transformers() -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "local text weights need the package transformers; install it or use a preset with the offline text encoder"
        ) from error
    return transformers
