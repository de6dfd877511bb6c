"""ECG-JEPA (Weimann and Conrad, arXiv 2410.13867), and the method of nearly the same name (Kim, arXiv 2410.08559).

With student f, teacher g, predictor p, kept patches V and hidden ones H:

    loss = mean over records, hidden patches and features of |p(f(x | V), V, H) - g(x)_H|

The teacher is a moving average of the student, moved once after each optimiser step (the published code moves it in every forward
pass, twice a step where gradients are accumulated). It is what is used afterwards, and has neither dropout nor drop path in
pretraining. Presets `kim` differ by options alone.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.jepa_transformer import JepaEncoder, JepaPredictor, JepaShape
from models.errors import ConfigurationError
from models.method import Method
from models.methods.ecg_jepa.databases import SCALES
from models.methods.ecg_jepa.spec import EcgJepaConfig
from models.objectives.jepa import feature_spread, jepa_loss, sample_masks
from models.schedules import Cosine, StepSchedule, adamw, linear
from models.signal_scale import SignalScale
from models.types import Batch, Features, Losses, Modality

_TOKENS = ("register", "mask_token")


class EcgJepa(Method):
    """Student, teacher (`target`) and predictor; signals are normalised inside."""

    config: EcgJepaConfig
    needs_scale = True
    mean_SL: Tensor
    std_SL: Tensor

    def __init__(self, config: EcgJepaConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_width = config.width
        shape = _shape(config)
        self.encoder = JepaEncoder(shape)
        self.predictor = JepaPredictor(shape)
        self.target = copy.deepcopy(self.encoder).requires_grad_(False)
        for block in self.target.layers:
            block.drop_path = 0.0
        # Until `set_scale`, signals are read in millivolts.
        sizes = len(config.mixture) + 1, len(config.channels)
        self.register_buffer("mean_SL", torch.zeros(sizes))
        self.register_buffer("std_SL", torch.full(sizes, 1000.0))

    def normalise(self, batch: Batch) -> Tensor:
        """Signals (B, L, T) by mean and spread of their leads in their dataset, clipped; zeros in leads that are absent or flat."""
        signal_BLT = batch.signal_BLT.float()
        if signal_BLT.shape[1] != self.mean_SL.shape[1]:
            raise ConfigurationError(
                f"this network reads {self.mean_SL.shape[1]} leads ({', '.join(self.config.channels)}), the records have {signal_BLT.shape[1]}"
            )
        # The last row is that of the dataset which the encoder is judged on.
        row = slice(-1, None) if batch.source_B is None else batch.source_B
        scaled_BLT = (signal_BLT - self.mean_SL[row][:, :, None]) / self.std_SL[row][:, :, None]
        if self.config.clip is not None:
            scaled_BLT = scaled_BLT.clamp(-self.config.clip, self.config.clip)
        seen_BL = signal_BLT.amax(dim=2) > signal_BLT.amin(dim=2)
        if batch.present_BL is not None:
            seen_BL = seen_BL & batch.present_BL
        return scaled_BLT * seen_BL[:, :, None]

    def encode(self, batch: Batch) -> Features:
        """Tokens of the teacher, the register first, and their mean without it (of leads that are there, where tokens are of one lead)."""
        config = self.config
        tokens_BNF = self.target(self.normalise(batch), present_BL=batch.present_BL)
        patches_BNF = tokens_BNF[:, config.registers :]
        if config.layout == "fused" or batch.present_BL is None:
            return Features(patches_BNF.mean(dim=1), tokens_BNF=tokens_BNF)
        there_BL = batch.present_BL | ~batch.present_BL.any(dim=1, keepdim=True)
        by_lead_BLF = self._grid(tokens_BNF).mean(dim=2)
        pooled_BF = (by_lead_BLF * there_BL[:, :, None]).sum(dim=1) / there_BL.sum(dim=1, keepdim=True)
        present_BN = functional.pad(there_BL.repeat_interleave(self._grid(tokens_BNF).shape[2], dim=1), (config.registers, 0), value=True)
        return Features(pooled_BF, tokens_BNF=tokens_BNF, tokens_present_BN=present_BN)

    def loss(self, batch: Batch) -> Losses:
        """The difference at hidden patches; `target_std` is watched, since it falls to 0 where all targets become one."""
        config = self.config
        signal_BLT = self.normalise(batch)
        with torch.no_grad():
            target_BGNF = self._grid(self.target(signal_BLT))
        # A GPU is busy with the teacher while the CPU draws what it is asked for.
        masks = sample_masks(config.mask, len(batch), target_BGNF.shape[2], config.mask_low, config.mask_high, config.min_block)
        keep_BK, hide_BH = (part.to(signal_BLT.device, non_blocking=True) for part in masks)
        target_BGHF = torch.take_along_dim(target_BGNF, hide_BH[:, None, :, None], dim=2)
        if config.target_norm == "features":
            target_BGHF = functional.layer_norm(target_BGHF, (config.width,), eps=1e-5)
        kept_BGKF = self._grid(self.encoder(signal_BLT, keep_BK))
        total = jepa_loss(self.predictor(kept_BGKF, keep_BK, hide_BH), target_BGHF, config.loss)
        return Losses(total, {"target_std": feature_spread(target_BGHF)})

    def after_step(self, step: int, total_steps: int) -> None:
        """Move the teacher: m g + (1 - m) f, with m in a line from `momentum` to `final_momentum`."""
        share = 1 - linear(step, total_steps, self.config.momentum, self.config.final_momentum)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.target.parameters()), list(self.encoder.parameters()), share)

    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, StepSchedule]:
        """AdamW with cosines of learning rate (after a warm-up) and weight decay."""
        config = self.config
        optimizer = adamw(
            self.named_parameters(),
            self.decays,
            lr=config.lr,
            weight_decay=config.weight_decay,
            betas=(0.9, config.beta2),
            eps=config.adam_eps,
        )
        lr = Cosine(total_steps, config.lr, config.final_lr, round(config.warmup * total_steps), config.first_lr)
        return optimizer, StepSchedule(optimizer, lr, Cosine(total_steps, config.weight_decay, config.final_weight_decay))

    def set_scale(self, scale: SignalScale) -> None:
        """Take the constants of each dataset: published, measured on the training records, or those of millivolts.

        Raises:
            ConfigurationError: these are not the members of the configuration's mixture and the dataset it is judged on.
        """
        config = self.config
        if scale.mean_SL.shape != tuple(self.mean_SL.shape):
            raise ConfigurationError(
                f"a scale of {scale.mean_SL.shape} datasets and leads is given, this network has {tuple(self.mean_SL.shape)}; "
                "give those of its mixture, the dataset it is judged on, and its channels"
            )
        if config.normalisation == "millivolts":
            return
        for row, name in enumerate(scale.names):
            for lead, channel in enumerate(config.channels):
                mean, std = scale.mean_SL[row, lead], scale.std_SL[row, lead]
                if config.normalisation == "published":
                    known = SCALES.get(name, {}).get(channel)
                    mean, std = (mean, std) if known is None else (1000 * known[0], 1000 * known[1])
                self.mean_SL[row, lead], self.std_SL[row, lead] = float(mean), float(std)

    def compiled_parts(self) -> list[nn.Module]:
        """The blocks: of teacher and predictor for one number of tokens, of the student for as many as are kept."""
        return [block for part in (self.encoder, self.target, self.predictor) for block in part.blocks]

    def decays(self, parameter: str, value: Tensor) -> bool:
        """Matrices alone: neither norms and biases nor learned tokens."""
        return value.ndim > 1 and parameter.rpartition(".")[2] not in _TOKENS

    def set_dropout(self, rate: float) -> None:
        """Dropout of the teacher behind attention and twice in each MLP; its attention weights have none."""
        for block in self.target.layers:
            block.attn.dropout = block.mlp.dropout = rate

    def finetune_parameters(self, modality: Modality) -> list[nn.Parameter]:
        """The teacher's; student and predictor are not used any more.

        Raises:
            ConfigurationError: images are to be classified.
        """
        if modality != Modality.ECG:
            raise ConfigurationError(f"ECG-JEPA is fine-tuned on recordings, not on {modality}")
        self.requires_grad_(False)
        self.target.requires_grad_(True)
        return list(self.target.parameters())

    def finetune_features(self, features: Features) -> Tensor:
        """The register, or the mean of the tokens where there is none."""
        if not self.config.registers or features.tokens_BNF is None:
            return features.pooled_BF
        return features.tokens_BNF[:, 0]

    def _grid(self, tokens_BNF: Tensor) -> Tensor:
        """Tokens of patches as rows and columns, (B, G, N, F)."""
        patches_BNF = tokens_BNF[:, self.config.registers :]
        return patches_BNF.view(len(patches_BNF), self.encoder.shape.rows, -1, self.config.width)


def _shape(config: EcgJepaConfig) -> JepaShape:
    return JepaShape(
        n_leads=len(config.channels),
        n_samples=config.n_samples,
        patch=config.patch,
        layout=config.layout,
        width=config.width,
        depth=config.depth,
        heads=config.heads,
        predictor_width=config.predictor_width,
        predictor_depth=config.predictor_depth,
        predictor_heads=config.predictor_heads,
        registers=config.registers,
        biases=config.biases,
        eps=config.norm_eps,
        attention=config.attention,
        positions=config.positions,
        residual=config.residual,
        drop_path=config.drop_path,
    )


def create(config: EcgJepaConfig) -> EcgJepa:
    """Build ECG-JEPA.

    Raises:
        ConfigurationError: options that do not fit together.
    """
    if not 0 < config.mask_low <= config.mask_high < 1:
        raise ConfigurationError(
            f"mask_low={config.mask_low} and mask_high={config.mask_high} must be shares of the patches, in this order"
        )
    method = EcgJepa(config)
    columns = method.encoder.shape.columns
    hidden = columns - math.ceil(config.mask_high * columns)
    if config.mask == "blocks" and not 1 <= config.min_block <= hidden:
        raise ConfigurationError(f"min_block={config.min_block} does not fit: of {columns} patches as few as {hidden} are hidden; lower it")
    return method
