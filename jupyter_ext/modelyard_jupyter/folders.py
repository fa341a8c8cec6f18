"""What lies in folders, remembered for as long as their times say that nothing came or went.

A folder of ten thousand files takes milliseconds to list and microseconds to look at.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

#: Seconds for which a folder must have been quiet: the clock of file systems goes in steps.
_QUIET = 1.0
#: Folders that are remembered at the most.
_MOST = 10_000


@dataclass
class Folders:
    """Lists folders, those that did not change only once.

    Example:
        >>> import tempfile
        >>> top = Path(tempfile.mkdtemp())
        >>> (top / "data").mkdir()
        >>> _ = (top / "flights.dvc").write_text("outs: []")
        >>> Folders().inside(top)
        (['data'], ['flights.dvc'])
    """

    _known: dict[Path, tuple[int, tuple[list[str], list[str]]]] = field(default_factory=dict)

    def inside(self, folder: Path) -> tuple[list[str], list[str]]:
        """Names of the folders and of the `.dvc` files in a folder, sorted; links to folders are none.

        Raises:
            OSError: the folder can't be read.
        """
        changed = folder.stat().st_mtime_ns
        known = self._known.get(folder)
        if known and known[0] == changed:
            return known[1]
        folders, data = [], []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.name.endswith(".dvc"):
                    data.append(entry.name)
        found = sorted(folders), sorted(data)
        if len(self._known) >= _MOST:
            self._known.clear()
        if time.time_ns() - changed > _QUIET * 1e9:
            self._known[folder] = changed, found
        return found
