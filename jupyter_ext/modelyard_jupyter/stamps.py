"""Whether a section of the panel may have changed: a digest of what its files look like from outside.

This is asked every few seconds, so that it reads no file: size and time of what the default providers write
are enough. What keeps its state elsewhere, as everything on a cluster, counts as changed from time to time.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from modelyard.project import PROJECT_FILE, STATE_FOLDER
from modelyard.targets import LOCAL, state_of
from modelyard_jupyter.folders import Folders

#: Seconds after which what can't be seen in files counts as changed, and `.dvc` files are searched anew.
_ELSEWHERE = 15
#: Section -> folders below the project's state whose files it shows. `.` means the state folder's own files.
_BEHIND = {
    "overview": (".", "mlflow", "ledger", "services", "kserve", "evidently"),
    "runs": ("mlflow",),
    "data": ("dvc",),
    "models": ("mlflow", "ledger", "kserve"),
    "serving": ("kserve", "services", "ledger", "evidently"),  # the last for how many requests there were
    "drift": ("evidently", "kserve"),
}
#: How deep a folder is looked at. Whatever happens to a run or version changes MLflow's database; its
#: artifacts are thousands of folders.
_LEVELS = {".": 0, "mlflow": 0}
_DEEP = 3


class Stamps:
    """The stamps of one project on one target.

    Args:
        root: the project's folder.
        target: the target that its commands take.
    """

    def __init__(self, root: Path, target: str) -> None:
        self._root = root
        self._target = target
        self._folders = Folders()
        self._data: list[Path] = []
        self._searched = 0.0
        self._dvc = ""

    def now(self) -> dict[str, str]:
        """A stamp per section."""
        state = state_of(self._root / STATE_FOLDER, self._target)
        clock = "" if self._target == LOCAL else str(int(time.time() / _ELSEWHERE))
        names = {name for folders in _BEHIND.values() for name in folders}
        seen = {name: "\n".join(_files(state / name, _LEVELS.get(name, _DEEP))) for name in names}
        own = [_look(self._root / PROJECT_FILE), self._target, clock]
        data = [_look(file) for file in self._data_files(seen["dvc"])]
        stamps: dict[str, str] = {}
        for section, folders in _BEHIND.items():
            files = data if section in ("data", "overview") else []
            parts = [*own, *(seen[name] for name in folders), *files]
            stamps[section] = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        return stamps

    def _data_files(self, dvc: str) -> list[Path]:
        """The `.dvc` files, searched only when our commands wrote some and every now and then: a project may
        hold tens of thousands of files."""
        if dvc != self._dvc or time.monotonic() - self._searched > _ELSEWHERE or not self._searched:
            self._data = sorted(_search(self._root, self._folders))
            self._dvc, self._searched = dvc, time.monotonic()
        return self._data


def _search(folder: Path, known: Folders) -> Iterator[Path]:
    try:
        folders, files = known.inside(folder)
    except OSError:
        return
    yield from (folder / name for name in files)
    for name in folders:
        # what is hidden is no data, and a folder that is data itself holds no further `.dvc` files
        if not name.startswith(".") and name != "node_modules" and f"{name}.dvc" not in files:
            yield from _search(folder / name, known)


def _look(file: Path) -> str:
    try:
        status = file.stat()
    except OSError:
        return f"{file} none"
    return f"{file} {status.st_mtime_ns} {status.st_size}"


def _files(folder: Path, levels: int) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.is_dir(follow_symlinks=False):
                    if levels:
                        yield from _files(Path(entry.path), levels - 1)
                elif not entry.name.endswith((".lock", ".log", "-shm")):
                    status = entry.stat(follow_symlinks=False)
                    yield f"{entry.path} {status.st_mtime_ns} {status.st_size}"
    except OSError:
        return
