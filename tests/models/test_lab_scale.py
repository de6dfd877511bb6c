"""The scale of lab values that travels with an encoder: counted by hand, kept in the bundle, and noticed when it is altered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.bundles import BundleError
from assets.bundles import verify_bundle as verify_files
from models.checkpoint import Provenance, load_encoder, verify_bundle, write_bundle
from models.errors import CheckpointError, TrainingError
from models.lab_scale import LABS, LabScale, read_bundle_scale, read_pairing_scale
from models.registry import create_method, get_spec

NAN = np.nan
TRAINED = {"50912": [1.0, 1.0, 2.0, 5.0], "50971": [4.0, 3.0], "51006": []}
"""Training values by item."""


@pytest.fixture
def pairing(tmp_path: Path) -> Path:
    """The tables of a pairing, percentiles counted one by one."""
    steps: dict[str, list[object]] = {"item_id": [], "value": [], "percentile": []}
    means = []
    for item, values in TRAINED.items():
        for value in sorted(set(values)):
            share = sum(v <= value for v in values) / len(values)
            for column, entry in zip(steps.values(), (item, value, share), strict=True):
                column.append(entry)
        means.append(np.mean([sum(v <= w for v in values) / len(values) for w in values]) if values else 0.5)
    pq.write_table(pa.table(steps), tmp_path / "percentiles.parquet")
    pq.write_table(pa.table({"item_id": list(TRAINED), "mean_percentile": means}), tmp_path / "items.parquet")
    return tmp_path


def test_percentiles_are_shares_of_the_training_values(pairing: Path) -> None:
    scale = read_pairing_scale(pairing)
    assert scale is not None
    panels_NP = np.array([[0.0, 3.0, 1.0], [1.0, 9.0, NAN], [4.9, NAN, NAN], [NAN, 2.9, NAN]])
    percentile_NP = scale.apply(panels_NP)
    mean = np.mean([0.5, 0.5, 0.75, 1.0])
    expected_NP = [[0.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.75, 0.75, 0.5], [mean, 0.0, 0.5]]
    np.testing.assert_allclose(percentile_NP, expected_NP, atol=1e-7)
    assert percentile_NP.dtype == np.float32


def test_panels_of_another_width_are_refused(pairing: Path) -> None:
    scale = read_pairing_scale(pairing)
    assert scale is not None
    with pytest.raises(CheckpointError, match=r"shape \(2, 4\) are given, the encoder reads 3 items"):
        scale.apply(np.zeros((2, 4)))


def test_a_pairing_without_panels_has_no_scale(tmp_path: Path) -> None:
    assert read_pairing_scale(tmp_path) is None
    (tmp_path / "items.parquet").write_bytes(b"PAR1")
    with pytest.raises(TrainingError, match="no readable scale of lab values"):
        read_pairing_scale(tmp_path)


def write(folder: Path, labs: LabScale | None) -> Path:
    config = get_spec("supervised").configure("tiny")
    origin = Provenance("supervised", "tiny", 0, "pretrained", 0, 1, 100.0)
    write_bundle(folder, create_method("supervised", config), origin, labs)
    return folder


def test_a_bundle_holds_the_scale_and_its_sum(pairing: Path, tmp_path: Path) -> None:
    scale = read_pairing_scale(pairing)
    assert scale is not None
    bundle = write(tmp_path / "bundle", scale)
    held = read_bundle_scale(bundle)
    assert held.as_json() == scale.as_json()
    verify_bundle(bundle)
    verify_files(bundle)
    load_encoder(bundle)

    stored = json.loads((bundle / LABS).read_text())
    stored["items"][0]["values"][0] += 1
    (bundle / LABS).write_text(json.dumps(stored))
    with pytest.raises(CheckpointError, match=rf"{LABS} does not have the SHA-256 sum"):
        verify_bundle(bundle)
    with pytest.raises(BundleError, match=LABS):
        verify_files(bundle)
    (bundle / LABS).unlink()
    with pytest.raises(CheckpointError, match=f"{LABS} is missing"):
        verify_bundle(bundle)


def test_a_bundle_without_one_says_so(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle", None)
    assert not (bundle / LABS).exists()
    with pytest.raises(CheckpointError, match="the encoder reads no lab panels"):
        read_bundle_scale(bundle)


def test_a_sum_of_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle", None)
    with (bundle / "SHA256SUMS").open("a") as stream:
        stream.write(f"{'0' * 64}  ../outside.json\n")
    with pytest.raises(CheckpointError, match="outside"):
        verify_bundle(bundle)
