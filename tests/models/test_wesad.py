"""WESAD transformers: sizes, order of patches, positions, normalisation, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.checkpoint import parse_config
from models.encoders.patch_transformer import Block, PatchTransformer, PatchTransformerShape, sinusoids
from models.errors import ConfigurationError
from models.head_recipes import FINETUNE
from models.layers import SelfAttention
from models.methods.wesad.method import WesadTransformer, create, per_window
from models.methods.wesad.spec import CHEST, SPEC, WesadConfig
from models.signal_scale import SignalScale
from models.types import Batch

SMALL = PatchTransformerShape(patch=50, width=32, depth=2, heads=4, hidden=64)


def network(**options: Any) -> WesadTransformer:
    torch.manual_seed(0)
    made = create(SPEC.configure("tiny", **options)).eval()
    with torch.no_grad():  # positions matter visibly
        made.network.position_NF *= 20
    return made


def windows(n: int = 3, n_samples: int = 700) -> Batch:
    signal_BLT = torch.randn(n, 1, n_samples, generator=torch.Generator().manual_seed(1))
    return Batch(signal_BLT, torch.arange(n))


@pytest.mark.parametrize(("preset", "expected"), [("paper", 552_707), ("tiny", 19_395)])
def test_a_network_with_its_head_has_the_specified_parameters(preset: str, expected: int) -> None:
    made = create(SPEC.configure(preset))
    head = nn.Linear(made.feature_width, 3)
    assert sum(p.numel() for module in (made, head) for p in module.parameters()) == expected


@pytest.mark.parametrize(("preset", "n_samples", "width"), [("paper", 7000, 128), ("paper_70hz", 700, 128), ("tiny", 700, 32)])
def test_every_window_becomes_one_embedding(preset: str, n_samples: int, width: int) -> None:
    features = create(SPEC.configure(preset)).eval().encode(windows(2, n_samples))
    assert features.pooled_BF.shape == (2, width)
    assert nn.Linear(width, 3)(features.pooled_BF).shape == (2, 3)
    assert features.tokens_BNF is not None and features.tokens_BNF.shape[:2] == (2, 14 if preset == "tiny" else 70)


def test_attention_is_a_mean_whose_weights_sum_to_one() -> None:
    torch.manual_seed(0)
    attention, token_BNF = SelfAttention(32, 4), torch.randn(2, 15, 32)
    query, key, value = (f(token_BNF).view(2, 15, 4, 8).transpose(1, 2) for f in (attention.query, attention.key, attention.value))
    weight = (query @ key.transpose(2, 3) / 8**0.5).softmax(dim=3)
    torch.testing.assert_close(weight.sum(dim=3), torch.ones(2, 4, 15))
    naive = attention.out((weight @ value).transpose(1, 2).reshape(2, 15, 32))
    torch.testing.assert_close(attention(token_BNF), naive, rtol=1e-4, atol=1e-5)


def test_a_block_adds_attention_and_then_its_mlp_to_normalised_tokens() -> None:
    torch.manual_seed(0)
    block, token_BNF = Block(SMALL).eval(), torch.randn(2, 15, 32)
    middle = token_BNF + block.attention(block.norm_attention(token_BNF))
    torch.testing.assert_close(block(token_BNF), middle + block.mlp(block.norm_mlp(middle)))


@pytest.mark.parametrize("pool", ["class_token", "mean"])
def test_the_order_of_patches_counts_through_positions_alone(pool: str) -> None:
    made, given = network(pool=pool), windows()
    swapped = copy.deepcopy(given)
    swapped.signal_BLT[..., 100:150], swapped.signal_BLT[..., 400:450] = given.signal_BLT[..., 400:450], given.signal_BLT[..., 100:150]
    with torch.no_grad():
        assert (made.encode(given).pooled_BF - made.encode(swapped).pooled_BF).abs().max() > 1e-3
        made.network.position_NF.zero_()
        torch.testing.assert_close(made.encode(given).pooled_BF, made.encode(swapped).pooled_BF, rtol=1e-4, atol=1e-5)


def test_fixed_positions_are_no_parameters_and_follow_their_formula() -> None:
    made = network(positions="sinusoidal")
    assert sum(p.numel() for p in made.parameters()) == 19_296 - 15 * 32
    table = sinusoids(15, 32)
    assert table[3, 4].item() == pytest.approx(np.sin(3 / 10_000 ** (4 / 32)), abs=1e-6)
    assert table[3, 5].item() == pytest.approx(np.cos(3 / 10_000 ** (4 / 32)), abs=1e-6)


def test_the_embedding_is_the_class_token_or_the_mean_of_the_patches() -> None:
    made = network(pool="mean")
    features = made.encode(windows())
    assert features.tokens_BNF is not None
    torch.testing.assert_close(features.pooled_BF, features.tokens_BNF.mean(dim=1))
    assert not torch.allclose(network().encode(windows()).pooled_BF, features.pooled_BF, atol=1e-3)


def test_constants_of_training_windows_take_level_and_scale_out() -> None:
    made, given = network(), windows()
    moved = Batch(33.5 + 0.2 * given.signal_BLT, given.row_B)
    made.set_scale(SignalScale(np.array([[33.5]]), np.array([[0.2]]), ("wesad",)))
    torch.testing.assert_close(made.scaled(moved), given.signal_BLT[:, 0], rtol=1e-3, atol=1e-3)


def test_rows_have_constants_of_their_own_and_weights_none_of_them() -> None:
    made, given = network(), windows()
    before = {k: v.clone() for k, v in made.state_dict().items()}
    made.use_rows(torch.tensor([0.0, 1.0, 2.0, 9.0]), torch.tensor([1.0, 2.0, 4.0, 9.0]))
    expected = (given.signal_BLT[:, 0] - torch.tensor([[0.0], [1.0], [2.0]])) / torch.tensor([[1.0], [2.0], [4.0]])
    torch.testing.assert_close(made.scaled(given), expected)
    assert all(torch.equal(before[k], v) for k, v in made.state_dict().items())


def test_a_window_can_be_normalised_by_itself() -> None:
    scaled_BT = per_window(torch.cat([5 + 3 * torch.randn(2, 700), torch.full((1, 700), 7.0)]))
    torch.testing.assert_close(scaled_BT.mean(dim=1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled_BT.std(dim=1, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5, rtol=0)
    made, given = network(normalisation="per_window"), windows()
    torch.testing.assert_close(
        made.encode(Batch(3 + 7 * given.signal_BLT, given.row_B)).pooled_BF, made.encode(given).pooled_BF, atol=1e-4, rtol=1e-4
    )


def test_dropout_is_set_everywhere() -> None:
    made = network()
    made.set_dropout(0.0)
    assert torch.equal(made.train().encode(windows()).pooled_BF, made.encode(windows()).pooled_BF)


def test_the_recipe_balances_classes_and_chooses_by_macro_f1() -> None:
    recipe = SPEC.head_recipes(SPEC.configure("paper"))[FINETUNE]
    assert (recipe.lr, recipe.weight_decay, recipe.batch_size, recipe.epochs, recipe.clip) == (3e-4, 1e-2, 64, 60, 1.0)
    assert (recipe.select, recipe.balance, recipe.keep) == ("macro_f1", True, "best")
    counted = recipe.on(64 * 36 + 5)
    assert (counted.warmup, counted.look_every, counted.patience) == (3 * 36, 36, 10 * 36)
    assert recipe.of_arm("random_init").frozen


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="reads one signal"):
        WesadConfig(channels=("ECG", "EDA"))
    with pytest.raises(ConfigurationError, match="by itself or by its subject"):
        WesadConfig(normalisation="per_window", subject_statistics=True)
    with pytest.raises(ConfigurationError, match="cannot be cut into patches of 50"):
        PatchTransformer(SMALL, 720)
    with pytest.raises(ConfigurationError, match="built for 700 samples, got 350"):
        network().encode(windows(1, 350))
    with pytest.raises(ConfigurationError, match="no pretraining"):
        network().loss(windows())


def test_configurations_survive_json() -> None:
    config = SPEC.configure("tiny", matrix_seeds=(0, 2), channels=("TEMP",))
    from dataclasses import asdict

    assert parse_config(WesadConfig, {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}) == config
    assert config.matrix_signals == CHEST and len(CHEST) == 6
