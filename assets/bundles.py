"""Encoder bundles as files: whether a bundle is what its SHA256SUMS says, without loading torch.

The hash of a bundle is the SHA-256 of its SHA256SUMS file, which covers every other file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from assets.outputs import sha256_file
from models.errors import EinthovenError

SUMS = "SHA256SUMS"
WEIGHTS = "weights.safetensors"
SAFE_SUFFIXES = (".safetensors", ".json", ".md")
"""What a bundle may hold: nothing in it can be unpickled."""


class BundleError(EinthovenError):
    """An encoder bundle with a file missing, altered, unlisted, or of a kind that may not be in a bundle."""


def bundle_sums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256 as the bundle's SHA256SUMS lists them.

    Raises:
        BundleError: the file is missing or a line is not "<64 hex digits>  <name>".
    """
    path = folder / SUMS
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read ({error}); materialise the encoder again") from error
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        value, _, name = line.partition("  ")
        if len(value) != 64 or set(value) - set("0123456789abcdef") or not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise BundleError(f"{path}, line {number}: {line!r} is not a hash and a file name; materialise the encoder again")
        sums[name] = value
    if WEIGHTS not in sums:
        raise BundleError(f"{path} does not list {WEIGHTS}; materialise the encoder again")
    return sums


def verify_bundle(folder: Path) -> str:
    """Compare every file of a bundle with its SHA256SUMS and return the bundle's hash.

    Raises:
        BundleError: names the first file that is missing, altered, not listed, or of a kind that may not be in a bundle.
    """
    sums = bundle_sums(folder)
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {SUMS}
    for name in sorted(present | set(sums)):
        path = folder / name
        if name not in present:
            raise BundleError(f"{path} is listed in {SUMS} but missing; restore the bundle or materialise the encoder again")
        if name not in sums:
            raise BundleError(f"{path} is not listed in {SUMS}; a bundle holds listed files only, remove it")
        if path.suffix not in SAFE_SUFFIXES:
            raise BundleError(f"{path} may not be in a bundle; allowed are {', '.join(SAFE_SUFFIXES)}")
        if (found := sha256_file(path)) != sums[name]:
            raise BundleError(
                f"{path} has SHA-256 {found[:12]}, {SUMS} says {sums[name][:12]}; restore the bundle or materialise the encoder again"
            )
    return hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()
