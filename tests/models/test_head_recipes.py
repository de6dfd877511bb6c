"""Recipes of heads: what they refuse, how they read, and the rates and decays that follow from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.head_optimizer import Halving, build_optimizer, learning_rate, parameter_groups
from models.head_recipes import ATTENTIVE, FINETUNE, FINETUNE_AFTER, HeadRecipe, house_recipes, recipe_of
from models.readouts import Classifier
from tests.models.echo import Echo, EchoConfig


class Deep(Echo):
    """Six blocks between an embedding and a norm, counted as CSFM's encoder of depth 6."""

    def __init__(self) -> None:
        super().__init__(EchoConfig())
        self.cls = nn.Parameter(torch.zeros(1, 1, 4))
        self.blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(6)])
        self.norm = nn.LayerNorm(4)

    def layer_of(self, parameter: str) -> int:
        if parameter.startswith("blocks."):
            return int(parameter.split(".")[1]) + 1
        return 7 if parameter.startswith("norm.") else 0

    def decays(self, parameter: str, value: Tensor) -> bool:
        return value.ndim > 1 and parameter != "cls"


def rates(recipe: HeadRecipe) -> tuple[dict[str, float], dict[str, float]]:
    """Learning rate and weight decay of every parameter by name."""
    encoder = Deep()
    network = Classifier(encoder, recipe, 3, 4)
    names = {id(p): n for n, p in network.named_parameters()}
    groups = parameter_groups(network, list(encoder.parameters()), recipe)
    flat: list[tuple[str, Any]] = [(names[id(p)], g) for g in groups for p in g["params"]]
    assert sorted(n for n, _ in flat) == sorted(names.values())
    return {n: g["lr"] for n, g in flat}, {n: g["weight_decay"] for n, g in flat}


def test_the_rate_falls_by_layer_as_in_csfms_published_code() -> None:
    lr, _ = rates(HeadRecipe(lr=1.0, layer_decay=0.75))
    golden = [0.1335, 0.1780, 0.2373, 0.3164, 0.4219, 0.5625, 0.75, 1.0]
    found = [lr["encoder.cls"], *(lr[f"encoder.blocks.{k}.weight"] for k in range(6)), lr["encoder.norm.weight"]]
    assert found == pytest.approx(golden, abs=1e-4)
    assert lr["head.weight"] == lr["head.bias"] == 1.0
    assert set(rates(HeadRecipe(lr=0.5))[0].values()) == {0.5}


def test_matrices_decay_and_vectors_and_tokens_do_not() -> None:
    _, decay = rates(HeadRecipe(weight_decay=0.3, readout="attentive", heads=2))
    assert {n for n, d in decay.items() if d} == {
        *(f"encoder.blocks.{k}.weight" for k in range(6)),
        *(f"head.{n}.weight" for n in ("to_query", "to_key", "to_value", "out")),
    }
    assert set(decay.values()) == {0.0, 0.3}
    assert rates(HeadRecipe(weight_decay=0.3))[1]["head.bias"] == 0


def test_schedules() -> None:
    cosine = HeadRecipe(steps=5000, lr=1e-4, first_lr=1e-6, final_lr=1e-6, warmup=200, schedule="cosine")
    assert learning_rate(cosine, 0) == 1e-6
    assert learning_rate(cosine, 100) == pytest.approx((1e-6 + 1e-4) / 2)
    assert [learning_rate(cosine, s) for s in (200, 4999)] == pytest.approx([1e-4, 1e-6])
    published = HeadRecipe(steps=100_000, lr=1e-3, first_lr=1e-6, final_lr=1e-6, warmup=10_000, schedule="cosine")
    assert [learning_rate(published, s) for s in (5000, 55_000)] == pytest.approx([5.005e-4, 5.004913e-4], abs=1e-9)
    line = HeadRecipe(steps=100, lr=1.0, final_lr=0.0, warmup=10, schedule="linear")
    assert [learning_rate(line, s) for s in (0, 5, 10, 55)] == pytest.approx([0.0, 0.5, 1.0, 0.5])
    assert 0 < learning_rate(line, 99) < 0.02
    constant = HeadRecipe(schedule="constant", lr=2e-3, warmup=4)
    assert [learning_rate(constant, s) for s in (2, 4, 500)] == [1e-3, 2e-3, 2e-3]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "one_cycle"])
