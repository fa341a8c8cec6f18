"""The payload logger: KServe's two CloudEvents per answered call, sent behind the caller's back.

Bounded in events and bytes; what does not fit is dropped and counted, oldest first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, TypeAlias

from modelyard_kserve.local.messages import Request

_MOST_EVENTS = 20_000
_MOST_BYTES = 128 * 1024 * 1024
_TRIES = 5
_PREFIX = "org.kubeflow.serving.inference"

#: JSON, or what makes it when its turn has come.
Body: TypeAlias = "bytes | Callable[[], bytes]"


class PayloadLog:
    """Sends events to a collector from a task of its own.

    Args:
        url: where to POST; None drops everything and counts it.
        mode: `all`, `request` or `response`.
        metadata_headers: request headers that go into `ce-metadata`.
        counts: to go on from, because counters of Prometheus only rise.
    """

    def __init__(
        self,
        url: str | None,
        mode: str,
        metadata_headers: tuple[str, ...],
        counts: Mapping[str, int] | None = None,
    ) -> None:
        self.url, self._mode = url, mode
        self._metadata = metadata_headers
        self._queue: deque[tuple[dict[str, str], Body, int]] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.counts = {"stored": 0, "dropped": 0, **(counts or {})}

    def note(
        self, request: Request, request_id: str, source: Mapping[str, str], asked: Body, answer: Body
    ) -> None:
        """Queue the events of one answered call.

        Args:
            source: `service`, `namespace`, `component`, `model`, `version`, `revision`.
            asked, answer: what the events hold.
        """
        base = {
            "content-type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": request_id,
            "ce-source": f"http://{source['service']}.{source['namespace']}",
            "ce-time": datetime.now(timezone.utc).isoformat(),
            "ce-inferenceservicename": source["service"],
            "ce-namespace": source["namespace"],
            "ce-component": source["component"],
            "ce-endpoint": source["revision"],
            "ce-metadata": json.dumps(self._named_headers(request)),
            "ce-annotations": json.dumps(
                {f"modelyard.dev/{key}": source[key] for key in ("model", "version", "revision")}
            ),
        }
        if self._mode in ("all", "request"):
            self._put({**base, "ce-type": f"{_PREFIX}.request"}, asked, len(request.body))
        if self._mode in ("all", "response"):
            self._put({**base, "ce-type": f"{_PREFIX}.response"}, answer, len(request.body))

    async def run(self) -> None:
        """Send what is queued, until cancelled."""
        import httpx

        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            while True:
                while not self._queue:
                    self._idle.set()
                    self._wake.clear()
                    await self._wake.wait()
                self._idle.clear()
                headers, body, size = self._queue.popleft()
                self._bytes -= size
                sent = await self._sent(client, headers, await _made(body))
                self.counts["stored" if sent else "dropped"] += 1

    async def drained(self, seconds: float) -> None:
        """Wait until all was sent, at most so long."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._until_idle(), seconds)

    def left_behind(self) -> dict[str, int]:
        """The counts at the end, where what could not be sent is dropped."""
        waiting = len(self._queue) + (not self._idle.is_set())
        return {**self.counts, "dropped": self.counts["dropped"] + waiting}

    async def _until_idle(self) -> None:
        while self._queue or not self._idle.is_set():
            await asyncio.sleep(0.02)

    async def _sent(self, client: Any, headers: dict[str, str], body: bytes | None) -> bool:
        import httpx

        if self.url is None or body is None:
            return False
        sent = [(k.encode(), v.encode("latin-1", "replace")) for k, v in headers.items()]
        for attempt in range(_TRIES):
            try:
                if (await client.post(self.url, headers=sent, content=body)).status_code < 300:
                    return True
            except httpx.HTTPError:
                pass
            except httpx.InvalidURL:
                return False
            await asyncio.sleep(0.1 * 2**attempt)
        return False

    def _put(self, headers: dict[str, str], body: Body, at_least: int) -> None:
        size = len(body) if isinstance(body, bytes) else at_least
        self._queue.append((headers, body, size))
        self._bytes += size
        while len(self._queue) > _MOST_EVENTS or self._bytes > _MOST_BYTES:
            self._bytes -= self._queue.popleft()[2]
            self.counts["dropped"] += 1
        self._wake.set()

    def _named_headers(self, request: Request) -> dict[str, str]:
        return {n: request.headers[n.lower()] for n in self._metadata if n.lower() in request.headers}


async def _made(body: Body) -> bytes | None:
    """The JSON, made beside the event loop; None: it can't be said in JSON."""
    if isinstance(body, bytes):
        return body
    try:
        return await asyncio.to_thread(body)
    except (TypeError, ValueError):
        return None
