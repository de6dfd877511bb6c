"""One encoder a modality: a trunk, a map into the shared space with an indicator of whether the record has it, LayerNorm.

    r = LayerNorm(W pooled + b + indicator[observed])

A record that lacks the modality stays in the batch: its trunk is not run, so neither batch norm nor the result sees what stands
in its place, and its vector is the learned one of the missing. That is the embedding of the indicator of the paper's
experiments, moved behind the concatenation; their [MISSING] token likewise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.encoders.labs import LabPanel
from models.encoders.resnet1d import ResNet1d
from models.encoders.resnet2d import create_resnet2d
from models.encoders.shapes import BACKBONES, ResNetShape
from models.encoders.text import OfflineBert
from models.errors import ConfigurationError, TrainingError
from models.layers import scale_to_unit
from models.methods.symile.spec import SymileConfig
from models.types import Batch, Modality

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pictures, by which public weights expect theirs to be normalised."""


@dataclass
class Encoded:
    """What a tower makes of a batch: trunk output (B, F), vector in the shared space (B, D), and who has the modality, bool (B,)."""

    pooled_BF: Tensor
    embedding_BD: Tensor
    observed_B: Tensor


class Tower(nn.Module, ABC):
    """Trunk, map, indicator and norm of one modality.

    Attributes:
        modality: which.
        feature_width: F, the width of the trunk's output.
    """

    modality: Modality

    def __init__(self, trunk: nn.Module, feature_width: int, width: int) -> None:
        super().__init__()
        self.trunk, self.feature_width = trunk, feature_width
        self.fc = nn.Linear(feature_width, width)
        self.indicator = nn.Embedding(2, width)
        nn.init.zeros_(self.indicator.weight)
        self.norm = nn.LayerNorm(width)

    @abstractmethod
    def given(self, batch: Batch) -> bool:
        """Whether the batch holds this modality at all."""

    @abstractmethod
    def _has(self, batch: Batch) -> Tensor:
        """Which records hold something to encode, bool (B,), apart from what `Batch.observed` says."""

    @abstractmethod
    def _pool(self, batch: Batch, rows_R: Tensor) -> Tensor:
        """The trunk's output (R, F) for some records."""

    def forward(self, batch: Batch) -> Encoded:
        """Encode a batch.

        Raises:
            TrainingError: it does not hold the modality.
        """
        if not self.given(batch):
            raise TrainingError(f"the configuration reads {self.modality}, but the batch has none; give the job what holds it")
        observed_B = self._has(batch) & batch.has(self.modality)
        rows_R = observed_B.nonzero()[:, 0]
        if len(rows_R):
            part_RF = self._pool(batch, rows_R)
            pooled_BF = part_RF.new_zeros(len(batch), self.feature_width).index_copy(0, rows_R, part_RF)
        else:
            # Gradients of zero, since processes that train together wait for the gradient of every weight.
            nothing = torch.stack([p.sum() for p in self.trunk.parameters()]).sum() * 0
            pooled_BF = nothing.expand(len(batch), self.feature_width)
        embedding_BD = self.norm(self.fc(pooled_BF) + self.indicator(observed_B.long()))
        return Encoded(pooled_BF, embedding_BD, observed_B)


class EcgTower(Tower):
    """A 2-D residual network over the ECG as a picture of one channel, (1, T, L), scaled to [-1, 1] over the whole record.

    A record that is constant holds no ECG.
    """

    modality = Modality.ECG

    def __init__(self, config: SymileConfig) -> None:
        trunk = create_resnet2d(config.ecg_backbone, channels=1)
        super().__init__(trunk, trunk.width, config.width)
        self.channels = [i for i, name in enumerate(config.channels) if name not in config.ppg_channels]

    def given(self, batch: Batch) -> bool:
        """Signals that have channels."""
        return batch.signal_BLT.shape[1] > 0

    def _has(self, batch: Batch) -> Tensor:
        return _varies(batch.signal_BLT[:, self.channels])

    def _pool(self, batch: Batch, rows_R: Tensor) -> Tensor:
        unit_RLT = 2 * scale_to_unit(batch.signal_BLT[rows_R][:, self.channels]) - 1
        pooled_RF: Tensor = self.trunk(unit_RLT.transpose(1, 2)[:, None])
        return pooled_RF


class PpgTower(Tower):
    """A residual network over time of the pulse wave, scaled to [-1, 1] over the whole record; a constant one is none."""

    modality = Modality.PPG

    def __init__(self, config: SymileConfig) -> None:
        shape = BACKBONES[config.ppg_backbone]
        if not isinstance(shape, ResNetShape):
            raise ConfigurationError(f"ppg_backbone must be a residual network, not {config.ppg_backbone!r}")
        trunk = ResNet1d(shape, len(config.ppg_channels))
        super().__init__(trunk, trunk.width, config.width)
        self.channels = [config.channels.index(name) for name in config.ppg_channels]

    def given(self, batch: Batch) -> bool:
        """Signals that have channels."""
        return batch.signal_BLT.shape[1] > 0

    def _has(self, batch: Batch) -> Tensor:
        return _varies(batch.signal_BLT[:, self.channels])

    def _pool(self, batch: Batch, rows_R: Tensor) -> Tensor:
        pooled_RF: Tensor = self.trunk(2 * scale_to_unit(batch.signal_BLT[rows_R][:, self.channels]) - 1)[1]
        return pooled_RF


