"""An append-only trail of decisions: one JSON object a line, each holding the SHA-256 of the line before it.

Lines are flushed to disk before the act they announce. The last line is cut off only where its end is missing, which is
what a process that was killed while writing leaves; nothing has been done on the strength of such a line.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assets.outputs import canonical, fsync_folder
from models.errors import EinthovenError

PREVIOUS = "previous_sha256"
_START = "0" * 64


class AuditError(EinthovenError):
    """An audit trail that has been altered or cannot be read."""


def verify_audit(path: Path) -> list[dict[str, Any]]:
    """Check that every line follows from the one before and return all entries; an unfinished last line is left out.

    Raises:
        AuditError: names the first line that was altered, removed, inserted or put in another place.
    """
    entries = []
    previous = _START
    for number, line in enumerate(_lines(path), start=1):
        try:
            entry = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise AuditError(f"{path}, line {number} is not JSON ({error}); the trail was altered, compare it with a backup") from error
        if not isinstance(entry, dict) or entry.get(PREVIOUS) != previous:
            raise AuditError(
                f"{path}, line {number} does not follow from the line before it; the trail was altered, compare it with a backup"
            )
        entries.append(entry)
        previous = hashlib.sha256(line).hexdigest()
    return entries


def append_audit(path: Path, entry: Mapping[str, Any]) -> None:
    """Add an entry with the time and the hash of the line before it. The caller holds a lock.

    Raises:
        AuditError: the trail cannot be continued because it has been altered.
    """
    verify_audit(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = _lines(path)
    previous = hashlib.sha256(lines[-1]).hexdigest() if lines else _START
    line = canonical({**entry, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), PREVIOUS: previous}).encode()
    with path.open("ab") as stream:
        stream.truncate(sum(len(whole) + 1 for whole in lines))
        stream.write(line + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    fsync_folder(path.parent)


def _lines(path: Path) -> list[bytes]:
    """The finished lines of the trail, without their line ends."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return content.split(b"\n")[:-1]
