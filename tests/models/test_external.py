"""Encoders, features and scores from elsewhere: the contract, that they are judged as our own, and what is said of bad ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.external.job import judge_encoder, probe_features
from models.external.method import ExternalEncoder
from models.external.spec import ExternalConfig
from models.external.tables import read_features, read_scores
from models.external.truth import ExternalError, read_truth
from models.jobs import read_job
from models.predictions import Predictions, read_predictions
from models.progress import Progress
from models.registry import get_spec, list_methods
from models.store import open_store
from models.types import LEADS, Batch
from tests.models.conftest import CLASSES, Study, make_study


class Tokens(nn.Module):
    """A convolution: 16 tokens of 8 features."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.cut = nn.Conv1d(12, 8, 10, stride=10)
        nn.init.constant_(self.cut.bias, scale)

    @classmethod
    def random_init(cls) -> Tokens:
        return cls(0.0)

    def forward(self, signal_BLT: Tensor) -> Tensor:
        return torch.relu(self.cut(signal_BLT)).transpose(1, 2)


class Powers:
    """No module, and an array instead of a tensor: the power of each lead."""

    def __call__(self, signal_BLT: Tensor) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = signal_BLT.pow(2).mean(dim=2).cpu().numpy()
        return found


class Needy(nn.Module):
    def __init__(self, weights: str) -> None:
        super().__init__()


class Flat(nn.Module):
    def forward(self, signal_BLT: Tensor) -> Tensor:
        return signal_BLT.mean(dim=(1, 2))


class Infinite(nn.Module):
    def forward(self, signal_BLT: Tensor) -> Tensor:
        return signal_BLT.mean(dim=2) / 0


@pytest.fixture(autouse=True)
def _someones_package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("someones_package")
    vars(module).update({c.__name__: c for c in (Tokens, Powers, Needy, Flat, Infinite)})
    monkeypatch.setitem(sys.modules, "someones_package", module)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    made = make_study(tmp_path_factory.mktemp("external"))
    index = open_store(made.folder / "store").index
    pq.write_table(index.select(["record_id", "patient_id", "fold"]), made.folder / "records.parquet")
    return made


def encoder(name: str, n_samples: int = 160, **options: Any) -> ExternalEncoder:
    return ExternalEncoder(ExternalConfig(encoder=f"someones_package:{name}", n_samples=n_samples, **options))


def about(study: Study) -> dict[str, Any]:
    """What every head job says."""
    return {
        "labels": str(study.folder / "labels.parquet"),
        "task": "super",
        "fractions": [1.0],
        "embeddings": str(study.folder / "embeddings"),
    }


def judged(study: Study, name: str, which: str, protocol: str, **changes: Any) -> dict[str, Predictions]:
    config = {"encoder": which, "n_samples": study.n_samples, "finetune_steps": 6, "finetune_batch_size": 16}
    entries = about(study) | {"method": "external", "preset": "theirs", "config": config, "protocols": [protocol]}
    job = study.job("external", name, **(entries | changes))
    done = judge_encoder(read_job(job), Progress(1))  # type: ignore[arg-type]
    tables = {t.origin.arm: t for t in (read_predictions(study.folder / name / "predictions" / f"{s}.parquet") for s in done["tables"])}
    assert len(tables) == len(done["tables"])
    return tables


def test_it_is_no_method_that_is_listed() -> None:
    assert "external" not in list_methods()
    assert get_spec("external").name == "external"


def test_signals_come_in_millivolts_and_tokens_are_averaged() -> None:
    signal_BLT = torch.randn(3, 12, 160) * 500
    batch = Batch(signal_BLT, torch.arange(3))
    powers = encoder("Powers").encode(batch)
    torch.testing.assert_close(powers.pooled_BF, (signal_BLT / 1000).pow(2).mean(dim=2))
    assert powers.tokens_BNF is None
    made = encoder("Tokens")
    found = made.encode(batch)
    assert found.tokens_BNF is not None
    assert found.tokens_BNF.shape == (3, 16, 8)
    torch.testing.assert_close(found.pooled_BF, found.tokens_BNF.mean(dim=1))
    assert made.feature_width == 8


