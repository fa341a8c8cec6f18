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

#: Seconds after which what can't be seen in files counts as changed.
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
_LEVELS = 3


def of(root: Path, target: str) -> dict[str, str]:
    """A stamp per section.

    Args:
        root: the project's folder.
        target: the target that its commands take.
    """
    state = state_of(root / STATE_FOLDER, target)
    clock = "" if target == LOCAL else str(int(time.time() / _ELSEWHERE))
    own = [_look(root / PROJECT_FILE), target, clock]
    data = [_look(file) for file in sorted(root.glob("**/*.dvc")) if STATE_FOLDER not in file.parts]
    seen: dict[str, str] = {}
    stamps: dict[str, str] = {}
    for section, folders in _BEHIND.items():
        for name in folders:
            if name not in seen:
                seen[name] = "\n".join(_files(state / name, 0 if name == "." else _LEVELS))
        parts = [*own, *(seen[name] for name in folders), *(data if section in ("data", "overview") else [])]
        stamps[section] = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return stamps


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