class ImageTower(Tower):
    """A 2-D residual network over a grey picture, repeated in three channels that are normalised as ImageNet's."""

    modality = Modality.IMAGE
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: SymileConfig) -> None:
        trunk = create_resnet2d(config.image_backbone)
        super().__init__(trunk, trunk.width, config.width)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None], persistent=False)

    def given(self, batch: Batch) -> bool:
        """Pictures."""
        return batch.image_BHW is not None

    def _has(self, batch: Batch) -> Tensor:
        return _everyone(batch)

    def _pool(self, batch: Batch, rows_R: Tensor) -> Tensor:
        assert batch.image_BHW is not None, "asked of given batches only"
        grey_R1HW = batch.image_BHW[rows_R][:, None].float() / 255
        pooled_RF: Tensor = self.trunk((grey_R1HW - self.mean) / self.deviation)
        return pooled_RF


class LabsTower(Tower):
    """An MLP over percentiles and what was measured; a panel without any measured item is none."""

    modality = Modality.LABS

    def __init__(self, config: SymileConfig) -> None:
        trunk = LabPanel(config.n_labs, config.labs_hidden)
        super().__init__(trunk, trunk.width, config.width)
        self.n_items = config.n_labs

    def given(self, batch: Batch) -> bool:
        """Percentiles, and flags of what was measured."""
        return batch.labs_BP is not None and batch.labs_observed_BP is not None

    def _has(self, batch: Batch) -> Tensor:
        assert batch.labs_BP is not None and batch.labs_observed_BP is not None, "asked of given batches only"
        if batch.labs_BP.shape[1] != self.n_items:
            raise ConfigurationError(
                f"the lab panels of this pairing have {batch.labs_BP.shape[1]} items, the configuration says n_labs={self.n_items}; "
                f"set n_labs={batch.labs_BP.shape[1]}"
            )
        return batch.labs_observed_BP.any(dim=1)

    def _pool(self, batch: Batch, rows_R: Tensor) -> Tensor:
        assert batch.labs_BP is not None and batch.labs_observed_BP is not None, "asked of given batches only"
        pooled_RF: Tensor = self.trunk(batch.labs_BP[rows_R].float(), batch.labs_observed_BP[rows_R])
        return pooled_RF


class TextTower(Tower):
    """The house's BERT, trained, and the pooled vector of its [CLS] token; a report without words is none."""

    modality = Modality.TEXT
    trunk: OfflineBert

    def __init__(self, config: SymileConfig) -> None:
        trunk = OfflineBert(
            config.text_vocabulary,
            config.text_width,
            config.text_layers,
            config.text_heads,
            config.text_max_tokens,
            config.text_dropout,
            trainable_layers=config.text_layers,
        )
        trunk.requires_grad_(True)  # the tables of words and places too
        super().__init__(trunk, config.text_width, config.width)

    def given(self, batch: Batch) -> bool:
        """Reports."""
        return batch.texts is not None

    def _has(self, batch: Batch) -> Tensor:
        return torch.tensor([bool(t.strip()) for t in batch.texts or []], device=batch.row_B.device)

    def _pool(self, batch: Batch, rows_R: Tensor) -> Tensor:
        assert batch.texts is not None, "asked of given batches only"
        pooled_RF: Tensor = self.trunk([batch.texts[i] for i in rows_R.tolist()]).pooled_BW
        return pooled_RF


def create_tower(modality: str, config: SymileConfig) -> Tower:
    """Build the encoder of a modality.

    Raises:
        ConfigurationError: there is none for it.
    """
    if modality not in _TOWERS:
        raise ConfigurationError(f"Symile has no encoder for {modality!r}; choose among {', '.join(_TOWERS)}")
    return _TOWERS[modality](config)


_TOWERS: dict[str, type[EcgTower | PpgTower | ImageTower | LabsTower | TextTower]] = {
    str(t.modality): t for t in (EcgTower, ImageTower, LabsTower, PpgTower, TextTower)
}


def _varies(signal_BLT: Tensor) -> Tensor:
    flat_BX = signal_BLT.flatten(1)
    return flat_BX.amax(dim=1) > flat_BX.amin(dim=1)


def _everyone(batch: Batch) -> Tensor:
    return torch.ones(len(batch), dtype=torch.bool, device=batch.row_B.device)
