"""The monitor's process: takes CloudEvents, writes the prediction log, serves the metrics.

    python -m modelyard_evidently.collector --state FOLDER --port PORT

An event is answered as soon as it is in memory and written within two seconds: kill -9 loses at
most those (and calls of which only one half had come); what is on disk is never torn. What does not
fit into memory, and what the disk does not take for long, is dropped and counted. A scrape reads a
file and computes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.errors import ModelyardError
from modelyard.state import read_json
from modelyard_evidently import log
from modelyard_evidently.events import Event, Pairing, Row, event_of, rows_of
from modelyard_evidently.exporter import METRICS_FILE, Counted, counters
from modelyard_evidently.profile import feature_names, file_of

_FLUSH_SECONDS = 2.0
_FLUSH_ROWS = 20_000
_MOST_EVENTS = 100_000
_MOST_BYTES = 256 * 1024 * 1024
#: Rows that wait for a disk that does not take them.
_MOST_ROWS = 200_000
_BODY_LIMIT = 64 * 1024 * 1024
JSON, METRICS = b"application/json", b"text/plain; version=0.0.4; charset=utf-8"


class Collector:
    """Events in, Parquet parts out.

    Args:
        state: the folder of the log.
        labels: of its counters, where a process collects for several.
    """

    def __init__(self, state: Path, *, labels: Mapping[str, str] | None = None) -> None:
        self._state, self._labels = state, dict(labels or {})
        self._share = 1.0
        self._queue: deque[Event] = deque()
        self._bytes = 0
        self._pairing = Pairing()
        self._pending: dict[log.Place, list[Row]] = {}
        self._names: dict[tuple[str, str], Sequence[str]] = {}
        self._writing = asyncio.Lock()
        self._counts: Counter[str] = Counter(stored=0, dropped=0, invalid=0)
        self._last_loss = 0.0
        log.clean(state)

    def keep_to(self, share: float) -> None:
        """Take only so large a part of the usual room in memory, because others need theirs."""
        self._share = self._pairing.share = share

    def take(self, headers: dict[str, str], body: bytes) -> None:
        """Queue an event; the oldest make room.

        Raises:
            ValueError: it is not an inference event.
        """
        event = event_of(headers, body)
        self._queue.append(event)
        self._bytes += len(body)
        most, most_bytes = _MOST_EVENTS * self._share, _MOST_BYTES * self._share
        while len(self._queue) > most or self._bytes > most_bytes:
            self._bytes -= len(self._queue.popleft().body)
            self.lost(1)

    def lost(self, events: int) -> None:
        """Count events that are lost for good, and remember when."""
        self._counts["dropped"] += events
        self._last_loss = time.time()

    def invalid(self, events: int) -> None:
        """Count events that could not be read."""
        self._counts["invalid"] += events

    async def flush(self) -> dict[str, Any]:
        """Write everything that was taken so far; returns the counts."""
        async with self._writing:
            events, self._queue, self._bytes = self._queue, deque(), 0
            if events or self._pending:
                await asyncio.to_thread(self._write, events)
        return self.counts()

    def counts(self) -> dict[str, Any]:
        """Events by what became of them, and when the last was lost (seconds since 1970, or 0)."""
        paired = {"unpaired": self._pairing.unpaired, "duplicate": self._pairing.duplicates}
        waiting = self._pairing.waiting + sum(len(rows) for rows in self._pending.values())
        return {"events": {**self._counts, **paired}, "waiting": waiting, "last_loss": self._last_loss}

    def counted(self) -> Counted:
        """The same for the exporter."""
        counts = self.counts()
        return Counted(counts["events"], counts["last_loss"], self._labels)

    def finished(self) -> str:
        """The finished windows as the exporter shows them; nothing is computed."""
        file = self._state / METRICS_FILE
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def _write(self, events: deque[Event]) -> None:
        # Profiles arrive with deployments: look again at each flush.
        self._names.clear()
        for event in events:
            pair = self._pairing.add(event)
            if pair is None:
                continue
            try:
                for row in list(rows_of(*pair, self._columns)):  # all of a call, or nothing
                    self._pending.setdefault(log.place_of(row), []).append(row)
            except Exception as fault:  # a body is a stranger's: whatever is wrong, it is that call alone
                self.invalid(2)
                print(f"collector: call {event.id} is left out: {fault}", flush=True)
        for place in list(self._pending):
            self._write_rows(place, self._pending.pop(place))
        self._make_room()

    def _write_rows(self, place: log.Place, rows: list[Row]) -> None:
        for start in range(0, len(rows), _FLUSH_ROWS):
            piece = rows[start : start + _FLUSH_ROWS]
            try:
                self._append(place, piece)
            except (ModelyardError, OSError) as fault:
                self._pending[place] = rows[start:]  # the next flush tries again
                print(f"collector: {len(rows) - start} rows of {place.endpoint} wait: {fault}", flush=True)
                return

    def _append(self, place: log.Place, rows: list[Row]) -> None:
        """Write rows; those that no file can hold (nested a thousand deep, say) hold up no others."""
        try:
            log.append(self._state, place, rows)
            self._counts["stored"] += 2 * sum(row.row == 0 for row in rows)
        except (ModelyardError, OSError):
            raise
        except Exception as fault:
            if len(rows) > 1:
                self._append(place, rows[: len(rows) // 2])
                self._append(place, rows[len(rows) // 2 :])
                return
            self.invalid(2 * (rows[0].row == 0))
            print(f"collector: a row of {rows[0].prediction_id} is left out: {fault!r}", flush=True)

    def _make_room(self) -> None:
        over = sum(len(rows) for rows in self._pending.values()) - int(_MOST_ROWS * self._share)
        for rows in self._pending.values():
            if over > 0:
                oldest = rows[:over]
                del rows[:over]
                self.lost(2 * sum(row.row == 0 for row in oldest))
                over -= len(oldest)

    def _columns(self, model: str, version: str) -> Sequence[str]:
        key = (model, version)
        if key not in self._names:
            self._names[key] = feature_names(read_json(file_of(self._state, *key)))
        return self._names[key]


async def flush_regularly(collectors: Callable[[], Iterable[Collector]]) -> None:
    """Flush every few seconds, until cancelled."""
    while True:
        await asyncio.sleep(_FLUSH_SECONDS)
        for collector in list(collectors()):
            try:
                await collector.flush()
            except Exception as fault:  # nothing may end the writing of all later events
                print(f"collector: writing failed: {fault!r}", flush=True)


def application(collector: Collector) -> Any:
    """The ASGI application of a monitor on this machine."""
    tasks: list[asyncio.Task[None]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            tasks.append(asyncio.create_task(flush_regularly(lambda: [collector])))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            tasks[0].cancel()
            await collector.flush()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            status, body, kind = await _answer(collector, scope, receive)
            await answer(send, status, body, kind)

    return app


async def answer(send: Any, status: int, body: bytes, kind: bytes = JSON) -> None:
    """Send a whole answer."""
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _answer(collector: Collector, scope: Any, receive: Any) -> tuple[int, bytes, bytes]:
    import orjson

    route = (scope["method"], scope["path"])
    if route == ("GET", "/healthz"):
        return 200, b'{"ready":true}', JSON
    if route == ("GET", "/metrics"):
        return 200, (collector.finished() + counters([collector.counted()])).encode(), METRICS
    if route == ("POST", "/flush"):
        return 200, orjson.dumps(await collector.flush()), JSON
    if route != ("POST", "/"):
        return 404, b'{"error":"POST events to /, GET /metrics"}', JSON
    return *await take_event(collector, scope, receive), JSON


async def take_event(collector: Collector, scope: Any, receive: Any) -> tuple[int, bytes]:
    """Read an event from a request and give it to the collector; status and body of the answer."""
    import orjson

    try:
        body = await _body(receive)
        if body is None:
            collector.lost(1)
            return 413, b'{"error":"the event is too large"}'
        collector.take({_text(key): _text(value) for key, value in scope["headers"]}, body)
    except ValueError as fault:
        collector.invalid(1)
        return 400, orjson.dumps({"error": str(fault)})
    return 200, b"{}"


def _text(header: bytes) -> str:
    """Go writes header values in UTF-8; where it is none, any text will do."""
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")


async def _body(receive: Any) -> bytes | None:
    """The whole body; None, read but not kept, when it is too large.

    Raises:
        ValueError: the sender went away in the middle; half an event would pass for the whole, and
            the one that it sends again for a duplicate.
    """
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ValueError("the sender went away before the end of the body")
        piece = message.get("body", b"")
        size += len(piece)
        if size <= _BODY_LIMIT:
            pieces.append(piece)
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
