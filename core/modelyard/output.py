"""What a run prints, kept on the machine where it ran: `modelyard runs logs RUN`.

It stays in the project's `.modelyard/`, readable by its owner alone, and goes to no server: a training script
prints what it likes, also rows of data.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from modelyard.errors import NotFoundError
from modelyard.state import os_errors

#: Bytes that are kept of a run's output.
_MOST = 4 << 20
_CUT = "\n(the rest was not kept)\n"


def file_of(state: Path, run_id: str) -> Path:
    """Where a run's output lies."""
    return state / "output" / f"{run_id}.log"


def read(state: Path, run_id: str, lines: int) -> list[str]:
    """The last lines of a run's output, oldest first.

    Args:
        state: the target's state folder.
        run_id: the whole id.
        lines: how many.

    Raises:
        NotFoundError: `run-output-missing`: it printed nothing, or ran on another machine.
    """
    file = file_of(state, run_id)
    if not file.exists():
        raise NotFoundError(
            "run-output-missing",
            f"run {run_id[:8]} left no output here: it printed nothing, or ran on another machine",
            f"modelyard runs show {run_id[:8]}",
        )
    with os_errors(file), file.open(encoding="utf-8", errors="replace") as text:
        return [line.rstrip("\n") for line in deque(text, maxlen=lines)]


class Output:
    """Copies what Python code prints into the run's file, from `begin` to `end`.

    Only what goes through `sys.stdout` and `sys.stderr` as they are found: not what other processes write,
    nor a logging handler that was made before. A file that can't be written never disturbs a run.

    Args:
        file: made with the first text.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._sink: IO[str] | None = None
        self._left = _MOST
        self._copies: list[tuple[str, _Copy]] = []

    def begin(self) -> None:
        """Copy from now on."""
        for name in ("stdout", "stderr"):
            stream = _live(getattr(sys, name))
            if stream is not None:  # a program without a console has none
                copy = _Copy(stream, self)
                self._copies.append((name, copy))
                setattr(sys, name, copy)

    def end(self, fault: BaseException | None) -> None:
        """Copy no more; `fault` ended the run."""
        if fault is not None:
            self.take("".join(traceback.format_exception(type(fault), fault, fault.__traceback__)))
        self._left = 0
        for name, copy in self._copies:
            copy.ended = True
            setattr(sys, name, _live(getattr(sys, name)))
        with self._lock, suppress(OSError):
            if self._sink is not None:
                self._sink.close()

    def take(self, text: str) -> None:
        """Keep some text, as far as there is room."""
        with self._lock:
            if self._left <= 0 or not text:
                return
            kept = text[: self._left]
            self._left -= len(kept.encode(errors="replace"))
            if self._left <= 0:
                kept += _CUT
            try:
                self._opened().write(kept)
            except OSError:
                self._left = 0

    def _opened(self) -> IO[str]:
        if self._sink is None:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._sink = os.fdopen(handle, "w", buffering=1, encoding="utf-8", errors="replace")
        return self._sink


def _live(stream: Any) -> Any:
    """The stream without the copies of runs that have ended, on top of it: runs may end crosswise."""
    while isinstance(stream, _Copy) and stream.ended:
        stream = stream.found
    return stream


class _Copy:
    """A stream that is read along; in everything else it is the one that was found."""

    def __init__(self, found: Any, output: Output) -> None:
        self.found, self._output = found, output
        self.ended = False

    def write(self, text: str) -> Any:
        written = self.found.write(text)
        self._output.take(text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.found, name)
