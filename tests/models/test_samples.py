"""Samples of a pairing over small stores made here: what is missing, what is refused, which batches a step sees, a job."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from models import registry
from models.checkpoint import load_encoder
from models.config import TrainingConfig
from models.data import BatchOrder
from models.errors import ConfigurationError, StoreError, TrainingError
from models.image_store import open_image_store
from models.inputs import open_inputs
from models.jobs import PretrainJob
from models.method import ContrastiveMethod
from models.objectives.contrastive import multi_pair_info_nce
from models.samples import Samples, Sources, first_rows, read_panels, read_samples, texts_by_id
from models.spec import GateRule, MethodSpec, Paper
from models.store import open_store
from models.train import main
from models.types import LEADS, Batch, Features, Losses, Modality

T, H, P = 40, 8, 5
EVERY_FOLD = range(1, 11)


def value(name: str) -> int:
    """A number that tells an item of a store from others: "e07" is 7."""
    return int(name[1:])


def write_signals(folder: Path, ids: Sequence[str], starts: Sequence[float] | None = None) -> None:
    """Every sample of a recording, or of its window, is its number."""
    folder.mkdir(parents=True)
    n = len(ids)
    number_N = np.array([value(i) for i in ids]) + (100 * np.array(starts) if starts is not None else 0)
    np.save(folder / "shard-00000.npy", np.broadcast_to(number_N[:, None, None], (n, 12, T)).astype(np.int16))
    index = {
        "dataset": ["small"] * n,
        "record_id": list(ids),
        "patient_id": ["p"] * n,
        "start": np.zeros(n) if starts is None else np.array(starts, float),
        "row": np.arange(n),
        "shard": np.zeros(n, np.int32),
        "fold": np.ones(n, np.int32),
        "n_samples": np.full(n, T, np.int32),
    }
    write_index(folder, index)
    facts = {
        "kind": "store",
        "window_s": T / 100,
        "channels": [{"name": lead, "kind": "ECG", "unit": "uV", "scale": 1.0, "fs_hz": 100.0} for lead in LEADS],
        "shards": [{"file": "shard-00000.npy", "rows": n, "channels": list(LEADS), "n_samples": T, "fs_hz": 100.0}],
    }
    write_manifest(folder, facts)


def write_images(folder: Path, ids: Sequence[str], size: int = H) -> None:
    folder.mkdir(parents=True)
    n = len(ids)
    pixels = np.array([value(i) for i in ids], np.uint8)[:, None, None]
    np.save(folder / "shard-00000.npy", np.broadcast_to(pixels, (n, size, size)).copy())
    columns = {
        "dataset": ["small"] * n,
        "record_id": list(ids),
        "patient_id": ["p"] * n,
        "row": np.arange(n),
        "shard": np.zeros(n, np.int32),
    }
    write_index(folder, {**columns, "fold": np.ones(n, np.int32)})
    shards = [{"file": "shard-00000.npy", "rows": n}]
    write_manifest(folder, {"kind": "image_store", "height": size, "width": size, "shards": shards})


def write_index(folder: Path, columns: dict[str, Any]) -> None:
    table = pa.table(columns)
    with pa.OSFile(str(folder / "index.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    facts = {"format_version": 1, "dataset": "small", "recipe": "native", "index": "index.arrow", **facts}
    files = [{"path": p.name, "bytes": p.stat().st_size} for p in sorted(folder.iterdir())]
    (folder / "manifest.json").write_text(json.dumps({"format_version": 1, "facts": facts, "files": files}))


def write_panels(folder: Path, ids: Sequence[str], **changes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    percentiles_NP = np.stack([np.full(P, value(i) / 1000, np.float32) for i in ids])
    observed_NP = np.arange(P) <= (np.arange(len(ids)) % P)[:, None]
    columns = {
        "panel_id": list(ids),
        "percentiles": pa.FixedSizeListArray.from_arrays(percentiles_NP.ravel(), P),
        "observed": pa.FixedSizeListArray.from_arrays(pa.array(observed_NP.ravel()), P),
    }
    pq.write_table(pa.table({k: v for k, v in {**columns, **changes}.items() if v is not None}), folder / "panels.parquet")


@dataclass
class World:
    """Sample i refers to e<i>, i<i> and l<i>, except where a reference is null or the store lacks what it names."""

    folder: Path
    n: int = 30
    tables: dict[str, list[str | None]] = field(default_factory=dict)

    @property
    def pairing(self) -> Path:
        return self.folder / "pairing"

    @property
    def sources(self) -> Sources:
        return Sources(
            open_store(self.folder / "signals"),
            open_image_store(self.folder / "images"),
            read_panels(self.pairing),
            texts_by_id(self.folder / "reports.parquet"),
            texts_by_id(self.folder / "image_reports.parquet"),
        )

    def read(self, folds: Sequence[int] = tuple(EVERY_FOLD), **changes: Any) -> Samples:
        return read_samples(self.pairing, folds, replace(self.sources, **changes))


def null(i: int, role: str) -> bool:
    """References that are null in the table."""
    return {"ecg": i % 7 == 3, "image": i % 5 == 2, "panel": i % 3 == 1}[role]


def lost(i: int, role: str) -> bool:
    """References that name something the stores do not hold."""
    return {"ecg": i % 11 == 6, "image": i % 13 == 8, "panel": False}[role]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """30 samples of 10 patients; sample 29 refers to nothing at all, sample 28 to an ECG alone."""
    made = World(tmp_path)
    letters = {"ecg": "e", "image": "i", "panel": "l"}
    for role, letter in letters.items():
        made.tables[role] = [None if null(i, role) or i == 29 or (i == 28 and role != "ecg") else f"{letter}{i:02d}" for i in range(made.n)]
    held = {role: [v for i, v in enumerate(made.tables[role]) if v and not lost(i, role)] for role in letters}
    held["ecg"].append("e90")  # a recording that no sample refers to
    rng = np.random.default_rng(0)
    write_signals(tmp_path / "signals", rng.permutation(held["ecg"]).tolist())
    write_images(tmp_path / "images", rng.permutation(held["image"]).tolist())
    write_panels(tmp_path / "pairing", rng.permutation(held["panel"]).tolist())
    columns = {
        "sample_id": [f"s{i:02d}" for i in range(made.n)],
        "patient_id": [f"m:{i % 10}" for i in range(made.n)],
        "fold": [1 + i % 10 for i in range(made.n)],
        **{f"{role}_id": pa.array(made.tables[role], pa.string()) for role in letters},
    }
    pq.write_table(pa.table(columns), tmp_path / "pairing" / "samples.parquet")
    for name, letter in (("reports", "e"), ("image_reports", "i")):
        ids = [f"{letter}{i:02d}" for i in range(made.n) if i % 4]
        pq.write_table(pa.table({"record_id": ids, "text": [f"report of {i}" for i in ids]}), tmp_path / f"{name}.parquet")
    return made


def number(sample: str) -> int:
    return int(sample[1:])


def test_masks_agree_with_null_references_and_with_what_stores_hold(world: World) -> None:
    samples = world.read()
    batch = samples.batch(np.arange(len(samples)))
    assert batch.observed is not None and batch.image_BHW is not None and batch.labs_BP is not None and batch.labs_observed_BP is not None
    for row, sample in enumerate(samples.ids):
        i = number(sample)
        for role, modality, found in (
            ("ecg", Modality.ECG, batch.signal_BLT),
            ("image", Modality.IMAGE, batch.image_BHW),
            ("panel", Modality.LABS, batch.labs_BP),
        ):
            there = world.tables[role][i] is not None and not lost(i, role)
            assert bool(batch.has(modality)[row]) == there, (sample, role)
            expected = torch.full_like(found[row], (i / 1000 if role == "panel" else i) if there else 0)
            assert torch.equal(found[row], expected), (sample, role)
        assert batch.labs_observed_BP[row].any() == batch.has(Modality.LABS)[row]
        texts = [t for t in (batch.texts, batch.image_texts) if t is not None]
        assert len(texts) == 2 and bool(batch.has(Modality.TEXT)[row]) == any(t[row] for t in texts)
        for text, role, letter in zip(texts, ("ecg", "image"), "ei", strict=True):
            wanted = f"report of {letter}{i:02d}" if world.tables[role][i] is not None and i % 4 else ""
            assert text[row] == wanted
    assert batch.image_BHW.dtype == torch.uint8 and batch.labs_observed_BP.dtype == torch.bool
    assert samples.names(batch.row_B[:3].tolist()) == samples.ids[:3]


def test_samples_with_fewer_than_two_modalities_are_left_out_and_counted(world: World) -> None:
    samples = world.read()
    assert "s29" not in samples.ids and len(samples) + samples.skipped == 30
    assert "s28" not in samples.ids, "an ECG without a report is one modality"
    assert "s27" in samples.ids
    without_texts = world.read(texts=None, image_texts=None)
    assert without_texts.skipped > samples.skipped
    assert without_texts.batch(np.arange(2)).texts is None and Modality.TEXT not in (without_texts.batch(np.arange(2)).observed or {})
    assert samples.skipped + len(samples) == len(without_texts) + without_texts.skipped == 30


def test_what_a_method_does_not_read_is_none_for_the_whole_batch(world: World) -> None:
    samples = world.read(images=None, image_texts=None, panels=None)
    batch = samples.batch(np.arange(len(samples)))
    assert batch.image_BHW is None and batch.labs_BP is None and batch.labs_observed_BP is None and batch.image_texts is None
    assert batch.observed is not None and set(batch.observed) == {Modality.ECG, Modality.TEXT}
    assert bool((batch.observed[Modality.ECG] & batch.observed[Modality.TEXT]).all())
    no_signals = world.read(signals=None)
    assert no_signals.batch(np.arange(2)).signal_BLT.shape == (2, 0, 0)


def test_folds_choose_samples_and_an_empty_choice_is_refused(world: World) -> None:
    assert {number(s) % 10 for s in world.read([2, 3]).ids} == {1, 2}
    with pytest.raises(TrainingError, match=r"folds \[99\] of .*samples.parquet hold 0 samples"):
        world.read([99])
    with pytest.raises(TrainingError, match="none has two modalities in the stores"):
        world.read(signals=None, images=None, texts=None, image_texts=None)


def test_all_modalities_missing_from_the_stores(world: World, tmp_path: Path) -> None:
    """Nothing that the table names came: every sample is left out."""
    write_signals(tmp_path / "other", ["e90", "e91"])
    write_images(tmp_path / "other_images", ["i90"])
    with pytest.raises(TrainingError, match="hold 30 samples, and none has two"):
        world.read(
            signals=open_store(tmp_path / "other"),
            images=open_image_store(tmp_path / "other_images"),
            panels=None,
            texts=None,
            image_texts=None,
        )


def test_short_reports_count_as_missing(world: World) -> None:
    assert (world.read(min_words=4).texts or []).count("") == len(world.read(min_words=4))
    assert any(world.read(min_words=3).texts or [])
    assert sorted(world.read().vocabulary()) == sorted(t for t in [*(world.read().texts or []), *(world.read().image_texts or [])] if t)


def test_a_recording_in_windows_is_read_at_its_earliest(tmp_path: Path) -> None:
    write_signals(tmp_path / "windows", ["e01", "e02", "e01", "e01"], starts=[20.0, 0.0, 0.0, 10.0])
    assert first_rows(open_store(tmp_path / "windows")) == {"e01": 2, "e02": 1}


# What is refused


def test_missing_files_are_named(world: World) -> None:
    for name, read in (("samples", lambda: world.read()), ("panels", lambda: read_panels(world.pairing))):
        path = world.pairing / f"{name}.parquet"
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(TrainingError, match=rf"{path}.*materialise the pairing again"):
            read()
        path.write_bytes(kept[: len(kept) // 2])
        with pytest.raises(TrainingError, match=rf"{path}"):
            read()
        path.write_bytes(kept)
    pq.write_table(pq.read_table(world.pairing / "samples.parquet").drop_columns(["image_id"]), world.pairing / "samples.parquet")
    with pytest.raises(TrainingError, match="no table of samples"):
        world.read()


IDS = ("l01", "l02", "l03")


def lists(values: Sequence[float | None] | np.ndarray, width: int = P) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), width)


@pytest.mark.parametrize("bad", [np.nan, -0.01, 1.001, np.inf])
def test_percentiles_out_of_range_are_refused_with_their_panels(bad: float, tmp_path: Path) -> None:
    values = np.full(3 * P, 0.5, np.float32)
    values[P + 2] = bad
    write_panels(tmp_path, IDS, percentiles=lists(values))
    with pytest.raises(TrainingError, match=r"outside \[0, 1\] in 1 panels \(l02\)"):
        read_panels(tmp_path)
    values[P + 2] = 1.0
    write_panels(tmp_path, IDS, percentiles=lists(values))
    assert read_panels(tmp_path).percentiles_NP[1, 2] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"percentiles": lists([0.5] * 7 + [None] + [0.5] * 7)}, "a list or a value is null"),
        ({"percentiles": pa.array([[0.5] * P, None, [0.5] * P], pa.list_(pa.float32(), P))}, "no table of lab panels"),
        ({"observed": pa.array([[True] * P, None, [True] * P], pa.list_(pa.bool_(), P))}, "no table of lab panels"),
        ({"percentiles": pa.array([[0.5] * P] * 3, pa.list_(pa.float32()))}, "no table of lab panels"),
        ({"percentiles": lists([0.5] * 12, 4)}, "holds 4 percentiles a panel and says of 5"),
        ({"panel_id": ["l01", "l02", "l01"]}, "names 1 panels twice"),
        ({"observed": None}, "no table of lab panels"),
        ({"percentiles": pa.array([["a"] * P] * 3, pa.list_(pa.string(), P))}, "no table of lab panels"),
    ],
)
def test_tables_of_panels_that_are_none_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_panels(tmp_path, IDS, **changes)
    with pytest.raises(TrainingError, match=message):
        read_panels(tmp_path)


def test_an_empty_table_of_panels(tmp_path: Path) -> None:
    write_panels(tmp_path, IDS)
    pq.write_table(pq.read_table(tmp_path / "panels.parquet").slice(0, 0), tmp_path / "panels.parquet")
    assert read_panels(tmp_path).percentiles_NP.shape == (0, P)


# Batches


def test_no_patient_comes_twice_in_a_batch_and_all_come_in_a_pass() -> None:
    rng = np.random.default_rng(0)
    patient_N = rng.integers(0, 40, 300)
    order = BatchOrder(300, 8, 1, patient_N)
    assert order.per_pass == len(np.unique(patient_N)) == 40
    taken: list[int] = []
    for passed in range(3):
        rows = np.concatenate([order.positions(s) for s in range(5 * passed, 5 * passed + 5)])
        assert sorted(patient_N[rows]) == list(range(40))
        taken += rows.tolist()
    assert len(set(taken)) > 60, "another record of a patient each time"


def test_batches_are_a_function_of_seed_and_step() -> None:
    patient_N = np.arange(60) // 3
    for groups in (None, patient_N):
        orders = [BatchOrder(60, 7, 5, groups) for _ in range(2)]
        forwards = [orders[0].positions(s).tolist() for s in range(12)]
        backwards = [orders[1].positions(s).tolist() for s in reversed(range(12))][::-1]
        assert forwards == backwards
        assert forwards != [BatchOrder(60, 7, 6, groups).positions(s).tolist() for s in range(12)]


def test_patients_with_many_records_do_not_come_first() -> None:
    """One patient in two has ten records; the place in a pass must not tell who."""
    patient_N = np.concatenate([np.repeat(np.arange(50), 10), np.arange(50, 100)])
    order = BatchOrder(len(patient_N), 50, 0, patient_N)
    first_halves = np.concatenate([patient_N[order.positions(2 * passed)] for passed in range(40)])
    assert np.mean(first_halves < 50) == pytest.approx(0.5, abs=0.05)


def test_every_record_of_a_patient_is_as_likely() -> None:
    order = BatchOrder(8, 2, 0, np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    counts = np.bincount(np.concatenate([order.positions(s) for s in range(2000)]), minlength=8)
    assert counts.min() > 430 and counts.max() < 570


@pytest.mark.parametrize(("batch_size", "groups"), [(21, None), (0, None), (8, np.arange(20) // 3)])
def test_a_batch_larger_than_a_pass_is_refused(batch_size: int, groups: np.ndarray | None) -> None:
    with pytest.raises(ConfigurationError, match=f"a batch of {batch_size} cannot be drawn from"):
        BatchOrder(20, batch_size, 0, groups).positions(0)


# A job


@dataclass(frozen=True, kw_only=True)
class TrioConfig(TrainingConfig):
    """Linear towers of everything.

    Attributes:
        image_recipe, image_size, n_labs, report_form, pairing: as of any such method.
        poison: a record whose loss is not a number.
    """

    image_recipe: str = "grey_8"
    image_size: int = H
    n_labs: int = P
    report_form: str = "english"
    pairing: str = "auto"
    poison: str = ""


class Trio(ContrastiveMethod):
    config: TrioConfig

    def __init__(self, config: TrioConfig) -> None:
        super().__init__()
        self.config, self.feature_width = config, 4
        self.ecg, self.image, self.labs = nn.Linear(12, 4), nn.Linear(H * H, 4), nn.Linear(2 * P, 4)
        self.words = nn.EmbeddingBag(50, 4)

    def encode(self, batch: Batch) -> Features:
        found_BD = self.ecg(batch.signal_BLT.mean(dim=2) / 30)
        return Features(found_BD, found_BD)

    def towers(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.image_BHW is not None and batch.labs_BP is not None and batch.labs_observed_BP is not None
        said = [f"{a} {b}".split() or ["nothing"] for a, b in zip(batch.texts or [], batch.image_texts or [], strict=True)]
        words = [torch.tensor([sum(map(ord, word)) % 50 for word in words]) for words in said]
        offsets = torch.tensor([0, *(len(w) for w in words[:-1])]).cumsum(0)
        found = {
            "ecg": self.encode(batch).pooled_BF,
            "image": self.image(batch.image_BHW.flatten(1).float() / 30),
            "labs": self.labs(torch.cat([batch.labs_BP, batch.labs_observed_BP.float()], dim=1)),
            "text": self.words(torch.cat(words), offsets),
        }
        bad_B = torch.tensor([self.config.poison in words for words in said])
        found["ecg"] = torch.where(bad_B[:, None], torch.nan, found["ecg"]) if bad_B.any() else found["ecg"]
        return found | {f"has_{m}": batch.has(Modality(m)) for m in list(found)}

    def contrast(self, towers: dict[str, Tensor]) -> Losses:
        names = ("ecg", "image", "labs", "text")
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        return multi_pair_info_nce(towers, pairs, 0.2, observed={n: towers[f"has_{n}"] for n in names})

    def optimizers(self, total_steps: int) -> tuple[torch.optim.Optimizer, None]:
        return torch.optim.AdamW(self.parameters(), lr=1e-2), None


SPEC = MethodSpec(
    name="trio",
    title="Trio",
    version="1",
    paper=Paper("t", "v", "u"),
    modalities=(Modality.ECG, Modality.IMAGE, Modality.LABS, Modality.TEXT),
    config=TrioConfig,
    presets={"tiny": TrioConfig()},
    protocols=("retrieval",),
    tasks=(),
    gate=GateRule("super", "linear_probe"),
    pairings=("somewhere",),
)


@pytest.fixture
def trio(monkeypatch: pytest.MonkeyPatch) -> Any:
    packages = {**registry._packages(), "trio": "trio_for_tests"}
    for name, content in (("", {}), (".spec", {"SPEC": SPEC}), (".method", {"create": Trio})):
        module = ModuleType(f"trio_for_tests{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(registry, "_packages", lambda: packages)
    registry.get_spec.cache_clear()
    yield
    registry.get_spec.cache_clear()


def job_values(world: World, name: str = "run", options: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    config = {"n_samples": T, "batch_size": 8, "max_steps": 6, "checkpoint_every": 2, "log_every": 1, "validate_every": 3}
    values: dict[str, Any] = {
        "method": "trio",
        "preset": "tiny",
        "seed": 0,
        "config": asdict(TrioConfig(**(config | (options or {})))),
        "train_folds": list(range(1, 9)),
        "validation_folds": [9, 10],
        "accelerator": "cpu",
        "output": world.folder / name,
        "store": world.folder / "signals",
        "images": world.folder / "images",
        "pairing": world.pairing,
        "reports": world.folder / "reports.parquet",
        "image_reports": world.folder / "image_reports.parquet",
    }
    return values | changes


def run_job(world: World, name: str = "run", options: dict[str, Any] | None = None, **changes: Any) -> int:
    path = world.folder / f"{name}.json"
    path.write_text(json.dumps({"kind": "pretrain", **job_values(world, name, options, **changes)}, default=str))
    return main([str(path)])


def write_scale(world: World) -> None:
    items = [str(i) for i in range(P)]
    pq.write_table(pa.table({"item_id": items, "mean_percentile": [0.5] * P}), world.pairing / "items.parquet")
    pq.write_table(pa.table({"item_id": items, "value": [1.0] * P, "percentile": [1.0] * P}), world.pairing / "percentiles.parquet")


def test_a_job_learns_from_a_pairing_whole_or_in_parts(world: World, trio: None) -> None:
    write_scale(world)
    expected = world.read(list(range(1, 9)))
    for name, accumulate in (("whole", 1), ("parts", 2)):
        assert run_job(world, name, {"accumulate": accumulate, "distinct_patients": True, "batch_size": 9}) == 0
        result = json.loads((world.folder / name / "result.json").read_text())
        assert (result["records"], result["skipped"], result["steps"]) == (len(expected), expected.skipped, 6)
        rows = [json.loads(line) for line in (world.folder / name / "metrics.jsonl").read_text().splitlines()]
        assert len(rows) == 6 and all(np.isfinite(row["loss"]) for row in rows) and "skipped_pairs" in rows[0]
        assert np.isfinite(rows[-1]["validation_loss"])
    whole, parts = (load_encoder(world.folder / name / "bundle").state_dict() for name in ("whole", "parts"))
    for key in whole:
        torch.testing.assert_close(parts[key], whole[key], rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(whole[k], v) for k, v in load_encoder(world.folder / "whole" / "random_init").state_dict().items())


def test_too_few_patients_to_validate_in_parts(world: World, trio: None, caplog: pytest.LogCaptureFixture) -> None:
    write_scale(world)
    assert run_job(world, "many", {"accumulate": 4, "distinct_patients": True}) == 1
    assert "2 validation records or patients cannot be cut into 4 parts; lower accumulate" in caplog.text
    assert run_job(world, "none", {"accumulate": 16, "distinct_patients": True, "batch_size": 16}) == 1
    assert "a batch of 0 cannot be drawn from 8 records or patients" in caplog.text


def test_a_record_that_is_not_finite_is_named(world: World, trio: None, caplog: pytest.LogCaptureFixture) -> None:
    write_scale(world)
    assert run_job(world, "poisoned", {"poison": "e01", "batch_size": 16}) == 1
    assert "is nan" in caplog.text and "look at these records" in caplog.text and "s01" in caplog.text


def test_a_pairing_without_its_tables_ends_the_job_with_the_name_of_the_file(
    world: World, trio: None, caplog: pytest.LogCaptureFixture
) -> None:
    write_scale(world)
    for name in ("samples", "panels"):
        path = world.pairing / f"{name}.parquet"
        kept = path.read_bytes()
        path.unlink()
        assert run_job(world, f"without_{name}") == 1
        assert f"TrainingError: {path}" in caplog.text
        path.write_bytes(kept)


def test_inputs_that_do_not_fit_the_configuration_are_refused(world: World, trio: None) -> None:
    def opened(options: dict[str, Any] | None = None, **changes: Any) -> Any:
        values = job_values(world, "x", options, **changes)
        config = TrioConfig(**{k: tuple(v) if k == "channels" else v for k, v in values["config"].items()})
        return open_inputs(PretrainJob(**values), config)

    assert len(opened().training_data([1, 2])) > 0
    for options, changes, message in (
        ({"image_size": 16}, {}, "8 x 8, the configuration says image_size=16"),
        ({"n_labs": 50}, {}, "have 5 items, the configuration says n_labs=50"),
        ({"n_samples": 50}, {}, "have 40 samples, the configuration says n_samples=50"),
        ({"channels": ("II", "PLETH")}, {}, "PLETH are needed too"),
        ({}, {"images": None}, "reads images, but the job names no image store"),
        ({}, {"store": None}, "reads signals, but the job names no store"),
        ({}, {"reports": None}, "reads reports, but the job names no reports table"),
        ({}, {"pairing": None}, "reads image, labs, but the job names no pairing"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            opened(options, **changes)
    with pytest.raises(StoreError):
        opened(images=world.folder / "nowhere")
    with pytest.raises(StoreError):
        opened(store=world.folder / "images")
    with pytest.raises(TrainingError, match=r"other.parquet is not a reports table"):
        opened(image_reports=world.folder / "other.parquet")


def test_without_reports_of_images_their_texts_are_missing(world: World, trio: None) -> None:
    values = job_values(world, "x", image_reports=None)
    config = TrioConfig(**{k: tuple(v) if k == "channels" else v for k, v in values["config"].items()})
    data = open_inputs(PretrainJob(**values), config).training_data([1, 2, 3])
    assert isinstance(data, Samples) and data.image_texts is None and data.texts is not None
