"""MoRE (Thapa et al. 2024, arXiv 2410.16239): contrastive pretraining of chest X-ray, ECG and report.

The report is the anchor. With t, x, e the projections of report, X-ray and ECG and I(u, v) InfoNCE from u to v,

    L = [I(t, x) + I(x, t)] / 2 + [I(t, e) + I(e, t)] / 2          and, as an option, + [I(x, e) + I(e, x)] / 2

    X-ray, ECG   DropKey ViT of its own each, class token, projection
    report       RoBERTa with LoRA on query and value and all biases learning, mean over tokens, projection
    projection   Linear, BN, ReLU, Linear, BN

What differs from the published code: the temperature learns where it is said to; padding does not enter the mean; rows of one
patient are no negatives of each other; warps and shuffles of an ECG keep its leads together; a record may lack a modality.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.augment import augment_ecgs, augment_images
from models.encoders.lora import LoraRoberta, LoraShape, RobertaShape, Segments
from models.encoders.vit_dropkey import DropKeyViT, EcgPatches, ImagePatches, dropkey_rates
from models.errors import ConfigurationError, TrainingError
from models.method import ContrastiveMethod
from models.methods.more.reports import segments, with_prefixes
from models.methods.more.spec import MoreConfig
from models.objectives.contrastive import LogitScale, multi_pair_info_nce, world_size
from models.optim import adamw
from models.types import Batch, Features, Losses, Modality

_MEAN, _SPREAD = 0.499, 0.293
"""Of the grey values of MIMIC-CXR, in [0, 1]."""

_FINETUNED_BLOCKS, _FINETUNE_DROPKEY, _FINETUNE_DROPOUT = 3, 0.2, 0.1


class More(ContrastiveMethod):
    """Three towers and the temperature of their comparison.

    `Features.pooled_BF` is the class token (what probes read), `embedding_BD` the projection, not of unit length.

    Attributes:
        image, ecg: trunks.
        image_projection, ecg_projection, text_projection: into the shared space.
    """

    config: MoreConfig

    def __init__(self, config: MoreConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_width = config.width
        self.image = _trunk(config, ImagePatches(config.image_size, config.patch, config.width))
        self.ecg = _trunk(config, EcgPatches(config.n_samples, config.ecg_channels, config.width, len(config.channels)))
        self.text = _text_encoder(config)
        self.image_projection, self.ecg_projection = (_projection(config.width, config.projection) for _ in range(2))
        self.text_projection = _projection(config.text_width, config.projection)
        self.scale = LogitScale(1 / config.temperature, config.learnable_temperature)

    def encode(self, batch: Batch) -> Features:
        """Encode signals (B, 12, T) in microvolts; leads in the order of `models.types.LEADS`."""
        return _features(self.ecg(self.ecg_input(batch.signal_BLT)), self.ecg_projection)

    def encode_image(self, batch: Batch) -> Features:
        """Encode images (B, H, W), uint8 grey.

        Raises:
            ConfigurationError: the batch has no images.
        """
        if batch.image_BHW is None:
            raise ConfigurationError("there are no images to encode; give the job an image store")
        return _features(self.image(self.image_input(batch.image_BHW)), self.image_projection)

    def image_input(self, image_BHW: Tensor) -> Tensor:
        """What the image trunk reads: three equal normalised channels (B, 3, H, W); changed at random in training."""
        grey_BHW = image_BHW.float() / 255
        if self.training and self.config.augment:
            grey_BHW = augment_images(grey_BHW, self.config.image_flip)
        return ((grey_BHW - _MEAN) / _SPREAD)[:, None].expand(-1, 3, -1, -1)

    def ecg_input(self, signal_BLT: Tensor) -> Tensor:
        """What the ECG trunk reads: each lead scaled to [-1, 1], a flat one -1; changed at random in training."""
        signal_BLT = scale_leads(signal_BLT)
        if self.training and self.config.augment:
            signal_BLT = augment_ecgs(signal_BLT, self.config.ecg_per_lead)
        return signal_BLT

    def towers(self, batch: Batch) -> dict[str, Tensor]:
        """Projections by modality, zeros where a record lacks it, and where it does not ("has_ecg", ...).

        Batch norm must not see placeholders: a tower is given the rows that are there. In training a row that is alone on its
        process counts as missing, since it has no statistics.

        Raises:
            TrainingError: the batch has no texts, or in training a single record.
        """
        if batch.texts is None and batch.image_texts is None:
            raise TrainingError("MoRE learns from reports, but the batch has none; give the job a reports table")
        if self.training and len(batch) < 2:
            raise TrainingError("one record alone has nothing to be compared with; raise batch_size or lower accumulate")
        texts = segments(batch)
        said_B = torch.tensor([bool(t) for t in texts], device=batch.row_B.device)
        image_BHW = batch.image_BHW
        found: dict[str, Tensor] = {}
        of_text, of_ecgs, of_images = (
            [self.text, self.text_projection],
            [self.ecg, self.ecg_projection],
            [self.image, self.image_projection],
        )
        readers: dict[str, tuple[Tensor, Callable[[list[int]], Tensor], list[nn.Module]]] = {
            "text": (said_B & batch.has(Modality.TEXT), lambda rows: self._embed_segments([texts[i] for i in rows]), of_text),
            "ecg": (batch.has(Modality.ECG), lambda rows: self._embed_ecgs(batch.signal_BLT[rows]), of_ecgs),
        }
        if image_BHW is not None:
            readers["image"] = (batch.has(Modality.IMAGE), lambda rows: self._embed_images(image_BHW[rows]), of_images)
        for name, (seen_B, read, tower) in readers.items():
            found[name], found[f"has_{name}"] = self._of_those_seen(seen_B, read, tower)
        if image_BHW is None:
            found["image"] = torch.zeros_like(found["ecg"]) + _nothing_of(of_images)
            found["has_image"] = torch.zeros_like(found["has_ecg"])
        if batch.group_B is not None and self.config.mask_patients:
            found["group"] = batch.group_B
        return found

    def contrast(self, towers: dict[str, Tensor]) -> Losses:
        """The two terms, or all three."""
        pairs = [("text", "image"), ("text", "ecg")] + [("image", "ecg")] * self.config.third_term
        scale = self.scale()
        losses = multi_pair_info_nce(
            {name: towers[name] for name in ("text", "image", "ecg")},
            pairs,
            1 / scale,
            observed={name: towers[f"has_{name}"] for name in ("text", "image", "ecg")},
            group=towers.get("group"),
        )
        return Losses(losses.total, {**losses.parts, "logit_scale": scale.detach()})

    def embed_text(self, texts: list[str]) -> Tensor:
        """Unit-length embeddings (B, D) of prompts, read as they are."""
        return functional.normalize(self._embed_segments([(t,) for t in texts]).float(), dim=1)

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """Unit-length embeddings (B, D) of ECGs, and of images and reports where the batch has them."""
        found = {"ecg": self._embed_ecgs(batch.signal_BLT)}
        if batch.image_BHW is not None:
            found["image"] = self._embed_images(batch.image_BHW)
        if batch.texts is not None or batch.image_texts is not None:
            found["text"] = self._embed_segments([t or ("",) for t in segments(batch)])
        return {name: functional.normalize(x_BD.float(), dim=1) for name, x_BD in found.items()}

    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """AdamW over everything that learns; the temperature without weight decay and clamped after each step."""
        config = self.config
        scale = self.scale.log_scale
        groups: list[dict[str, Any]] = [{"params": [p for p in self.parameters() if p.requires_grad and p is not scale]}]
        if scale.requires_grad:
            groups.append({"params": [scale], "weight_decay": 0.0})
        optimizer = adamw(groups, lr=config.lr, weight_decay=config.weight_decay)
        self.scale.clamp_after(optimizer)
        if config.schedule == "cosine":
            return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, total_steps), eta_min=config.lr_end)
        epoch_steps = max(1.0, total_steps / (config.epochs or 1))

        def share(step: int) -> float:
            passed = int(step / epoch_steps) % config.restart_epochs
            cosine = (1 + math.cos(math.pi * passed / config.restart_epochs)) / 2
            return config.lr_end / config.lr + (1 - config.lr_end / config.lr) * cosine

        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)

    def prepare(self, texts: list[str]) -> None:
        """Learn the vocabulary, or read the local text weights."""
        self.text.prepare(with_prefixes(texts))

    def extra_state(self) -> dict[str, Any]:
        """Vocabulary, or configuration and tokenizer of the local text model."""
        return {"text": self.text.state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the text encoder around its weights."""
        self.text.restore(state.get("text", {}))

    def finetune_parameters(self, modality: Modality) -> list[nn.Parameter]:
        """Make a tower ready for fine-tuning on labels as published, and return what learns; all else is frozen.

        The maps of query, key and value of the last three blocks learn, and the projection, whose output a classifier reads.
        DropKey falls from 0.2 to 0.

        Raises:
            ConfigurationError: not a tower of signals or images.
        """
        towers = {Modality.ECG: (self.ecg, self.ecg_projection), Modality.IMAGE: (self.image, self.image_projection)}
        if modality not in towers:
            raise ConfigurationError(f"MoRE fine-tunes its towers of {' and '.join(towers)}, not of {modality}")
        trunk, projection = towers[modality]
        trunk.rates = dropkey_rates(_FINETUNE_DROPKEY, len(trunk.layers), "linear")
        maps = [p for layer in trunk.layers[-_FINETUNED_BLOCKS:] for p in layer.attn.qkv.parameters()]
        learns: list[nn.Parameter] = [*maps, *projection.parameters()]
        self.requires_grad_(False)
        for parameter in learns:
            parameter.requires_grad_(True)
        return learns

    def finetune_features(self, features: Features) -> Tensor:
        """The projection, with dropout in training."""
        assert features.embedding_BD is not None, "both towers project"
        return functional.dropout(features.embedding_BD, _FINETUNE_DROPOUT, self.training)

    def _embed_images(self, image_BHW: Tensor) -> Tensor:
        out: Tensor = self.image_projection(self.image(self.image_input(image_BHW))[:, 0])
        return out

    def _embed_ecgs(self, signal_BLT: Tensor) -> Tensor:
        out: Tensor = self.ecg_projection(self.ecg(self.ecg_input(signal_BLT))[:, 0])
        return out

    def _embed_segments(self, texts: list[Segments]) -> Tensor:
        hidden_BNW, mask_BN = self.text(texts)
        if self.config.text_pool == "mean_all":
            mean_BW = hidden_BNW.mean(dim=1)
        else:
            mean_BW = (hidden_BNW * mask_BN[..., None]).sum(dim=1) / mask_BN.sum(dim=1, keepdim=True)
        out: Tensor = self.text_projection(mean_BW)
        return out

    def _of_those_seen(self, seen_B: Tensor, read: Callable[[list[int]], Tensor], tower: list[nn.Module]) -> tuple[Tensor, Tensor]:
        """Embeddings (B, D) of the rows that are there, zeros in the others, and which were read."""
        rows = seen_B.nonzero()[:, 0].tolist()
        # Synchronised batch norm counts rows of all processes, and each must call it, whatever its own rows are.
        synchronised = self.training and any(isinstance(m, nn.SyncBatchNorm) for m in self.modules())
        if len(rows) < (0 if synchronised else 2 if self.training else 1):
            missing_BD = torch.zeros(len(seen_B), self.config.projection, device=seen_B.device)
            return missing_BD + _nothing_of(tower), torch.zeros_like(seen_B)
        read_XD = read(rows)
        if len(rows) == len(seen_B):
            return read_XD, seen_B
        place_X = torch.tensor(rows, dtype=torch.int64, device=seen_B.device)
        return read_XD.new_zeros(len(seen_B), read_XD.shape[1]).index_copy(0, place_X, read_XD), seen_B


