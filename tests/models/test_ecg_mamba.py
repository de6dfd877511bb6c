"""ECG-Mamba: how signals are prepared, what its classifier reads, how it is trained, and that it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from assets.registry import get_dataset
from assets.training import inputs_for, wrong_size
from models.errors import ConfigurationError
from models.head_optimizer import build_optimizer, learning_rate
from models.head_recipes import FINETUNE
from models.heads import macro_auroc
from models.methods.ecg_mamba.method import EcgMamba, create
from models.methods.ecg_mamba.signals import fit, recorded_samples, standardise
from models.methods.ecg_mamba.spec import SPEC
from models.predictions import read_predictions
from models.readouts import Classifier
from models.recipes import Recipe, Resample
from models.train import main
from models.types import Batch
from tests.models.conftest import CLASSES

if TYPE_CHECKING:
    from conftest import Study


def make(preset: str = "tiny", **options: Any) -> EcgMamba:
    torch.manual_seed(0)
    return create(SPEC.configure(preset, **options))


def padded(recorded: list[int], T: int = 1000, seed: int = 0) -> torch.Tensor:
    """Records in microvolts with an offset, zeros beyond what was recorded."""
    generator = torch.Generator().manual_seed(seed)
    signal_BLT = 300 * torch.randn(len(recorded), 12, T, generator=generator) + 1000
    return signal_BLT * (torch.arange(T) < torch.tensor(recorded)[:, None, None])


# Signals


def test_what_was_recorded_ends_with_the_last_sample_of_any_lead() -> None:
    signal_BLT = padded([1000, 700, 1])
    signal_BLT[1, 3:, 500:] = 0
    assert recorded_samples(signal_BLT).tolist() == [1000, 700, 1]
    signal_BLT[1, 3, 900] = 5
    signal_BLT[2] = 0
    assert recorded_samples(signal_BLT).tolist() == [1000, 901, 1]


def test_each_lead_is_standardised_over_what_was_recorded_before_it_is_padded() -> None:
    signal_BLT = padded([1000, 700])
    signal_BLT[0, 4] = 123.456
    signal_BLT[1, 5] = 0
    found = standardise(signal_BLT, recorded_samples(signal_BLT))
    raw = signal_BLT[1, :, :700].double()
    expected = (raw - raw.mean(1, keepdim=True)) / (raw.std(1, keepdim=True, correction=0) + 1e-8)
    expected[5] = 0
    torch.testing.assert_close(found[1, :, :700].double(), expected, rtol=1e-4, atol=1e-5)
    assert not found[1, :, 700:].any(), "padding is exactly 0"
    assert not found[0, 4].any() and not found[1, 5].any(), "and so are constant and absent leads"
    assert found[0, 0].std().item() == pytest.approx(1, abs=1e-3)


def test_a_lead_that_is_constant_where_it_was_recorded_is_zeros() -> None:
    signal_BLT = padded([700])
    signal_BLT[0, 2, :700] = 0.1
    assert not standardise(signal_BLT, torch.tensor([700]))[0, 2].any()


@pytest.mark.parametrize("random", [True, False])
def test_shorter_recordings_end_in_zeros_and_longer_ones_are_cut(random: bool) -> None:
    torch.manual_seed(0)
    recorded_B = torch.tensor([300, 400, 900, 1000])
    place_BLT = (1.0 + torch.arange(1000)).expand(4, 2, 1000) * (torch.arange(1000) < recorded_B[:, None, None])
    starts = set()
    for _ in range(60):
        found = fit(place_BLT, recorded_B, 400, random)
        assert found.shape == (4, 2, 400)
        assert torch.equal(found[:2], place_BLT[:2, :, :400]) and not found[0, :, 300:].any()
        for row in (2, 3):
            start = int(found[row, 0, 0]) - 1
            assert torch.equal(found[row, 1], place_BLT[row, 1, start : start + 400]) and found[row].all()
            starts.add((row, start))
    if random:
        assert len(starts) > 60 and max(s for r, s in starts if r == 2) <= 500 and min(s for _, s in starts) < 50
    else:
        assert starts == {(2, 250), (3, 300)}
    assert fit(place_BLT, recorded_B, 1200, random).shape == (4, 2, 1200)
    assert not fit(place_BLT, recorded_B, 1200, random)[:, :, 1000:].any()


def test_every_start_of_a_crop_can_be_drawn() -> None:
    torch.manual_seed(0)
    place_BLT = torch.arange(1.0, 9.0).expand(4000, 1, 8)
    starts = fit(place_BLT, torch.full((4000,), 8), 5, random=True)[:, 0, 0].long() - 1
    assert torch.bincount(starts).tolist() == pytest.approx([1000] * 4, rel=0.12)


def test_the_network_reads_a_stored_recording_of_ten_seconds_with_zeros_behind_it() -> None:
    method = make("companion", depth=1).eval()
    assert method.config.n_samples == 16_384
    prepared = method.prepared(padded([5000, 16_384], T=16_384))
    assert prepared.shape == (2, 12, 8192)
    assert not prepared[0, :, 5000:].any() and prepared[0, :, :5000].any()
    whole = standardise(padded([5000, 16_384], T=16_384), torch.tensor([5000, 16_384]))
    assert torch.equal(prepared[1], whole[1, :, 4096 : 4096 + 8192]), "from the middle"
    assert not torch.equal(method.train().prepared(padded([5000, 16_384], T=16_384))[1], prepared[1]), "anywhere in training"


def test_its_recipe_keeps_long_and_short_recordings_at_500_hz() -> None:
    (recipe,) = SPEC.recipes
    assert isinstance(recipe, Recipe) and recipe.steps == (Resample("polyphase"),)
    assert (recipe.fs_hz, recipe.short, recipe.absent) == (500.0, "pad", "zero")
    for name in ("cinc2020", "cinc2021"):
        config = SPEC.configure("paper")
        assert wrong_size(config, inputs_for(SPEC, config, name)) is None
        assert set(SPEC.tasks) & set(get_dataset(name).task_names) == {"dx"}
    tiny = SPEC.configure("tiny")
    assert wrong_size(tiny, inputs_for(SPEC, tiny, "synthetic")) is None


# Network


@pytest.mark.parametrize(("preset", "expected"), [("tiny", 32_362), ("tiny_v2", 32_362), ("paper", 26_091_290), ("companion", 6_268_058)])
def test_sizes_with_a_head_of_26_classes(preset: str, expected: int) -> None:
    method = make(preset)
    network = Classifier(method, SPEC.head_recipes(method.config)[FINETUNE], 26, method.feature_width)
    assert sum(p.numel() for p in network.parameters()) == expected


def test_the_head_reads_the_class_token_alone() -> None:
    method = make().eval()
    features = method.encode(Batch(padded([1000, 800]), torch.arange(2)))
    assert features.tokens_BNF is not None and features.tokens_BNF.shape == (2, 84, 32)
    assert torch.equal(method.finetune_features(features), features.tokens_BNF[:, 41])


def test_amplitude_and_offset_of_leads_do_not_matter() -> None:
    method = make().eval()
    signal_BLT = padded([1000, 1000])
    louder = signal_BLT * torch.linspace(0.5, 4, 12)[:, None] + torch.linspace(-500, 500, 12)[:, None]
    found = [method.encode(Batch(x, torch.arange(2))).pooled_BF for x in (signal_BLT, louder)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_every_parameter_learns_from_the_loss_of_a_head() -> None:
    method = make().train()
    network = Classifier(method, SPEC.head_recipes(method.config)[FINETUNE], 3, 32)
    logits_BC = network(Batch(padded([1000] * 4), torch.arange(4)))
    torch.nn.functional.binary_cross_entropy_with_logits(logits_BC, torch.eye(4)[:, :3]).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()] == []


def test_weight_decay_is_for_weights_alone() -> None:
    method = make()
    spared = {name.rpartition("blocks.")[2] for name, p in method.named_parameters() if not method.decays(name, p)}
    assert {"network.class_token", "network.position", "network.norm.weight", "network.stem.1.weight", "network.stem.0.bias"} <= spared
    for branch in ("forwards", "backwards"):
        assert {f"0.mixer.{branch}.{n}" for n in ("A_log", "D", "conv1d.bias", "dt_proj.bias")} <= spared
    decayed = {name.rpartition(".mixer.")[2] for name, p in method.named_parameters() if method.decays(name, p)}
    assert {"in_proj.weight", "out_proj.weight", "forwards.dt_proj.weight", "backwards.x_proj.weight"} <= decayed
    assert not [n for n in decayed if n.endswith(("bias", "A_log", "D"))]


def test_dropout_can_be_set_for_fine_tuning() -> None:
    method = make().train()
    method.set_dropout(0.3)
    assert [block.dropout.p for block in method.network.blocks] == [0.3, 0.3]


def test_pretraining_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no pretraining"):
        make().loss(Batch(padded([1000]), torch.arange(1)))


# Training


def test_the_published_recipe() -> None:
    config = SPEC.configure("paper")
    recipe = SPEC.head_recipes(config)[FINETUNE]
    assert (recipe.optimizer, recipe.betas, recipe.eps, recipe.weight_decay, recipe.clip) == ("adam", (0.9, 0.98), 1e-9, 0.0, 1.0)
    assert (recipe.batch_size, recipe.epochs) == (30, 60)
    assert (recipe.keep, recipe.select, recipe.loss, recipe.mix, recipe.balance) == ("best", "macro_auprc", "bce", False, False)
    counted = recipe.on(70_601)
    assert (counted.steps, counted.look_every, counted.patience, counted.warmup) == (60 * 2353, 2353, 5 * 2353, 4000), "a look a pass"
    assert (recipe.crop, recipe.arms) == (None, ("pretrained", "random_init"))
    assert recipe.of_arm("random_init").frozen and not recipe.frozen
    options = SPEC.head_recipes(SPEC.configure("paper", mix=True, balance=True))[FINETUNE]
    assert options.mix and options.balance


def test_noams_rate_has_its_peak_after_4000_steps() -> None:
    recipe = SPEC.head_recipes(SPEC.configure("paper"))[FINETUNE]
    rate = np.array([learning_rate(recipe, step - 1) for step in range(1, 20_001)])
    assert rate.argmax() + 1 == 4000 and rate.max() == pytest.approx(8.07e-4, abs=5e-7)
    step = np.arange(1, 20_001)
    np.testing.assert_allclose(rate, 384**-0.5 * np.minimum(step**-0.5, step * 4000**-1.5), rtol=1e-9)
    method = make()
    tiny = SPEC.head_recipes(method.config)[FINETUNE]
    optimizer, _ = build_optimizer(Classifier(method, tiny, 3, 32), list(method.parameters()), tiny)
    assert all(g["weight_decay"] == 0 and g["betas"] == (0.9, 0.98) and g["eps"] == 1e-9 for g in optimizer.param_groups)


def test_what_the_later_work_changes_are_options() -> None:
    config = SPEC.configure("tiny_v2")
    network = make("tiny_v2").network
    recipe = SPEC.head_recipes(config)[FINETUNE]
    assert network.place == 83 and [b.dropout.p for b in network.blocks] == [0.1, 0.1]
    assert [b.mixer.halve for b in network.blocks] == [False, False]
    assert network.blocks[0].mixer.backwards.padding == (2, 1)
    assert (recipe.schedule, recipe.lr, recipe.final_lr, recipe.warmup) == ("cosine", config.finetune_lr, 0.0, config.warmup)


def test_published_rows_belong_to_tasks_that_are_judged() -> None:
    assert {(p.task, p.protocol, p.fraction) for p in SPEC.published} == {(f"cinc{y}/dx", FINETUNE, 1.0) for y in (2020, 2021)}
    ours = {(p.task, p.metric): p.value for p in SPEC.published if p.model == "1D CNN ECG Mamba"}
    assert ours[("cinc2021/dx", "macro_auprc")] == 0.6410 and ours[("cinc2020/dx", "macro_auroc")] == 0.9571
    assert not SPEC.baseline and SPEC.splits == ("patients5",)


def test_jobs_deliver_the_untrained_network_and_train_it_on_labels(study: Study) -> None:
    add_waves(study)
    options = {"max_steps": 0, "length": study.n_samples, "finetune_steps": 60, "warmup": 40, "finetune_batch_size": 16}
    assert main([str(study.job("pretrain", "mamba", method="ecg_mamba", options=options, reports=None))]) == 0
    arms = {arm: str(study.folder / "mamba" / arm) for arm in ("bundle", "random_init")}
    assert main([str(study.job("head", "head", method="ecg_mamba", protocols=["finetune"], **arms))]) == 0
    found = {}
    for arm in ("pretrained", "random_init"):
        table = read_predictions(study.folder / "head" / "predictions" / f"super-finetune-{arm}-1.parquet").folds((10,))
        found[arm] = macro_auroc(table.scores_NC, table.labels_NC)
    assert found["pretrained"] > 0.95, "well above the 0.5 of chance"
    assert found["pretrained"] > found["random_init"], "of the twin the last layer alone learns"


def add_waves(study: Study) -> None:
    """Tell the classes of the study by the period of a wave: standardising hides the amplitude that tells them otherwise."""
    labels_NC = np.column_stack([pq.read_table(study.folder / "labels.parquet")[name].to_numpy() for name in CLASSES])
    shard_NLT = np.load(study.folder / "store" / "shard-00000.npy", mmap_mode="r+")
    period_N1 = 8 * 2 ** labels_NC.argmax(axis=1)[:, None]
    shard_NLT += (200 * np.sin(2 * np.pi * np.arange(study.n_samples) / period_N1))[:, None].astype(np.int16)
    shard_NLT.flush()
