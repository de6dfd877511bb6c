"""Check of encoder/<method> and of the stage before it: bundles that anybody may load, because checksums fit and nothing in them can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from assets.bundles import WEIGHTS, BundleError, verify_bundle
from data_checks.context import CheckContext

BUNDLES = ("bundle", "random_init")
_PICKLE_ENDINGS = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".bin", ".npz")
_ZIP_START = b"PK\x03\x04"
_PICKLE_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def check_bundle(c: CheckContext) -> str:
    """Bundle and random twin have fitting checksums, finite safetensors weights, a configuration and a card, and no pickle."""
    tensors = [_check_folder(c, c.output.folder / name) for name in BUNDLES]
    for path in sorted(p for p in c.output.folder.rglob("*") if p.is_file()):
        if _is_pickle(path):
            c.findings.fail(f"{path} is a pickle, which runs code when it is loaded; only safetensors and JSON belong there")
    c.findings.facts["tensors"] = tensors[0]
    return f"{tensors[0]} tensors, all finite, checksums verified; the random twin too"


def _check_folder(c: CheckContext, folder: Path) -> int:
    if not folder.is_dir():
        c.findings.fail(f"{folder} is missing; materialise {c.output.key} again")
        return 0
    try:
        c.findings.facts[f"{folder.name}_sha256"] = verify_bundle(folder)
    except BundleError as error:
        c.findings.fail(str(error))
    _check_config(c, folder / "config.json")
    card = folder / "card.md"
    if not card.is_file() or not card.read_text(errors="replace").strip():
        c.findings.fail(f"{card} is missing or empty: nobody could tell what the encoder was trained on")
    return _check_weights(c, folder / WEIGHTS)


def _check_config(c: CheckContext, path: Path) -> None:
    try:
        config: Any = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        c.findings.fail(f"{path} cannot be read as JSON ({type(error).__name__}); materialise {c.output.key} again")
        return
    if not isinstance(config, dict):
        c.findings.fail(f"{path} must hold one JSON object")
        return
    wanted = c.output.key.parts[1]
    if config.get("method") != wanted:
        c.findings.fail(f"{path} names method {config.get('method')!r}, the output belongs to {wanted!r}")
    provenance = config.get("provenance")
    stage = provenance.get("stage", "encoder") if isinstance(provenance, dict) else "encoder"
    if stage != c.output.key.stage:
        c.findings.fail(f"{path} holds the network of stage {stage!r}, the output is of stage {c.output.key.stage!r}")
    if not config.get("spec_version"):
        c.findings.fail(f"{path} names no version of the method's specification (spec_version)")


def _check_weights(c: CheckContext, path: Path) -> int:
    import numpy as np
    from safetensors import SafetensorError, safe_open

    names: list[str] = []
    try:
        with safe_open(str(path), framework="numpy") as weights:
            names = list(weights.keys())
            broken = [n for n in names if not np.isfinite(weights.get_tensor(n)).all()]
    except (OSError, SafetensorError, TypeError) as error:
        c.findings.fail(f"{path} cannot be read as safetensors ({error}); materialise {c.output.key} again")
        return 0
    if broken:
        c.findings.fail(f"{path}: the training diverged, tensors hold values that are not finite", broken)
    if not names:
        c.findings.fail(f"{path} holds no tensor")
    return len(names)


def _is_pickle(path: Path) -> bool:
    if path.suffix.lower() in _PICKLE_ENDINGS:
        return True
    with path.open("rb") as stream:
        start = stream.read(4)
    return start == _ZIP_START or start[:2] in _PICKLE_PROTOCOLS
