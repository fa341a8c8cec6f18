"""Run a script, a notebook or a command as part of a project."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modelyard.errors import MissingRequirementError, NotFoundError
from modelyard.processes import child_env
from modelyard.project import STATE_FOLDER


def execute(root: Path, what: Sequence[str]) -> int:
    """Run it and wait; its output is the user's.

    Args:
        root: the project's folder; `modelyard.open()` in the child finds it from anywhere.
        what: `SCRIPT.py ARGUMENTS...`, `NOTEBOOK.ipynb` (left as it is; a copy with its outputs goes
            to `.modelyard/notebooks/`), or a command.

    Returns:
        its exit status (128 + signal if a signal ended it, as shells do).

    Raises:
        NotFoundError: `script-not-found`, `command-not-found`.
    """
    words = list(what[1:] if what and what[0] == "--" else what)
    entry = Path(words[0])
    if entry.suffix in (".py", ".ipynb") and not entry.exists():
        raise NotFoundError("script-not-found", f"there is no file {entry}", "check the path")
    if entry.suffix == ".py":
        words = [sys.executable, *words]
    elif entry.suffix == ".ipynb":
        words = _notebook(root, entry)
    named = str(entry.resolve()) if entry.exists() else " ".join(words)
    env = child_env({"MODELYARD_PROJECT": str(root), "MODELYARD_ENTRY_POINT": named})
    try:
        status = _waited(words, env)
    except FileNotFoundError:
        raise NotFoundError(
            "command-not-found", f"there is no command '{words[0]}'", "check the name"
        ) from None
    return 128 - status if status < 0 else status


def _waited(words: Sequence[str], env: dict[str, str]) -> int:
    """Run the command to its end, whatever we are told meanwhile: a run that is interrupted still says so
    to its tracker. A terminal sends Ctrl-C to both of us; TERM reaches us alone, and is passed on."""
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _: Any) -> None:
        if process is not None:
            process.send_signal(number)

    with _handled(signal.SIGTERM, pass_on):
        process = subprocess.Popen(words, env=env)
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


@contextlib.contextmanager
def _handled(number: signal.Signals, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _notebook(root: Path, entry: Path) -> list[str]:
    missing = [name for name in ("nbclient", "ipykernel") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingRequirementError(
            "extra-missing",
            f"running {entry.name} needs {' and '.join(missing)}",
            "pip install 'modelyard[jupyter]'",
        )
    where = entry.resolve()
    inside = where.relative_to(root.resolve()) if where.is_relative_to(root.resolve()) else Path(where.name)
    copy = root / STATE_FOLDER / "notebooks" / inside
    return [sys.executable, "-m", "modelyard._notebook", str(entry), str(copy)]
