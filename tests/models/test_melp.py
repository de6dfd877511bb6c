"""The numbered invariants of MELP's specification, its sizes, its stages, and what it makes of bad texts."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from models.checkpoint import Provenance, load_encoder, write_bundle
from models.errors import ConfigurationError, TrainingError
from models.methods.melp.ecg import EcgTower, mask_leads
from models.methods.melp.language_model import LanguageModel
from models.methods.melp.method import Melp
from models.methods.melp.spec import SPEC, MelpConfig
from models.registry import create_method
from models.types import Batch

REPORTS = [
    "sinus rhythm. normal ecg.",
    "atrial fibrillation. left axis deviation. st depression.",
    "sinus bradycardia",
    "left ventricular hypertrophy. t waves inverted",
    "ventricular extrasystoles. sinus rhythm.",
]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def make(seed: int = 0, **overrides: Any) -> Melp:
    torch.manual_seed(seed)
    method = create_method("melp", SPEC.configure("tiny", **{"n_samples": 320, **overrides}))
    assert isinstance(method, Melp)
    method.prepare(REPORTS)
    return method


def batch(B: int = 5, T: int = 320, seed: int = 0) -> Batch:
    """Noise that is louder in one lead, another one for each report."""
    generator = torch.Generator().manual_seed(seed)
    signal_BLT = 100 * torch.randn(B, 12, T, generator=generator)
    signal_BLT[torch.arange(B), torch.arange(B) % 5] *= 10
    return Batch(signal_BLT, torch.arange(B), [REPORTS[i % 5] for i in range(B)])


def test_sizes() -> None:
    """The encoder of 62.0 million, the ECG side of 65.1, the decoder of 108.5; the tiny preset."""
    with torch.device("meta"):
        tower = EcgTower(SPEC.configure("paper"))
        assert count(tower.backbone) == 62_021_760
        assert round(count(tower) / 1e6, 1) == 65.1
        decoder = Melp(SPEC.configure("paper")).decoder
        assert count(decoder) == 108_506_880
        tiny = Melp(MelpConfig())
    sizes = {name: count(part) for name, part in tiny.named_children()}
    assert sizes == {"ecg": 30_544, "text": 34_688, "text_projection": 800, "sentence_projection": 528, "decoder": 33_728, "scale": 1}


@pytest.mark.parametrize("length", [320, 500, 1000])
def test_1_tokens_pooled_tokens_and_length(length: int) -> None:
    method = make(n_samples=length).eval()
    features = method.encode(batch(T=length))
    assert features.tokens_BNF is not None and features.tokens_BNF.shape == (5, length // 16, 32)
    assert method.ecg.memory(features.tokens_BNF).shape == (5, 8, 32)
    assert features.embedding_BD is not None
    torch.testing.assert_close(features.embedding_BD.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(method.embed_text(REPORTS).norm(dim=1), torch.ones(5))


def test_2_equal_records_cannot_be_told_apart() -> None:
    method = make().eval()
    same = batch()
    same.signal_BLT, same.texts = same.signal_BLT[:1].expand(5, -1, -1), [REPORTS[1]] * 5
    parts = method.loss(same).parts
    assert parts["rhythm"].item() == pytest.approx(math.log(5), abs=1e-4)
    assert parts["beat"].item() == pytest.approx(math.log(5), abs=1e-4)


def test_3_the_order_of_pairs_does_not_matter() -> None:
    method, data = make().eval(), batch()
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = Batch(data.signal_BLT[order], data.row_B, [REPORTS[i] for i in order.tolist()])
    before, after = method.loss(data), method.loss(shuffled)
    for name, part in before.parts.items():
        assert after.parts[name].item() == pytest.approx(part.item(), abs=1e-5)


def test_6_captions_start_at_log_v_and_padding_is_never_read() -> None:
    method, data = make().eval(), batch()
    before, prompts = method.loss(data), method.embed_text(REPORTS)
    with torch.no_grad():
        method.text.embedding_table[method.text.marks.pad] += 3
    after = method.loss(data)
    assert torch.equal(after.total, before.total) and torch.equal(method.embed_text(REPORTS), prompts)
    with torch.no_grad():
        method.decoder.output_WV.zero_()
    assert method.loss(data).parts["token"].item() == pytest.approx(math.log(256), abs=1e-5)


def test_7_every_word_matters_for_the_report() -> None:
    method = make().eval()
    before = method.embed_text(["sinus rhythm. normal ecg."])
    for text in ("atrial rhythm. normal ecg.", "sinus fibrillation. normal ecg.", "sinus rhythm. left ecg.", "sinus rhythm. normal axis."):
        assert (method.embed_text([text]) - before).abs().max() > 1e-4


def train(method: Melp, data: Batch, steps: int) -> list[float]:
    optimizer, schedule = method.optimizers(steps)
    assert schedule is not None
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        losses.append(method.loss(data).total)
        losses[-1].backward()
        optimizer.step()
        schedule.step()
    return [loss.item() for loss in losses]


def test_8_captions_depend_on_the_record() -> None:
    method, data = make(lr=1e-2, lead_mask=0.0, dropout=0.0, text_dropout=0.0, rhythm_weight=0.0, beat_weight=0.0), batch()
    data.signal_BLT.requires_grad_()
    method.loss(data).parts["token"].backward()
    assert data.signal_BLT.grad is not None and data.signal_BLT.grad.abs().sum() > 0
    data.signal_BLT.requires_grad_(False)
    train(method, data, 60)
    method.eval()
    own = method.loss(data).parts["token"].item()
    data.signal_BLT = data.signal_BLT.roll(1, dims=0)
    assert method.loss(data).parts["token"].item() > own + 0.1


def test_9_scale_is_bounded_and_frozen_layers_stay() -> None:
    method, data = make(text_trainable_layers=1, lr=0.3), batch()
    before = {name: p.detach().clone() for name, p in method.text.named_parameters()}
    with torch.no_grad():
        method.scale.log_scale.fill_(math.log(100) - 1e-3)
    for sign in (-1.0, 1.0):
        optimizer, _ = method.optimizers(4)
        for _ in range(4):
            optimizer.zero_grad()
            method.loss(data).total.backward()
            method.scale.log_scale.grad = torch.tensor(sign)
            optimizer.step()
            assert 0 <= method.scale.log_scale.item() <= math.log(100) + 1e-6
        with torch.no_grad():
            method.scale.log_scale.fill_(1e-3)
    for name, p in method.text.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith("layers.0."), name


def test_10_leads_are_masked_in_training_only() -> None:
    torch.manual_seed(0)
    ones = torch.ones(500, 12, 4)
    assert mask_leads(ones, 0.0) is ones
    assert mask_leads(ones, 1.0).abs().max() == 0
    masked = mask_leads(ones, 0.5)
    assert set(masked.sum(dim=2).unique().tolist()) == {0.0, 4.0}
    assert masked.mean().item() == pytest.approx(0.5, abs=0.03)
    method, data = make(dropout=0.0, text_dropout=0.0), batch()
    assert not torch.equal(method.loss(data).total, method.loss(data).total)
    method.eval()
    assert torch.equal(method.loss(data).total, method.loss(data).total)


def test_11_probes_read_what_comes_before_the_shared_space() -> None:
    method = make().eval()
    features = method.encode(batch())
    assert features.embedding_BD is not None and features.pooled_BF.shape == (5, method.feature_width)
    projected = features.pooled_BF @ method.ecg.project_DD
    torch.testing.assert_close(torch.nn.functional.normalize(projected, dim=1), features.embedding_BD)
    assert (features.pooled_BF.norm(dim=1) - 1).abs().min() > 0.01


def test_12_weights_are_weights() -> None:
    data = batch()
    names = ("rhythm", "token", "beat")
    method = make().eval()
    for i, name in enumerate(names):
        weights = {f"{n}_weight": float(j == i) for j, n in enumerate(names)}
        method.config = dataclasses.replace(method.config, **weights)  # type: ignore[arg-type]
        losses = method.loss(data)
        assert torch.equal(losses.total, losses.parts[name])
    method.config = SPEC.configure("tiny")
    losses = method.loss(data)
    expected = losses.parts["rhythm"] + 2 * losses.parts["token"] + 0.2 * losses.parts["beat"]
    torch.testing.assert_close(losses.total, expected)


def test_parts_of_a_batch_give_the_losses_and_gradients_of_the_whole() -> None:
    data = batch(8)
    found = []
    for parts in (1, 4):
        method = make(accumulate=parts, lead_mask=0.0, dropout=0.0, text_dropout=0.0)
        losses = method.loss(data)
        losses.total.backward()
        found.append((losses, {name: p.grad for name, p in method.named_parameters()}))
    (whole, whole_grad), (cut, cut_grad) = found
    for name, part in whole.parts.items():
        torch.testing.assert_close(cut.parts[name], part, rtol=1e-5, atol=1e-5)
    for name, gradient in whole_grad.items():
        assert gradient is not None, name
        torch.testing.assert_close(cut_grad[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_beats_are_compared_within_groups() -> None:
    data, method = batch(8), make().eval()
    whole = method.loss(data).parts["beat"]
    halves = [method.loss(data.part(i, i + 4)).parts["beat"] for i in (0, 4)]
    method.config = dataclasses.replace(method.config, beat_batch=4)
    torch.testing.assert_close(method.loss(data).parts["beat"], torch.stack(halves).mean())
    assert not torch.isclose(whole, torch.stack(halves).mean())


def gradients(data: Batch) -> dict[str, list[float]]:
    """Loss and gradients of a batch, beats compared in fours, without any chance."""
    method = make(lead_mask=0.0, dropout=0.0, text_dropout=0.0, beat_batch=4)
    losses = method.loss(data)
    losses.total.backward()
    found = {name: part.detach() for name, part in losses.parts.items()}
    found |= {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    if dist.is_initialized():
        for value in found.values():
            dist.all_reduce(value)
            value /= dist.get_world_size()
    return {name: value.flatten().tolist() for name, value in found.items()}


def work(rank: int, port: int, output: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = gradients(batch(8).part(4 * rank, 4 * rank + 4))
    if rank == 0:
        output.write_text(json.dumps(found))
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Reports of the two halves differ in length, so that a mean of means would be another number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(work, args=(port, tmp_path / "found.json"), nprocs=2)
    found = json.loads((tmp_path / "found.json").read_text())
    for name, expected in gradients(batch(8)).items():
        torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(expected), rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("backbone", ["conv_transformer_mini", "resnet_mini"])
def test_every_parameter_that_learns_gets_a_gradient(backbone: str) -> None:
    method = make(backbone=backbone)
    method.loss(batch()).total.backward()
    for name, p in method.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


@pytest.mark.parametrize("text", ["", "   ", "...", "心电图 正常", "\x00\ufffd", "a" * 5000])
def test_bad_texts_give_finite_losses(text: str) -> None:
    method, data = make(), batch()
    for texts in ([text, *REPORTS[1:]], [text] * 5):
        data.texts = texts
        losses = method.loss(data)
        losses.total.backward()
        assert all(torch.isfinite(part) for part in losses.parts.values())
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in method.parameters())
    assert torch.isfinite(method.embed_text([text])).all()
    language = make_language_model()
    losses = language.loss(data)
    losses.total.backward()
    assert torch.isfinite(losses.total)


def test_a_batch_without_texts_is_refused() -> None:
    silent = dataclasses.replace(batch(), texts=None)
    for method in (make(), make_language_model()):
        with pytest.raises(TrainingError, match="reports table"):
            method.loss(silent)


def test_flat_records_give_finite_losses() -> None:
    method, data = make(), batch()
    data.signal_BLT = torch.zeros_like(data.signal_BLT)
    losses = method.loss(data)
    losses.total.backward()
    assert torch.isfinite(losses.total) and all(p.grad is None or torch.isfinite(p.grad).all() for p in method.parameters())


def test_reports_are_written_and_end() -> None:
    method, data = make(lr=1e-2, lead_mask=0.0, dropout=0.0, text_dropout=0.0), batch()
    train(method, data, 120)
    method.eval()
    written = method.generate(data)
    assert written == method.generate(data)
    assert written[:2] == REPORTS[:2]
    assert method.generate(data.part(1, 2)) == written[1:2]
    method.config = dataclasses.replace(method.config, generation_beams=1, generation_groups=1)
    assert method.generate(data)[:2] == REPORTS[:2]


def test_an_untrained_network_writes_something() -> None:
    method = make().eval()
    assert all(isinstance(text, str) and "[" not in text for text in method.generate(batch(2)))


def make_language_model(**overrides: Any) -> LanguageModel:
    torch.manual_seed(0)
    config = SPEC.configure("tiny", **overrides)
    assert SPEC.first_stage is not None
    language = create_method("melp", SPEC.first_stage.configure(config), "language_model")
    assert isinstance(language, LanguageModel)
    language.prepare(REPORTS)
    return language


def texts_alone(B: int = 20) -> Batch:
    return Batch(torch.zeros(B, 0, 0), torch.arange(B), [REPORTS[i % 5] for i in range(B)])


def test_the_language_model_learns_and_hands_over_its_text_encoder(tmp_path: Path) -> None:
    language = make_language_model()
    assert language.config.lr == language.config.mlm_lr and language.config.max_steps == language.config.mlm_steps
    optimizer, _ = language.optimizers(60)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(language.loss(texts_alone()).total)
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-5:]).item() < 0.5 * sum(losses[:5]).item()  # type: ignore[union-attr]
    origin = Provenance(method="melp", preset="tiny", seed=0, arm="pretrained", steps=60, records=20, fs_hz=0.0, stage="language_model")
    write_bundle(tmp_path / "bundle", language, origin)
    again = load_encoder(tmp_path / "bundle")
    method = make()
    method.prepare(["another corpus"])
    method.start_from(again)
    assert method.extra_state() == again.extra_state() == language.extra_state()
    for (name, p), q in zip(method.text.named_parameters(), language.text.parameters(), strict=True):
        assert torch.equal(p, q), name
    with pytest.raises(ConfigurationError, match="reads no signals"):
        again.encode(batch())


@pytest.mark.parametrize("overrides", [{"text_width": 16}, {"text_layers": 1}, {"text_vocabulary": 30}, {"text_max_tokens": 16}])
def test_a_language_model_of_another_shape_is_refused(overrides: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="has another shape"):
        make(**{"text_trainable_layers": 1, **overrides}).start_from(make_language_model())
    with pytest.raises(ConfigurationError, match="not from a Melp"):
        make().start_from(make())


def test_configurations_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="choose 4 or more"):
        make(text_max_tokens=3)
    with pytest.raises(ConfigurationError, match="has 2 layers"):
        make(text_trainable_layers=3)


def test_prompts_go_the_way_of_reports() -> None:
    method, data = make().eval(), batch()
    towers = method.towers(data)
    torch.testing.assert_close(torch.nn.functional.normalize(towers["text"], dim=1), method.embed_text(REPORTS))
    torch.testing.assert_close(method.embed_text(["Sinus Rhythm. Normal EKG"]), method.embed_text(REPORTS[:1]))


def test_published_rows_are_read_as_printed(shared_data: Path) -> None:
    tasks = {f"ptbxl_{name}": f"ptb_xl/{name}" for name in ("form", "rhythm")}
    tasks |= {
        "ptbxl_super_class": "ptb_xl/super",
        "ptbxl_sub_class": "ptb_xl/sub",
        "icbeb": "cpsc2018/icbeb",
        "chapman": "sph/csn_published",
    }
    ours = {(p.model, p.task, p.protocol, p.fraction): p.value for p in SPEC.published if p.metric == "macro_auroc"}
    compared = set()
    with (shared_data / "merl_splits" / "published_results.csv").open() as stream:
        for row in csv.DictReader(stream):
            names = row["task"].split(">")
            if not row["method"].startswith("MELP") or not all(name in tasks for name in names):
                continue
            fraction = {"1%": 0.01, "10%": 0.1, "100%": 1.0}.get(row["train_fraction"])
            key = (row["method"].replace("(16-queries)", ", 16 beats"), ">".join(tasks[name] for name in names), row["protocol"], fraction)
            assert ours[key] == pytest.approx(float(row["value_percent"]) / 100), row
            compared.add(key)
    assert compared == set(ours)
