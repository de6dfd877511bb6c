"""Folders of simulated datasets: there is the whole of one or nothing, whatever happens on the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from assets.dataset import DatasetError


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
