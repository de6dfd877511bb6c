"""RoBERTa that learns by low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685, through PEFT): MoRE's text encoder.

Query and value maps of every layer get an adapter, W + (alpha / rank) B A with B zero at the start, and every bias learns; all
other weights are frozen. Weights come from a local folder, or are random for a network that needs no download. BERT's pooler is
left out: nothing reads it, and its bias would be a parameter without a gradient. With it, RoBERTa-base has the 692,736 of
125,235,456 parameters to train that PEFT counts; without, 691,968 of 124,644,864.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.encoders.wordpiece import CLS, PAD, SEP, WordPiece, learn_vocabulary
from models.errors import CheckpointError, ConfigurationError

Segments = tuple[str, ...]
"""One text, or two that are read together."""


@dataclass(frozen=True)
class LoraShape:
    """Adapters.

    Attributes:
        rank: inner width.
        alpha: the adapter's output is multiplied by alpha / rank.
        dropout: of the adapter's input, in training.
    """

    rank: int = 16
    alpha: int = 8
    dropout: float = 0.1


@dataclass(frozen=True)
class RobertaShape:
    """A RoBERTa with random weights.

    Attributes:
        vocabulary: rows of the embedding table, the largest vocabulary that can be learned.
        width: hidden width.
        layers: transformer layers.
        heads: attention heads.
        hidden: width inside the MLP.
        dropout: of hidden states and attention weights.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    dropout: float


def adapt(model: Any, lora: LoraShape) -> Any:
    """Wrap a RoBERTa of `transformers`: adapters on query and value, all biases learn, the rest is frozen."""
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        bias="all",
        task_type=TaskType.FEATURE_EXTRACTION,
        target_modules=["query", "value"],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of PEFT about transformers
        return get_peft_model(model, config)


