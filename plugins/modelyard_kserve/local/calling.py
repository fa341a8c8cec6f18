"""How a model is called: in a thread, or, once it is known to be fast, at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

#: Seconds: what a thread costs is a tenth of it, and nobody notices when a loop stands still for so long; and
#: what is surely more than waiting for the interpreter, for which others compete.
_FAST, _SLOW = 0.001, 0.02
#: So many more fast calls than slow ones, of which each counts as much as ten: on a busy machine one in a
#: hundred is slow.
_PROVEN, _SLOW_ONES = 100, 10
#: How many calls one that was slow on the loop puts it off for: twice as many each time, up to so many; half
#: as many after so many that were not.
_MOST_PUT_OFF, _GOOD = 10_000, 1000
#: Rows of several requests in one call: of a model that is not known to be fast, and of one that is.
_FEW, _MANY = 64, 1024


def call(function: Callable[..., Any], *given: Any) -> Any:
    """What a model's function answers.

    Raises:
        RuntimeError: a `next` in it found nothing, or it raised what means the end of something else. No
            future takes a StopIteration, and no task the others: whoever waits would wait for ever.
    """
    try:
        return function(*given)
    except StopIteration as fault:
        raise RuntimeError("the model's next() found nothing (StopIteration)") from fault
    except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt) as fault:
        raise RuntimeError(f"the model raised {type(fault).__name__}") from fault


class Caller:
    """Calls a model, one call at a time: libraries use the cores themselves.

    A thread keeps the event loop free for health and for others' requests, and costs as much as a small
    prediction. So a model that mostly took less than a millisecond is called on the loop itself, as long as
    it gets no more rows than it proved itself with. One that is slow there goes back to the thread.

    Args:
        answer: the model; takes rows, and what is said beside them; gives answers.
    """

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer
        self._thread = ThreadPoolExecutor(1)
        self._busy = self._rows = 0
        self._idle = asyncio.Event()
        self._fast = self._good = 0
        self._put_off = _PROVEN

    def most(self) -> int:
        """As many rows of several requests may be in one call. A model that is fast may show that it is with
        twice as many as it is known to be; with one that is slow nobody shall wait for much of others."""
        return max(_FEW, min(2 * self._rows, _MANY)) if self._fast >= _PROVEN else _FEW

    async def __call__(self, rows: Any, *params: Mapping[str, Any]) -> Any:
        """The answers of the model; raises what it raises."""
        size = len(rows)
        while self._fast >= _PROVEN and size <= self._rows:
            if not self._busy:
                return self._at_once(rows, *params)
            await self._idle.wait()  # one call at a time: what the thread has begun comes first
        self._busy += 1
        self._idle.clear()
        try:
            loop = asyncio.get_running_loop()
            answers, wall, cpu = await loop.run_in_executor(self._thread, self._timed, rows, *params)
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()
        if wall < _FAST:
            self._fast += 1
            self._rows = max(self._rows, size)
        # Else it had more rows than it proved itself with, or waited for the interpreter: both say nothing.
        elif size <= self._rows and (cpu >= _FAST or wall >= _SLOW):
            self._fast = max(self._fast - _SLOW_ONES, min(self._fast, 0))
        return answers

    def _at_once(self, *given: Any) -> Any:
        began = time.perf_counter()
        try:
            return self._answer(*given)
        finally:
            if time.perf_counter() - began >= _SLOW:
                self._fast, self._good = _PROVEN - self._put_off, 0
                self._put_off = min(self._put_off * 2, _MOST_PUT_OFF)
            else:
                self._good += 1
                if self._good % _GOOD == 0:
                    self._put_off = max(self._put_off // 2, _PROVEN)

    def _timed(self, *given: Any) -> tuple[Any, float, float]:
        wall, cpu = time.perf_counter(), time.thread_time()
        answers = self._answer(*given)
        return answers, time.perf_counter() - wall, time.thread_time() - cpu
