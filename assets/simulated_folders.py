"""Folders of simulated datasets: there is the whole of one or nothing, whatever happens on the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from assets.dataset import DatasetError, Source


def own_source(title: str, module: str) -> Source:
    """Where a simulated dataset comes from: a module of the datasets of this package."""
    return Source(
        title=title,
        version="1",
        homepage=f"assets/datasets/{module}.py in Einthoven itself",
        licence="CC0-1.0",
        terms="made on this machine from a seed; nothing to download",
        citation="none; simulated by Einthoven",
    )


def wave_files(folder: Path) -> list[Path]:
    """The table of records, the facts, and the signals in `waves`, relative to the folder, sorted."""
    found = [p for p in (folder / "waves").glob("*.*") if p.suffix in (".hea", ".dat")]
    found += [p for p in (folder / "records.csv", folder / "dataset.json") if p.exists()]
    return sorted(p.relative_to(folder) for p in found)


def fill_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder that is empty or not there yet; on the way it stands beside it under a hidden name.

    Raises:
        DatasetError: the folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DatasetError(f"{folder} is not empty; name another folder, or delete it to generate the dataset again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        write(partial)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