def scale_leads(signal_BLT: Tensor) -> Tensor:
    """Scale each lead of each record, in microvolts, to [-1, 1]; a flat lead becomes -1."""
    low_BL1, high_BL1 = signal_BLT.amin(2, keepdim=True), signal_BLT.amax(2, keepdim=True)
    return 2 * (signal_BLT - low_BL1) / (high_BL1 - low_BL1 + 1e-7) - 1


def _nothing_of(tower: list[nn.Module]) -> Tensor | float:
    """Zero. With several processes it hangs on the tower's parameters, since each process must give every one a gradient."""
    if world_size() == 1:
        return 0.0
    return torch.stack([p.sum() for module in tower for p in module.parameters() if p.requires_grad]).sum() * 0


def _features(tokens_BNF: Tensor, projection: nn.Module) -> Features:
    return Features(tokens_BNF[:, 0], projection(tokens_BNF[:, 0]), tokens_BNF[:, 1:])


def _projection(width: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width, bias=False),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width_out, bias=False),
        nn.BatchNorm1d(width_out),
    )


def _trunk(config: MoreConfig, patches: ImagePatches | EcgPatches) -> DropKeyViT:
    rates = dropkey_rates(config.dropkey, config.depth, config.dropkey_schedule)
    return DropKeyViT(patches, config.width, config.depth, config.heads, config.hidden, rates)


def _text_encoder(config: MoreConfig) -> LoraRoberta:
    return LoraRoberta(
        RobertaShape(
            config.text_vocabulary, config.text_width, config.text_layers, config.text_heads, config.text_hidden, config.text_dropout
        ),
        LoraShape(config.lora_rank, config.lora_alpha, config.lora_dropout),
        config.text_max_tokens,
        pretrained=config.text_weights is not None,
        folder=config.text_weights,
        fixed_length=config.text_pool == "mean_all",
    )


def create(config: MoreConfig) -> More:
    """Build MoRE.

    Raises:
        ConfigurationError: options that do not fit together.
    """
    if not 0.01 <= config.temperature <= 1:
        raise ConfigurationError(f"temperature must be between 0.01 and 1, not {config.temperature}: the learned one is clamped there")
    return More(config)
