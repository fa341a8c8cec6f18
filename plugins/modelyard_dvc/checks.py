"""A light look at the project's DVC repository, without importing DVC."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

from modelyard.errors import ModelyardError
from modelyard.records import Check
from modelyard_dvc import layout


def check(root: Path | None) -> Iterator[Check]:
    """What `modelyard doctor` says about DVC, here and in the project."""
    if importlib.util.find_spec("dvc") is None:
        yield Check(
            name="dvc",
            status="warning",
            message="DVC is not installed",
            hint="pip install 'modelyard[dvc]'",
        )
        return
    repo = layout.find_repo(root.resolve()) if root else None
    if repo is None:
        yield Check(name="dvc", status="ok", message="DVC is installed; nothing is versioned yet")
        return
    try:
        remote = layout.read_config(repo).remote
    except ModelyardError as fault:
        yield Check(name="dvc", status="failed", message=fault.message, hint=fault.hint)
        return
    rwlock = repo / ".dvc" / "tmp" / "rwlock"
    if rwlock.exists() and not _is_json(rwlock):
        yield Check(
            name="dvc",
            status="warning",
            message=f"{rwlock} is damaged, every plain dvc command will fail",
            hint="modelyard data add repairs it, when no DVC process is at work",
        )
    elif remote is None:
        yield Check(
            name="dvc",
            status="warning",
            message="the project's data has no remote: it is on this machine only",
            hint="modelyard data remote FOLDER-OR-URL",
        )
    elif remote.folder is not None and not remote.folder.is_dir():
        yield Check(
            name="dvc",
            status="failed",
            message=f"the data remote {remote.folder} is not there",
            hint=f"mount or make it: mkdir -p '{remote.folder}'",
        )
    else:
        yield Check(name="dvc", status="ok", message=f"data is pushed to {remote.public}")


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except (ValueError, OSError):
        return False
    return True
