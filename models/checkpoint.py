"""Encoder bundles: everything needed to use an encoder again, in one folder, checked before it is trusted.

    weights.safetensors   the weights
    config.json           method, version, full configuration, input (leads, rate, unit), data versions, code version
    card.md               the same for people
    labs.json             how lab values become percentiles, for encoders that read lab panels (`models.lab_scale`)
    SHA256SUMS            of the files above, readable by sha256sum -c

Nothing is ever unpickled, and `load_encoder(folder)` needs nothing but the folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from models.errors import CheckpointError, EinthovenError
from models.lab_scale import LABS, LabScale
from models.method import Method
from models.registry import create_method, get_spec
from models.throughput import count_parameters
from models.training_state import sync_folder, write_durably

FORMAT_VERSION = 1
WEIGHTS, CONFIG, CARD, SUMS = "weights.safetensors", "config.json", "card.md", "SHA256SUMS"


@dataclass(frozen=True)
class Provenance:
    """What an encoder was made from.

    Attributes:
        arm: "pretrained", or "random_init" for the untrained twin.
        steps: optimiser steps taken.
        records: records trained on.
        fs_hz: sampling rate of the signals it reads.
        access: access class of its training data, which it inherits.
        data_versions: hash of every output it was trained on, by name.
        stage: "encoder", or the name of the stage before it.
    """

    method: str
    preset: str
    seed: int
    arm: str
    steps: int
    records: int
    fs_hz: float
    dataset: str = ""
    access: str = ""
    code_version: str = ""
    data_versions: dict[str, str] = field(default_factory=dict)
    stage: str = "encoder"


def write_bundle(folder: Path, method: Method, provenance: Provenance, labs: LabScale | None = None) -> None:
    """Write a bundle, whole or not at all; an existing one is replaced. Equal inputs give equal bytes."""
    from safetensors.torch import save

    spec = get_spec(provenance.method)
    config = {
        "format_version": FORMAT_VERSION,
        "method": spec.name,
        "spec_version": spec.version,
        "config": dataclasses.asdict(method.config),
        "extra_state": method.extra_state(),
        "input": {
            "leads": list(method.config.channels),
            "fs_hz": provenance.fs_hz,
            "n_samples": method.config.n_samples,
            "unit": " or ".join(spec.units),
            "scaling": "inside the encoder",
        },
        "provenance": dataclasses.asdict(provenance),
    }
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in method.state_dict().items()}
    files = {
        WEIGHTS: save(weights),
        CONFIG: json.dumps(config, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode(),
        CARD: _card(method, provenance).encode(),
    }
    if labs is not None:
        files[LABS] = labs.as_json()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, content in files.items():
        write_durably(temporary / name, content)
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    write_durably(temporary / SUMS, sums.encode())
    if folder.exists():
        shutil.rmtree(folder)
    os.rename(temporary, folder)
    sync_folder(folder.parent)


def load_encoder(folder: Path) -> Method:
    """Rebuild an encoder in evaluation mode.

    Raises:
        CheckpointError: a file is missing or altered, the format, method or version is unknown here, or the weights do
            not fit the network that the configuration describes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    verify_bundle(folder)
    stored = read_config(folder)
    try:
        spec = get_spec(stored["method"])
        if spec.version != stored["spec_version"]:
            raise CheckpointError(
                f"{folder} holds {spec.name} of version {stored['spec_version']}, this code has version {spec.version}; train the encoder again"
            )
        method = create_method(spec.name, parse_config(spec.config, stored["config"]), stored["provenance"].get("stage", "encoder"))
        method.load_extra_state(stored["extra_state"])
    except CheckpointError:
        raise
    except (EinthovenError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} does not describe an encoder that this code can build ({error})") from error
    try:
        method.load_state_dict(load((folder / WEIGHTS).read_bytes()))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit the network that {CONFIG} describes: {error}") from error
    return method.eval()


def verify_bundle(folder: Path) -> None:
    """Compare every file of a bundle with its SHA-256 sum.

    Raises:
        CheckpointError: a file is missing or altered.
    """
    try:
        lines = (folder / SUMS).read_text().splitlines()
        sums = {name: value for value, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / SUMS} cannot be read ({error}); {folder} is not an encoder bundle, or not a whole one") from error
    for name in sorted({WEIGHTS, CONFIG, CARD, *sums}):
        path = folder / name
        if name not in sums or Path(name).name != name or not path.is_file():
            raise CheckpointError(f"{path} is missing or not listed in {SUMS}; fetch or train the encoder again")
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != sums[name]:
                raise CheckpointError(
                    f"{path} does not have the SHA-256 sum in {SUMS}: it was cut short or altered; fetch or train the encoder again"
                )


def weights_sha256(folder: Path) -> str:
    """SHA-256 of a bundle's weights file: the identity of the encoder."""
    with (folder / WEIGHTS).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a bundle.

    Raises:
        CheckpointError: it is missing, not JSON, or of another format version.
    """
    try:
        stored = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be read ({error}); fetch or train the encoder again") from error
    if not isinstance(stored, dict) or stored.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{folder / CONFIG} is not a bundle of format version {FORMAT_VERSION}; train the encoder again")
    return stored


def parse_config(config: type[Any], values: dict[str, Any]) -> Any:
    """A configuration dataclass from its JSON, where tuples have become lists.

    Raises:
        TypeError: a field is unknown or missing.
    """
    hints = get_type_hints(config)
    return config(**{k: tuple(v) if isinstance(v, list) and get_origin(hints.get(k)) is tuple else v for k, v in values.items()})


def _card(method: Method, provenance: Provenance) -> str:
    spec = get_spec(provenance.method)
    parameters = count_parameters(method)
    what = (
        f"trained for {provenance.steps} steps on {provenance.records} records"
        if provenance.arm == "pretrained"
        else "not trained: the random-initialised twin"
    )
    channels = method.config.channels
    signals = (
        f"{len(channels)} channels ({' '.join(channels)}), {method.config.n_samples} samples at {provenance.fs_hz:g} Hz, in the unit of the store ({' or '.join(spec.units)}); the encoder scales them itself"
        if provenance.fs_hz
        else "text; no signal"
    )
    lines = [
        f"# {spec.title}, preset {provenance.preset}",
        "",
        f"{spec.summary}",
        "",
        f"Paper: {spec.paper.title}, {spec.paper.venue}, {spec.paper.url}",
        "",
        f"- Encoder: {parameters:,} parameters, {what}, seed {provenance.seed}.",
        f"- Input: {signals}.",
        f"- Data: {provenance.dataset or 'not stated'}, access class {provenance.access or 'not stated'}. Whoever may not see the data may not have the encoder.",
        f"- Code version: {provenance.code_version or 'not stated'}.",
        "- For research. Not a medical device.",
        "",
    ]
    if provenance.data_versions:
        lines += [
            "| trained on | data version |",
            "|---|---|",
            *(f"| {k} | `{v}` |" for k, v in sorted(provenance.data_versions.items())),
            "",
        ]
    lines += ["| option | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in sorted(dataclasses.asdict(method.config).items())), ""]
    return "\n".join(lines)
