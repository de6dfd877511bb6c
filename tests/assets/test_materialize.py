"""What a materialisation shows, and what it keeps back."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from PIL import Image

from assets.access import Access
from assets.materialize import dvc_md5, explained, picture, result, shows_content
from assets.outputs import Built, Key, Output, Workspace
from assets.settings import load
from models.errors import StoreError


def publish(home: Path, access: Access = Access.OPEN) -> Output:
    def build(folder: Path) -> Built:
        (folder / "figures").mkdir()
        draw(folder / "figures" / "ecg.png", 1751)
        return Built(rows=7)

    return Workspace(home).publish(Key(("cleaned", "x"), "native"), build, code_version="3", access=access, upstream={"raw/x": "v"})


def shown(home: Path, output: Output, instance: dg.DagsterInstance) -> dict[str, object]:
    with dg.build_asset_context(instance=instance) as context:
        found = result(context, output, load())
    return {k: getattr(v, "value", v) for k, v in (found.metadata or {}).items()}


def test_rows_hashes_code_version_and_picture(home: Path) -> None:
    output = publish(home)
    metadata = shown(home, output, dg.DagsterInstance.ephemeral())
    assert metadata["rows"] == 7
    assert metadata["data_version"] == output.data_version
    assert metadata["code_version"] == "3"
    assert metadata["access"] == "open"
    assert str(metadata["ecg"]).startswith("![ecg](data:image/png;base64,")


class RemoteStorage:
    """Stands for an event log that is not on this machine."""


@pytest.mark.parametrize(
    ("access", "limit", "visible"),
    [("open", "open", True), ("credentialed", "open", False), ("credentialed", "credentialed", True), ("private", "credentialed", False)],
)
def test_signals_stay_out_of_a_remote_event_log(
    home: Path, monkeypatch: pytest.MonkeyPatch, access: str, limit: str, visible: bool
) -> None:
    (home / "settings.yaml").write_text(f"destinations: {{dagster: {limit}}}\n")
    output = publish(home, Access(access))
    instance = dg.DagsterInstance.ephemeral()
    assert shows_content(instance, load(), output)
    monkeypatch.setattr(type(instance), "event_log_storage", property(lambda _: RemoteStorage()))
    assert shows_content(instance, load(), output) is visible
    metadata = shown(home, output, instance)
    assert ("ecg" in metadata) is visible
    assert ("pictures" in metadata) is not visible


def draw(path: Path, width: int, noise: bool = False) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (900, width, 3), np.uint8) if noise else np.zeros((900, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def test_a_picture_is_as_wide_as_the_ui_can_show(tmp_path: Path) -> None:
    draw(tmp_path / "ecg.png", 1751)
    encoded = str(picture(tmp_path / "ecg.png").value).split("base64,")[1].rstrip(")")
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).width == 1080


def test_a_picture_too_large_for_an_event_is_a_path(tmp_path: Path) -> None:
    draw(tmp_path / "big.png", 1000, noise=True)
    assert picture(tmp_path / "big.png").value == str(tmp_path / "big.png")


def test_a_large_drawing_is_shown_in_fewer_colours(tmp_path: Path) -> None:
    shades = np.random.default_rng(0).integers(0, 4, (900, 1000, 3), np.uint8)  # noise that the eye does not see
    shades[:, :500, 0] += 200
    Image.fromarray(shades).save(tmp_path / "big.png")
    encoded = str(picture(tmp_path / "big.png").value).split("base64,")[1].rstrip(")")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")).astype(int)
    assert np.abs(pixels - shades).max() <= 8


def test_a_typed_error_becomes_a_failure_that_is_not_retried() -> None:
    with pytest.raises(dg.Failure) as caught, explained():
        raise StoreError("shard 3 of /x is torn; clean it again")
    assert caught.value.description == "shard 3 of /x is torn; clean it again"
    assert caught.value.allow_retries is False


def test_the_hash_of_dvc_is_found_by_the_folder(tmp_path: Path) -> None:
    output = publish(tmp_path / "data")
    assert dvc_md5(tmp_path, output) is None
    (tmp_path / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  cleaned:\n    cmd: x\n    outs:\n    - path: data/cleaned/x/native\n      md5: abc.dir\n"
    )
    assert dvc_md5(tmp_path, output) == "abc.dir"
