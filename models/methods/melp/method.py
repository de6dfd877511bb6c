"""MELP (Wang et al., ICML 2025, arXiv 2506.21803): ECG and report tied together at three scales.

    rhythm   InfoNCE of g, the mean of the ECG's beats, and t, the report's last state; learned scale; mean of both directions
    beat     contrast of the beats with the report's sentences (models.objectives.beats); records of one process only
    token    cross-entropy of the report, written token by token from 128 pooled ECG tokens
    total    = rhythm + 2 token + 0.2 beat

    ECG:     [0, 1] over the record, leads masked in training, E = encoder, b0 = pool(E), b = b0 P, g = mean b / |mean b|
    report:  [BOS] pieces [SEP] padding [CLS], read causally, so that one pass serves both the contrast and the caption;
             t = MLP of the state of [CLS], sentences = Linear of mean states between full stops
    probes read the mean of b0, which is not the zero-shot feature.

What differs from the published code: a report without a full stop is one sentence (there the record is dropped, which shifts
the batch against its reports); the number of the full stop comes from the tokenizer; prompts go the way of training texts, [CLS]
included; the decoder's output matrix is initialised; captions are averaged over the tokens of all devices; leads are matched by
name by the store.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.caption_decoder import CaptionDecoder
from models.encoders.report_text import clean_report, report_tokens, sentence_means
from models.encoders.text import Tokens
from models.errors import CheckpointError, ConfigurationError, TrainingError
from models.generation import Search, beam_search
from models.layers import Mlp
from models.method import ContrastiveMethod, Method
from models.methods.melp.ecg import EcgTower
from models.methods.melp.language_model import LanguageModel, prepare_text, text_encoder
from models.methods.melp.spec import MelpConfig
from models.objectives.beats import beat_loss
from models.objectives.captioning import token_mean, token_sums
from models.objectives.contrastive import LogitScale, info_nce
from models.optim import adamw
from models.types import Batch, Features, Losses


class Melp(ContrastiveMethod):
    """ECG tower, causal text encoder and caption decoder.

    `Features.pooled_BF` is the mean of the beats before P (what probes read), `embedding_BD` is g, `tokens_BNF` is E.
    """

    config: MelpConfig

    def __init__(self, config: MelpConfig) -> None:
        super().__init__()
        self.config = config
        D, W = config.projection, config.text_width
        self.feature_width = D
        self.ecg = EcgTower(config)
        self.text = text_encoder(config, config.text_trainable_layers)
        self.text_projection, self.sentence_projection = Mlp(W, D, D), nn.Linear(W, D)
        self.decoder = CaptionDecoder(W, config.decoder_blocks, config.decoder_heads, config.text_vocabulary)
        self.scale = LogitScale()

    def encode(self, batch: Batch) -> Features:
        """Encode signals (B, 12, T) in microvolts; leads in the order of `models.types.LEADS`."""
        ecg = self.ecg(batch.signal_BLT)
        return Features(ecg.probe_BD, functional.normalize(ecg.embedding_BD, dim=1), ecg.tokens_BNF)

    def towers(self, batch: Batch) -> dict[str, Tensor]:
        """Embeddings of recording and report, beats, sentences, and how well each report's tokens are predicted.

        Raises:
            TrainingError: the batch has no texts.
        """
        if batch.texts is None:
            raise TrainingError("MELP learns from reports, but the batch has none; give the job a reports table")
        ecg = self.ecg(batch.signal_BLT, self.config.lead_mask if self.training else 0.0)
        tokens, state_BNW = self._read(batch.texts)
        sentence_BSW, is_sentence_BS = sentence_means(self.text, tokens, state_BNW)
        follows_BN, counts_BN = tokens.number_BN[:, 1:-1], tokens.mask_BN[:, 1:-1]
        written_BNW = self.decoder.states(state_BNW[:, :-2], self.ecg.memory(ecg.tokens_BNF))
        caption_B, n_tokens_B = token_sums(written_BNW, self.decoder.output_WV, follows_BN, counts_BN)
        return {
            "ecg": ecg.embedding_BD,
            "text": self.text_projection(state_BNW[:, -1]),
            "beats": ecg.beats_BKD,
            "sentences": self.sentence_projection(sentence_BSW),
            "is_sentence": is_sentence_BS,
            "caption": caption_B,
            "n_tokens": n_tokens_B,
        }

    def contrast(self, towers: dict[str, Tensor]) -> Losses:
        """The three losses, weighted."""
        config = self.config
        rhythm = info_nce(towers["ecg"], towers["text"], 1 / self.scale(), "mean")
        token = token_mean(towers["caption"], towers["n_tokens"])
        beat = self._beat_loss(towers["beats"], towers["sentences"], towers["is_sentence"])
        total = config.rhythm_weight * rhythm + config.token_weight * token + config.beat_weight * beat
        return Losses(total, {"rhythm": rhythm, "token": token, "beat": beat})

    def embed_text(self, texts: list[str]) -> Tensor:
        """Unit-length embeddings (B, D) of texts, which are read as reports are in training."""
        _, state_BNW = self._read(texts)
        return functional.normalize(self.text_projection(state_BNW[:, -1]), dim=1)

    @torch.no_grad()
    def generate(self, batch: Batch) -> list[str]:
        """A report for each record, by diverse beam search; equal records get equal reports."""
        config, marks = self.config, self.text.marks
        search = Search(
            config.generation_beams,
            config.generation_groups,
            config.generation_minimum,
            config.text_max_tokens - 1,
            config.generation_penalty,
        )
        memory_BMW = self.ecg.memory(self.ecg(batch.signal_BLT).tokens_BNF).repeat_interleave(search.beams, dim=0)
        allowed_V = torch.zeros(config.text_vocabulary, dtype=torch.bool, device=memory_BMW.device)
        allowed_V[[*marks.ordinary, marks.sep]] = True

        def logits(token_RN: Tensor) -> Tensor:
            state_RNW = self.text.hidden(Tokens(token_RN, torch.ones_like(token_RN, dtype=torch.bool)), causal=True)
            return self.decoder.states(state_RNW, memory_BMW)[:, -1] @ self.decoder.output_WV

        written = beam_search(logits, len(batch), marks.bos, marks.sep, allowed_V, search)
        return [self.text.decode(numbers) for numbers in written]

    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """AdamW (0.9, 0.95) over everything that learns, in one group, with the configured cosine."""
        config = self.config
        learning = [p for p in self.parameters() if p.requires_grad]
        optimizer = adamw(learning, lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay)
        self.scale.clamp_after(optimizer)
        if config.schedule == "cosine_restarts":
            half = max(1, total_steps // 2)
            return optimizer, torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, half, eta_min=1e-8)
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, total_steps), eta_min=1e-8)

    def prepare(self, texts: list[str]) -> None:
        """Learn the vocabulary, or read the local text weights.

        Raises:
            ConfigurationError: the weights have another vocabulary than the configuration says.
        """
        prepare_text(self.text, texts, self.config)

    def start_from(self, first_stage: Method) -> None:
        """Take over the text encoder and its vocabulary from the language model.

        Raises:
            ConfigurationError: it is something else, or its text encoder has another shape.
        """
        if not isinstance(first_stage, LanguageModel):
            raise ConfigurationError(f"MELP starts from its own language model, not from a {type(first_stage).__name__}")
        try:
            self.text.restore(first_stage.text.state())
            self.text.load_state_dict(first_stage.text.state_dict())
        except (CheckpointError, RuntimeError) as error:
            raise ConfigurationError(
                f"the text encoder of the language model has another shape than this configuration asks for ({error}); train the stage before with the same text options"
            ) from error

    def extra_state(self) -> dict[str, Any]:
        """Vocabulary, or configuration and tokenizer of the local text model."""
        return {"text": self.text.state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the text encoder around its weights."""
        self.text.restore(state.get("text", {}))

    def _read(self, texts: list[str]) -> tuple[Tokens, Tensor]:
        """Tokens of reports and their hidden states; the last is of [CLS]."""
        tokens = report_tokens(self.text, [clean_report(t) for t in texts])
        return tokens, self.text.hidden(tokens, causal=True)

    def _beat_loss(self, beats_BKD: Tensor, sentence_BSD: Tensor, is_sentence_BS: Tensor) -> Tensor:
        """The contrast of beats and sentences, within groups of `beat_batch` records."""
        config = self.config
        most = int(is_sentence_BS.sum(dim=1).max())  # sentences stand first, so what follows is padding in every report
        size = config.beat_batch or len(beats_BKD)
        parts = [torch.split(x[:, :most], size) for x in (sentence_BSD, is_sentence_BS)]
        losses = [
            beat_loss(beats, sentences, present, config.beat_loss, config.beat_aggregate) * len(beats)
            for beats, sentences, present in zip(torch.split(beats_BKD, size), *parts, strict=True)
        ]
        return torch.stack(losses).sum() / len(beats_BKD)


def create(config: MelpConfig) -> Melp:
    """Build MELP."""
    return Melp(config)


def create_language_model(config: MelpConfig) -> LanguageModel:
    """Build the stage before it."""
    return LanguageModel(config)
