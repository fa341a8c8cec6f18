"""Lets so many requests into a model at once as a manifest says, and notices when nothing moves any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from modelyard_kserve.local.messages import Answer, Request, closed

#: Requests that may wait for their turn.
_QUEUE = 1000
_RETRY_AFTER = "1"


class Limited:
    """Stands between callers and a model, as Knative's queue proxy does.

    Args:
        app: answers.
        most: requests that it works on at once (`containerConcurrency`); 0: as many as come.
        seconds: that an answer may take. When nothing was finished for so long, nobody waits for what is
            under way any more, and `/v2/health/live` says so: whoever started us ends us.
    """

    def __init__(self, app: Callable[[Request], Awaitable[Answer]], most: int, seconds: float) -> None:
        self._app, self._seconds = app, seconds
        self._turns = asyncio.Semaphore(most) if most else None
        self._waiting = 0
        self._inside: dict[object, None] = {}  # in the order in which they came
        self._moved = 0.0

    async def __call__(self, request: Request) -> Answer:
        """Answer, when it is its turn."""
        if request.method != "POST":
            if self._stuck and request.path == "/v2/health/live":
                return Answer(503, {"live": False})
            return await self._app(request)
        if self._turns is None:
            return await self._answered(request)
        if self._turns.locked() and self._waiting >= _QUEUE:
            busy = Answer.error(503, f"{_QUEUE} requests wait for this model already")
            return Answer(busy.status, busy.value, {"retry-after": _RETRY_AFTER})
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        return await self._answered(request)

    @property
    def _stuck(self) -> bool:
        return bool(self._inside) and time.monotonic() - self._moved > self._seconds

    async def _answered(self, request: Request) -> Answer:
        if not self._inside:
            self._moved = time.monotonic()
        turn = object()
        self._inside[turn] = None
        try:
            answer = await self._app(request)
        except BaseException:
            self._end(turn)
            raise
        if answer.pieces is not None:
            return answer._replace(pieces=self._until_given(turn, answer.pieces))
        self._end(turn, refused=400 <= answer.status < 500)
        return answer

    async def _until_given(
        self, turn: object, pieces: AsyncIterator[str | bytes]
    ) -> AsyncIterator[str | bytes]:
        """The model works until the last piece is made, or nobody wants more."""
        try:
            async for piece in pieces:
                self._moved = time.monotonic()
                yield piece
        finally:
            self._end(turn)
            await closed(pieces)

    def _end(self, turn: object, *, refused: bool = False) -> None:
        # What is refused while others wait need not have come to the model, which may hang.
        if not refused or turn is next(iter(self._inside)):
            self._moved = time.monotonic()
        del self._inside[turn]
        if self._turns is not None:
            self._turns.release()
