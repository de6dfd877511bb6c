"""Stacked scalograms (Aarotale and Rattani, CinC 2023): pictures of seconds (`models.scalogram`) and the network that sees them.

It learns from labels alone, by the protocol `finetune`. Each second is judged by itself and a recording has the mean of its seconds'
probabilities, but for the family that reads the seconds in a row. Letters: S seconds, R rows of the leads, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from models.encoders.scalogram_cnn import Cnn1d, CnnLstm, CnnLstmRecord, jet, picture_network
from models.errors import ConfigurationError
from models.method import SupervisedMethod
from models.methods.scalogram.spec import ROWS, ScalogramConfig
from models.scalogram import Quantile, ScalogramShape, scaled, scaled_each, stacked_scalograms, without_padding
from models.types import Batch, Features

_QUANTILE = 0.999
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the colours of ImageNet, on which networks for pictures are trained before."""

_ROW_NETWORKS = {"cnn1d": Cnn1d, "cnn_lstm": CnnLstm, "cnn_lstm_record": CnnLstmRecord}


class Scalogram(SupervisedMethod):
    """Pictures and network."""

    config: ScalogramConfig
    constant: Tensor

    def __init__(self, config: ScalogramConfig) -> None:
        super().__init__()
        self.config = config
        self.shape = ScalogramShape(
            config.fs_hz, config.n_samples, config.window, len(config.channels), config.n_frequencies, config.high_hz, config.low_hz,
            config.rows, config.width, config.height, config.scope,
        )  # fmt: skip
        self.network: nn.Module
        if config.family in ROWS:
            build = _ROW_NETWORKS[config.family]
            self.network = build(self.shape.stacked, config.widths, config.kernels, config.hidden, config.dropout)
        else:
            self.network = picture_network(config.family)
        self.feature_width = int(self.network.width)  # type: ignore[arg-type]
        self.register_buffer("constant", torch.ones(()))
        # Not the configuration's: a bundle names the weights, not the place where they happened to lie.
        self._weights = config.picture_weights

    def prepare(self, texts: list[str]) -> None:
        """Take over local weights of the network for pictures, where some are configured.

        Raises:
            ConfigurationError: the file does not hold the weights of this network.
        """
        if self._weights is not None:
            _load(self.network, Path(self._weights))

    def measure(self, batches: Iterable[Batch]) -> None:
        """The constant that all pictures are divided by: the 99.9 % quantile of training pictures."""
        if self.config.scaling == "constant":
            quantile = Quantile(_QUANTILE)
            for batch in batches:
                quantile.add(without_padding(stacked_scalograms(batch.signal_BLT, self.shape), self.shape))
            self.constant.fill_(quantile.value() or 1.0)

    def pictures(self, signal_BLT: Tensor) -> Tensor:
        """Pictures (B, S, H, W) between 0 and 1 of signals (B, L, T) in microvolts."""
        picture_BSHW = stacked_scalograms(signal_BLT, self.shape)
        return scaled(picture_BSHW, self.constant) if self.config.scaling == "constant" else scaled_each(picture_BSHW, self.shape)

    def encode(self, batch: Batch) -> Features:
        """A vector for every second as tokens; their mean, or what is read from them in a row."""
        picture_BSHW = self.pictures(batch.signal_BLT)
        B, S = picture_BSHW.shape[:2]
        if isinstance(self.network, CnnLstmRecord):
            second_BSF = self.network.seconds(without_padding(picture_BSHW, self.shape).flatten(0, 1)).view(B, S, -1)
            return Features(self.network.last(second_BSF), tokens_BNF=second_BSF)
        seen_MF: Tensor = self.network(self._seen(picture_BSHW.flatten(0, 1)))
        second_BSF = seen_MF.view(B, S, -1)
        return Features(second_BSF.mean(dim=1), tokens_BNF=second_BSF)

    def finetune_features(self, features: Features) -> Tensor:
        """A row for every second, (B S, F), or one a recording where the seconds are read in a row."""
        if isinstance(self.network, CnnLstmRecord) or features.tokens_BNF is None:
            return features.pooled_BF
        return features.tokens_BNF.flatten(0, 1)

    def set_dropout(self, rate: float) -> None:
        """Set the dropout before the last layer.

        Raises:
            ConfigurationError: the network has none.
        """
        layers = [m for m in self.network.modules() if isinstance(m, nn.Dropout)]
        if not layers:
            super().set_dropout(rate)
        for layer in layers:
            layer.p = rate

    def _seen(self, picture_MHW: Tensor) -> Tensor:
        """What the network reads of pictures: the rows of the leads, or three colours."""
        if self.config.family in ROWS:
            return without_padding(picture_MHW, self.shape)
        grey_M1HW = picture_MHW[:, None]
        colours_M3HW = jet(grey_M1HW) if self.config.colours == "jet" else grey_M1HW.expand(-1, 3, -1, -1)
        mean_311, deviation_311 = (torch.tensor(v, device=grey_M1HW.device)[:, None, None] for v in (_MEAN, _DEVIATION))
        return (colours_M3HW - mean_311) / deviation_311


def _load(network: nn.Module, path: Path) -> None:
    """Weights without those of a classifier, which is another's.

    Raises:
        ConfigurationError: they do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        held = load(path.read_bytes())
        own = network.state_dict()
        network.load_state_dict({name: held[name] for name in own})
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise ConfigurationError(
            f"{path} does not hold the weights of {type(network).__name__} ({error}); give a safetensors file with torchvision's names, or "
            "set picture_weights to null"
        ) from error


def create(config: ScalogramConfig) -> Scalogram:
    """Build the network.

    Raises:
        ConfigurationError: windows, rows or frequencies do not fit each other, or weights for pictures are named for a network of rows.
    """
    if config.picture_weights is not None and config.family in ROWS:
        raise ConfigurationError(f"family {config.family} reads rows and has no weights for pictures; set picture_weights to null")
    return Scalogram(config)
