"""A model server's application whose answers are counted, and logged as the controller's file says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from modelyard_kserve.local.messages import UNLOGGED_HEADER, Answer, Request
from modelyard_kserve.local.payload_log import PayloadLog
from modelyard_kserve.local.statistics import EXPOSITION, Answering, Statistics, is_counted

#: Seconds between two looks whether somebody wants it otherwise.
_LOOK = 1.0
#: Where a request says who answers it.
_IDENTITY = tuple(f"x-modelyard-{key}" for key in Answering._fields)


class LoggedApp:
    """Counts what was answered, and notes it behind the caller's back.

    Args:
        name: of the endpoint.
        app: answers.
        settings: the controller's file: `null`, or where to send which events.
    """

    def __init__(self, name: str, app: Callable[[Request], Awaitable[Answer]], settings: Path) -> None:
        self._name, self._app, self._settings = name, app, settings
        self._statistics = Statistics()
        self._known: Any = None
        self._log: PayloadLog | None = None
        self._sending: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._counts: dict[str, int] = {}

    async def started(self) -> None:
        """Begin to follow the settings."""
        await self._look()
        self._following = asyncio.create_task(self._follow())

    async def stopped(self) -> None:
        """Send what is left."""
        if self._following is not None:
            self._following.cancel()
        await self._replace(None)

    async def __call__(self, request: Request) -> Answer:
        """Answer, count it, and note it."""
        if request.path == "/metrics":
            counts = self._log.counts if self._log is not None else self._counts
            return Answer(
                200, self._statistics.text(self._name, counts).encode(), {"content-type": EXPOSITION}
            )
        if not is_counted(request):
            return await self._app(request)
        started = time.perf_counter()
        with self._statistics.in_flight:
            answer = await self._app(request)
        identity = Answering(*(request.headers.get(header, "") for header in _IDENTITY))
        took = time.perf_counter() - started
        self._statistics.note(identity, answer.status, took, answer.rows, answer.batch)
        whole = answer.status == 200 and answer.pieces is None
        if self._log is not None and whole and UNLOGGED_HEADER not in request.headers:
            place = {key: self._known[key] for key in ("service", "namespace", "component")}
            source = place | identity._asdict()
            asked, said = answer.logged or (request.body, answer.body())
            self._log.note(request, request.headers.get("x-request-id", ""), source, asked, said)
        return answer

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            await self._look()

    async def _look(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            said = json.loads(self._settings.read_text(encoding="utf-8"))
            if said != self._known:
                await self._replace(said)

    async def _replace(self, said: Any) -> None:
        log, sending = self._log, self._sending
        self._known, self._log, self._sending = said, None, None
        if log is not None:
            await log.drained(3)
            if sending is not None:
                sending.cancel()
            self._counts = log.left_behind()
        if said:
            headers = tuple(said["metadata_headers"])
            self._log = PayloadLog(said["url"], said["mode"], headers, self._counts)
            self._sending = asyncio.create_task(self._log.run())
