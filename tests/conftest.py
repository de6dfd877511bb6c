"""Shared by all tests: one torch thread, no telemetry, no settings of the machine, and the folder of real records."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DVC_NO_ANALYTICS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
for _name in [n for n in os.environ if n.startswith("EINTHOVEN_") and n != "EINTHOVEN_SHARED_DATA"]:
    del os.environ[_name]


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real records, where EINTHOVEN_SHARED_DATA names them."""
    folder = os.environ.get("EINTHOVEN_SHARED_DATA")
    if not folder:
        pytest.skip("EINTHOVEN_SHARED_DATA is not set: no real records here")
    return Path(folder)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace that the settings point to."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("EINTHOVEN_HOME", str(folder))
    return folder
