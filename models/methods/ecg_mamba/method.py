"""1D CNN ECG Mamba (Jiang, Mutahira, Huang, Muhammad, arXiv 2510.13046): `models.encoders.vision_mamba` on standardised records.

It learns from labels alone, by the protocol `finetune`; what its classifier reads is the class token.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.encoders.vision_mamba import MambaBlock, MambaShape, VisionMamba
from models.method import SupervisedMethod
from models.methods.ecg_mamba.signals import fit, recorded_samples, standardise
from models.methods.ecg_mamba.spec import EcgMambaConfig
from models.types import Batch, Features

_WITHOUT_DECAY = ("A_log", "class_token", "position")
"""Parameters of more than one axis that are no weights; norms, biases and D have one axis."""


class EcgMamba(SupervisedMethod):
    """Normalisation and network."""

    config: EcgMambaConfig

    def __init__(self, config: EcgMambaConfig) -> None:
        super().__init__()
        self.config = config
        self.network = VisionMamba(_shape(config), len(config.channels))
        self.feature_width = self.network.shape.width

    def prepared(self, signal_BLT: Tensor) -> Tensor:
        """Signals (B, L, T) in microvolts as the network reads them: standardised, then cut (anywhere in training) or padded."""
        recorded_B = recorded_samples(signal_BLT)
        return fit(standardise(signal_BLT, recorded_B), recorded_B, self.config.length, random=self.training)

    def encode(self, batch: Batch) -> Features:
        """All tokens, the class token among them, and the class token."""
        tokens_BNF, pooled_BF = self.network(self.prepared(batch.signal_BLT))
        return Features(pooled_BF, tokens_BNF=tokens_BNF)

    def decays(self, parameter: str, value: Tensor) -> bool:
        """Matrices and convolutions: neither A_log, D, norms and biases nor the class token and positions."""
        return value.ndim > 1 and parameter.rpartition(".")[2] not in _WITHOUT_DECAY

    def set_dropout(self, rate: float) -> None:
        """Dropout of what every block adds."""
        for block in self.network.blocks:
            assert isinstance(block, MambaBlock)
            block.dropout = nn.Dropout(rate)


def _shape(config: EcgMambaConfig) -> MambaShape:
    middle, width = config.stem_widths
    return MambaShape(
        n_samples=config.length,
        stem=((middle, 14, 3, 2), (width, 15, 4, config.stem_padding)),
        depth=config.depth,
        state=config.state,
        drop_path=config.drop_path,
        dropout=config.dropout,
        class_token=config.class_token,
        halve=config.halve,
        window=config.window,
    )


def create(config: EcgMambaConfig) -> EcgMamba:
    """Build ECG-Mamba.

    Raises:
        ConfigurationError: its length is too short for the stem.
    """
    return EcgMamba(config)