def test_callables_without_weights_are_told_apart() -> None:
    assert list(encoder("Powers").state_dict()) == ["fingerprint"]
    assert torch.equal(encoder("Powers").fingerprint, encoder("Powers").fingerprint)  # type: ignore[arg-type]
    assert not torch.equal(encoder("Powers").fingerprint, encoder("Powers", n_samples=80).fingerprint)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someones_package", "must look like package.module:Class"),
        ("someones_package:Absent", "cannot be imported .*pip install -e"),
        ("nonesuch_package:Class", "cannot be imported .*PYTHONPATH are not searched"),
        ("someones_package:Needy", "cannot be built without arguments: TypeError"),
        ("someones_package:Flat", r"gives shape \(2,\) for an input of shape \(2, 12, 160\)"),
        ("someones_package:Infinite", "gives values that are not finite"),
        ("torch.nn:ReLU6.forward", "cannot be built without arguments|cannot be called"),
        ("builtins:object", "cannot be called"),
        ("torch.nn:LazyBatchNorm2d", r"fails on an input of shape \(2, 12, 160\)"),
    ],
)
def test_classes_that_do_not_keep_the_contract_say_how(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ExternalEncoder(ExternalConfig(encoder=name, n_samples=160))


def test_a_module_is_judged_by_every_protocol_with_its_twin(study: Study) -> None:
    probed = judged(study, "tokens", "someones_package:Tokens", "linear_probe")
    assert set(probed) == {"pretrained", "random_init"}
    assert probed["pretrained"].origin.method == "external"
    assert probed["pretrained"].origin.preset == "theirs"
    assert probed["pretrained"].origin.encoder_sha256 != probed["random_init"].origin.encoder_sha256
    assert set(judged(study, "attentive", "someones_package:Tokens", "attentive_probe")) == {"pretrained", "random_init"}
    tuned = judged(study, "tuned", "someones_package:Tokens", "finetune")["pretrained"]
    assert tuned.origin.selection.endswith("from the weights that the class brings")
    assert set(tuned.fold.tolist()) == {9, 10}


def test_without_a_twin_there_is_one_arm(study: Study) -> None:
    assert set(judged(study, "powers", "someones_package:Powers", "linear_probe")) == {"pretrained"}
    with pytest.raises(ConfigurationError, match=r"no weights that can learn.*linear_probe"):
        judged(study, "stiff", "someones_package:Powers", "finetune")


def features_job(study: Study, name: str, features: Path, ids: Path | None, **changes: Any) -> Any:
    files = {"features": str(features), "ids": None if ids is None else str(ids), "records": str(study.folder / "records.parquet")}
    entries = about(study) | files | {"method": "external", "preset": "theirs"}
    return read_job(study.job("features", name, **(entries | changes)))


def test_features_are_probed_as_an_encoder_that_gives_them(study: Study) -> None:
    store = open_store(study.folder / "store").select(list(LEADS))
    rows = np.arange(len(store))
    powers = Powers()(torch.from_numpy(store.signals(rows)) / 1000)
    order = np.random.default_rng(0).permutation(len(rows))  # ids say which row is which
    np.save(study.folder / "x.npy", powers[order])
    ids = [store.index["record_id"].to_pylist()[i] for i in order]
    (study.folder / "ids.txt").write_text("\n".join(ids))
    by_encoder = judged(study, "by_encoder", "someones_package:Powers", "linear_probe", fractions=[0.5])["pretrained"]
    done = probe_features(
        features_job(study, "by_features", study.folder / "x.npy", study.folder / "ids.txt", fractions=[0.5]), Progress(1)
    )
    by_features = read_predictions(study.folder / "by_features" / "predictions" / f"{done['tables'][0]}.parquet")
    assert by_features.record_id.tolist() == by_encoder.record_id.tolist()
    np.testing.assert_allclose(by_features.scores_NC, by_encoder.scores_NC, atol=1e-4)
    assert (by_features.labels_NC == by_encoder.labels_NC).all()
    chosen = [json.loads((study.folder / name / "label_ids.json").read_text()) for name in ("by_encoder", "by_features")]
    assert chosen[0] == chosen[1], "the same fraction means the same records"


def write_features(folder: Path, n: int = 4, **kinds: Any) -> tuple[Path, Path]:
    np.save(folder / "x.npy", kinds.get("array", np.arange(2.0 * n).reshape(n, 2)))
    (folder / "ids.txt").write_text("\n".join(kinds.get("ids", [f"r{i}" for i in range(n)])))
    return folder / "x.npy", folder / "ids.txt"


def test_features_can_be_arrays_or_tables(tmp_path: Path) -> None:
    ids, features = read_features(*write_features(tmp_path))
    assert (ids, features.shape, features.dtype) == (["r0", "r1", "r2", "r3"], (4, 2), np.float32)
    np.save(tmp_path / "ids.npy", np.arange(4))
    assert read_features(tmp_path / "x.npy", tmp_path / "ids.npy")[0] == ["0", "1", "2", "3"]
    pq.write_table(pa.table({"record_id": ids, "a": features[:, 0], "b": features[:, 1]}), tmp_path / "x.parquet")
    again = read_features(tmp_path / "x.parquet", None)
    assert again[0] == read_features(tmp_path / "x.npy", tmp_path / "x.parquet")[0]
    assert (again[1] == features).all()


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"array": np.zeros((3, 2))}, "has 3 rows and .*ids.txt names 4 records"),
        ({"array": np.zeros(4)}, r"array of shape \(4,\)"),
        ({"array": np.array([["a", "b"]] * 4)}, "must hold numbers"),
        ({"array": np.array([[1, np.nan]] + [[0, 0]] * 3)}, "features of 1 records are not finite: r0"),
        ({"ids": ["r0", "r1", "r1", "r1"]}, "names 2 records twice: r1, r1"),
        ({"array": np.array([[object(), 1]] * 4, dtype=object)}, "arrays of Python objects are not read"),
    ],
)
def test_features_that_cannot_be_used_say_why(kinds: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExternalError, match=message):
        read_features(*write_features(tmp_path, **kinds))


