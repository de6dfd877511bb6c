"""CSFM (Gu et al., arXiv 2507.01045, 2025): one transformer for any ECG leads, a pulse wave and the report, trained by hiding most.

Most patches of the signals and half of the text's pieces are hidden; the encoder reads the visible ones alone, and a small decoder
writes the hidden ones back (MAE's form). The published encoder is followed; decoder and losses are not public, and are this
platform's. With p_i the hidden patch of token i, standardised with its whole channel, and c(i) its channel:

    loss = mean_i mean (W_c(i) h_i + b_c(i) - p_i)^2 + lambda_txt mean_j -log softmax(U h_j)_t_j

Letters beside those of `models.types`: R records of a part of the batch, S places in time, P samples of a patch, W pieces of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.encoders.channel_decoder import ChannelDecoder
from models.encoders.channel_transformer import ChannelTransformer, Patches, Words
from models.encoders.wordpiece import SPECIAL, WordPiece, learn_vocabulary
from models.errors import CheckpointError, ConfigurationError
from models.method import Method
from models.methods.csfm.reports import clean_report
from models.methods.csfm.signals import Part, by_channels, by_slot, crop, over_time, patches_of, standardise
from models.methods.csfm.spec import CHANNELS, CsfmConfig
from models.objectives.masked import Chosen, draw_channels, draw_kinds, hide_signal, hide_words, places_of, signal_error, word_error
from models.schedules import Cosine, StepSchedule, adamw
from models.types import Batch, Features, Losses, Modality

_TABLES = ("cls", "channel_table", "time_table", "text_table", "text_type", "hidden_patch", "hidden_word")


@dataclass(frozen=True)
class _Hidden:
    """What the hidden tokens of some records cost in sum, and how many there are."""

    signal: Tensor
    patches: int
    text: Tensor
    words: int


class Csfm(Method):
    """The network.

    Attributes:
        seen_L: how many records with each channel of `CHANNELS` it was trained on; all 0 before training.
    """

    config: CsfmConfig
    seen_L: Tensor

    def __init__(self, config: CsfmConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_width = config.width
        sizes = {
            "channels": len(CHANNELS),
            "places": config.crop // config.patch,
            "patch": config.patch,
            "vocabulary": config.vocabulary,
            "text_places": config.text_tokens,
        }
        self.encoder = ChannelTransformer(
            **sizes,
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            head_width=config.head_width,
            hidden=config.hidden,
            dropout=config.dropout,
        )
        self.decoder = ChannelDecoder(
            **sizes,
            width_in=config.width,
            width=config.decoder_width,
            depth=config.decoder_depth,
            heads=config.decoder_heads,
            head_width=config.decoder_head_width,
            hidden=config.decoder_hidden,
        )
        self.register_buffer("seen_L", torch.zeros(len(CHANNELS), dtype=torch.int64))
        self._index_L = torch.tensor([CHANNELS.index(name) for name in config.channels])
        self._pieces = WordPiece(list(SPECIAL))

    def encode(self, batch: Batch) -> Features:
        """Encode the middle of signals (B, L, T), in microvolts or any unit: each channel is standardised.

        Tokens are the class token and one a moment: the mean over the channels that a record has, so that records with different
        channels have equally many.
        """
        pooled_BF, tokens_BNF = self._encode(batch, None)
        return Features(pooled_BF, tokens_BNF=tokens_BNF)

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """Nothing: reconstruction ties signals and texts without a space that they share."""
        return {}

    def answer_features(self, batch: Batch) -> Tensor:
        """The class token after reading the recordings and the questions in `batch.texts`, (B, F)."""
        if batch.texts is None:
            raise ConfigurationError("questions are read from the batch's texts, but it has none")
        return self._encode(batch, [self._pieces.pieces(text, self.config.text_tokens) for text in batch.texts])[0]

    def depth_features(self, batch: Batch) -> list[Tensor]:
        """States after a quarter, half, three quarters and all of the blocks, for dense heads.

        Each is (B, 13, S, F): a place for every channel of the network, zeros for those that a record lacks.
        """
        config = self.config
        taps = [max(1, round(config.depth * share / 4)) for share in (1, 2, 3, 4)]
        signal_BLT, present_BL = self._signals(batch, random=False), self._present(batch)
        found: list[list[Tensor]] = [[] for _ in taps]
        rows = []
        for part in by_channels(present_BL):
            patches = patches_of(signal_BLT, part, config.patch, self._index_L)
            _, tapped = self.encoder.forward_tapped(patches, None, set(taps))
            by_block = dict(zip(sorted(set(taps)), tapped, strict=True))
            for states, tap in zip(found, taps, strict=True):
                states.append(by_slot(by_block[tap][:, 1:], patches, part.channels.shape[1], len(CHANNELS)))
            rows.append(part.rows)
        back = torch.cat(rows).argsort().to(signal_BLT.device)
        return [torch.cat(states)[back] for states in found]

    def loss(self, batch: Batch) -> Losses:
        """Hide, encode, decode, compare."""
        config = self.config
        signal_BLT, present_BL = self._signals(batch, random=self.training), self._present(batch)
        numbers = self._report_pieces(batch)
        if self.training:
            self.seen_L.index_add_(0, self._index_L.to(self.seen_L.device), present_BL.sum(dim=0).to(self.seen_L.device))
            present_BL = draw_channels(present_BL, config.all_channels)
            left_out_B = (torch.rand(len(batch)) < config.text_dropout).tolist()
            numbers = [[] if out else row for row, out in zip(numbers, left_out_B, strict=True)]
        parts = [
            self._reconstruct(patches_of(signal_BLT, part, config.patch, self._index_L), part, [numbers[i] for i in part.rows.tolist()])
            for part in by_channels(present_BL)
        ]
        signal = torch.stack([p.signal for p in parts]).sum() / max(1, sum(p.patches for p in parts))
        text = torch.stack([p.text for p in parts]).sum() / max(1, sum(p.words for p in parts))
        return Losses(signal + config.text_weight * text, {"signal": signal, "text": text})

    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """AdamW (0.9, 0.95) with warm-up and a cosine to 0; gradients are clipped before each step."""
        config = self.config
        optimizer = adamw(self.named_parameters(), self.decays, lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.95), eps=1e-8)
        optimizer.register_step_pre_hook(lambda *_: _clip(self, config.clip))
        warmup = round(config.warmup * total_steps)
        lr = Cosine(total_steps, config.lr, 0.0, warmup, first=config.lr / max(1, warmup))
        return optimizer, StepSchedule(optimizer, lr, lambda _: config.weight_decay)

    def prepare(self, texts: list[str]) -> None:
        """Learn the pieces of words from the training reports; without reports there are none."""
        self._pieces = WordPiece(learn_vocabulary([clean_report(text) for text in texts], self.config.vocabulary))

    def extra_state(self) -> dict[str, Any]:
        """The pieces of words."""
        return {"pieces": self._pieces.vocabulary}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the pieces of words.

        Raises:
            CheckpointError: they do not fit the table.
        """
        pieces = state.get("pieces", list(SPECIAL))
        if len(pieces) > self.config.vocabulary or tuple(pieces[: len(SPECIAL)]) != SPECIAL:
            raise CheckpointError(
                f"the encoder's {len(pieces)} word pieces do not fit its table of {self.config.vocabulary}; train it again"
            )
        self._pieces = WordPiece(pieces)

    def finetune_parameters(self, modality: Modality) -> list[nn.Parameter]:
        """The encoder's; the decoder has done its work."""
        return list(self.encoder.parameters())

    def set_dropout(self, rate: float) -> None:
        """Set the dropout of the encoder."""
        self.encoder.set_dropout(rate)

    def layer_of(self, parameter: str) -> int:
        """0 for embeddings, k + 1 for block k from 0, then the final norm and the decoder."""
        if parameter.startswith("encoder.blocks."):
            return int(parameter.split(".")[2]) + 1
        after = parameter.startswith(("encoder.norm.", "decoder."))
        return self.config.depth + 1 if after else 0

    def decays(self, parameter: str, value: Tensor) -> bool:
        """For maps and the table of word pieces; not for tables of channels, times, positions and kinds, nor for vectors."""
        return value.ndim > 1 and parameter.rpartition(".")[2] not in _TABLES

    def compiled_parts(self) -> list[nn.Module]:
        """The blocks."""
        return [*self.encoder.blocks, *self.decoder.blocks]

    def _encode(self, batch: Batch, numbers: list[list[int]] | None) -> tuple[Tensor, Tensor]:
        signal_BLT, present_BL = self._signals(batch, random=False), self._present(batch)
        self._refuse_unseen(batch, present_BL)
        rows, pooled, tokens = [], [], []
        for part in by_channels(present_BL):
            patches = patches_of(signal_BLT, part, self.config.patch, self._index_L)
            words = None if numbers is None else self._words([numbers[i] for i in part.rows.tolist()])
            state_RXF = self.encoder(patches, words)
            cls_R1F, signal_RNF = state_RXF[:, :1], state_RXF[:, 1 : 1 + patches.channel_BN.shape[1]]
            rows.append(part.rows)
            pooled.append(cls_R1F[:, 0])
            tokens.append(torch.cat([cls_R1F, over_time(signal_RNF, patches, part.channels.shape[1])], dim=1))
        back = torch.cat(rows).argsort().to(signal_BLT.device)
        return torch.cat(pooled)[back], torch.cat(tokens)[back]

    def _reconstruct(self, patches: Patches, part: Part, numbers: list[list[int]]) -> _Hidden:
        """Hide, encode and decode some records.

        How many tokens are hidden follows from what is known on the host, so that nothing waits for the device.
        """
        config = self.config
        n_places = patches.channel_BN.shape[1] // part.channels.shape[1]
        words = self._words(numbers)
        present_RC = (part.channels >= 0).to(patches.channel_BN.device)
        kind_R = draw_kinds(len(present_RC), present_RC.device)
        hidden_RN = hide_signal(present_RC, n_places, config.signal_mask, kind_R).flatten(1)
        hidden_RW = hide_words(words.real_BW, config.text_mask)
        real_RN = present_RC.repeat_interleave(n_places, dim=1)
        masked = [round(config.signal_mask * count * n_places) for count in part.counts]
        covered = [round(config.text_mask * len(row)) for row in numbers]
        seen = places_of(real_RN & ~hidden_RN, max(n * n_places - m for n, m in zip(part.counts, masked, strict=True)))
        spoken = places_of(words.real_BW & ~hidden_RW, max(len(row) - c for row, c in zip(numbers, covered, strict=True)))
        state_RXF = self.encoder(_visible_patches(patches, seen), _visible_words(words, spoken))
        signal_RND, text_RWD = self.decoder(state_RXF, seen, spoken, patches, words)
        chosen = places_of(hidden_RN, max(masked))
        written_RHP = self.decoder.signal_head(_at(signal_RND, chosen.place_BM), patches.channel_BN.gather(1, chosen.place_BM))
        signal = signal_error(written_RHP, _at(patches.sample_BNP, chosen.place_BM), chosen.real_BM)
        text = word_error(self.decoder.word_head(text_RWD[hidden_RW]), words.number_BW[hidden_RW])
        return _Hidden(signal, sum(masked), text, sum(covered))

    def _signals(self, batch: Batch, random: bool) -> Tensor:
        """Standardised crops (B, L, T).

        Raises:
            ConfigurationError: other channels than configured, or a length that cannot be cut into patches.
        """
        config = self.config
        signal_BLT = crop(batch.signal_BLT, config.crop, random)
        _, L, T = signal_BLT.shape
        if len(config.channels) != L:
            raise ConfigurationError(
                f"CSFM was built for the {len(config.channels)} channels {', '.join(config.channels)}, got {L}; set channels, or give zeros and say so in present_BL"
            )
        if T == 0 or T % config.patch:
            raise ConfigurationError(
                f"records of {T} samples cannot be cut into patches of {config.patch}; give {config.crop} or more, or a multiple of {config.patch}"
            )
        return standardise(signal_BLT, config.pad_after_norm)

    def _present(self, batch: Batch) -> Tensor:
        """Which channels are read, bool (B, L), on the CPU.

        Raises:
            ConfigurationError: a record has none.
        """
        if batch.present_BL is None:
            return torch.ones(batch.signal_BLT.shape[:2], dtype=torch.bool)
        present_BL = batch.present_BL.cpu()
        if not (some_B := present_BL.any(dim=1)).all():
            rows = ", ".join(str(row) for row in batch.row_B.cpu()[~some_B][:20].tolist())
            raise ConfigurationError(
                f"records in rows {rows} have none of the channels {', '.join(self.config.channels)}; leave them out or choose their channels"
            )
        return present_BL

    def _refuse_unseen(self, batch: Batch, present_BL: Tensor) -> None:
        """Raise ConfigurationError where a record has a channel that training never saw, since its place in the tables is random."""
        seen_L = self.seen_L.cpu()[self._index_L] > 0
        unseen_BL = present_BL & ~seen_L
        if not self.seen_L.any() or not unseen_BL.any():
            return
        known, new = (", ".join(n for n, flag in zip(self.config.channels, flags_L.tolist(), strict=True) if flag) for flags_L in (seen_L, unseen_BL.any(dim=0)))  # fmt: skip
        row = int(batch.row_B.cpu()[unseen_BL.any(dim=1)][0])
        raise ConfigurationError(
            f"the record in row {row} and perhaps others have channels that this encoder was never trained on: {new}; it knows {known}; "
            "read those alone, or pretrain on data that has the others"
        )

    def _report_pieces(self, batch: Batch) -> list[list[int]]:
        if batch.texts is None:
            return [[] for _ in range(len(batch))]
        return [self._pieces.pieces(clean_report(text), self.config.text_tokens) for text in batch.texts]

    def _words(self, numbers: Sequence[list[int]]) -> Words:
        """Pieces padded to the longest text; a width of 0 where there is none."""
        device, most = self.encoder.cls.device, max(map(len, numbers))
        number_RW = torch.tensor([row + [0] * (most - len(row)) for row in numbers], dtype=torch.int64, device=device).view(
            len(numbers), most
        )
        place_W = torch.arange(most, device=device)
        lengths_R1 = torch.tensor([[len(row)] for row in numbers], device=device)
        return Words(number_RW, place_W.expand(len(numbers), -1), place_W < lengths_R1)


