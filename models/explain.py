"""Which parts of an X-ray and of an ECG a fused prediction rests on: layer-wise relevance propagation through attention.

Source: Chefer et al. 2021 (arXiv 2012.09838), as MoRE uses it. The relevance of one class, 1 at its logit, is passed back through
fused head, projection and trunk. Each block then gives E = mean over heads of max(0, dA R_A), with A its attention, dA the gradient
of the logit and R_A the relevance of A; C = (I + E_L) ... (I + E_1), and the map is the class token's row of C.

Rules, with a / b short for a / (b + 1e-9), and 0 where b = 0:

    linear             with Z = x+ W+^T + x- W-^T and S = R / Z:  x+ (S W+) + x- (S W-); the bias has no part
    product a b        a (S b^T) and b (a^T S) with S = R / (a b), half of each
    sum a + b          a R / (a + b) and b R / (a + b), rescaled to sum to R in the ratio of their absolute sums
    copies of x        x sum_i R_i / x
    batch norm         x g R / (x g), with g = weight / sqrt(variance + eps)
    all else           R

Letters: N tokens with the class token, P without, F width, H heads, K width of a head, D width of a projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.vit_dropkey import DropKeyBlock, DropKeyViT, EcgPatches, ImagePatches
from models.errors import ConfigurationError
from models.fused import FusedHead
from models.types import Batch, Modality


class TwoTrunks(Protocol):
    """A method with trunks for image and ECG: what can be explained."""

    image: DropKeyViT
    ecg: DropKeyViT
    image_projection: nn.Sequential
    ecg_projection: nn.Sequential

    def image_input(self, image_BHW: Tensor) -> Tensor:
        """What the image trunk reads."""

    def ecg_input(self, signal_BLT: Tensor) -> Tensor:
        """What the ECG trunk reads."""

    def eval(self) -> object:
        """Switch randomness off."""


@dataclass(frozen=True)
class Explanation:
    """What one logit rests on.

    Attributes:
        logit: of the class.
        image_map_HW: in [0, 1], one value a pixel.
        ecg_map_T: in [0, 1], one value a sample; the same for all leads, which the tokeniser mixes. Zeros without an ECG.
        image_tokens_HW: relevance of each patch, not scaled, at least 0.
        ecg_tokens_P: relevance of each token, likewise.
    """

    logit: float
    image_map_HW: Tensor
    ecg_map_T: Tensor
    image_tokens_HW: Tensor
    ecg_tokens_P: Tensor


def explain(method: TwoTrunks, head: FusedHead, batch: Batch, class_index: int) -> Explanation:
    """Explain the logit of a class for one record by what its image and ECG show.

    Args:
        method: the encoder; it is put into evaluation mode.
        head: trained on its projections.
        batch: one record with an image; where it has no ECG, the head reads zeros, as in its training.
        class_index: position of the class among the head's outputs.

    Raises:
        ConfigurationError: not one record, no image, or no such class.
    """
    if len(batch) != 1 or batch.image_BHW is None or not bool(batch.has(Modality.IMAGE).all()):
        raise ConfigurationError("an explanation is of one record that has an image; give a batch of one")
    if not 0 <= class_index < head.out.out_features:
        raise ConfigurationError(f"there is no class {class_index}; the head has {head.out.out_features}")
    method.eval()
    head.eval()
    with torch.enable_grad():
        image = _Trace(method.image, method.image_projection, method.image_input(batch.image_BHW))
        has_ecg_B = batch.has(Modality.ECG)
        ecg = _Trace(method.ecg, method.ecg_projection, method.ecg_input(batch.signal_BLT)) if bool(has_ecg_B.all()) else None
        joined_BX = head.join(image.embedding_BD, torch.zeros_like(image.embedding_BD) if ecg is None else ecg.embedding_BD, has_ecg_B)
        logits_BC = head.logits(joined_BX)
        maps = [block.attention for trace in (image, ecg) if trace is not None for block in trace.blocks]
        gradients = torch.autograd.grad(logits_BC[0, class_index], maps)
    with torch.no_grad():
        first_BC = functional.one_hot(torch.tensor([class_index], device=logits_BC.device), logits_BC.shape[1]).to(logits_BC)
        image_BD, ecg_BD = linear_relevance(joined_BX, head.out.weight, first_BC).chunk(2, dim=1)
        image_P = image.attribute(image_BD, gradients[: len(image.blocks)])
        ecg_P = image_P.new_zeros(method.ecg.patch_embed.n_tokens)
        if ecg is not None:
            ecg_P = ecg.attribute(ecg_BD, gradients[len(image.blocks) :])
        return _drawn(method, float(logits_BC[0, class_index]), image_P, ecg_P)


def _drawn(method: TwoTrunks, logit: float, image_P: Tensor, ecg_P: Tensor) -> Explanation:
    patches, samples = method.image.patch_embed, method.ecg.patch_embed
    assert isinstance(patches, ImagePatches) and isinstance(samples, EcgPatches)
    tokens_HW = image_P.view(patches.side, patches.side)
    size = (patches.size, patches.size)
    map_HW = functional.interpolate(tokens_HW[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    map_T = samples.over_time(ecg_P, samples.n_samples)
    return Explanation(logit, _unit(map_HW).cpu(), _unit(map_T).cpu(), tokens_HW.cpu(), ecg_P.cpu())


def _unit(values: Tensor) -> Tensor:
    """Scaled to [0, 1]; zeros where all are equal."""
    low, high = values.min(), values.max()
    return torch.zeros_like(values) if bool(low == high) else (values - low) / (high - low)


def safe_divide(a: Tensor, b: Tensor) -> Tensor:
    """a / (b + 1e-9), and 0 where b is 0."""
    below = b + 1e-9
    return torch.where((b == 0) | (below == 0), 0.0, a / torch.where(below == 0, 1.0, below))


def linear_relevance(x: Tensor, weight_YX: Tensor, relevance: Tensor) -> Tensor:
    """Relevance of the input of a linear map: x of shape (..., X), `relevance` of its output (..., Y)."""
    high, low = x.clamp(min=0), x.clamp(max=0)
    weight_high, weight_low = weight_YX.clamp(min=0), weight_YX.clamp(max=0)
    share = safe_divide(relevance, high @ weight_high.T + low @ weight_low.T)
    return high * (share @ weight_high) + low * (share @ weight_low)


def product_relevance(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of both factors of a matrix product, half each."""
    share = safe_divide(relevance, a @ b)
    return a * (share @ b.mT) / 2, b * (a.mT @ share) / 2


