"""The monitor of a cluster: a collector for the events of many projects, and what their commands ask.

    python -m modelyard_evidently.server --state /data --host 0.0.0.0 --port 8080 --token-file FILE

    POST /events/NAMESPACE/PROJECT    an event of an endpoint of that project
    GET  /metrics, /healthz           for Prometheus and Kubernetes
    POST /flush                       write what was taken; the counts
    ...  /api/NAMESPACE/PROJECT/...   with `Authorization: Bearer TOKEN`, see `_route`

Events and scrapes are answered by this process alone. Whatever needs pandas or DuckDB is done by workers,
which end when nobody needs them. All that lasts is on disk: after kill -9 the next start goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from modelyard.errors import EnvironmentFault, ModelyardError, NotFoundError, UsageError
from modelyard.state import os_errors
from modelyard_evidently.areas import Area, areas
from modelyard_evidently.collector import METRICS, Collector, answer, flush_regularly, take_event
from modelyard_evidently.config import EvidentlySettings
from modelyard_evidently.exporter import Counted, counters, merged
from modelyard_evidently.wire import STATUSES
from modelyard_evidently.workers import Workers

#: The part of a collector's usual room in memory that all areas have together.
_SHARE = 0.25
_JOB_SECONDS = 900.0
_PIECE = 1024 * 1024
_SETTINGS_LIMIT = 64 * 1024
_NOT_FOUND = b'{"error":"POST events to /events/NAMESPACE/PROJECT, GET /metrics"}'


class MonitorServer:
    """What the process knows.

    Args:
        state: where everything is stored.
        token: what requests to /api must carry.
        every: seconds after which all windows are scored anew.
    """

    def __init__(self, state: Path, token: str, every: float) -> None:
        self._state, self._token, self._every = state, token, every
        self._collectors: dict[Area, Collector] = {}
        self._strays: Counter[str] = Counter(dropped=0, invalid=0)
        self._last_stray = 0.0
        self._work = state / "work"
        with os_errors(self._work):
            self._work.mkdir(parents=True, exist_ok=True)
            for left in self._work.iterdir():  # by one that was killed
                left.unlink()
        for area in areas(state):
            self._collect_for(area)

    # -- life -------------------------------------------------------------------------------

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI application."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        self._workers = Workers()
        works: list[Coroutine[Any, Any, None]] = [
            flush_regularly(self._collectors.values),
            self._workers.rest(),
            self._score_regularly(),
        ]
        tasks = [asyncio.create_task(work) for work in works]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._workers.end()
        for collector in self._collectors.values():
            await collector.flush()
        await send({"type": "lifespan.shutdown.complete"})

    async def _score_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            for area, collector in list(self._collectors.items()):
                try:
                    await collector.flush()
                    for fault in await self._ask("score", area):
                        print(f"server: {area.namespace}/{area.project}: {fault}", flush=True)
                except Exception as fault:  # of one project; the next round tries again
                    print(f"server: scoring {area.namespace}/{area.project}: {fault!r}", flush=True)

    def _collect_for(self, area: Area) -> None:
        self._collectors[area] = Collector(area.folder, labels=area.labels)
        for collector in self._collectors.values():
            collector.keep_to(_SHARE / len(self._collectors))

    # -- requests ---------------------------------------------------------------------------

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        import orjson

        method, names = scope["method"], _names(scope)
        if names[:1] == ["api"]:
            await self._answer_api(scope, names[1:], receive, send)
        elif (method, names) == ("GET", ["healthz"]):
            await answer(send, 200, b'{"ready":true}')
        elif (method, names) == ("GET", ["metrics"]):
            await answer(send, 200, self._metrics().encode(), METRICS)
        elif (method, names) == ("POST", ["flush"]):
            counts = {f"{a.namespace}/{a.project}": await c.flush() for a, c in self._collectors.items()}
            await answer(send, 200, orjson.dumps(counts))
        elif (method, names[0], len(names)) == ("POST", "events", 3):
            await answer(send, *await self._take(scope, names[1:], receive))
        else:
            self._strays["invalid"] += method == "POST"
            await answer(send, 404, _NOT_FOUND)

    async def _take(self, scope: Any, names: list[str], receive: Any) -> tuple[int, bytes]:
        try:
            collector = self._collectors[self._area(names)]
        except (KeyError, UsageError):
            # Its data was lost, say, while its endpoints go on: somebody must hear of it.
            self._strays["dropped"] += 1
            self._last_stray = time.time()
            return 404, b'{"error":"the monitor knows no such project; modelyard endpoints apply names it"}'
        return await take_event(collector, scope, receive)

    def _metrics(self) -> str:
        logs = [collector.counted() for collector in self._collectors.values()]
        finished = merged(collector.finished() for collector in self._collectors.values())
        return finished + counters([*logs, Counted(self._strays, self._last_stray)])

    # -- what commands ask ------------------------------------------------------------------

    async def _answer_api(self, scope: Any, names: list[str], receive: Any, send: Any) -> None:
        import orjson

        if not self._knows(scope):
            said = {"code": "monitor-refused", "message": "the token is wrong", "exit_status": 8}
            await answer(send, 401, orjson.dumps({"error": said}))
            return
        try:
            page = await self._route(scope, names, receive)
        except ModelyardError as fault:
            status = STATUSES.get(fault.exit_status, 500)
            await answer(send, status, orjson.dumps({"error": fault.to_dict()}))
        except _SenderLeft:
            pass  # nobody is there to be answered, and nothing was stored
        else:
            if isinstance(page, Path):
                await _send_page(send, page)
            else:
                await answer(send, 200, orjson.dumps({"value": page}))

    def _knows(self, scope: Any) -> bool:
        said = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(said, f"Bearer {self._token}".encode())

    async def _route(self, scope: Any, names: list[str], receive: Any) -> Any:
        """What an address means: a JSON value, or a page in a file."""
        if len(names) < 2:
            raise _unknown(scope)
        area = self._area(names)
        route = (scope["method"], *names[2:3], *names[4:])
        if route == ("PUT",):  # the project with its settings
            return await self._join(area, await _small_body(receive))
        if area not in self._collectors:
            raise _unknown(scope)
        asked = _query(scope)
        named = {"endpoint": names[3]} if len(names) > 3 else {}
        if route == ("PUT", "endpoints"):
            return await self._with_body("watch", area, named, receive)
        if route == ("PUT", "endpoints", "labels"):
            return await self._with_body("labels", area, named, receive)
        if route == ("POST", "marks"):
            return await self._with_body("mark", area, {}, receive)
        counts = await self._collectors[area].flush()
        if route == ("GET", "predictions"):
            return await self._ask("find", area, {"id": names[3]})
        if route == ("GET", "endpoints", "windows"):
            return await self._ask("windows", area, {**named, **asked})
        if route == ("GET", "endpoints", "alerts"):
            return await self._ask("alerts", area, {**named, "last_loss": counts["last_loss"]})
        if route == ("GET", "endpoints", "report"):
            out = self._work / f"report-{time.time_ns()}.html"
            return Path(await self._ask("report", area, {**named, **asked, "out": str(out)}))
        if route == ("GET", "metrics"):
            return await self._ask("metrics", area)
        raise _unknown(scope)

    async def _join(self, area: Area, said: bytes) -> None:
        try:
            settings = EvidentlySettings.model_validate_json(said)
        except ValueError as fault:
            raise UsageError("settings-invalid", f"the monitor can't use the settings: {fault}") from None
        await asyncio.to_thread(area.remember, settings)
        if area not in self._collectors:
            self._collect_for(area)

    async def _with_body(self, job: str, area: Area, given: Mapping[str, Any], receive: Any) -> Any:
        async with self._stored(receive) as file:
            return await self._ask(job, area, {**given, "body": str(file)})

    async def _ask(self, job: str, area: Area, given: Mapping[str, Any] | None = None) -> Any:
        return await self._workers.ask(job, area, given or {}, seconds=_JOB_SECONDS)

    @contextlib.asynccontextmanager
    async def _stored(self, receive: Any) -> AsyncIterator[Path]:
        """The body of a request as a file: it may be larger than memory, and all of it comes or nothing."""
        body = _body(receive)
        with os_errors(self._work):
            handle, name = tempfile.mkstemp(prefix="body-", dir=self._work)
        try:
            try:
                with os_errors(self._work), os.fdopen(handle, "wb") as file:
                    async for piece in body:
                        await asyncio.to_thread(file.write, piece)  # a slow disk must not hold up events
            except EnvironmentFault:
                async for _ in body:  # a client that is still sending would not hear the answer
                    pass
                raise
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _area(self, names: list[str]) -> Area:
        try:
            return Area(self._state, names[0], names[1])
        except ValueError as fault:
            raise UsageError("name-invalid", str(fault)) from None


class _SenderLeft(Exception):
    """The client went away before the end of its request."""


async def _body(receive: Any) -> AsyncIterator[bytes]:
    """The body in large pieces.

    Raises:
        _SenderLeft: it is not whole.
    """
    held, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _SenderLeft
        held += message.get("body", b"")
        more = message.get("more_body", False)
        if len(held) >= _PIECE or (held and not more):
            yield bytes(held)
            held.clear()


async def _small_body(receive: Any) -> bytes:
    whole = b""
    async for piece in _body(receive):
        whole += piece
        if len(whole) > _SETTINGS_LIMIT:
            raise UsageError("settings-invalid", "settings are not that long")
    return whole


async def _send_page(send: Any, page: Path) -> None:
    """Send a file, and remove it."""
    try:
        headers = [(b"content-type", b"text/html; charset=utf-8")]
        headers += [(b"content-length", str(page.stat().st_size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in _pieces(page):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        page.unlink(missing_ok=True)


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            yield piece


def _names(scope: Any) -> list[str]:
    """The parts of the path; each may hold anything, a slash among it."""
    path = scope["raw_path"].decode("latin-1")
    return [unquote(part) for part in path.strip("/").split("/")]


def _query(scope: Any) -> dict[str, Any]:
    """What stands behind the question mark, as jobs take it."""
    asked: dict[str, Any] = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    try:
        if "until" in asked:
            datetime.fromisoformat(asked["until"])
        if "limit" in asked:
            asked["limit"] = int(asked["limit"])
    except ValueError as fault:
        raise UsageError("request-invalid", f"the monitor can't read what it was asked: {fault}") from None
    return {key: asked[key] for key in ("until", "limit", "version") if key in asked}


def _unknown(scope: Any) -> NotFoundError:
    return NotFoundError("request-unknown", f"the monitor knows no {scope['method']} {scope['path']}")


def _token_in(file: Path) -> str:
    try:
        token = file.read_text(encoding="utf-8").strip()
    except OSError as fault:
        raise SystemExit(f"server: the token can't be read from {file}: {fault.strerror}") from None
    if not token:
        raise SystemExit(f"server: {file} is empty: without a token everybody could read all predictions")
    return token


def main() -> int:
    """Serve until told to stop."""
    options = argparse.ArgumentParser(prog="server")
    options.add_argument("--state", type=Path, required=True)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--token-file", type=Path, required=True)
    options.add_argument("--every", type=float, default=300.0, help="seconds between scorings")
    given = options.parse_args()
    token = _token_in(given.token_file)
    try:
        server = MonitorServer(given.state, token, given.every)
    except ModelyardError as fault:
        raise SystemExit(f"server: {fault.message}") from None
    import uvicorn

    uvicorn.run(
        server,
        host=given.host,
        port=given.port,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=120,
        timeout_graceful_shutdown=5,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
