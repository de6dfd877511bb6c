"""Losses, weights and choices of gradient-trained heads, each beside a naive twin."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.crops import aggregate
from models.errors import ConfigurationError
from models.head_objectives import macro_f1, objective_of
from models.head_optimizer import learning_rate
from models.head_recipes import HeadRecipe

RNG = np.random.default_rng(0)


def test_positives_of_rare_classes_weigh_as_much_as_their_negatives_up_to_a_limit() -> None:
    labels_NC = np.zeros((100, 2), np.int8)
    labels_NC[:25, 0], labels_NC[0, 1] = 1, 1
    outputs_BC = torch.from_numpy(RNG.normal(size=(100, 2)).astype(np.float32))
    loss = objective_of("multilabel", HeadRecipe(balance=True), labels_NC, ("a", "b")).loss(outputs_BC, torch.from_numpy(labels_NC).float())
    expected = 0.0
    for i in range(100):
        for k, weight in enumerate((3.0, 20.0)):
            p = 1 / (1 + math.exp(-float(outputs_BC[i, k])))
            expected -= weight * math.log(p) if labels_NC[i, k] else math.log(1 - p)
    assert loss.item() == pytest.approx(expected / 200, rel=1e-5)


def test_exclusive_classes_weigh_the_same_together_whatever_their_counts() -> None:
    chosen = np.repeat([0, 1, 2], (60, 30, 10))
    labels_NC = np.eye(3, dtype=np.int8)[chosen]
    outputs_BC = torch.from_numpy(RNG.normal(size=(100, 3)).astype(np.float32))
    weighted = objective_of("single_label", HeadRecipe(balance=True), labels_NC, ("a", "b", "c"))
    plain = objective_of("single_label", HeadRecipe(), labels_NC, ("a", "b", "c"))
    target_BC = torch.from_numpy(weighted.targets(labels_NC))
    each_B = functional.cross_entropy(outputs_BC, torch.from_numpy(chosen), reduction="none")
    by_class = torch.stack([each_B[torch.from_numpy(chosen == k)].mean() for k in range(3)])
    assert weighted.loss(outputs_BC, target_BC).item() == pytest.approx(by_class.mean().item(), rel=1e-5)
    assert plain.loss(outputs_BC, target_BC).item() == pytest.approx(each_B.mean().item(), rel=1e-5)


def test_macro_f1_calls_the_likeliest_of_exclusive_classes_and_probabilities_above_one_half_otherwise() -> None:
    scores_NC = np.array([[2.0, 1.0], [-1.0, -2.0], [-3.0, 1.0]], np.float32)
    labels_NC = np.array([[1, 0], [0, 1], [0, 1]], np.int8)
    alone = objective_of("single_label", HeadRecipe(select="macro_f1"), labels_NC, ("a", "b")).value(scores_NC, labels_NC)
    assert alone == pytest.approx((2 / 3 + 2 / 3) / 2)
    together = objective_of("multilabel", HeadRecipe(select="macro_f1"), labels_NC, ("a", "b")).value(scores_NC, labels_NC)
    assert together == pytest.approx((1.0 + 2 * 1 / (2 + 2)) / 2)
    assert math.isnan(macro_f1(np.zeros((2, 2), bool), np.zeros((2, 2), np.int8)))


def test_choosing_by_average_precision_differs_from_choosing_by_auroc() -> None:
    labels_NC = np.array([[1], [0], [0], [1]], np.int8)
    scores_NC = np.array([[3.0], [2.0], [1.0], [0.0]], np.float32)
    by = {select: objective_of("multilabel", HeadRecipe(select=select), labels_NC, ("a",)).value(scores_NC, labels_NC) for select in ("macro_auroc", "macro_auprc")}  # fmt: skip
    assert by == {"macro_auroc": pytest.approx(0.5), "macro_auprc": pytest.approx(0.75)}


def test_noam_rises_in_a_line_to_its_peak_and_falls_with_the_root_of_the_step() -> None:
    width, warmup = 384, 4000
    recipe = HeadRecipe(steps=10_000, schedule="noam", warmup=warmup, lr=(width * warmup) ** -0.5)
    rates = [learning_rate(recipe, step) for step in range(10_000)]
    assert [r == pytest.approx(width**-0.5 * min(s**-0.5, s * warmup**-1.5)) for s, r in enumerate(rates, 1)].count(False) == 0
    assert int(np.argmax(rates)) + 1 == 4000 and max(rates) == pytest.approx(8.07e-4, rel=1e-3)


def test_a_records_probability_is_the_mean_of_those_of_its_crops() -> None:
    logits_MC = RNG.normal(size=(7, 4)).astype(np.float32) * 5
    record_M = np.array([0, 0, 0, 1, 2, 2, 2])
    found = torch.from_numpy(aggregate(logits_MC, record_M, "mean_probability")).softmax(dim=1).numpy()
    each_MC = torch.from_numpy(logits_MC).softmax(dim=1).numpy()
    assert np.allclose(found, [each_MC[record_M == i].mean(axis=0) for i in range(3)], atol=1e-6)
    apart = torch.from_numpy(aggregate(logits_MC, record_M, "mean_probability", exclusive=False)).sigmoid().numpy()
    each_MC = torch.from_numpy(logits_MC).sigmoid().numpy()
    assert np.allclose(apart, [each_MC[record_M == i].mean(axis=0) for i in range(3)], atol=1e-6)


def test_a_twin_may_keep_its_network_and_learn_its_last_layer_only() -> None:
    recipe = HeadRecipe(twin="frozen", dropout=0.1)
    assert recipe.arms == ("pretrained", "random_init") and recipe.of_arm("pretrained") is recipe
    assert recipe.of_arm("random_init").frozen and not HeadRecipe(twin="trained").of_arm("random_init").frozen
    assert "frozen encoder" in recipe.of_arm("random_init").words()


@pytest.mark.parametrize("wrong", [{"schedule": "noam"}, {"optimizer": "adam"}, {"balance": True, "loss": "asymmetric"}])
def test_options_that_contradict_each_other_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="choose"):
        HeadRecipe(**wrong)  # type: ignore[arg-type]
