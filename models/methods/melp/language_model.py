"""The stage before MELP's encoder: its text encoder learns the language of the reports by filling in hidden tokens (appendix A)."""

from __future__ import annotations

from typing import Any

import torch

from models.encoders.report_text import clean_report, separated_tokens
from models.encoders.text import LocalBert, OfflineBert, TextEncoder
from models.errors import ConfigurationError, TrainingError
from models.method import Method
from models.methods.melp.spec import MelpConfig
from models.objectives.captioning import token_mean, token_sums
from models.objectives.masked_language import LanguageHead, mask_tokens
from models.optim import adamw
from models.types import Batch, Features, Losses


class LanguageModel(Method):
    """The text encoder, all of it learning, and a head that names hidden tokens; it looks in both directions.

    `Melp.start_from` takes over the encoder's weights and its vocabulary.
    """

    config: MelpConfig

    def __init__(self, config: MelpConfig) -> None:
        super().__init__()
        self.config, self.feature_width = config, config.text_width
        self.text = text_encoder(config, trainable_layers=None)
        self.head = LanguageHead(config.text_width, config.text_vocabulary)

    def encode(self, batch: Batch) -> Features:
        """There is nothing to encode.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("MELP's language model reads no signals; use the encoder that was trained from it")

    def loss(self, batch: Batch) -> Losses:
        """Mean cross-entropy of the hidden tokens; the batch needs texts only.

        Raises:
            TrainingError: the batch has no texts.
        """
        if batch.texts is None:
            raise TrainingError("a language model learns from reports, but the batch has none; give the job a reports table")
        marks = self.text.marks
        tokens = separated_tokens(self.text, [clean_report(t) for t in batch.texts])
        device = tokens.number_BN.device
        eligible_BN = tokens.mask_BN & ~torch.isin(tokens.number_BN, torch.tensor(marks.special, device=device))
        ordinary_V = torch.tensor(marks.ordinary or [marks.unknown], device=device)
        target_BN = tokens.number_BN
        tokens.number_BN, hidden_BN = mask_tokens(target_BN, eligible_BN, marks.mask, ordinary_V, self.config.mlm_share)
        state_BNW = self.head(self.text.hidden(tokens))
        total = token_mean(*token_sums(state_BNW, self.text.embedding_table.T, target_BN, hidden_BN, self.head.bias_V))
        return Losses(total, {"masked_language": total})

    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """AdamW with one cosine."""
        optimizer = adamw(self.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, total_steps), eta_min=1e-8)

    def prepare(self, texts: list[str]) -> None:
        """Learn the vocabulary, or read the local text weights.

        Raises:
            ConfigurationError: the weights have another vocabulary than the configuration says.
        """
        prepare_text(self.text, texts, self.config)

    def extra_state(self) -> dict[str, Any]:
        """Vocabulary, or configuration and tokenizer of the local text model."""
        return {"text": self.text.state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the text encoder around its weights."""
        self.text.restore(state.get("text", {}))


def text_encoder(config: MelpConfig, trainable_layers: int | None) -> TextEncoder:
    """The text encoder of a configuration, made for language modelling."""
    if config.text_max_tokens < 4:
        raise ConfigurationError(f"text_max_tokens is {config.text_max_tokens}, but [BOS], [SEP] and [CLS] take three; choose 4 or more")
    if config.text_weights is not None:
        return LocalBert(config.text_weights, config.text_width, config.text_max_tokens, trainable_layers, language=True)
    return OfflineBert(
        config.text_vocabulary,
        config.text_width,
        config.text_layers,
        config.text_heads,
        config.text_max_tokens,
        config.text_dropout,
        trainable_layers,
        language=True,
    )


def prepare_text(encoder: TextEncoder, texts: list[str], config: MelpConfig) -> None:
    """Learn the vocabulary from reports, or read the local text weights.

    Raises:
        ConfigurationError: the weights have another vocabulary than the configuration says.
    """
    encoder.prepare([clean_report(t) for t in texts])
    rows = len(encoder.embedding_table)
    if rows != config.text_vocabulary:
        raise ConfigurationError(
            f"the text weights have {rows} tokens with [BOS], the configuration says text_vocabulary={config.text_vocabulary}; set text_vocabulary={rows}"
        )
