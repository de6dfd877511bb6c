"""Finds the very versions that an output was made from, which need not be the current ones."""

from __future__ import annotations

import json
import re

from assets.outputs import MANIFEST, Key, Output, Workspace
from data_checks.findings import CheckError


def origin(workspace: Workspace, output: Output, key: Key) -> Output:
    """The version of `key` that an output, or something it was made from, records as its upstream; else the current one.

    Raises:
        CheckError: that version is no longer in the workspace.
    """
    version = _recorded_version(workspace, output, key)
    return locate(workspace, key, version)


def locate(workspace: Workspace, key: Key, version: str | None) -> Output:
    """An output by its data version, or the current one for None.

    Raises:
        CheckError: there is no such version.
    """
    current = workspace.current(key)
    if current is not None and version in (None, current.data_version):
        return current
    if version is not None:
        for manifest in sorted(workspace.folder(key).glob(f"*/{MANIFEST}")):
            candidate = Output(key, manifest.parent, json.loads(manifest.read_text()))
            if candidate.data_version == version:
                return candidate
    wanted = f"data version {version[:12]} of {key}" if version else str(key)
    raise CheckError(f"{wanted}, which this output is compared with, is not in the workspace; materialise {key} again, then this output")


def _recorded_version(workspace: Workspace, output: Output, key: Key) -> str | None:
    upstream: dict[str, str] = output.manifest["upstream"]
    if str(key) in upstream:
        return upstream[str(key)]
    for name, version in sorted(upstream.items()):
        try:
            parent = locate(workspace, _parse(name), version)
        except CheckError:
            continue  # a grandparent may have been cleared away; another branch may still record the version
        found = _recorded_version(workspace, parent, key)
        if found is not None:
            return found
    return None


def _parse(name: str) -> Key:
    """The key that `str(key)` stands for."""
    match = re.fullmatch(r"([^\[\]]+)(?:\[(.*)\])?", name)
    if match is None:
        raise CheckError(f"{name!r} is not the name of an output; materialise again what lists it as upstream")
    return Key(tuple(match[1].split("/")), match[2])
