"""What gradient-trained heads put on top of an encoder: a linear layer on its features, or attentive pooling of its tokens.

Attentive pooling is not linear: what a class is read from is a mixture of tokens whose weights depend on them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.embeddings import features_of
from models.errors import ConfigurationError
from models.head_recipes import HeadRecipe
from models.method import Method
from models.types import Batch


class AttentiveReadout(nn.Module):
    """One learned query that attends to an encoder's tokens, then one linear layer straight to the classes.

    No biases and no norm, as in the probe of ECG-JEPA (Weimann and Conrad, arXiv 2410.13867); with width F and C classes it has
    F + 3 F^2 + F C parameters. Weights and query start truncated normal with standard deviation 0.02.

    Raises:
        ConfigurationError: the width cannot be divided among the heads.
    """

    def __init__(self, width: int, heads: int, n_classes: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigurationError(f"tokens of width {width} cannot be divided among {heads} heads of an attentive readout; change heads")
        self.heads = heads
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.to_query, self.to_key, self.to_value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, n_classes, bias=False)
        for weight in self.parameters():
            nn.init.trunc_normal_(weight, std=0.02)

    def forward(self, tokens_BNF: Tensor, present_BN: Tensor | None = None) -> Tensor:
        """Logits (B, C).

        Args:
            tokens_BNF: of an encoder.
            present_BN: which tokens may be attended to, at least one of each record; None for all.
        """
        B, _, F = tokens_BNF.shape

        def split(x_BNF: Tensor) -> Tensor:
            return x_BNF.view(*x_BNF.shape[:2], self.heads, F // self.heads).transpose(1, 2)

        pooled = functional.scaled_dot_product_attention(
            split(self.to_query(self.query)).expand(B, -1, -1, -1),
            split(self.to_key(tokens_BNF)),
            split(self.to_value(tokens_BNF)),
            attn_mask=None if present_BN is None else present_BN[:, None, None, :],
        )
        logits: Tensor = self.out(pooled.transpose(1, 2).flatten(1))
        return logits


class Classifier(nn.Module):
    """An encoder with a readout on top; both are trained, or the readout alone while the encoder stays in evaluation mode.

    Attributes:
        encoder: any method.
        recipe: how the head is trained.
        head: the readout; what it reads is `width` wide.
    """

    def __init__(self, encoder: Method, recipe: HeadRecipe, n_classes: int, width: int) -> None:
        super().__init__()
        self.encoder, self.recipe = encoder, recipe
        self.head: AttentiveReadout | nn.Linear
        if recipe.readout == "attentive":
            self.head = AttentiveReadout(width, recipe.heads, n_classes)
        else:
            self.head = nn.Linear(width, n_classes, bias=recipe.bias)

    def train(self, mode: bool = True) -> Classifier:
        """Switch to training mode, a frozen encoder aside."""
        super().train(mode)
        self.encoder.train(mode and not self.recipe.frozen)
        return self

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C), float32.

        Raises:
            ConfigurationError: tokens are to be read of an encoder that gives none.
        """
        return self.logits(*read_of(self.encoder, self.recipe, batch))

    def logits(self, read: Tensor, present_BN: Tensor | None) -> Tensor:
        """Logits (B, C) of what `read_of` gives."""
        found: Tensor = self.head(read, present_BN) if isinstance(self.head, AttentiveReadout) else self.head(read)
        return found

    def learned(self) -> dict[str, Tensor]:
        """A copy of the weights that training changes, on the CPU: all, or those of the readout over a frozen encoder."""
        held = self.state_dict()
        return {k: v.detach().cpu().clone() for k, v in held.items() if not self.recipe.frozen or k.startswith("head.")}


def read_of(encoder: Method, recipe: HeadRecipe, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """What the readout of a recipe reads, float32: features (B, F), or tokens (B, N, F) and which of them are present.

    On a GPU the encoder computes in bfloat16. The readout does not: scores of so few digits would tie where they differ.

    Raises:
        ConfigurationError: tokens are to be read of an encoder that gives none.
    """
    kind = batch.signal_BLT.device.type
    with (
        torch.set_grad_enabled(torch.is_grad_enabled() and not recipe.frozen),
        torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"),
    ):
        features = features_of(encoder, batch)
        if recipe.readout == "features":
            return encoder.finetune_features(features).float(), None
    if features.tokens_BNF is None:
        raise ConfigurationError(
            f"{type(encoder).__name__} gives no tokens that an attentive readout could attend to; choose linear_probe or finetune"
        )
    return features.tokens_BNF.float(), features.tokens_present_BN