def test_the_optimizer_follows_the_schedule_in_every_group(schedule: Any) -> None:
    final = 1e-5 if schedule in ("cosine", "linear") else None
    recipe = HeadRecipe(steps=20, lr=1e-2, warmup=5, schedule=schedule, final_lr=final, layer_decay=0.5)
    encoder = Deep()
    network = Classifier(encoder, recipe, 3, 4)
    optimizer, steps = build_optimizer(network, list(encoder.parameters()), recipe)
    seen = []
    for _ in range(20):
        seen.append(sorted({g["lr"] for g in optimizer.param_groups}))
        optimizer.step()
        steps.step()
    if schedule != "one_cycle":
        assert [row[-1] for row in seen] == pytest.approx([learning_rate(recipe, s) for s in range(20)])
    assert max(row[-1] for row in seen) == pytest.approx(1e-2)
    assert all(row[0] == pytest.approx(row[-1] * 0.5**7) for row in seen if row[-1] > 0)


def test_a_plateau_halves_the_rate_as_torchs_does() -> None:
    values = [0.1, 0.3, 0.3, 0.2, 0.3, 0.3, 0.25, 0.3, 0.3, 0.31, 0.1, 0.1, 0.1, 0.1, 0.1]
    encoder, recipe = Deep(), HeadRecipe(schedule="plateau", plateau=3, lr=1e-2, layer_decay=0.5)
    optimizer, schedule = build_optimizer(Classifier(encoder, recipe, 3, 4), list(encoder.parameters()), recipe)
    assert isinstance(schedule, Halving)
    peer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1e-2)
    judge = torch.optim.lr_scheduler.ReduceLROnPlateau(peer, mode="max", factor=0.5, patience=3, threshold=0.0)
    for value in values:
        optimizer.step()
        schedule.look(value)
        judge.step(value)
        schedule.step()
        assert max(g["lr"] for g in optimizer.param_groups) == pytest.approx(peer.param_groups[0]["lr"])
    assert peer.param_groups[0]["lr"] == pytest.approx(1e-2 / 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 250}, "a crop with a stride"),
        ({"crop": 250, "stride": 251}, "stride of 251"),
        ({"crop": 250, "stride": 125, "shift": 126}, "shift of 126"),
        ({"shift": 0}, "shift of 0 samples does not fit a stride of None"),
        ({"schedule": "cosine"}, "cosine and linear need one"),
        ({"schedule": "constant", "final_lr": 0.0}, "cosine and linear need one"),
        ({"keep": "last"}, "has no patience"),
        ({"frozen": True, "dropout": 0.1}, "frozen encoder has no dropout"),
        ({"frozen": True, "start": ATTENTIVE}, "frozen encoder"),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        HeadRecipe(**options)


def test_every_house_recipe_says_what_it_is() -> None:
    recipes = house_recipes(EchoConfig())
    assert set(recipes) == {ATTENTIVE, FINETUNE, FINETUNE_AFTER}
    assert "frozen encoder" in recipes[ATTENTIVE].words() and "not a linear probe" in recipes[ATTENTIVE].words()
    assert "the whole network" in recipes[FINETUNE].words() and "stopped early" in recipes[FINETUNE].words()
    assert "from the attentive probe" in recipes[FINETUNE_AFTER].words()
    cropped = HeadRecipe(crop=250, stride=125, aggregate="maximum", loss="asymmetric")
    assert "crops of 250 samples, every 125 in evaluation, maximum of their scores" in cropped.words()
    assert "asymmetric loss" in cropped.words() and "asymmetric" not in cropped.words("single_label")
    assert [recipes[p].arms for p in (ATTENTIVE, FINETUNE)] == [("pretrained", "random_init"), ("pretrained",)]
    with pytest.raises(ConfigurationError, match="no recipe for heads by 'wish'"):
        recipe_of(recipes, "wish")
