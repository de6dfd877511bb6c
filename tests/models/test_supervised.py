"""The supervised baseline: how signals are scaled, what its classifier reads, and the benchmark's recipe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.checkpoint import load_encoder
from models.encoders.backbone import create_backbone
from models.errors import ConfigurationError
from models.head_recipes import FINETUNE, house_recipes
from models.heads import macro_auroc
from models.layers import scale_to_unit
from models.methods.supervised.method import Standardised, Supervised, create
from models.methods.supervised.spec import SPEC, head_recipes
from models.predictions import read_predictions
from models.signal_scale import SignalScale
from models.store import open_store
from models.train import main
from models.types import Batch, Features

if TYPE_CHECKING:
    from conftest import Study

CROPS = {"scaling": "constants", "head": "concat_pool", "backbone": "xresnet_mini", "crop": 64}
BENCHMARK = ["xresnet1d101", "s4", "cnn"]


def make(preset: str = "tiny", **options: object) -> Supervised:
    torch.manual_seed(0)
    return create(SPEC.configure(preset, **options))


def signals(n_samples: int = 1000) -> Batch:
    return Batch(100 * torch.randn(3, 12, n_samples, generator=torch.Generator().manual_seed(0)), torch.arange(3))


@pytest.mark.parametrize("preset", ["tiny", "tiny_vit"])
def test_a_preset_without_crops_is_a_backbone_over_records_scaled_to_one(preset: str) -> None:
    method = make(preset).eval()
    torch.manual_seed(0)
    backbone = create_backbone(SPEC.configure(preset).backbone, 1000).eval()
    assert [f"backbone.{name}" for name in backbone.state_dict()] == list(method.state_dict())
    features = method.encode(signals())
    tokens_BNF, pooled_BF = backbone(scale_to_unit(signals().signal_BLT))
    assert torch.equal(features.pooled_BF, pooled_BF) and features.tokens_BNF is not None
    assert torch.equal(features.tokens_BNF, tokens_BNF)
    assert method.finetune_features(features) is features.pooled_BF
    assert not method.needs_scale and SPEC.head_recipes(method.config) == house_recipes(method.config)


def test_one_mean_and_deviation_are_those_of_all_leads_together() -> None:
    rng = np.random.default_rng(0)
    signal_NLT = rng.normal(rng.normal(0, 50, (1, 12, 1)), rng.uniform(50, 300, (1, 12, 1)), (40, 12, 300))
    method = make(**CROPS)
    assert isinstance(method, Standardised) and method.needs_scale
    method.set_scale(SignalScale(signal_NLT.mean((0, 2))[None], signal_NLT.std((0, 2))[None], ("ours",)))
    assert method.mean.item() == pytest.approx(signal_NLT.mean(), rel=1e-5)
    assert method.deviation.item() == pytest.approx(signal_NLT.std(), rel=1e-5)
    scaled_NLT = method.scaled(torch.from_numpy(signal_NLT).float())
    assert scaled_NLT.mean().item() == pytest.approx(0, abs=1e-4) and scaled_NLT.std().item() == pytest.approx(1, rel=1e-3)
    assert scaled_NLT[:, 0].mean().item() != pytest.approx(scaled_NLT[:, 1].mean().item(), abs=0.01), "leads keep their differences"


def test_the_scale_comes_from_the_training_folds_and_travels_with_the_weights(study: Study) -> None:
    job = study.job("pretrain", "bench", method="supervised", options={"max_steps": 0, **CROPS}, reports=None)
    assert main([str(job)]) == 0
    store = open_store(study.folder / "store")
    rows_N = np.flatnonzero(store.index["fold"].to_numpy() <= 8)
    training_NLT = store.signals(rows_N).astype(np.float64)
    for bundle in ("bundle", "random_init"):
        method = load_encoder(study.folder / "bench" / bundle)
        assert isinstance(method, Standardised)
        assert method.mean.item() == pytest.approx(training_NLT.mean(), rel=1e-4)
        assert method.deviation.item() == pytest.approx(training_NLT.std(), rel=1e-5)


def test_a_head_is_trained_on_crops_by_the_recipe(study: Study) -> None:
    options = {"max_steps": 0, "finetune_epochs": 15, "finetune_steps": 200, "finetune_lr": 1e-2, **CROPS}
    assert main([str(study.job("pretrain", "bench", method="supervised", options=options, reports=None))]) == 0
    arms = {arm: str(study.folder / "bench" / arm) for arm in ("bundle", "random_init")}
    assert main([str(study.job("head", "head", method="supervised", protocols=["finetune"], **arms))]) == 0
    table = read_predictions(study.folder / "head" / "predictions" / "super-finetune-pretrained-1.parquet")
    assert macro_auroc(table.folds((10,)).scores_NC, table.folds((10,)).labels_NC) > 0.8
    history = [json.loads(line) for line in (study.folder / "head" / "history.jsonl").read_text().splitlines()]
    assert [r["chosen"] for r in history] == [False] * (len(history) - 1) + [True], "the last step is kept"
    assert history[-1]["epoch"] == 15 * (96 // 32)


def test_the_head_of_the_benchmark_reads_the_sequence_and_only_the_last_layer_is_left_out() -> None:
    method = make(**CROPS).eval()
    features = method.encode(signals(64))
    assert features.tokens_BNF is not None and method.head is not None
    assert features.pooled_BF.shape == (3, method.feature_width) == (3, 32)
    read_BF = method.finetune_features(features)
    assert torch.equal(read_BF, method.head(features.tokens_BNF)) and read_BF.shape == (3, 128)
    with pytest.raises(ConfigurationError, match="pools a sequence"):
        method.finetune_features(Features(features.pooled_BF))


@pytest.mark.parametrize("preset", BENCHMARK)
def test_presets_of_the_benchmark_train_by_its_recipe(preset: str) -> None:
    config = SPEC.configure(preset)
    assert (config.recipe, config.n_samples, config.scaling) == ("native_100hz", 1000, "constants")
    recipe = SPEC.head_recipes(config)[FINETUNE]
    assert (recipe.crop, recipe.stride, recipe.epochs, recipe.batch_size) == (250, 125, 50, 128)
    assert (recipe.weight_decay, recipe.keep, recipe.patience, recipe.clip) == (0.01, "last", None, None)
    assert (recipe.schedule, recipe.loss, recipe.frozen, recipe.readout) == ("one_cycle", "bce", False, "features")
    assert (recipe.lr, recipe.aggregate) == ((1e-3, "mean") if preset == "s4" else (1e-2, "maximum"))
    assert recipe.on(17_418).steps == 6800, "the incomplete last batch of a pass is left out"
    assert recipe.on(7_197).steps == 2800
    assert recipe.on(100).steps == 50


@pytest.mark.parametrize("preset", ["tiny_xresnet", "tiny_s4"])
def test_small_presets_learn_one_batch_of_crops(preset: str) -> None:
    """With the network and rate of the preset; each record has a rhythm of its own."""
    method = make(preset)
    phase_T = torch.arange(250) / 100
    signal_BLT = 200 * torch.stack([torch.sin(6.28 * (1 + b) * phase_T) for b in range(8)])[:, None].expand(-1, 12, -1)
    method.set_scale(SignalScale(np.zeros((1, 12)), np.full((1, 12), 150.0), ("ours",)))
    width = method.eval().finetune_features(method.encode(Batch(signal_BLT, torch.arange(8)))).shape[1]
    network = torch.nn.ModuleList([method, torch.nn.Linear(width, 2)]).train()
    target_BC = torch.eye(2).repeat(4, 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=method.config.finetune_lr)
    losses = []
    for _ in range(60):
        logits_BC = network[1](method.finetune_features(method.encode(Batch(signal_BLT, torch.arange(8)))))
        loss = functional.binary_cross_entropy_with_logits(logits_BC, target_BC)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.65 * np.mean(losses[:5])


def test_everything_decays_but_how_states_move() -> None:
    method = make("tiny_s4")
    spared = {name for name, value in method.named_parameters() if not method.decays(name, value)}
    names = ("log_step_F", "log_decay_FS", "frequency_FS", "low_rank_FS2", "input_FS2")
    assert spared == {f"backbone.layers.{layer}.kernel.{name}" for layer in range(2) for name in names}
    assert all(make("tiny_xresnet").decays(name, value) for name, value in make("tiny_xresnet").named_parameters())


def test_passes_without_crops_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="finetune_epochs belongs to training on crops"):
        head_recipes(SPEC.configure("tiny", finetune_epochs=3))