def _at(x_BNX: Tensor, place_BM: Tensor) -> Tensor:
    return x_BNX.gather(1, place_BM[:, :, None].expand(-1, -1, x_BNX.shape[2]))


def _visible_patches(patches: Patches, seen: Chosen) -> Patches:
    padded = None if patches.real_BN is None else seen.real_BM
    place = seen.place_BM
    return Patches(_at(patches.sample_BNP, place), patches.channel_BN.gather(1, place), patches.place_BN.gather(1, place), padded)


def _visible_words(words: Words, spoken: Chosen) -> Words:
    return Words(words.number_BW.gather(1, spoken.place_BM), words.place_BW.gather(1, spoken.place_BM), spoken.real_BM)


def _clip(network: nn.Module, norm: float) -> None:
    nn.utils.clip_grad_norm_(network.parameters(), norm)


def create(config: CsfmConfig) -> Csfm:
    """Build CSFM.

    Raises:
        ConfigurationError: options that do not fit together, or a channel that the network has no place for.
    """
    if unknown := [name for name in config.channels if name not in CHANNELS]:
        raise ConfigurationError(f"CSFM has no place for the channel {', '.join(unknown)}; it has {', '.join(CHANNELS)}")
    if config.crop % config.patch or config.crop > config.n_samples:
        raise ConfigurationError(
            f"a crop of {config.crop} must be a multiple of the patch of {config.patch} and no longer than records of {config.n_samples} samples"
        )
    if config.vocabulary < len(SPECIAL):
        raise ConfigurationError(
            f"a vocabulary of {config.vocabulary} does not hold the {len(SPECIAL)} special pieces; give at least these"
        )
    for name in ("signal_mask", "text_mask"):
        if not 0 < getattr(config, name) < 1:
            raise ConfigurationError(f"{name} must be above 0 and below 1, not {getattr(config, name)}")
    return Csfm(config)
