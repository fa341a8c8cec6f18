"""How a model is called: in a thread, or, once it is known to be fast, at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

#: Seconds: what a thread costs is a tenth of it, and nobody notices when a loop stands still for so long; and
#: what is surely more than waiting for the interpreter, for which others compete.
_FAST, _SLOW = 0.001, 0.02
#: So many calls must have been fast and none slow; one that was slow on the loop puts it off for many more.
_PROVEN, _PUT_OFF = 100, 10_000


class Caller:
    """Calls a model, one call at a time: libraries use the cores themselves.

    A thread keeps the event loop free for health and for others' requests, and costs as much as a small
    prediction. So a model that took less than a millisecond a hundred times is called on the loop itself, as
    long as it gets no more rows than it proved itself with. One that is slow once goes back to the thread.

    Args:
        answer: the model; takes rows, gives answers.
    """

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer
        self._thread = ThreadPoolExecutor(1)
        self._busy = 0
        self._fast = 0
        self._rows = 0

    async def __call__(self, rows: Any) -> Any:
        """The answers of the model; raises what it raises."""
        size = len(rows)
        if self._fast >= _PROVEN and size <= self._rows and not self._busy:
            return self._at_once(rows)
        self._busy += 1
        try:
            loop = asyncio.get_running_loop()
            answers, wall, cpu = await loop.run_in_executor(self._thread, self._timed, rows)
        finally:
            self._busy -= 1
        if wall < _FAST:
            self._fast += 1
            self._rows = max(self._rows, size)
        elif cpu >= _FAST or wall >= _SLOW:  # else it waited for the interpreter, which says nothing
            self._fast = min(self._fast, 0)
        return answers

    def _at_once(self, rows: Any) -> Any:
        began = time.perf_counter()
        try:
            return self._answer(rows)
        finally:
            if time.perf_counter() - began >= _SLOW:
                self._fast = -_PUT_OFF

    def _timed(self, rows: Any) -> tuple[Any, float, float]:
        wall, cpu = time.perf_counter(), time.thread_time()
        answers = self._answer(rows)
        return answers, time.perf_counter() - wall, time.thread_time() - cpu
