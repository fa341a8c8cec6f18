"""What a run was made from: code, environment and person, read without running anything but git."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from modelyard.records import Actor, Code, Environment, RunContext

#: Runs of a sweep start many times a second; nobody edits code between them.
_FRESH_SECONDS = 1.0
#: Changed files that a run names; the digest covers all.
_NAMED = 20
#: However somebody's git is set up: names as they are, relative to the project.
_OPTIONS = ("-c", "core.quotePath=false", "-c", "status.relativePaths=true")
#: Fields before the path in a line of `git status --porcelain=v2`, by its first letter.
_FIELDS = {"1": 8, "2": 9, "u": 10, "?": 1}
_last: dict[tuple[Path, str, Cell | None], tuple[float, RunContext]] = {}


@dataclass(frozen=True, slots=True)
class Cell:
    """The notebook cell that runs.

    Attributes:
        id: the notebook's own, where its front end sends it.
        execution_count: the number in front of the cell; None: it has none.
        source: its text.
        notebook: the notebook's path, where only the kernel knows it.
    """

    id: str | None
    execution_count: int | None
    source: str
    notebook: str | None = None


_NOWHERE = Cell(id=None, execution_count=None, source="")
_teller: Callable[[], Cell | None] | None = None


def cells_are_told_by(teller: Callable[[], Cell | None]) -> None:
    """Ask `teller` from now on which notebook cell runs: the core knows nothing of kernels."""
    global _teller
    _teller = teller


def cell() -> Cell | None:
    """The notebook cell that runs; None outside notebooks."""
    return _teller() if _teller else None


def run_context(root: Path) -> RunContext:
    """Everything the core knows about a run that starts now in this process (at most a second old)."""
    key = (root, entry_point(root), cell())
    at, known = _last.get(key, (0.0, None))
    if known is None or time.monotonic() - at > _FRESH_SECONDS:
        known = RunContext(user=user_name(), code=code(root), environment=environment())
        _last.clear()  # a kernel lives for days, and every cell is another key
        _last[key] = (time.monotonic(), known)
    return known


def user_name() -> str:
    """The login name; `unknown` where the system has none (some containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def actor(root: Path) -> Actor:
    """Who does something, as the machine and git claim it."""
    return Actor(user=user_name(), email=_git(root, "config", "user.email") or None)


def code(root: Path) -> Code:
    """Commit, branch and uncommitted changes of the project's git repository."""
    entry, where = entry_point(root), cell() or _NOWHERE
    # One call tells commit, branch and changes: starting git costs more than what it does.
    status = _git(root, "status", "--porcelain=v2", "--branch", "--untracked-files=all").splitlines()
    facts = dict(line[2:].split(" ", 1) for line in status if line.startswith("# "))
    commit = facts.get("branch.oid", "(initial)")
    if commit == "(initial)":
        return Code(entry_point=entry, cell=where.id, execution_count=where.execution_count)
    changes = [line for line in status if not line.startswith("# ")]
    branch = facts.get("branch.head")
    return Code(
        commit=commit,
        branch=None if branch == "(detached)" else branch,
        dirty=bool(changes),
        changed=tuple(_path(line)[:200] for line in changes[:_NAMED]),
        repository=_repository(root) or None,
        diff_sha256=_diff_digest(root, changes) if changes else None,
        entry_point=entry,
        cell=where.id,
        execution_count=where.execution_count,
    )


@cache
def _repository(root: Path) -> str:
    """Where the code comes from; asked once, because it does not change while a process runs."""
    return without_credentials(_git(root, "config", "remote.origin.url"))


def entry_point(root: Path) -> str:
    """The script, notebook or command that runs, relative to the project where it lies inside."""
    named = (
        os.environ.get("MODELYARD_ENTRY_POINT")
        or (cell() or _NOWHERE).notebook
        or os.environ.get("JPY_SESSION_NAME")
        or sys.argv[0]
    )
    path = Path(named)
    try:
        return path.resolve().relative_to(root.resolve()).as_posix() if path.exists() else named
    except (ValueError, OSError):
        return path.name


def environment() -> Environment:
    """The Python and the exact versions installed in it.

    The lock is the sorted list of `NAME-VERSION.dist-info` folders on `sys.path`: the names alone
    say what is installed, and reading the metadata of 300 packages would cost half a second.
    """
    installed = set()
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - names only, and of many folders
        except OSError:
            continue
        installed |= {name.removesuffix(".dist-info") for name in names if name.endswith(".dist-info")}
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(terse=True),
        lock_sha256=hashlib.sha256("\n".join(sorted(installed)).encode()).hexdigest(),
    )


def without_credentials(url: str) -> str:
    """The URL without user and password."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _diff_digest(root: Path, changes: list[str]) -> str:
    """Identifies the uncommitted changes: the diff, and the bytes of files that git does not know."""
    whole = hashlib.sha256(_git(root, "diff", "HEAD", "--binary").encode())
    for line in changes:
        if line.startswith("? "):
            file = root / _path(line)
            whole.update(line.encode())
            if file.is_file() and file.stat().st_size < 10_000_000:
                whole.update(file.read_bytes())
    return whole.hexdigest()


def _path(line: str) -> str:
    """The file that a line of git's status is about."""
    path = line.split(" ", _FIELDS.get(line[0], 1))[-1].partition("\t")[0]
    return path.strip('"')


def _git(root: Path, *arguments: str) -> str:
    """What git prints, or nothing: no git, no repository, no commit yet."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *_OPTIONS, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip("\n") if done.returncode == 0 else ""
