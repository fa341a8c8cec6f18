"""A project is a folder with `modelyard.toml`; its state lies in `.modelyard/` beside it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from modelyard.errors import ConflictError, NotFoundError, UsageError
from modelyard.state import locked, os_errors, write_bytes

PROJECT_FILE = "modelyard.toml"
STATE_FOLDER = ".modelyard"

_TEMPLATE = """\
# A Modelyard project. `modelyard doctor` checks this file.
[project]
name = {name}

[stages]            # the provider of each stage; `modelyard plugins list` shows what there is
track = "mlflow"
data = "dvc"
registry = "mlflow"
serving = "kserve"
monitoring = "evidently"
"""


def find_root(start: Path | None = None) -> Path:
    """The project's folder: `start` (default: the working directory) or the nearest above it.

    Raises:
        NotFoundError: `project-not-found`.
    """
    chosen = start or Path(os.environ.get("MODELYARD_PROJECT") or Path.cwd())
    folder = chosen.expanduser().absolute()
    for candidate in (folder, *folder.parents):
        if (candidate / PROJECT_FILE).is_file():
            return candidate
    raise NotFoundError(
        "project-not-found",
        f"no {PROJECT_FILE} in {folder} or above it",
        "make a project here: modelyard init",
    )


def create(folder: Path, name: str | None = None) -> Path:
    """Make the folder a project; one that is a project already is left as it is.

    Raises:
        ConflictError: `project-name-differs`: it is one of another name.
        EnvironmentFault: the folder can't be written.
    """
    folder = folder.expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise UsageError("not-a-folder", f"{folder} is a file", "name another folder")
    wanted = name or _name_from(folder)
    with os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    prepare_state(folder)
    with locked(folder / STATE_FOLDER / "init.lock", doing="init"):
        if not (folder / PROJECT_FILE).exists():
            write_bytes(
                folder / PROJECT_FILE, _TEMPLATE.format(name=json.dumps(wanted, ensure_ascii=False)).encode()
            )
        elif name is not None:
            from modelyard.config import load_settings

            existing = load_settings(folder).project.name
            if existing != name:
                raise ConflictError(
                    "project-name-differs",
                    f"{folder} is the project '{existing}' already, not '{name}'",
                    f"edit {folder / PROJECT_FILE}, or choose another folder",
                )
    return folder


def prepare_state(root: Path) -> Path:
    """The state folder, made private to the user and invisible to git."""
    state = root / STATE_FOLDER
    ignore = state / ".gitignore"
    if not ignore.exists():
        with os_errors(state):
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(ignore, b"# State of this machine; versions of data and models live elsewhere.\n*\n")
    return state


def _name_from(folder: Path) -> str:
    """A project name out of a folder's; folders may be called anything."""
    return re.sub(r"[^\w.-]+", "-", folder.name).strip("-._") or "project"
