"""The monitor's process: takes CloudEvents, writes the prediction log, serves the metrics.

    python -m modelyard_evidently.collector --state FOLDER --port PORT

An event is answered at once and written within a second; kill -9 loses at most that second. What
does not fit into memory is dropped and counted. A scrape reads a file and computes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter, deque
from pathlib import Path
from typing import Any

from modelyard.errors import ModelyardError
from modelyard_evidently import log
from modelyard_evidently.events import Event, Pairing, Row, event_of, rows_of
from modelyard_evidently.exporter import METRICS_FILE, counters

_FLUSH_SECONDS = 1.0
_FLUSH_ROWS = 5000
_MOST_EVENTS = 100_000
_MOST_BYTES = 256 * 1024 * 1024
_BODY_LIMIT = 64 * 1024 * 1024


class Collector:
    """Events in, Parquet parts out."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._queue: deque[Event] = deque()
        self._bytes = 0
        self._pairing = Pairing()
        self._writing = asyncio.Lock()
        self.counts: Counter[str] = Counter(stored=0, dropped=0, invalid=0)

    def take(self, headers: dict[str, str], body: bytes) -> None:
        """Queue an event; the oldest make room.

        Raises:
            ValueError: it is not an inference event.
        """
        event = event_of(headers, body)
        self._queue.append(event)
        self._bytes += len(body)
        while len(self._queue) > _MOST_EVENTS or self._bytes > _MOST_BYTES:
            self._bytes -= len(self._queue.popleft().body)
            self.counts["dropped"] += 1

    async def flush(self) -> None:
        """Write everything that was taken so far."""
        async with self._writing:
            events, self._queue, self._bytes = self._queue, deque(), 0
            if events:
                await asyncio.to_thread(self._write, events)

    async def run(self) -> None:
        """Flush every second, until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self.flush()

    def _write(self, events: deque[Event]) -> None:
        rows: dict[str, list[Row]] = {}
        for event in events:
            pair = self._pairing.add(event)
            if pair is None:
                continue
            try:
                rows.setdefault(event.endpoint, []).extend(rows_of(*pair))
            except (ValueError, KeyError, TypeError, IndexError) as fault:
                self.counts["invalid"] += 2
                print(f"collector: event {event.id} is left out: {fault}", flush=True)
        for endpoint, found in rows.items():
            for start in range(0, len(found), _FLUSH_ROWS):
                piece = found[start : start + _FLUSH_ROWS]
                calls = len({row.prediction_id for row in piece})
                try:
                    log.append(self._state, endpoint, piece)
                    self.counts["stored"] += 2 * calls
                except (ModelyardError, OSError) as fault:
                    self.counts["dropped"] += 2 * calls
                    print(f"collector: {len(piece)} rows of {endpoint} are lost: {fault}", flush=True)

    def metrics(self) -> bytes:
        """The finished windows, and the collector's own counters."""
        file = self._state / METRICS_FILE
        finished = file.read_bytes() if file.exists() else b""
        return finished + counters(self.counts).encode()


def application(collector: Collector) -> Any:
    """The ASGI application."""
    tasks: list[asyncio.Task[None]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            tasks.append(asyncio.create_task(collector.run()))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            tasks[0].cancel()
            await collector.flush()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            status, body, kind = await _answer(collector, scope, receive)
            headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return app


async def _answer(collector: Collector, scope: Any, receive: Any) -> tuple[int, bytes, bytes]:
    route = (scope["method"], scope["path"])
    if route == ("GET", "/healthz"):
        return 200, b'{"ready":true}', b"application/json"
    if route == ("GET", "/metrics"):
        return 200, collector.metrics(), b"text/plain; version=0.0.4"
    if route == ("POST", "/flush"):
        await collector.flush()
        return 200, b"{}", b"application/json"
    if route != ("POST", "/"):
        return 404, b'{"error":"POST events to /, GET /metrics"}', b"application/json"
    body = await _body(receive)
    if body is None:
        collector.counts["dropped"] += 1
        return 413, b'{"error":"the event is too large"}', b"application/json"
    try:
        collector.take({k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}, body)
    except ValueError as fault:
        collector.counts["invalid"] += 1
        import orjson

        return 400, orjson.dumps({"error": str(fault)}), b"application/json"
    return 200, b"{}", b"application/json"


async def _body(receive: Any) -> bytes | None:
    pieces, size = [], 0
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if not message.get("more_body"):
            return b"".join(pieces) if size <= _BODY_LIMIT else None


def main() -> int:
    """Serve until told to stop."""
    options = argparse.ArgumentParser(prog="collector")
    options.add_argument("--state", type=Path, required=True)
    options.add_argument("--port", type=int, required=True)
    given = options.parse_args()
    import uvicorn

    uvicorn.run(
        application(Collector(given.state)),
        host="127.0.0.1",
        port=given.port,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=120,
        timeout_graceful_shutdown=5,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
