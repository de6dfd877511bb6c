"""A batch encoded in parts against the same batch encoded at once: values, gradients, random numbers, statistics, memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from models import accumulation
from models.accumulation import in_parts
from models.errors import TrainingError
from models.objectives.contrastive import LogitScale, info_nce
from models.objectives.symile import symile_loss
from models.types import Batch

ROWS = 12


class Towers(nn.Module):
    """Three towers of 6 -> width -> 4 and a scale."""

    def __init__(self, dropout: float = 0.0, norm: bool = False, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        middle = [nn.BatchNorm1d(width, momentum=0.3)] if norm else []
        self.ecg, self.image, self.labs = (
            nn.Sequential(nn.Linear(6, width), *copy.deepcopy(middle), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, 4))
            for _ in range(3)
        )
        self.scale = LogitScale()
        self.double()
        self.calls = 0

    def towers(self, batch: Batch) -> dict[str, Tensor]:
        self.calls += 1
        return {name: getattr(self, name)(batch.signal_BLT[:, i]) for i, name in enumerate(("ecg", "image", "labs"))}

    def separately(self, batch: Batch, n_parts: int) -> dict[str, Tensor]:
        """What parts must equal: the same parts one after the other, all activations kept."""
        size = len(batch) // n_parts
        found = [self.towers(batch.part(i, i + size)) for i in range(0, len(batch), size)]
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}


def records(rows: int = ROWS) -> Batch:
    generator = torch.Generator().manual_seed(1)
    signal_BLT = torch.randn(rows, 3, 6, generator=generator, dtype=torch.float64)
    return Batch(signal_BLT, torch.arange(rows), texts=[str(i) for i in range(rows)], observed={"image": torch.arange(rows) % 2 == 0})


def pairwise(model: Towers, t: dict[str, Tensor]) -> Tensor:
    return info_nce(t["ecg"], t["image"], 1 / model.scale(), "mean") + info_nce(t["ecg"], t["labs"], 1 / model.scale(), "mean")


def symile(model: Towers, t: dict[str, Tensor]) -> Tensor:
    unit = [torch.nn.functional.normalize(x, dim=1) for x in t.values()]
    return symile_loss(unit, model.scale(), "n_squared")


LOSSES = {"pairwise": pairwise, "symile": symile}


def gradients(model: Towers, towers: dict[str, Tensor], loss: str = "pairwise") -> dict[str, Tensor]:
    model.zero_grad()
    LOSSES[loss](model, towers).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys() and "scale.log_scale" in found
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")
    assert all(v.abs().max() > 1e-6 for n, v in expected.items() if not n.endswith("0.bias"))


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("n_parts", [1, 2, 3, 12])
def test_gradients_of_towers_and_scale_are_those_of_the_whole_batch(n_parts: int, loss: str) -> None:
    model = Towers()
    expected = gradients(model, model.towers(records()), loss)
    assert_equal(gradients(model, in_parts(model.towers, records(), n_parts), loss), expected)


@pytest.mark.parametrize("n_parts", [2, 4])
def test_dropout_draws_the_same_numbers_again_and_leaves_the_generator_alone(n_parts: int) -> None:
    model = Towers(dropout=0.5)
    torch.manual_seed(7)
    expected = gradients(model, model.separately(records(), n_parts))
    after = torch.rand(1)
    torch.manual_seed(7)
    assert_equal(gradients(model, in_parts(model.towers, records(), n_parts)), expected)
    assert torch.equal(torch.rand(1), after)


def test_without_restored_numbers_dropout_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the test above."""
    from torch.utils.checkpoint import checkpoint

    model = Towers(dropout=0.5)
    torch.manual_seed(7)
    expected = gradients(model, model.separately(records(), 2))
    monkeypatch.setattr(accumulation, "checkpoint", lambda *a, **k: checkpoint(*a, **(k | {"preserve_rng_state": False})))
    torch.manual_seed(7)
    found = gradients(model, in_parts(model.towers, records(), 2))
    assert max(float((found[n] - expected[n]).abs().max()) for n in expected) > 1e-3


def test_random_numbers_of_the_device_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """`checkpoint` saves random states of devices whose tensors are among its arguments; it sees none inside a batch."""
    model, seen = Towers(), []

    def spy(run: object, *arguments: object, **options: object) -> object:
        seen.append([a.device for a in arguments if isinstance(a, Tensor)])
        return run(*arguments)  # type: ignore[operator]

    monkeypatch.setattr(accumulation, "checkpoint", spy)
    in_parts(model.towers, records(), 2)
    assert seen == [[torch.device("cpu")]] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_dropout_on_a_gpu() -> None:
    model = Towers(dropout=0.5).cuda()
    batch = records()
    batch.signal_BLT, batch.row_B = batch.signal_BLT.cuda(), batch.row_B.cuda()
    torch.manual_seed(7)
    expected = gradients(model, model.separately(batch, 2))
    torch.manual_seed(7)
    assert_equal(gradients(model, in_parts(model.towers, batch, 2)), expected)


