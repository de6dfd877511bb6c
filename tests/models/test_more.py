"""The numbered invariants of MoRE's specification, and the parameter counts that it states."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.checkpoint import Provenance, load_encoder, write_bundle
from models.errors import CheckpointError, ConfigurationError, TrainingError
from models.methods.more.method import More, create, scale_leads
from models.methods.more.spec import SPEC, MoreConfig
from models.registry import create_method
from models.types import Batch, Modality

B = 8
WORDS = [a + b for a in "bcdfghjk" for b in "aeiou"]
PAIRS = (("text", "image"), ("text", "ecg"))


def make(**overrides: Any) -> More:
    torch.manual_seed(0)
    method = create_method("more", SPEC.configure("tiny", **{"n_samples": 100, "augment": False, **overrides}))
    assert isinstance(method, More)
    method.prepare(batch().texts or [])
    return method


def batch(n: int = B, T: int = 100, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    texts = [" ".join(WORDS[int(i)] for i in torch.randint(0, 40, (8,), generator=generator)) for _ in range(n)]
    return Batch(
        100 * torch.randn(n, 12, T, generator=generator),
        torch.arange(n),
        texts,
        image_BHW=torch.randint(0, 256, (n, 32, 32), generator=generator, dtype=torch.uint8),
        image_texts=[""] * n,
    )


def still(method: More) -> More:
    """Evaluation mode, with batch-norm statistics that a batch has moved."""
    with torch.no_grad():
        method.train().loss(batch(16, seed=7))
    return method.eval()


def count(module: nn.Module) -> tuple[int, int]:
    return sum(p.numel() for p in module.parameters()), sum(p.numel() for p in module.parameters() if p.requires_grad)


def naive_nce(u_BD: Tensor, v_BD: Tensor, tau: float) -> float:
    """I(u, v) as the paper writes it."""
    total = 0.0
    for u in u_BD:
        assert u.norm() > 0
    for i, u in enumerate(u_BD):
        cosines = [(u @ v / u.norm() / v.norm()).item() for v in v_BD]
        total -= math.log(math.exp(cosines[i] / tau) / sum(math.exp(c / tau) for c in cosines))
    return total / len(u_BD)


def test_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        paper = create_method("more", replace(SPEC.presets["paper"], text_weights="somewhere"))
    assert isinstance(paper, More)
    assert count(paper.image)[0] == 85_771_008 and count(paper.ecg)[0] == 86_181_888
    assert count(paper.image_projection)[0] == count(paper.ecg_projection)[0] == count(paper.text_projection)[0] == 689_920
    tiny = create(MoreConfig(n_samples=100, text_vocabulary=128))
    pooler = 32 * 32 + 32  # which nothing reads and is left out here; its bias would be trained
    temperature = 1
    assert count(tiny) == (91_920 - pooler + temperature, 68_112 - 32 + temperature)


@pytest.mark.parametrize("third", [False, True])
def test_the_loss_is_that_of_the_definition(third: bool) -> None:
    method = still(make(third_term=third))
    towers = method.towers(batch())
    losses = method.contrast(towers)
    tau = 0.1
    pairs = [*PAIRS, ("image", "ecg")][: 3 if third else 2]
    terms = {f"{a}_{b}": (naive_nce(towers[a], towers[b], tau) + naive_nce(towers[b], towers[a], tau)) / 2 for a, b in pairs}
    for name, value in terms.items():
        assert losses.parts[name].item() == pytest.approx(value, rel=1e-4)
    assert losses.total.item() == pytest.approx(sum(terms.values()), rel=1e-4)


def test_the_loss_does_not_see_lengths_nor_which_signal_is_which() -> None:
    method = still(make())
    towers = method.towers(batch())
    expected = method.contrast(towers).total
    longer = {k: v * torch.linspace(0.5, 9, B)[:, None] if v.is_floating_point() else v for k, v in towers.items()}
    torch.testing.assert_close(method.contrast(longer).total, expected)
    swapped = {**towers, "image": towers["ecg"], "ecg": towers["image"]}
    torch.testing.assert_close(method.contrast(swapped).total, expected)
    equal = {k: torch.ones_like(v) if v.is_floating_point() else v for k, v in towers.items()}
    assert method.contrast(equal).total.item() == pytest.approx(2 * math.log(B), abs=1e-5)


def test_the_ecg_term_does_not_see_the_image() -> None:
    def ecg_term(data: Batch) -> tuple[float, Tensor]:
        method = still(make())
        losses = method.loss(data)
        losses.total.backward()
        gradient = method.ecg.pos_embed.grad
        assert gradient is not None
        return losses.parts["text_ecg"].item(), gradient

    data, other = batch(), batch()
    other.image_BHW = 255 - other.image_BHW  # type: ignore[operator]
    (one, gradient), (two, other_gradient) = ecg_term(data), ecg_term(other)
    assert one == two and torch.equal(gradient, other_gradient)


def test_without_ecgs_the_ecg_tower_learns_nothing() -> None:
    method = make()
    data = batch()
    data.observed = {Modality.ECG: torch.zeros(B, dtype=torch.bool)}
    losses = method.loss(data)
    losses.total.backward()
    assert "text_ecg" not in losses.parts and losses.parts["skipped_pairs"] == 1
    assert all(p.grad is None for p in [*method.ecg.parameters(), *method.ecg_projection.parameters()])
    assert all(p.grad is not None for p in method.image.parameters())


def test_reports_alone_train_the_ecg_term_alone() -> None:
    method = make()
    full = batch()
    losses = method.loss(Batch(full.signal_BLT, full.row_B, full.texts))
    losses.total.backward()
    assert losses.total == losses.parts["text_ecg"] and "text_image" not in losses.parts
    assert all(p.grad is None for p in method.image.parameters())
    assert all(p.grad is not None for p in method.ecg.parameters())


def test_one_step_moves_every_tower_but_no_base_weight_of_the_text_model() -> None:
    method = make()
    before = {k: v.clone() for k, v in method.named_parameters()}
    optimizer, _ = method.optimizers(10)
    for _ in range(2):  # A has no gradient while B is zero
        optimizer.zero_grad()
        method.loss(batch()).total.backward()
        optimizer.step()
    for name, parameter in method.named_parameters():
        frozen = name.startswith("text.") and "lora_" not in name and not name.endswith(".bias")
        assert torch.equal(parameter, before[name]) == frozen, name
        assert (parameter.grad is None) == frozen, name


def test_the_temperature_learns_where_it_is_said_to() -> None:
    method = make()
    optimizer, _ = method.optimizers(10)
    group = next(g for g in optimizer.param_groups if any(p is method.scale.log_scale for p in g["params"]))
    assert group["weight_decay"] == 0 and len(group["params"]) == 1
    start = method.scale().item()
    assert start == pytest.approx(10)
    method.loss(batch()).total.backward()
    optimizer.step()
    assert method.scale().item() != start
    method.scale.log_scale.data.fill_(9.0)
    optimizer.step()
    assert method.scale().item() == pytest.approx(100, rel=1e-5)
    fixed = make(learnable_temperature=False, temperature=0.02)
    optimizer, _ = fixed.optimizers(10)
    assert not any(p is fixed.scale.log_scale for g in optimizer.param_groups for p in g["params"])
    fixed.loss(batch()).total.backward()
    optimizer.step()
    assert fixed.scale().item() == pytest.approx(50)


def test_what_stands_in_missing_rows_is_never_read() -> None:
    data = batch()
    data.observed = {
        Modality.IMAGE: torch.tensor([True, False] * 4),
        Modality.ECG: torch.tensor([True] * 6 + [False] * 2),
        Modality.TEXT: torch.tensor([False] + [True] * 7),
    }

    def run(fill: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        method = make().train()
        changed = batch()
        changed.observed = data.observed
        assert changed.image_BHW is not None
        changed.image_BHW[1::2] = fill
        changed.signal_BLT[6:] = 1000.0 * fill
        towers = method.towers(changed)
        method.contrast(towers).total.backward()
        return towers, {k: v.clone() for k, v in method.state_dict().items()}

    (towers, state), (others, other_state) = run(0), run(200)
    assert all(torch.equal(towers[k], others[k]) for k in towers)
    assert all(torch.equal(state[k], other_state[k]) for k in state)
    for name, rows in (("image", [1, 3, 5, 7]), ("ecg", [6, 7]), ("text", [0])):
        assert not towers[name][rows].any() and (~towers[f"has_{name}"]).nonzero()[:, 0].tolist() == rows


def test_missing_rows_leave_the_pair_and_a_lonely_row_has_no_statistics() -> None:
    data = batch()
    seen_B = torch.tensor([True] * 5 + [False] * 3)
    data.observed = {Modality.IMAGE: seen_B}
    method = still(make())
    towers = method.towers(data)
    text_BD, image_BD = towers["text"][:5], towers["image"][:5]
    expected = (naive_nce(text_BD, image_BD, 0.1) + naive_nce(image_BD, text_BD, 0.1)) / 2
    assert method.contrast(towers).parts["text_image"].item() == pytest.approx(expected, rel=1e-4)
    data.observed = {Modality.IMAGE: torch.arange(B) == 2}
    lonely = make().towers(data)
    assert not lonely["has_image"].any() and not lonely["image"].any()
    losses = make().loss(data)
    assert torch.isfinite(losses.total) and losses.parts["skipped_pairs"] == 1


def test_nothing_to_compare_is_refused_or_zero_but_never_nan() -> None:
    with pytest.raises(TrainingError, match="reports table"):
        make().loss(Batch(batch().signal_BLT, torch.arange(B)))
    with pytest.raises(TrainingError, match="one record alone"):
        make().loss(batch(1))
    silent = batch()
    silent.texts, silent.image_texts = ["", "---", "___", "."] * 2, [""] * B
    losses = make().loss(silent)
    losses.total.backward()
    assert losses.total.item() == 0 and losses.parts["skipped_pairs"] == 2


def test_rows_of_one_patient_are_no_negatives_unless_asked_for() -> None:
    data = batch()
    data.group_B = torch.zeros(B, dtype=torch.int64)
    assert still(make()).loss(data).total.item() == pytest.approx(0, abs=1e-6)
    published = still(make(mask_patients=False))
    data.group_B = None
    assert published.loss(batch()).total.item() == pytest.approx(still(make()).loss(data).total.item())


def test_padding_enters_the_mean_only_where_asked_for() -> None:
    short, long = ["ba be"], ["ba be", "bi bo bu ca ce ci co cu da de di do du fa fe fi"]
    for pool, same in (("mean", True), ("mean_all", False)):
        method = still(make(text_pool=pool))
        method.text.fixed_length = False
        with torch.no_grad():
            alone, padded = method.embed_text(short)[0], method.embed_text(long)[0]
        assert torch.allclose(alone, padded, atol=1e-5) == same, pool
    fixed = still(make(text_pool="mean_all"))
    with torch.no_grad():
        torch.testing.assert_close(fixed.embed_text(short)[0], fixed.embed_text(long)[0], rtol=0, atol=1e-5)


def test_leads_and_images_are_scaled() -> None:
    x = scale_leads(torch.cat([batch().signal_BLT, torch.full((1, 12, 100), 7.0)]).double())
    torch.testing.assert_close(x[:B].amin(2), -torch.ones(B, 12).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(x[:B].amax(2), torch.ones(B, 12).double(), rtol=0, atol=1e-9)
    assert (x[B] == -1).all()
    image = make().image_input(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    torch.testing.assert_close(image[0, :, 0], torch.tensor([[-0.499 / 0.293, 0.501 / 0.293]]).expand(3, -1))


def test_changes_at_random_happen_in_training_only() -> None:
    method = make(augment=True)
    data = batch()
    assert data.image_BHW is not None
    assert not torch.equal(method.image_input(data.image_BHW), method.image_input(data.image_BHW))
    assert not torch.equal(method.ecg_input(data.signal_BLT), method.ecg_input(data.signal_BLT))
    method.eval()
    assert torch.equal(method.image_input(data.image_BHW), method.image_input(data.image_BHW))
    assert torch.equal(method.ecg_input(data.signal_BLT), scale_leads(data.signal_BLT))


def test_parts_of_a_batch_draw_the_same_random_numbers_twice() -> None:
    """Gradients of a batch in two parts against both parts kept in memory."""
    data = batch(8)

    def gradients(in_parts: bool) -> list[Tensor]:
        method = make(augment=True, accumulate=2).train()
        torch.manual_seed(1)
        if in_parts:
            method.loss(data).total.backward()
        else:
            halves = [method.towers(data.part(0, 4)), method.towers(data.part(4, 8))]
            method.contrast({k: torch.cat([h[k] for h in halves]) for k in halves[0]}).total.backward()
        return [p.grad for p in method.parameters() if p.grad is not None]

    for one, other in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_learning_rate_changes_once_an_epoch_and_restarts() -> None:
    method = make(schedule="cosine_restarts", epochs=25, restart_epochs=10, lr=3e-5, lr_end=3e-6)
    optimizer, schedule = method.optimizers(100)
    seen = []
    for _ in range(100):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    reference = torch.optim.AdamW([torch.zeros(1)], lr=3e-5)
    published = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(reference, 10, eta_min=3e-6)
    for epoch in range(25):
        assert seen[4 * epoch : 4 * epoch + 4] == pytest.approx([reference.param_groups[0]["lr"]] * 4)
        reference.step()
        published.step()


def test_fine_tuning_as_published() -> None:
    method = make(depth=4)
    learns = method.finetune_parameters(Modality.IMAGE)
    names = {n for n, p in method.named_parameters() if p.requires_grad}
    projection = {f"image_projection.{n}" for n, _ in method.image_projection.named_parameters()}
    assert names == {f"image.blocks.{i}.attn.qkv.weight" for i in (1, 2, 3)} | projection
    assert len(learns) == len(names)
    assert method.image.rates == pytest.approx([0.2, 0.4 / 3, 0.2 / 3, 0])
    with pytest.raises(ConfigurationError, match="not of text"):
        method.finetune_parameters(Modality.TEXT)


def test_published_variants() -> None:
    linear, constant = make(), make(dropkey_schedule="constant")
    assert linear.image.rates == linear.ecg.rates == [0.3, 0.0] and constant.ecg.rates == [0.3, 0.3]
    with pytest.raises(ConfigurationError, match="temperature"):
        make(temperature=0.001)
    with pytest.raises(ConfigurationError, match="no images"):
        make().encode_image(Batch(batch().signal_BLT, torch.arange(B)))


def sample(generator: torch.Generator, prototype_BHW: Tensor, texts: list[str]) -> Batch:
    """An image prototype and a sinusoid each, with fresh noise."""
    noise = 10 * torch.randn(prototype_BHW.shape, generator=generator)
    time_T = torch.arange(100) / 100
    wave_BT = 300 * torch.sin(2 * torch.pi * torch.arange(1, 17)[:, None] * time_T)
    signal_BLT = wave_BT[:, None] + 20 * torch.randn(16, 12, 100, generator=generator)
    image_BHW = (prototype_BHW + noise).clamp(0, 255).to(torch.uint8)
    return Batch(signal_BLT, torch.arange(16), texts, image_BHW=image_BHW, image_texts=[""] * 16)


def test_image_and_ecg_find_each_other_although_the_loss_never_compares_them() -> None:
    method = make(learnable_temperature=False, text_vocabulary=128)
    generator = torch.Generator().manual_seed(0)
    prototype_BHW = torch.randint(0, 256, (16, 32, 32), generator=generator)
    texts = batch(16).texts or []
    optimizer, _ = method.optimizers(10**6)
    losses = []
    for _ in range(120):
        optimizer.zero_grad()
        total = method.loss(sample(generator, prototype_BHW, texts)).total
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[0] > 2 * math.log(16) and losses[-1] < 0.2
    with torch.no_grad():
        found = method.eval().embed(sample(generator, prototype_BHW, texts))
    assert set(found) == {"ecg", "image", "text"}
    for direction in SPEC.directions:
        query, target = direction.split("->")
        scores = method.similarity({query: found[query]}, found[target], target)
        assert (scores.argmax(dim=1) == torch.arange(16)).all(), direction


def test_embeddings_are_of_unit_length_and_text_is_optional() -> None:
    method = still(make())
    data = batch()
    with torch.no_grad():
        found = method.embed(data)
        assert all(torch.allclose(v.norm(dim=1), torch.ones(B), atol=1e-5) for v in found.values())
        assert set(method.embed(Batch(data.signal_BLT, data.row_B))) == {"ecg"}
        silent = replace(data, texts=[""] * B)
        assert torch.isfinite(method.embed(silent)["text"]).all()
        image = method.encode_image(data)
    assert image.embedding_BD is not None and image.tokens_BNF is not None
    torch.testing.assert_close(nn.functional.normalize(image.embedding_BD, dim=1), found["image"])
    assert image.pooled_BF.shape == (B, 32) and image.tokens_BNF.shape == (B, 16, 32)


def test_a_z_score_per_class_does_not_change_zero_shot_auroc() -> None:
    from models.metrics.classification import auroc_per_class

    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(50, 3)), rng.integers(0, 2, (50, 3))
    np.testing.assert_allclose(auroc_per_class((scores - scores.mean(0)) / scores.std(0), labels), auroc_per_class(scores, labels))


def test_a_bundle_gives_equal_embeddings_of_all_modalities(tmp_path: Path) -> None:
    method = still(make())
    origin = Provenance(method="more", preset="tiny", seed=0, arm="pretrained", steps=0, records=3, fs_hz=100.0)
    write_bundle(tmp_path / "bundle", method, origin)
    again = load_encoder(tmp_path / "bundle")
    with torch.no_grad():
        expected, found = method.embed(batch()), again.embed(batch())
    assert all(torch.equal(expected[k], found[k]) for k in expected)
    with pytest.raises(CheckpointError, match="no vocabulary"):
        method.load_extra_state({})
