"""Processes that outlive the controller that started them; its successor adopts them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from modelyard.errors import CorruptStateError
from modelyard.processes import MARK, family, identity, spawn
from modelyard.state import read_json, write_json

#: Characters of a line of the log that are told.
_LONGEST = 1000


class Child:
    """One process with a record of it, by which it is found again.

    The record is on disk before the process runs, so that nothing is ever started twice. What is left when
    the whole service ends is ended with it: all children carry its mark.

    Args:
        record: the file of the record.
        log: where the process writes.
        cwd: the folder in which it runs.
    """

    def __init__(self, record: Path, log: Path, cwd: Path) -> None:
        self._record, self._log, self._cwd = record, log, cwd
        self._pid: int | None = None
        self._identity = ""
        #: Whether its socket was there already; for whoever started it to say.
        self.reachable = False
        #: Where in the log its own words begin.
        self.log_from = 0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        if self._pid is not None and identity(self._pid) == self._identity:
            return self._pid
        return None

    @property
    def known(self) -> int | None:
        """The process id, even when it has gone."""
        return self._pid

    def adopt(self, key: str) -> bool:
        """Take over the process that the record names, if it runs and was started for the same key."""
        with contextlib.suppress(CorruptStateError, OSError):
            known = read_json(self._record)
            if isinstance(known, dict) and known.get("key") == key and isinstance(known.get("pid"), int):
                self._pid, self._identity = known["pid"], str(known.get("identity"))
                self.log_from = int(known.get("log_from") or 0)
                self.reachable = True
        return self.pid is not None

    def start(self, argv: Sequence[str], env: Mapping[str, str], key: str) -> None:
        """Start it anew. `key` says what it was started for.

        Raises:
            OSError: the system refuses.
        """

        with self.log.open("ab") as log:
            spawn(argv, env=env, cwd=self._cwd, log=log, remember=lambda pid, _: self.remember(pid, key))

    def remember(self, pid: int, key: str) -> None:
        """Take over a process that waits for the word; its record is on disk when this returns."""
        self._pid, self._identity, self.reachable = pid, identity(pid) or "", False
        known = {"pid": pid, "identity": self._identity, "key": key, "log_from": self.log_from}
        write_json(self._record, known, mode=0o600)

    @property
    def log(self) -> Path:
        """Where it writes; what is there already is not its own."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self.log_from = self._log.stat().st_size if self._log.exists() else 0
        return self._log

    def forget(self) -> None:
        """Its record goes: it does not run."""
        self._record.unlink(missing_ok=True)

    async def end(self, grace: float = 5.0) -> None:
        """TERM, then KILL after so many seconds; its record goes."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + grace
            while self.pid is not None and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            with contextlib.suppress(ProcessLookupError):
                if self.pid is not None:
                    os.kill(pid, signal.SIGKILL)
        self.forget()

    def last_words(self, prefix: str) -> str:
        """The last line that begins with the prefix, since it was started; without the prefix."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            begun = self.log_from if self.log_from <= size else 0  # it may have begun anew
            log.seek(max(begun, size - 4000))
            lines = log.read().decode(errors="replace").splitlines()
            said = [line for line in lines if line.startswith(prefix) and line.strip()]
            return said[-1].removeprefix(prefix).strip()[:_LONGEST] if said else ""
        return ""


def end_strays(owned: Collection[int]) -> None:
    """End what carries our service's mark, was started by nobody who lives, and is not owned: TERM, and KILL
    after five seconds."""
    import psutil  # type: ignore[import-untyped,unused-ignore]

    marked = family(os.environ.get(MARK, ""))
    strays = []
    for pid in marked.keys() - set(owned):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.ppid() not in marked and process.ppid() != os.getpid():
                strays.append(process)
                process.terminate()
    for process in psutil.wait_procs(strays, timeout=5)[1]:
        with contextlib.suppress(psutil.Error):
            process.kill()