def norm_state(model: Towers) -> dict[str, Tensor]:
    return {n: b.clone() for n, b in model.named_buffers()}


@pytest.mark.parametrize("momentum", [0.3, None])
def test_statistics_of_batch_norm_move_once_a_part(momentum: float | None) -> None:
    """None is the cumulative mean, whose weight depends on how often it was moved."""
    model = Towers(norm=True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = momentum
    twin = copy.deepcopy(model)
    expected = gradients(twin, twin.separately(records(), 3))
    found = gradients(model, in_parts(model.towers, records(), 3))
    assert_equal(found, expected)
    after, wanted = norm_state(model), norm_state(twin)
    assert all(torch.equal(after[n], wanted[n]) for n in wanted)
    assert after["ecg.1.num_batches_tracked"] == 3
    assert all(m.momentum == momentum for m in model.modules() if isinstance(m, nn.BatchNorm1d))


def test_batch_norm_and_dropout_in_evaluation_mode() -> None:
    model = Towers(dropout=0.5, norm=True)
    model.towers(records())
    model.eval()
    before = norm_state(model)
    expected = gradients(model, model.towers(records()))
    assert_equal(gradients(model, in_parts(model.towers, records(), 4)), expected)
    after = norm_state(model)
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_without_gradients_every_part_runs_once() -> None:
    model = Towers()
    with torch.no_grad():
        whole, cut = model.towers(records()), in_parts(model.towers, records(), 4)
    assert model.calls == 5
    assert all(torch.allclose(cut[n], whole[n], rtol=0, atol=1e-12) for n in whole)
    gradients(model, in_parts(model.towers, records(), 4))
    assert model.calls == 5 + 8


def test_uneven_parts_are_refused() -> None:
    model = Towers()
    for n_parts in (5, 24, 0, -1):
        with pytest.raises(TrainingError, match=f"12 records cannot be cut into {n_parts} equal parts; change batch_size or accumulate"):
            in_parts(model.towers, records(), n_parts)
    assert model.calls == 0


def test_parts_hold_whole_records() -> None:
    seen: list[Batch] = []

    def towers(batch: Batch) -> dict[str, Tensor]:
        seen.append(batch)
        return {"x": batch.signal_BLT.sum(dim=(1, 2))}

    found = in_parts(towers, records(), 3)["x"]
    assert torch.equal(found, records().signal_BLT.sum(dim=(1, 2)))
    assert [b.texts for b in seen] == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9", "10", "11"]]
    assert [b.observed["image"].tolist() for b in seen if b.observed] == [[True, False, True, False]] * 3


def test_towers_in_parts_keep_no_activations() -> None:
    def kept(n_parts: int) -> int:
        model, sizes = Towers(width=256), []
        weights = {p.data_ptr() for p in model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.append(0 if t.data_ptr() in weights else t.numel()) or t, lambda t: t
        ):
            in_parts(model.towers, records(64), n_parts)
        return sum(sizes)

    assert kept(1) > 3 * 64 * 256
    assert kept(8) <= 64  # the row numbers


def test_on_the_way_back_one_part_is_held_at_a_time() -> None:
    def most(n_parts: int) -> int:
        model = Towers(width=256)
        alive: list[StorageWeakRef] = []
        counts: list[int] = []

        def watch(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            alive[:] = [s for s in alive if not s.expired()] + [StorageWeakRef(output.untyped_storage())]
            counts.append(len(alive) * len(output))

        for module in model.modules():
            if isinstance(module, nn.Tanh):
                module.register_forward_hook(watch)
        pairwise(model, in_parts(model.towers, records(64), n_parts)).backward()
        return max(counts)

    assert most(1) == 3 * 64
    assert most(8) <= 2 * 3 * 8


def test_half_precision_in_parts() -> None:
    model = Towers().float()
    batch = records()
    batch.signal_BLT = batch.signal_BLT.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = pairwise(model, model.towers(batch))
    expected.backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pairwise(model, in_parts(model.towers, batch, 3))
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(p.grad, wanted[name], rtol=0.05, atol=0.02 * float(wanted[name].abs().max()))