def test_other_files_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    array, ids = write_features(tmp_path)
    with pytest.raises(ExternalError, match="name the records by --ids"):
        read_features(array, None)
    (tmp_path / "cut.npy").write_bytes(array.read_bytes()[:-9])
    with pytest.raises(ExternalError, match=r"cannot be read as a \.npy array"):
        read_features(tmp_path / "cut.npy", ids)
    np.savez(tmp_path / "x.npz", a=np.zeros((4, 2)))
    with pytest.raises(ExternalError, match="archive of arrays"):
        read_features(tmp_path / "x.npz", ids)
    (tmp_path / "x.parquet").write_text("no table")
    with pytest.raises(ExternalError, match="cannot be read as a Parquet table"):
        read_features(tmp_path / "x.parquet", None)
    with pytest.raises(ExternalError, match="cannot be read as a list of record ids"):
        read_features(array, tmp_path / "none.txt")


def test_records_without_features_are_counted_and_named(study: Study) -> None:
    truth = read_truth(study.folder / "records.parquet", study.folder / "labels.parquet")
    kept = [r for r, fold in zip(truth.record_id.tolist(), truth.fold.tolist(), strict=True) if fold != 10]
    np.save(study.folder / "less.npy", np.zeros((len(kept), 2)))
    (study.folder / "less.txt").write_text("\n".join(kept))
    with pytest.raises(ExternalError, match=r"lacks 12 of the 12 labelled records of the test folds: r\d{4}, .* and 7 more"):
        probe_features(features_job(study, "less", study.folder / "less.npy", study.folder / "less.txt"), Progress(1))
    with pytest.raises(ConfigurationError, match=r"not in \(0, 1\]"):
        probe_features(features_job(study, "none", study.folder / "less.npy", study.folder / "less.txt", fractions=[0]), Progress(1))


def test_labels_of_another_dataset_are_refused(study: Study, tmp_path: Path) -> None:
    pq.write_table(pa.table({"record_id": ["x"], "A": [1]}), tmp_path / "labels.parquet")
    with pytest.raises(ExternalError, match="labels none of the records"):
        read_truth(study.folder / "records.parquet", tmp_path / "labels.parquet")
    with pytest.raises(ExternalError, match="cannot be read"):
        read_truth(tmp_path / "none.parquet", tmp_path / "labels.parquet")


def scores(tmp_path: Path, **columns: Any) -> Path:
    held = {"record_id": ["a", "b"], **{c: [0.1, 0.9] for c in CLASSES}} | columns
    pq.write_table(pa.table({k: v for k, v in held.items() if v is not None}), tmp_path / "p.parquet")
    return tmp_path / "p.parquet"


def test_scores_are_read_by_class_name_and_our_own_tables_too(study: Study, tmp_path: Path) -> None:
    ids, found = read_scores(scores(tmp_path, NORM=[0.5, 0.6], patient_id=["p", "q"]), CLASSES)
    assert (ids, found[:, CLASSES.index("NORM")].tolist()) == (["a", "b"], pytest.approx([0.5, 0.6]))
    own = judged(study, "own", "someones_package:Powers", "linear_probe")["pretrained"]
    path = study.folder / "own" / "predictions" / f"{own.origin.slug}.parquet"
    ids, found = read_scores(path, own.classes)
    assert ids == own.record_id.tolist()
    assert (found == own.scores_NC).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"NORM": None}, "lacks the classes NORM"),
        ({"AFIB": [0.1, 0.2]}, "columns that are no class of the task: AFIB"),
        ({"record_id": None}, "has no column record_id"),
        ({"record_id": ["a", "a"]}, "names 1 records twice: a"),
        ({"NORM": [0.1, float("nan")]}, "scores of 1 records are not finite: b"),
        ({"NORM": [0.1, None]}, "scores of 1 records are not finite: b"),
        ({"NORM": ["x", "y"]}, "the columns NORM hold no numbers"),
        ({"score:NORM": [0.1, 0.2]}, "has a class twice"),
    ],
)
def test_scores_that_cannot_be_used_say_why(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExternalError, match=message):
        read_scores(scores(tmp_path, **columns), CLASSES)
