"""Contrastive losses of one process against their definitions written out; several processes are in test_distributed.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from models.errors import ConfigurationError, TrainingError
from models.objectives.contrastive import GroupForm, LogitScale, check_logits, info_nce, multi_pair_info_nce


def naive(x_BD: Tensor, y_BD: Tensor, tau: float) -> float:
    B = len(x_BD)

    def similarity(a: Tensor, b: Tensor) -> float:
        return (a @ b / (a.norm() * b.norm())).item() / tau

    total = 0.0
    for i in range(B):
        rows = [math.exp(similarity(x_BD[i], y_BD[j])) for j in range(B)]
        columns = [math.exp(similarity(x_BD[j], y_BD[i])) for j in range(B)]
        total += -math.log(rows[i] / sum(rows)) - math.log(columns[i] / sum(columns))
    return total / B


def pair(B: int, D: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(B)
    return torch.randn(B, D, generator=generator, dtype=torch.float64), torch.randn(B, D, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("B", [1, 2, 7])
@pytest.mark.parametrize("tau", [0.07, 0.5])
def test_equals_the_double_loop(B: int, tau: float) -> None:
    x_BD, y_BD = pair(B)
    assert info_nce(x_BD, y_BD, tau).item() == pytest.approx(naive(x_BD, y_BD, tau), rel=1e-9)
    assert info_nce(x_BD, y_BD, tau, "mean").item() == pytest.approx(naive(x_BD, y_BD, tau) / 2, rel=1e-9)


def test_known_values() -> None:
    same = torch.ones(8, 3)
    assert info_nce(same, same, 0.07).item() == pytest.approx(2 * math.log(8), abs=1e-5)
    apart = torch.eye(8, dtype=torch.float64)
    assert info_nce(apart, apart, 0.07).item() == pytest.approx(2 * math.log(1 + 7 * math.exp(-1 / 0.07)), rel=1e-9)
    assert info_nce(apart, apart, 0.07).item() == pytest.approx(8.7e-6, abs=1e-7)


def test_symmetries() -> None:
    x_BD, y_BD = pair(6)
    loss, order = info_nce(x_BD, y_BD, 0.07), torch.tensor([3, 1, 0, 5, 4, 2])
    torch.testing.assert_close(info_nce(x_BD[order], y_BD[order], 0.07), loss)
    torch.testing.assert_close(info_nce(y_BD, x_BD, 0.07), loss)
    torch.testing.assert_close(info_nce(x_BD * torch.arange(1, 7)[:, None], y_BD, 0.07), loss)
    assert abs(info_nce(x_BD[order], y_BD, 0.07) - loss) > 1e-3


def test_half_precision_embeddings_are_compared_in_full_precision() -> None:
    x_BD, y_BD = pair(16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce(x_BD.float(), y_BD.float(), 0.07)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive(x_BD, y_BD, 0.07), rel=1e-5)


def naive_grouped(x_BD: Tensor, y_BD: Tensor, tau: float, group: Sequence[int], form: GroupForm) -> float:
    """Both directions added, over the definition."""
    B, total = len(x_BD), 0.0
    for a_BD, b_BD in ((x_BD, y_BD), (y_BD, x_BD)):
        for i in range(B):
            s = [(a_BD[i] @ b_BD[j] / (a_BD[i].norm() * b_BD[j].norm())).item() / tau for j in range(B)]
            same = [j for j in range(B) if group[j] == group[i]]
            if form == "mask":
                total += -s[i] + math.log(sum(math.exp(s[j]) for j in range(B) if j == i or j not in same))
            else:
                total += -sum(s[j] for j in same) / len(same) + math.log(sum(map(math.exp, s)))
    return total / B


@pytest.mark.parametrize("form", ["mask", "soft"])
def test_groups_equal_the_double_loop(form: GroupForm) -> None:
    x_BD, y_BD = pair(7)
    group = [4, 9, 4, 1, 9, 4, 0]
    found = info_nce(x_BD, y_BD, 0.3, group=torch.tensor(group), group_form=form)
    assert found.item() == pytest.approx(naive_grouped(x_BD, y_BD, 0.3, group, form), rel=1e-9)
    apart = info_nce(x_BD, y_BD, 0.3, group=torch.arange(7), group_form=form)
    torch.testing.assert_close(apart, info_nce(x_BD, y_BD, 0.3), rtol=0, atol=1e-12)


def test_one_group_leaves_nothing_to_tell_apart() -> None:
    x_BD, y_BD = pair(5)
    x_BD.requires_grad_()
    loss = info_nce(x_BD, y_BD, 0.07, group=torch.zeros(5, dtype=torch.int64))
    (gradient,) = torch.autograd.grad(loss, x_BD)
    assert loss.item() == 0 and gradient.abs().max() == 0


def test_equal_texts_bound_the_loss_from_below() -> None:
    """K distinct partners in a batch of B: about ln(B / K) remains, and soft targets or masks say why."""
    y_BD = torch.eye(4, dtype=torch.float64).repeat(3, 1)
    group = torch.arange(4).repeat(3)
    assert info_nce(y_BD, y_BD, 0.01, "mean").item() == pytest.approx(math.log(3), abs=1e-9)
    assert info_nce(y_BD, y_BD, 0.01, "mean", group).item() == pytest.approx(0, abs=1e-9)


def test_perfect_separation_at_a_large_scale_has_no_gradient() -> None:
    x_BD = torch.eye(6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(info_nce(x_BD, x_BD.detach(), 1e-3), x_BD)
    assert gradient.abs().max() < 1e-12


def test_more_logits_than_allowed_are_refused_before_they_are_made() -> None:
    check_logits(2**13, 2**13)
    with pytest.raises(ConfigurationError, match=r"comparing 8,192 rows with 8,193 needs .* logits .* lower batch_size"):
        check_logits(2**13, 2**13 + 1)
    wide = torch.zeros(1, 2).expand(2**16, 2)  # the matrix would take 16 GiB
    with pytest.raises(ConfigurationError, match="65,536"):
        info_nce(wide, wide, 0.07)
    with pytest.raises(ConfigurationError, match="65,536"):
        multi_pair_info_nce({"a": wide, "b": wide}, [("a", "b")], 0.07)
    x_BD, y_BD = pair(4)
    with pytest.raises(ConfigurationError, match="more than 15"):
        info_nce(x_BD, y_BD, 0.07, most_logits=15)
    info_nce(x_BD, y_BD, 0.07, most_logits=16)


# Several modalities

PAIRS = [("text", "ecg"), ("text", "image"), ("ecg", "image")]


def several(B: int = 9) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(B, 5, generator=generator, dtype=torch.float64).requires_grad_() for name in ("ecg", "image", "text")}


def missing(B: int = 9) -> dict[str, Tensor]:
    return {"ecg": torch.arange(B) % 3 != 0, "image": torch.arange(B) % 2 == 0}


def naive_several(x: dict[str, Tensor], there: dict[str, Tensor], tau: float, weights: Sequence[float]) -> float:
    total = 0.0
    for (a, b), weight in zip(PAIRS, weights, strict=True):
        rows = [i for i in range(len(x[a])) if all(m not in there or bool(there[m][i]) for m in (a, b))]
        total += weight * naive(x[a][rows], x[b][rows], tau) / 2
    return total


def test_several_pairs_are_the_sum_of_each() -> None:
    x = several()
    found = multi_pair_info_nce(x, PAIRS, 0.2)
    assert found.total.item() == pytest.approx(naive_several(x, {}, 0.2, (1, 1, 1)), rel=1e-9)
    assert list(found.parts) == ["text_ecg", "text_image", "ecg_image", "skipped_pairs"]
    torch.testing.assert_close(found.parts["text_ecg"], info_nce(x["text"], x["ecg"], 0.2, "mean"))
    mean = multi_pair_info_nce(x, PAIRS, 0.2, weights=(1, 2, 3), reduction="mean").total
    assert mean.item() == pytest.approx(naive_several(x, {}, 0.2, (1, 2, 3)) / 6, rel=1e-9)


def test_rows_that_lack_a_side_are_left_out_whatever_stands_there() -> None:
    x, there = several(), missing()
    found = multi_pair_info_nce(x, PAIRS, 0.2, observed=there, weights=(1.0, 0.5, 2.0))
    assert found.total.item() == pytest.approx(naive_several(x, there, 0.2, (1, 0.5, 2)), rel=1e-9)
    assert found.parts["skipped_pairs"] == 0
    junk = {m: torch.where(there[m][:, None], x[m], torch.nan) if m in there else x[m] for m in x}
    again = multi_pair_info_nce(junk, PAIRS, 0.2, observed=there, weights=(1.0, 0.5, 2.0))
    assert torch.equal(again.total, found.total)
    gradients = torch.autograd.grad(found.total, [x["ecg"], x["image"]])
    for gradient_BD, m in zip(gradients, ("ecg", "image"), strict=True):
        assert gradient_BD[~there[m]].abs().max() == 0 and (gradient_BD[there[m]].abs().sum(dim=1) > 0).all()


def test_groups_of_several_pairs() -> None:
    x, there, group = several(), missing(), torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 0])
    found = multi_pair_info_nce(x, PAIRS[:1], 0.2, observed=there, group=group).total
    rows = there["ecg"].nonzero()[:, 0]
    expected = naive_grouped(x["text"][rows], x["ecg"][rows], 0.2, group[rows].tolist(), "mask") / 2
    assert found.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n_left", [0, 1])
def test_a_pair_without_two_rows_is_skipped_and_counted(n_left: int) -> None:
    x, scale = several(), LogitScale().double()
    there = {"image": torch.arange(9) < n_left}
    found = multi_pair_info_nce(x, PAIRS, 1 / scale(), observed=there, reduction="mean")
    assert found.parts["skipped_pairs"] == 2 and set(found.parts) == {"text_ecg", "skipped_pairs"}
    torch.testing.assert_close(found.total, info_nce(x["text"], x["ecg"], 1 / scale(), "mean"))
    none = multi_pair_info_nce(x, PAIRS[1:], 1 / scale(), observed=there)
    gradients = torch.autograd.grad(none.total, [*x.values(), scale.log_scale])
    assert none.total.item() == 0 and none.parts["skipped_pairs"] == 2
    assert all(g.abs().max() == 0 for g in gradients)
    alone = {m: v[:1] for m, v in x.items()}
    assert multi_pair_info_nce(alone, PAIRS, 0.1).parts["skipped_pairs"] == 3


def test_a_temperature_a_pair_and_vectors_as_they_are() -> None:
    x, scale = several(), LogitScale(5.0, pairs=3).double()
    with torch.no_grad():
        scale.log_scale += torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    found = multi_pair_info_nce(x, PAIRS, 1 / scale())
    for number, (a, b) in enumerate(PAIRS):
        torch.testing.assert_close(found.parts[f"{a}_{b}"], info_nce(x[a], x[b], 1 / scale()[number], "mean"))
    (gradient_P,) = torch.autograd.grad(found.total, scale.log_scale)
    assert (gradient_P != 0).all()
    raw = multi_pair_info_nce(x, PAIRS[:1], 0.5, normalise=False).total
    logits_BB = x["text"] @ x["ecg"].T / 0.5
    torch.testing.assert_close(
        raw, sum(torch.nn.functional.cross_entropy(z, torch.arange(9)) for z in (logits_BB, logits_BB.T)) / 2, rtol=0, atol=1e-9
    )


def test_half_precision_of_several_pairs() -> None:
    x = {m: v.detach().bfloat16() for m, v in several().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = multi_pair_info_nce(x, PAIRS, 0.02, observed=missing()).total
    expected = naive_several({m: v.double() for m, v in x.items()}, missing(), 0.02, (1, 1, 1))
    assert found.dtype == torch.float32 and found.item() == pytest.approx(expected, rel=1e-5)


def test_pairs_that_do_not_fit_are_refused() -> None:
    x = several()
    with pytest.raises(ConfigurationError, match="there are ecg, image, text, not labs"):
        multi_pair_info_nce(x, [("ecg", "labs")], 0.1)
    with pytest.raises(ConfigurationError, match="not a pair"):
        multi_pair_info_nce(x, [], 0.1)
    with pytest.raises(ConfigurationError, match="2 weights for 3 pairs"):
        multi_pair_info_nce(x, PAIRS, 0.1, weights=(1, 1))
    with pytest.raises(ConfigurationError, match="2 temperatures for 3 pairs"):
        multi_pair_info_nce(x, PAIRS, torch.ones(2))
    with pytest.raises(TrainingError, match="different numbers of rows"):
        multi_pair_info_nce({**x, "ecg": x["ecg"][:4]}, PAIRS, 0.1)


# The scale


def test_the_scale_stays_in_its_bounds_and_learns_inside_them() -> None:
    scale = LogitScale()
    assert scale.log_scale.item() == pytest.approx(2.6593, abs=1e-4)
    x_BD, y_BD = pair(6)
    optimizer = torch.optim.SGD(scale.parameters(), lr=1.0)
    scale.clamp_after(optimizer)
    info_nce(x_BD, y_BD, 1 / scale()).backward()
    assert scale.log_scale.grad is not None and scale.log_scale.grad.abs() > 1e-3
    for direction, bound in ((-1e6, 100.0), (1e6, 1.0)):
        scale.log_scale.grad = torch.tensor(direction)
        optimizer.step()
        assert scale().item() == pytest.approx(bound, rel=1e-6)
    assert LogitScale(learnable=False).log_scale.requires_grad is False
    unbounded = LogitScale(maximum=None)
    with torch.no_grad():
        unbounded.log_scale.fill_(20.0)
    unbounded.clamp()
    assert unbounded.log_scale.item() == 20.0
