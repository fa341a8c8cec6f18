"""A model server's application whose answers are logged, as the controller's file says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from modelyard_kserve.local.asgi import Answer, Request
from modelyard_kserve.local.payload_log import PayloadLog

#: Seconds between two looks whether somebody wants it otherwise.
_LOOK = 1.0
_IDENTITY = ("model", "version", "revision")


class LoggedApp:
    """Notes what was answered, behind the caller's back.

    Args:
        app: answers.
        settings: the controller's file: `null`, or where to send which events.
    """

    def __init__(self, app: Callable[[Request], Awaitable[Answer]], settings: Path) -> None:
        self._app, self._settings = app, settings
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
        """Answer, and note it."""
        answer = await self._app(request)
        if self._log is not None and answer.status == 200 and request.method == "POST":
            names = {key: request.headers.get(f"x-modelyard-{key}", "") for key in _IDENTITY}
            source = {"service": self._known["service"], "namespace": self._known["namespace"], **names}
            self._log.note(request, request.headers.get("x-request-id", ""), source, answer.body())
        return answer

    @property
    def counts(self) -> dict[str, int]:
        """Events sent and lost."""
        return self._log.counts if self._log is not None else self._counts

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
