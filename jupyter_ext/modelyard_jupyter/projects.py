"""The projects that a Jupyter server can see: around its root folder, in it, and two levels below.

The browser names them by ids, digests of their folders, so that no path comes from outside.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modelyard.errors import NotFoundError
from modelyard.project import PROJECT_FILE, find_root
from modelyard_jupyter.folders import Folders

_LEVELS = 2
#: Folders that are looked into at the most: a home folder may hold any number.
_FOLDERS = 2000
_NEVER = frozenset({"node_modules", "site-packages", "__pycache__"})


@dataclass(frozen=True)
class Found:
    """A project.

    Attributes:
        id: stable for this folder.
        root: its folder.
        folder: the same relative to the server's root, with `/`; `.` for the root, or above it.
    """

    id: str
    root: Path
    folder: str


def find(server_root: Path, folders: Folders) -> list[Found]:
    """Every project that is served, the one around the root first, then by folder."""
    top = server_root.resolve()
    roots = list(_below(top, folders))
    try:
        around = find_root(top)
    except NotFoundError:
        pass
    else:
        if around not in roots:
            roots.insert(0, around)
    return [Found(id_of(root), root, _relative(root, top)) for root in roots]


def nearest(found: list[Found], near: str) -> Found | None:
    """The project that a document belongs to, else the first.

    Args:
        found: what `find` gave.
        near: the document's path in the server's contents, e.g. `work/flights/train.ipynb`.

    Example:
        >>> projects = [Found("a", Path("/x"), "."), Found("b", Path("/x/work/flights"), "work/flights")]
        >>> nearest(projects, "work/flights/train.ipynb").id
        'b'
    """
    document = PurePosixPath(near)
    fitting = [one for one in found if one.folder == "." or document.is_relative_to(one.folder)]
    return max(fitting, key=lambda one: len(one.folder), default=found[0] if found else None)


def _below(top: Path, folders: Folders) -> Iterator[Path]:
    level, seen = [top], 0
    for _ in range(_LEVELS + 1):
        deeper: list[Path] = []
        for folder in level:
            if (folder / PROJECT_FILE).is_file():
                yield folder
            try:
                inside, _ = folders.inside(folder)
            except OSError:
                continue
            deeper += [folder / name for name in inside if not name.startswith(".") and name not in _NEVER]
            seen += 1
            if seen > _FOLDERS:
                return
        level = deeper


def id_of(root: Path) -> str:
    """The id of the project in a folder."""
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:12]


def _relative(root: Path, top: Path) -> str:
    return root.relative_to(top).as_posix() if root.is_relative_to(top) else "."
