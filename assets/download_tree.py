"""Where downloaded files go: below the dataset's folder, through no link."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from assets.download_transport import DownloadError


class Tree:
    """The dataset's folder: places below it, with no link on the way."""

    def __init__(self, folder: Path) -> None:
        self.root = folder.resolve()

    def size(self, path: str) -> int:
        """Size of a file that is there, else 0."""
        status = self.status(path)
        return status.st_size if status is not None else 0

    def status(self, path: str) -> os.stat_result | None:
        """What the disk says about a regular file; None where there is no such file."""
        try:
            status = os.lstat(f"{self.root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def place(self, path: str) -> Path:
        """Where a file belongs; folders on the way are made.

        Raises:
            DownloadError: a link or something else that is no folder is on the way, or no file in its place.
        """
        target = self.root / path
        for parent in reversed(target.relative_to(self.root).parents[:-1]):
            self._require(self.root / parent, folder=True)
        self._require(target, folder=False)
        return target

    @staticmethod
    def _require(path: Path, *, folder: bool) -> None:
        try:
            if folder:
                path.mkdir(exist_ok=True)
            mode = path.lstat().st_mode
        except FileExistsError:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
        if not (stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)):
            what = "a link" if stat.S_ISLNK(mode) else "no folder" if folder else "no file"
            raise DownloadError(f"{path} is {what}; downloads go into folders and files of their own only, move it away")
