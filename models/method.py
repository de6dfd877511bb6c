"""The contract of a method's network. A head or a protocol never asks which method it has in its hands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.accumulation import in_parts
from models.errors import ConfigurationError
from models.signal_scale import SignalScale
from models.types import Batch, Features, Losses, Modality


class Method(nn.Module, ABC):
    """A network with its objective.

    Attributes:
        config: the frozen dataclass it was built from.
        feature_width: F, the width of `Features.pooled_BF`.
    """

    config: Any
    feature_width: int
    needs_scale: ClassVar[bool] = False
    """Whether `set_scale` is to be called with the scale of the training records before training."""

    @abstractmethod
    def encode(self, batch: Batch) -> Features:
        """Encode signals (B, L, T) in microvolts. Must not read texts or labels."""

    @abstractmethod
    def loss(self, batch: Batch) -> Losses:
        """The pretraining objective; `total` is the scalar that is minimised."""

    @abstractmethod
    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
        """Optimiser and schedule (stepped once per optimiser step) of the published recipe."""

    def prepare(self, texts: list[str]) -> None:
        """Learn what must be known before training from the training texts (a vocabulary, say). Default: nothing."""

    def set_scale(self, scale: SignalScale) -> None:
        """Take over mean and spread of the training signals, for networks that normalise by constants. Default: nothing."""

    def measure(self, batches: Iterable[Batch]) -> None:
        """Learn constants from training records before training; those that are not asked for are not read. Default: nothing."""

    def after_step(self, step: int, total_steps: int) -> None:
        """What follows an optimiser step (a teacher that follows its student, say).

        Args:
            step: number of the step that was just taken, from 0.
            total_steps: how many the run will take.
        """

    def compiled_parts(self) -> list[nn.Module]:
        """The modules whose forward pass is worth compiling on a GPU; inputs of few different shapes. Default: none."""
        return []

    def extra_state(self) -> dict[str, Any]:
        """JSON that belongs to the encoder beside its weights (a vocabulary, say)."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore `extra_state`; called before weights are loaded."""

    def embed_text(self, texts: list[str]) -> Tensor:
        """Text embeddings (B, D), unit length, in the space of `Features.embedding_BD`.

        Raises:
            ConfigurationError: the method has no text tower.
        """
        raise ConfigurationError(f"{type(self).__name__} has no text tower, so it cannot be evaluated zero-shot")

    def encode_image(self, batch: Batch) -> Features:
        """Encode images (B, H, W), uint8 grey, as `encode` does signals.

        Raises:
            ConfigurationError: the method has no image tower.
        """
        raise ConfigurationError(f"{type(self).__name__} has no image tower")

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """Embeddings (B, D) in the shared space by modality ("ecg", "text", "image", "labs", "ppg"), for retrieval.

        Rows that a record lacks (`Batch.has`) hold anything finite. Default: what `encode` and `embed_text` give.
        """
        found = {}
        embedding_BD = self.encode(batch).embedding_BD
        if embedding_BD is not None:
            found["ecg"] = functional.normalize(embedding_BD.float(), dim=1)
        if batch.texts is not None:
            found["text"] = self.embed_text(batch.texts)
        return found

    def similarity(self, query: Mapping[str, Tensor], candidate_CD: Tensor, target: str) -> Tensor:
        """Scores (Q, C) of candidates of the modality `target` for queries that give embeddings (Q, D) of other modalities.

        Default: the sum of dot products, which is what pairwise contrastive training compares.
        """
        return torch.stack([part_QD @ candidate_CD.T for part_QD in query.values()]).sum(dim=0)

    def generate(self, batch: Batch) -> list[str]:
        """A report for each record.

        Raises:
            ConfigurationError: the method writes none.
        """
        raise ConfigurationError(f"{type(self).__name__} writes no reports")

    def reconstruct(self, batch: Batch) -> Tensor:
        """All channels (B, L, T) in microvolts from those that the method keeps (`config.kept`); the others change nothing.

        Raises:
            ConfigurationError: the method reconstructs none.
        """
        raise ConfigurationError(f"{type(self).__name__} reconstructs no channels")

    def finetune_parameters(self, modality: Modality) -> list[nn.Parameter]:
        """Make the network ready for fine-tuning on labels of recordings or images, and give what learns. Default: all that can.

        Raises:
            ConfigurationError: the method is not fine-tuned on that.
        """
        return [p for p in self.parameters() if p.requires_grad]

    def finetune_features(self, features: Features) -> Tensor:
        """What the classifier of a fine-tuned network reads, (B, F). Default: the pooled features.

        Or several rows a recording, as many of each, one recording after the other: each is learned from by itself, and their scores
        become one as those of crops do (`HeadRecipe.aggregate`).
        """
        return features.pooled_BF

    def set_dropout(self, rate: float) -> None:
        """Set the dropout of the encoder for fine-tuning.

        Raises:
            ConfigurationError: the encoder has none that could be set.
        """
        if rate:
            raise ConfigurationError(f"{type(self).__name__} has no dropout that fine-tuning could set")

    def layer_of(self, parameter: str) -> int:
        """Depth of a parameter by its name, for learning rates that fall towards the input: 0 is the input's side.

        Raises:
            ConfigurationError: the network's layers are not counted.
        """
        raise ConfigurationError(f"{type(self).__name__} does not count its layers, so its learning rate cannot fall by layer")

    def decays(self, parameter: str, value: Tensor) -> bool:
        """Whether weight decay holds for a parameter. Default: for matrices and convolutions."""
        return value.ndim > 1

    def answer_features(self, batch: Batch) -> Tensor:
        """What an answer to the questions in `batch.texts` about the recordings can be read from, (B, F).

        Raises:
            ConfigurationError: the method does not read questions.
        """
        raise ConfigurationError(f"{type(self).__name__} reads no questions")

    def start_from(self, first_stage: Method) -> None:
        """Take over what the stage before has learned (`MethodSpec.first_stage`); after `prepare`, before training.

        Raises:
            ConfigurationError: the method has no stage before.
        """
        raise ConfigurationError(f"{type(self).__name__} has no stage before the encoder's")


class SupervisedMethod(Method):
    """A network that learns from labels alone, by the protocol `finetune`: its encoder is delivered as it was initialised."""

    def loss(self, batch: Batch) -> Losses:
        """There is none without a task.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            f"{type(self).__name__} has no pretraining; leave max_steps at 0 and train it on labels by the protocol finetune"
        )

    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, None]:
        """Of what learns; no step is ever taken with it, since `loss` refuses."""
        return torch.optim.AdamW(self.parameters()), None


class ContrastiveMethod(Method):
    """A method whose objective compares the records of a batch.

    What is computed of each record apart (`towers`) and what compares them (`contrast`) are two functions, so that a batch can
    be encoded in parts that fit into memory and still be compared as a whole (`TrainingConfig.accumulate`).
    """

    @abstractmethod
    def towers(self, batch: Batch) -> dict[str, Tensor]:
        """Everything that `contrast` needs, by name: tensors (B, ...) of which row i depends on record i alone (batch norm aside)."""

    @abstractmethod
    def contrast(self, towers: dict[str, Tensor]) -> Losses:
        """The objective from the towers of all records of this process; negatives of other processes are gathered in here."""

    def loss(self, batch: Batch) -> Losses:
        """The pretraining objective; `total` is the scalar that is minimised."""
        return self.contrast(in_parts(self.towers, batch, self.config.accumulate))
