"""Relevance propagation against a second implementation that follows the definition number by number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.explain import (
    Explanation,
    batch_norm_relevance,
    copy_relevance,
    explain,
    linear_relevance,
    product_relevance,
    safe_divide,
    sum_relevance,
)
from models.fused import FusedHead
from models.methods.more.method import More
from models.methods.more.spec import MoreConfig
from models.types import Batch, Modality


def make(depth: int = 1) -> tuple[More, FusedHead, Batch]:
    """A network of double precision whose weights are large enough for attention to matter."""
    torch.manual_seed(1)
    method = More(MoreConfig(n_samples=40, image_size=8, patch=4, width=8, depth=depth, heads=2, hidden=12, projection=4)).double()
    for name, parameter in method.named_parameters():
        if name.startswith(("image", "ecg")):
            parameter.data.add_(0.4 * torch.randn_like(parameter))
    for module in method.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    batch = Batch(100 * torch.randn(1, 12, 40, dtype=torch.float64), torch.arange(1))
    batch.image_BHW = torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8)
    method.image_input = lambda x: ((x.double() / 255 - 0.499) / 0.293)[:, None].expand(-1, 3, -1, -1)  # type: ignore[method-assign]
    return method, FusedHead(4, 3).double(), batch


def divided(a: float, b: float) -> float:
    return 0.0 if b == 0 else a / (b + 1e-9)


def linear(x: list[float], weight: list[list[float]], relevance: list[float]) -> list[float]:
    found = [0.0] * len(x)
    for row, r in zip(weight, relevance, strict=True):
        total = sum(w * v for w, v in zip(row, x, strict=True) if w * v > 0)
        share = divided(r, total)
        for i, (w, v) in enumerate(zip(row, x, strict=True)):
            found[i] += max(w * v, 0.0) * share
    return found


def rows_linear(x: Tensor, layer: nn.Linear, relevance: Tensor) -> Tensor:
    weight = layer.weight.tolist()
    return torch.tensor([linear(a, weight, r) for a, r in zip(x.tolist(), relevance.tolist(), strict=True)], dtype=torch.float64)


def product(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    a_found, b_found = torch.zeros_like(a), torch.zeros_like(b)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            share = divided(relevance[i, j].item(), sum(a[i, k].item() * b[k, j].item() for k in range(a.shape[1])))
            for k in range(a.shape[1]):
                a_found[i, k] += a[i, k] * b[k, j] * share / 2
                b_found[k, j] += a[i, k] * b[k, j] * share / 2
    return a_found, b_found


def added(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    a_found, b_found = torch.zeros_like(a), torch.zeros_like(b)
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            share = divided(relevance[i, j].item(), (a[i, j] + b[i, j]).item())
            a_found[i, j], b_found[i, j] = a[i, j] * share, b[i, j] * share
    whole, a_sum, b_sum = relevance.sum().item(), a_found.sum().item(), b_found.sum().item()
    a_fair, b_fair = (divided(abs(s), abs(a_sum) + abs(b_sum)) * whole for s in (a_sum, b_sum))
    return a_found * divided(a_fair, a_sum), b_found * divided(b_fair, b_sum)


def copied(x: Tensor, *relevances: Tensor) -> Tensor:
    found = torch.zeros_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            found[i, j] = x[i, j] * sum(divided(r[i, j].item(), x[i, j].item()) for r in relevances)
    return found


def naive(method: More, head: FusedHead, batch: Batch, class_index: int, tower: str) -> Tensor:
    """Token map of one tower of one block, step by step, one record, without batches."""
    embeddings, kept = {}, {}
    for name, trunk, projection, x in (
        ("image", method.image, method.image_projection, method.image_input(batch.image_BHW)),  # type: ignore[arg-type]
        ("ecg", method.ecg, method.ecg_projection, method.ecg_input(batch.signal_BLT)),
    ):
        x_NF = trunk.embed(x)[0].detach()
        layer = trunk.layers[0]
        n, width, heads = len(x_NF), x_NF.shape[1], layer.attn.heads
        k_width = width // heads
        normed = layer.norm1(x_NF)
        qkv = normed @ layer.attn.qkv.weight.T
        parts = [[qkv[:, p * width + h * k_width : p * width + (h + 1) * k_width].detach() for h in range(heads)] for p in range(3)]
        maps = [torch.softmax(parts[0][h] @ parts[1][h].T / math.sqrt(k_width), dim=1).requires_grad_() for h in range(heads)]
        mixed = torch.cat([maps[h] @ parts[2][h] for h in range(heads)], dim=1)
        attended = layer.attn.proj(mixed)
        middle = x_NF + attended
        normed2 = layer.norm2(middle)
        hidden = nn.functional.gelu(layer.mlp.fc1(normed2))
        out = layer.mlp.fc2(hidden)
        cls = trunk.norm(middle + out)[0]
        steps = [cls]
        for step in projection:
            steps.append(step(steps[-1][None])[0])
        embeddings[name] = steps[-1]
        kept[name] = (layer, projection, x_NF, normed, parts, maps, mixed, attended, middle, normed2, hidden, out, steps, n)
    joined = torch.cat([embeddings["image"], embeddings["ecg"]])
    logits = head.out(joined)
    layer, projection, x_NF, normed, parts, maps, mixed, attended, middle, normed2, hidden, out, steps, n = kept[tower]
    gradients = torch.autograd.grad(logits[class_index], maps)
    with torch.no_grad():
        first = [float(c == class_index) for c in range(len(logits))]
        halves = linear(joined.tolist(), head.out.weight.tolist(), first)
        r = halves[:4] if tower == "image" else halves[4:]
        for step, x in reversed(list(zip(projection, steps[:-1], strict=True))):
            if isinstance(step, nn.Linear):
                r = linear(x.tolist(), step.weight.tolist(), r)
            elif isinstance(step, nn.BatchNorm1d):
                gain = (step.weight / torch.sqrt(step.running_var + step.eps)).tolist()  # type: ignore[operator]
                r = [v * g * divided(q, v * g) for v, g, q in zip(x.tolist(), gain, r, strict=True)]
        relevance = torch.zeros_like(x_NF)
        relevance[0] = torch.tensor(r, dtype=torch.float64)
        kept_1, to_mlp = added(middle, out, relevance)
        to_mlp = rows_linear(normed2, layer.mlp.fc1, rows_linear(hidden, layer.mlp.fc2, to_mlp))
        _, to_attention = added(x_NF, attended, copied(middle, kept_1, to_mlp))
        to_mixed = rows_linear(mixed, layer.attn.proj, to_attention)
        effect = torch.zeros(n, n, dtype=torch.float64)
        for h, (map_NN, gradient) in enumerate(zip(maps, gradients, strict=True)):
            k_width = parts[2][h].shape[1]
            attention, _ = product(map_NN, parts[2][h], to_mixed[:, h * k_width : (h + 1) * k_width])
            effect += (gradient * attention).clamp(min=0) / len(maps)
        return (torch.eye(n, dtype=torch.float64) + effect)[0, 1:]


@pytest.mark.parametrize("class_index", [0, 2])
def test_the_map_is_that_of_the_definition(class_index: int) -> None:
    method, head, batch = make()
    method.eval()
    found = explain(method, head, batch, class_index)
    image_P, ecg_P = (naive(method, head, batch, class_index, tower) for tower in ("image", "ecg"))
    assert image_P.max() > 0 and ecg_P.max() > 0
    torch.testing.assert_close(found.image_tokens_HW.flatten(), image_P, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(found.ecg_tokens_P, ecg_P, rtol=1e-6, atol=1e-12)


def test_shapes_and_ranges() -> None:
    torch.manual_seed(0)
    method = More(MoreConfig())
    batch = Batch(100 * torch.randn(1, 12, 1000), torch.arange(1), image_BHW=torch.randint(0, 256, (1, 32, 32), dtype=torch.uint8))
    found = explain(method, FusedHead(16, 2), batch, 1)
    assert found.image_map_HW.shape == (32, 32) and found.ecg_map_T.shape == (1000,)
    assert found.image_tokens_HW.shape == (4, 4) and found.ecg_tokens_P.shape == (196,)
    for tokens, scaled in ((found.image_tokens_HW, found.image_map_HW), (found.ecg_tokens_P, found.ecg_map_T)):
        assert tokens.min() >= 0 and tokens.max() > 0
        assert scaled.min() == 0 and scaled.max() == 1


def test_deeper_blocks_are_multiplied_in_order() -> None:
    """Only the last block lets the class token look at others, so the map is its row applied to the blocks below."""
    from models.explain import _Trace

    method, head, batch = make(depth=3)
    method.eval()
    trace = _Trace(method.image, method.image_projection, method.image_input(batch.image_BHW))  # type: ignore[arg-type]
    logit = head.out(torch.cat([trace.embedding_BD, torch.zeros(1, 4, dtype=torch.float64)], dim=1))[0, 0]
    gradients = torch.autograd.grad(logit, [b.attention for b in trace.blocks])
    relevance, effects = trace.embedding_BD.detach().clone(), []
    found = trace.attribute(relevance, gradients)
    for step, x in reversed(trace._steps):
        if isinstance(step, nn.Linear):
            relevance = linear_relevance(x, step.weight, relevance)
        elif isinstance(step, nn.BatchNorm1d):
            relevance = batch_norm_relevance(step, x, relevance)
    through = torch.zeros(1, 5, 8, dtype=torch.float64)
    through[:, 0] = relevance
    for block, gradient in zip(trace.blocks[::-1], gradients[::-1], strict=True):
        through, attention = block.propagate(through)
        effects.append((gradient * attention).clamp(min=0).mean(1)[0])
    eye = torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(found, ((eye + effects[0]) @ (eye + effects[1]) @ (eye + effects[2]))[0, 1:])


@pytest.mark.parametrize("half", ["image", "ecg"])
def test_an_input_without_weight_in_the_head_has_no_map(half: str) -> None:
    method, head, batch = make()
    with torch.no_grad():
        head.out.weight[:, slice(0, 4) if half == "image" else slice(4, 8)] = 0
    found = explain(method, head, batch, 0)
    silent = (found.image_tokens_HW, found.image_map_HW) if half == "image" else (found.ecg_tokens_P, found.ecg_map_T)
    other = found.ecg_tokens_P if half == "image" else found.image_tokens_HW
    assert all(not t.any() for t in silent) and other.any()


def test_without_an_ecg_the_head_reads_zeros_and_its_map_is_empty() -> None:
    method, head, batch = make()
    batch.observed = {Modality.ECG: torch.tensor([False])}
    found = explain(method, head, batch, 1)
    with torch.no_grad():
        image_BD = method.eval().encode_image(batch).embedding_BD
        assert image_BD is not None
        expected = head(image_BD, torch.full_like(image_BD, math.nan), torch.tensor([False]))[0, 1]
    assert found.logit == pytest.approx(expected.item())
    assert not found.ecg_tokens_P.any() and not found.ecg_map_T.any() and found.image_tokens_HW.any()


def test_frozen_weights_and_a_caller_without_gradients_do_not_matter() -> None:
    method, head, batch = make()
    expected = explain(method, head, batch, 0)
    method.requires_grad_(False)
    with torch.no_grad():
        found = explain(method, head, batch, 0)
    assert isinstance(found, Explanation) and torch.equal(found.image_tokens_HW, expected.image_tokens_HW)


def test_relevance_is_conserved() -> None:
    torch.manual_seed(0)
    x, weight, relevance = torch.randn(5, 20).double(), torch.randn(7, 20).double(), torch.randn(5, 7).double()
    assert linear_relevance(x, weight, relevance).sum().item() == pytest.approx(relevance.sum().item(), abs=1e-6)
    a, b, of = torch.rand(3, 4).double(), torch.rand(4, 5).double(), torch.rand(3, 5).double()
    for part in product_relevance(a, b, of):
        assert part.sum().item() == pytest.approx(of.sum().item() / 2, abs=1e-6)
    one, other = sum_relevance(torch.rand(3, 4).double(), torch.rand(3, 4).double(), torch.rand(3, 4).double() + 1)
    assert (one.sum() + other.sum()).item() > 0
    x, first, second = torch.randn(3, 4).double(), torch.randn(3, 4).double(), torch.randn(3, 4).double()
    torch.testing.assert_close(copy_relevance(x, first, second), first + second, rtol=1e-5, atol=1e-6)
    norm = nn.BatchNorm1d(4).double().eval()
    torch.testing.assert_close(batch_norm_relevance(norm, x, first), first, rtol=1e-5, atol=1e-6)


def test_sums_share_all_of_it() -> None:
    torch.manual_seed(0)
    a, b, relevance = (torch.randn(6, 6).double() for _ in range(3))
    one, other = sum_relevance(a, b, relevance)
    assert (one.sum() + other.sum()).item() == pytest.approx(relevance.sum().item(), rel=1e-5)


def test_division_by_zero_is_zero() -> None:
    found = safe_divide(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.0, -1e-9, 2.0]))
    assert found[:2].tolist() == [0.0, 0.0] and found[2] == 0.5


def test_what_cannot_be_explained_is_refused() -> None:
    method, head, batch = make()
    with pytest.raises(ConfigurationError, match="no class 3"):
        explain(method, head, batch, 3)
    batch.image_BHW = None
    with pytest.raises(ConfigurationError, match="one record that has an image"):
        explain(method, head, batch, 0)
