"""Every run of a project, without reading every run at every question.

MLflow needs a millisecond per run to tell about it. The newest runs, among them those that run, are read
at every question; the older ones beside it, and again from time to time, because somebody may delete or
rename them.
"""

from __future__ import annotations

import threading
import time

from modelyard.records import Run
from modelyard.yard import Yard

_NEWEST = 200
#: The newest runs that the panel knows.
_MOST = 20_000
#: Seconds after which what is known about older runs is read again.
_OLD = 60.0


class KnownRuns:
    """The runs of one project. Safe to use from several threads.

    Args:
        yard: the project.
    """

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._lock = threading.Lock()
        self._older: list[Run] | None = None
        self._read = -_OLD
        self._reading = False

    def list(self) -> tuple[list[Run], bool]:
        """The runs, newest first, and whether older ones are still being read."""
        newest = self._yard.runs.list(limit=_NEWEST)
        if len(newest) < _NEWEST:
            return newest, False
        with self._lock:
            if not self._reading and time.monotonic() - self._read >= _OLD:
                self._reading = True
                threading.Thread(target=self._read_all, daemon=True).start()
            older = self._older
        if older is None:
            return newest, True
        here = {run.id for run in newest}
        return [*newest, *(run for run in older if run.id not in here)], False

    def _read_all(self) -> None:
        try:
            found = self._yard.runs.list(limit=_MOST)
            with self._lock:
                self._older = found
        finally:  # what went wrong is said where the newest are asked for
            with self._lock:
                self._read, self._reading = time.monotonic(), False