def sum_relevance(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of both terms of a sum; together they have all of it."""
    share = safe_divide(relevance, a + b)
    a, b = a * share, b * share
    a_sum, b_sum = a.sum(), b.sum()
    both = a_sum.abs() + b_sum.abs()
    a_fair, b_fair = (safe_divide(part.abs(), both) * relevance.sum() for part in (a_sum, b_sum))
    return a * safe_divide(a_fair, a_sum), b * safe_divide(b_fair, b_sum)


def copy_relevance(x: Tensor, *relevances: Tensor) -> Tensor:
    """Relevance of something that was used several times."""
    return x * torch.stack([safe_divide(r, x) for r in relevances]).sum(dim=0)


def batch_norm_relevance(norm: nn.BatchNorm1d, x_BF: Tensor, relevance_BF: Tensor) -> Tensor:
    """Relevance of the input of batch norm with its running statistics."""
    assert norm.running_var is not None
    scaled_BF = x_BF * norm.weight / (norm.running_var + norm.eps).sqrt()
    return scaled_BF * safe_divide(relevance_BF, scaled_BF)


class _Trace:
    """A tower run step by step, with the input of every layer kept.

    Attributes:
        embedding_BD: projection of the class token.
    """

    def __init__(self, trunk: DropKeyViT, projection: nn.Sequential, x: Tensor) -> None:
        # Only attention needs gradients, so weights may be frozen; the graph starts at the tokens.
        tokens_BNF = trunk.embed(x).detach().requires_grad_()
        self.blocks: list[_BlockTrace] = []
        for layer in trunk.layers:
            self.blocks.append(_BlockTrace(layer, tokens_BNF))
            tokens_BNF = self.blocks[-1].out_BNF
        self._shape = tokens_BNF.shape
        self._steps: list[tuple[nn.Module, Tensor]] = []
        passed = trunk.norm(tokens_BNF)[:, 0]
        for step in projection:
            self._steps.append((step, passed))
            passed = step(passed)
        self.embedding_BD: Tensor = passed

    def attribute(self, relevance_BD: Tensor, gradients: tuple[Tensor, ...]) -> Tensor:
        """Relevance of the tokens, (P,), from that of the embedding and the gradients of all attention maps."""
        for step, x in reversed(self._steps):
            if isinstance(step, nn.Linear):
                relevance_BD = linear_relevance(x, step.weight, relevance_BD)
            elif isinstance(step, nn.BatchNorm1d):
                relevance_BD = batch_norm_relevance(step, x, relevance_BD)
        relevance_BNF = relevance_BD.new_zeros(self._shape)
        relevance_BNF[:, 0] = relevance_BD
        effects: list[Tensor] = []
        for block, gradient in zip(reversed(self.blocks), reversed(gradients), strict=True):
            relevance_BNF, attention_BHNN = block.propagate(relevance_BNF)
            effects.insert(0, (gradient * attention_BHNN).clamp(min=0).mean(dim=1)[0])
        rollout_NN = torch.eye(self._shape[1], dtype=relevance_BNF.dtype, device=relevance_BNF.device)
        for effect_NN in effects:
            rollout_NN = rollout_NN + effect_NN @ rollout_NN
        return rollout_NN[0, 1:]


class _BlockTrace:
    """One block run step by step."""

    def __init__(self, layer: DropKeyBlock, x_BNF: Tensor) -> None:
        self.layer, self.x_BNF = layer, x_BNF
        attn, mlp = layer.attn, layer.mlp
        self.normed1 = layer.norm1(x_BNF)
        self.query, self.key, self.value = attn.split(attn.qkv(self.normed1))
        self.attention = (self.query @ self.key.mT * self.query.shape[-1] ** -0.5).softmax(dim=-1)
        self.mixed = (self.attention @ self.value).transpose(1, 2).reshape(x_BNF.shape)
        self.attended = attn.proj(self.mixed)
        self.middle = x_BNF + self.attended
        self.normed2 = layer.norm2(self.middle)
        self.hidden = mlp.act(mlp.fc1(self.normed2))
        self.added = mlp.fc2(self.hidden)
        self.out_BNF: Tensor = self.middle + self.added

    def propagate(self, relevance: Tensor) -> tuple[Tensor, Tensor]:
        """Relevance of the block's input (B, N, F) and of its attention (B, H, N, N) from that of its output."""
        attn, mlp = self.layer.attn, self.layer.mlp
        kept, added = sum_relevance(self.middle, self.added, relevance)
        added = linear_relevance(self.normed2, mlp.fc1.weight, linear_relevance(self.hidden, mlp.fc2.weight, added))
        kept, attended = sum_relevance(self.x_BNF, self.attended, copy_relevance(self.middle, kept, added))
        mixed = linear_relevance(self.mixed, attn.proj.weight, attended)
        B, H, N, K = self.value.shape
        attention, value = product_relevance(self.attention, self.value, mixed.view(B, N, H, K).transpose(1, 2))
        query, key = product_relevance(self.query, self.key.mT, attention)
        joined = torch.stack([query, key.mT, value], dim=2).permute(0, 3, 2, 1, 4).reshape(B, N, 3 * H * K)
        return copy_relevance(self.x_BNF, kept, linear_relevance(self.normed1, attn.qkv.weight, joined)), attention
