"""Bundles and training states: equal after a round trip, and refused when anything about them is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.checkpoint import CARD, CONFIG, SUMS, WEIGHTS, load_encoder
from models.errors import CheckpointError
from models.training_state import LAST, PREVIOUS, latest, read_state, save_latest, write_state

if TYPE_CHECKING:
    from conftest import Study


@pytest.fixture
def bundle(trained: Study, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.folder / "pretrain" / "bundle", tmp_path / "bundle"))


def seal(folder: Path) -> None:
    """Make the sums agree with the files, as somebody would who alters a bundle knowingly."""
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in (WEIGHTS, CONFIG, CARD)]
    (folder / SUMS).write_text("".join(lines))


def alter(folder: Path, **changes: Any) -> None:
    stored = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(stored | changes))
    seal(folder)


def test_a_bundle_opens_alone_and_in_evaluation_mode(bundle: Path) -> None:
    method = load_encoder(bundle)
    assert not method.training
    assert (bundle / CARD).read_text().startswith("# MERL, preset tiny")
    assert "79," not in (bundle / CARD).read_text()  # the facts are this network's: its pool is built for 160 samples


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, CARD])
@pytest.mark.parametrize("fault", ["missing", "cut", "altered"])
def test_a_damaged_file_is_named(bundle: Path, name: str, fault: str) -> None:
    path = bundle / name
    content = path.read_bytes()
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if fault == "cut" else content[:-1] + b"~")
    with pytest.raises(CheckpointError, match=name):
        load_encoder(bundle)


def test_sums_are_needed(bundle: Path) -> None:
    (bundle / SUMS).unlink()
    with pytest.raises(CheckpointError, match="not an encoder bundle"):
        load_encoder(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "nobody"}, "no method 'nobody'"),
        ({"spec_version": "0"}, "of version 0, this code has version"),
        ({"format_version": 99}, "format version 1"),
        ({"config": {"unheard_of": 1}}, "unheard_of"),
        ({"extra_state": {}}, "no vocabulary"),
    ],
)
def test_an_unknown_description_is_refused(bundle: Path, changes: dict[str, Any], message: str) -> None:
    alter(bundle, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_encoder(bundle)


def test_weights_of_another_shape_are_refused(bundle: Path) -> None:
    stored = json.loads((bundle / CONFIG).read_text())
    alter(bundle, config=stored["config"] | {"projection": 16})
    with pytest.raises(CheckpointError, match=rf"(?s){WEIGHTS} does not fit.*size mismatch"):
        load_encoder(bundle)


def test_weights_that_are_no_safetensors_are_refused(bundle: Path) -> None:
    (bundle / WEIGHTS).write_bytes(b"\x80\x04 a pickle, say")
    seal(bundle)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_encoder(bundle)


STATE: dict[str, Any] = {
    "weights": OrderedDict(a=torch.arange(6).view(2, 3).T, b=torch.tensor(2.5)),
    "optimizer": {0: {"step": torch.tensor(3.0), "betas": (0.9, 0.999)}, 1: {}},
    "plain": [None, True, 1, 0.1, float("inf"), "text", {"tensor": "not one"}, []],
}


def test_a_state_survives_the_round_trip(tmp_path: Path) -> None:
    write_state(tmp_path / "x.ckpt", STATE)
    found = read_state(tmp_path / "x.ckpt")
    assert found["plain"] == STATE["plain"]
    assert found["optimizer"][0]["betas"] == (0.9, 0.999) and found["optimizer"][1] == {}
    torch.testing.assert_close(found["weights"]["a"], STATE["weights"]["a"], rtol=0, atol=0)
    assert found["weights"]["b"].shape == ()


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a set at /deep/er"):
        write_state(tmp_path / "x.ckpt", {"deep": {"er": {1, 2}}})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["state.json", "tensors.safetensors"])
def test_the_state_before_is_found_when_the_last_is_damaged(tmp_path: Path, name: str) -> None:
    assert latest(tmp_path) is None
    for step in (1, 2):
        save_latest(tmp_path, {"step": step, "w": torch.zeros(8)})
    assert latest(tmp_path) == tmp_path / LAST
    path = tmp_path / LAST / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=name if name.startswith("tensors") else "not a whole"):
        read_state(tmp_path / LAST)
    assert latest(tmp_path) == tmp_path / PREVIOUS
    assert read_state(tmp_path / PREVIOUS)["step"] == 1


def test_a_write_that_fails_leaves_the_last_state_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_latest(tmp_path, {"step": 1})
    monkeypatch.setattr("models.training_state.write_durably", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        save_latest(tmp_path, {"step": 2})
    found = latest(tmp_path)
    assert found is not None and read_state(found)["step"] == 1
