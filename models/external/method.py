"""Anyone's encoder as a method: what `einthoven benchmark DATASET --encoder package.module:Class` takes.

The contract. `Class()` takes no arguments and loads whatever weights it needs. The instance maps

    float32 torch tensor (B, 12, T), millivolts, leads I II III aVR aVL aVF V1 ... V6, at the rate of the store (`--recipe`)

to features (B, F), or to tokens (B, N, F), of which the linear probe reads the mean over N. It may be any callable (its result may
be a NumPy array); then it can be probed on its features. A `torch.nn.Module` can be fine-tuned too, and one that gives tokens can have an
attentive probe. Where the class has a classmethod `random_init()`, that returns an instance with untrained weights, this twin is judged
beside it under the frozen protocols. It must work on whatever device its input is on, in evaluation mode and without gradients as
well as in training. The class is imported in the process of the job only, and must be installed in the same environment.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.external.spec import ExternalConfig
from models.method import Method
from models.types import Batch, Features, Losses, Modality

_MICROVOLTS_PER_MILLIVOLT = 1000.0
_TRIED = 2
"""Records of the input on which an encoder is tried out."""


class ExternalEncoder(Method):
    """An instance of somebody's class.

    Raises:
        ConfigurationError: the class cannot be imported or built, or does not keep the contract; says how.
    """

    config: ExternalConfig

    def __init__(self, config: ExternalConfig) -> None:
        super().__init__()
        self.config = config
        made = _build(config)
        self.module = made if isinstance(made, nn.Module) else None
        self._call: Callable[[Tensor], Any] = made
        tried = self._try_out()
        self.feature_width = tried.shape[-1]
        if self.module is None:
            # What it makes of a fixed input tells callables apart that have no weights of which a hash could be taken.
            found = hashlib.sha256(tried.float().cpu().contiguous().numpy().tobytes()).digest()
            self.register_buffer("fingerprint", torch.frombuffer(bytearray(found), dtype=torch.uint8))

    def encode(self, batch: Batch) -> Features:
        """Encode signals (B, L, T) in microvolts."""
        signal_BLT = batch.signal_BLT / _MICROVOLTS_PER_MILLIVOLT
        found = torch.as_tensor(self._call(signal_BLT), device=signal_BLT.device).float()
        return Features(found) if found.ndim == 2 else Features(found.mean(dim=1), tokens_BNF=found)

    def loss(self, batch: Batch) -> Losses:
        """There is none.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("an external encoder is judged as it is; it has no pretraining here")

    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, None]:
        """There are none.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError("an external encoder is judged as it is; it has no pretraining here")

    def finetune_parameters(self, modality: Modality) -> list[nn.Parameter]:
        """All that can learn.

        Raises:
            ConfigurationError: it is no torch module, or none of its weights can learn.
        """
        learns = super().finetune_parameters(modality)
        if not learns:
            raise ConfigurationError(
                f"{self.config.encoder} has no weights that can learn, so it cannot be fine-tuned; make it a torch.nn.Module with trainable "
                "parameters, or use the protocol linear_probe"
            )
        return learns

    def _try_out(self) -> Tensor:
        """What it makes of two records of noise."""
        shape = (_TRIED, len(self.config.channels), self.config.n_samples)
        signal_BLT = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        try:
            if self.module is not None:
                self.module.eval()
            with torch.inference_mode():
                found = torch.as_tensor(self._call(signal_BLT)).clone()
        except Exception as error:
            raise ConfigurationError(
                f"{self.config.encoder} fails on an input of shape {shape}: {type(error).__name__}: {error}"
            ) from error
        if found.ndim not in (2, 3) or len(found) != _TRIED or not found.shape[-1]:
            raise ConfigurationError(
                f"{self.config.encoder} gives shape {tuple(found.shape)} for an input of shape {shape}; it must give features (B, F) or tokens (B, N, F)"
            )
        if not torch.isfinite(found.float()).all():
            raise ConfigurationError(
                f"{self.config.encoder} gives values that are not finite for plain noise of 0.1 mV; repair the encoder"
            )
        return found


def find_class(name: str) -> Any:
    """The class that "package.module:Class" names.

    Raises:
        ConfigurationError: it is not of that form, or cannot be imported.
    """
    module, separator, attribute = name.partition(":")
    if not separator or not module or not attribute:
        raise ConfigurationError(f"--encoder {name!r} must look like package.module:Class")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"--encoder {name!r} cannot be imported ({error}); install its package in this environment (pip install -e FOLDER): "
            "the current folder and PYTHONPATH are not searched"
        ) from error
    return found


def _build(config: ExternalConfig) -> Any:
    found = find_class(config.encoder)
    try:
        made = found.random_init() if config.untrained else found()
    except Exception as error:
        raise ConfigurationError(
            f"{config.encoder} cannot be built without arguments: {type(error).__name__}: {error}; give a class whose arguments have defaults"
        ) from error
    if not callable(made):
        raise ConfigurationError(f"an instance of {config.encoder} cannot be called; it must map signals to features")
    return made


def create(config: ExternalConfig) -> ExternalEncoder:
    """Build the encoder."""
    return ExternalEncoder(config)