class LoraRoberta(nn.Module):
    """Reads texts or pairs of texts; call `prepare` before training, `restore` before loading weights.

    Args:
        shape: what it is built as; without a folder.
        folder: local folder of a RoBERTa and its tokenizer as `transformers` saves them; needed by `prepare` only.
        pretrained: whether weights come from a folder, in which case nothing but `shape.width` is read of the shape.
        max_tokens: texts are cut to this length, pairs at the end of the longer one.
        fixed_length: pad to `max_tokens` instead of to the longest text of the batch.
    """

    def __init__(
        self, shape: RobertaShape, lora: LoraShape, max_tokens: int, pretrained: bool, folder: str | None = None, fixed_length: bool = False
    ) -> None:
        super().__init__()
        self.shape, self.lora, self.max_tokens, self.fixed_length = shape, lora, max_tokens, fixed_length
        self.pretrained, self.folder = pretrained, folder
        self.model: Any = None
        self._tokenizer: Any = None
        if not pretrained:
            self.model = adapt(_random(shape, max_tokens), lora)
            self._tokenizer = _Learned(learn_vocabulary([], shape.vocabulary), max_tokens)

    def prepare(self, texts: list[str]) -> None:
        """Learn the vocabulary, or read model and tokenizer from the folder.

        Raises:
            ConfigurationError: no folder is configured, it does not hold a RoBERTa, or one of another width.
        """
        if not self.pretrained:
            self._tokenizer = _Learned(learn_vocabulary(texts, self.shape.vocabulary), self.max_tokens)
            return
        import transformers

        if self.folder is None or not Path(self.folder).is_dir():
            raise ConfigurationError(
                f"text weights are expected in a local folder, but {self.folder!r} is none; name the folder of a downloaded model"
            )
        try:
            kind = transformers.AutoConfig.from_pretrained(self.folder, local_files_only=True).model_type
            if kind != "roberta":
                raise ValueError(f"it is a model of type {kind}")
            model = transformers.RobertaModel.from_pretrained(
                self.folder, local_files_only=True, use_safetensors=True, add_pooling_layer=False, dtype=torch.float32
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder, local_files_only=True, use_fast=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigurationError(
                f"{self.folder} does not hold a RoBERTa with config.json, model.safetensors and a tokenizer ({error})"
            ) from error
        self._install(model, tokenizer.backend_tokenizer.to_str())

    def state(self) -> dict[str, Any]:
        """JSON from which `restore` rebuilds everything but the weights.

        Raises:
            ConfigurationError: there are no weights yet.
        """
        self._check()
        if not self.pretrained:
            return {"vocabulary": self._tokenizer.vocabulary}
        model = {k: v for k, v in self.model.get_base_model().config.to_dict().items() if k != "_name_or_path"}
        return {"model": model, "tokenizer": self._tokenizer.to_str()}

    def restore(self, state: dict[str, Any]) -> None:
        """Build model and tokenizer without weights and without the folder.

        Raises:
            CheckpointError: the state is not what `state` gives.
        """
        if not self.pretrained:
            vocabulary = state.get("vocabulary")
            if not isinstance(vocabulary, list) or len(vocabulary) > self.shape.vocabulary:
                raise CheckpointError(
                    f"the saved text encoder has no vocabulary of at most {self.shape.vocabulary} pieces; train the encoder again"
                )
            self._tokenizer = _Learned(vocabulary, self.max_tokens)
            return
        import transformers

        try:
            known = dict(state["model"])
            if known.pop("model_type") != "roberta":
                raise ValueError("it is no RoBERTa")
            model = transformers.RobertaModel(transformers.RobertaConfig(**known), add_pooling_layer=False)
            self._install(model, state["tokenizer"])
        except (KeyError, ValueError, TypeError, ConfigurationError) as error:
            raise CheckpointError(f"the saved text encoder cannot be rebuilt ({error}); train the encoder again") from error

    def forward(self, texts: Sequence[Segments]) -> tuple[Tensor, Tensor]:
        """Hidden states of the last layer (B, N, W), and where there are tokens, bool (B, N).

        Raises:
            ConfigurationError: there are no weights yet.
        """
        self._check()
        number_BN, mask_BN = self.tokenize(texts)
        return self.model(input_ids=number_BN, attention_mask=mask_BN.long()).last_hidden_state, mask_BN

    def tokenize(self, texts: Sequence[Segments]) -> tuple[Tensor, Tensor]:
        """Token numbers, int64 (B, N), and a bool mask (B, N) that is True for tokens."""
        device = next(self.model.parameters()).device
        found = self._tokenizer.encode_batch([t if len(t) > 1 else t[0] for t in texts])
        numbers = [encoding.ids for encoding in found] if self.pretrained else found
        length = self.max_tokens if self.fixed_length else max((len(n) for n in numbers), default=1)
        pad = int(self.model.get_base_model().config.pad_token_id)
        number_BN = torch.tensor([n + [pad] * (length - len(n)) for n in numbers], dtype=torch.int64, device=device).view(-1, length)
        lengths_B1 = torch.tensor([len(n) for n in numbers], device=device)[:, None]
        return number_BN, torch.arange(length, device=device) < lengths_B1

    def _install(self, model: Any, tokenizer: str) -> None:
        from tokenizers import Tokenizer

        config = model.config
        if config.hidden_size != self.shape.width:
            raise ConfigurationError(
                f"the text model is {config.hidden_size} wide, the configuration says text_width={self.shape.width}; set text_width={config.hidden_size}"
            )
        room = config.max_position_embeddings - config.pad_token_id - 1
        if room < self.max_tokens:
            raise ConfigurationError(
                f"the text model reads {room} tokens, the configuration says text_max_tokens={self.max_tokens}; lower it"
            )
        self.model, self._tokenizer = adapt(model, self.lora), Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)

    def _check(self) -> None:
        if self.model is None:
            raise ConfigurationError("the text encoder has no weights yet; call prepare() first")


class _Learned:
    """WordPiece over a vocabulary learned from the training texts; joins pairs as RoBERTa does, with two separators between."""

    def __init__(self, vocabulary: list[str], max_tokens: int) -> None:
        self.vocabulary, self._pieces, self._limit = vocabulary, WordPiece(vocabulary), max_tokens

    def encode_batch(self, texts: list[str | Segments]) -> list[list[int]]:
        return [self._encode((text,) if isinstance(text, str) else text) for text in texts]

    def _encode(self, segments: Segments) -> list[int]:
        parts = [self._pieces.numbers(segment, self._limit)[1:-1] for segment in segments]
        while sum(map(len, parts)) > self._limit - 2 * len(parts):
            max(parts, key=len).pop()
        numbers = [CLS, *parts[0], SEP]
        for part in parts[1:]:
            numbers += [SEP, *part, SEP]
        return numbers


def _random(shape: RobertaShape, max_tokens: int) -> Any:
    import transformers

    config = transformers.RobertaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.hidden,
        hidden_dropout_prob=shape.dropout,
        attention_probs_dropout_prob=shape.dropout,
        max_position_embeddings=max_tokens + 2,
        type_vocab_size=1,
        pad_token_id=PAD,
        bos_token_id=CLS,
        eos_token_id=SEP,
    )
    return transformers.RobertaModel(config, add_pooling_layer=False)
