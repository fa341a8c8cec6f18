"""The gateway of one endpoint: splits traffic between revisions, says who answered, logs payloads.

    python -m modelyard_kserve.local.gateway --folder ENDPOINT --port PORT --log FILE [--sink URL]

It follows `desired.json` in the endpoint's folder and writes what is so to `observed.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modelyard.state import write_json
from modelyard_kserve.local import desired as states
from modelyard_kserve.local.asgi import Answer, Request, application
from modelyard_kserve.local.desired import Desired, Wanted
from modelyard_kserve.local.payload_log import PayloadLog
from modelyard_kserve.local.replicas import Replica
from modelyard_kserve.local.statistics import Statistics

_LOOK_EVERY = 0.05
#: They concern one connection, and ours to the model server is another one.
_DROPPED_HEADERS = {
    *("host", "content-length", "connection", "transfer-encoding", "accept-encoding"),
    *("expect", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"),
}
#: Characters of a path that stand for themselves (RFC 3986).
_PATH_CHARACTERS = "/:@!$&'()*+,;=~"
#: Seconds that a request to a retired model may still take.
_LAST_ANSWERS = 300.0
#: Processes of models that get no traffic now and are kept for a fast way back.
_SPARE = 1


class Gateway:
    """Everything behind one endpoint's port."""

    def __init__(self, folder: Path, log: Path, sink: str | None) -> None:
        self._folder, self._log_file, self._sink = folder, log, sink
        self._desired: Desired | None = None
        self._stamp: tuple[int, int] | None = None
        self._replicas: dict[str, Replica] = {}
        self._recent: list[str] = []
        self._busy: Counter[str] = Counter()
        self._said = ""
        self._written: Any = None
        self._written_stamp: tuple[int, int] | None = None
        self._payloads: PayloadLog | None = None
        self._counts: dict[str, int] = {}
        self._log_task: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._clients: dict[str, Any] = {}
        self._statistics = Statistics()
        self._sockets = _private_folder(folder)

    # -- life -------------------------------------------------------------------------------

    async def started(self) -> None:
        """Begin to follow the desired state."""
        # What a gateway before us saw is no longer so: nobody may take its models for ready.
        (self._folder / states.OBSERVED).unlink(missing_ok=True)
        self._tasks.append(asyncio.create_task(self._follow()))

    async def stopped(self) -> None:
        """Send what is left to log, end the model servers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._replace_log(None)
        for client in self._clients.values():
            await client.aclose()
        await asyncio.gather(*(replica.end() for replica in self._replicas.values()))
        shutil.rmtree(self._sockets, ignore_errors=True)

    async def _follow(self) -> None:
        while True:
            # Each for itself: a damaged state file or a full disk must not end the care for the models.
            faults = [await _tried(step) for step in (self._look, self._tend, self._write)]
            said = "; ".join(filter(None, faults))
            if said and said != self._said:
                with contextlib.suppress(OSError):  # the disk of the log may be full as well
                    print(f"gateway: {said}", flush=True)
            self._said = said
            await asyncio.sleep(1 if said else _LOOK_EVERY)

    async def _tend(self) -> None:
        await asyncio.gather(*(replica.tend() for replica in list(self._replicas.values())))

    async def _look(self) -> None:
        stamp = _stamp(self._folder / states.DESIRED)
        if stamp is None and not self._folder.exists():
            print("gateway: the endpoint was deleted", flush=True)
            signal.raise_signal(signal.SIGTERM)
        if stamp is None or self._stamp == stamp:
            return
        wanted = states.load(self._folder)
        if wanted is None:
            return
        before = self._desired
        self._desired, self._stamp = wanted, stamp
        if before is None or before.logger != wanted.logger:
            await self._replace_log(wanted)
        for revision in self._needed(wanted):
            if revision.key not in self._replicas:
                self._replicas[revision.key] = Replica(revision, self._sockets, wanted.name, self._log_file)
            elif before is not None and before.generation != wanted.generation:
                self._replicas[revision.key].again()
        await self._retire(wanted)

    def _needed(self, wanted: Desired) -> list[Wanted]:
        return [wanted.newest, wanted.revision(wanted.rolled_out)]

    async def _retire(self, wanted: Desired) -> None:
        """End the processes that nobody needs, but for a spare one: rollbacks go to the one before."""
        needed = list(dict.fromkeys(revision.key for revision in self._needed(wanted)))
        self._recent = [*(k for k in self._recent if k not in needed), *needed]
        unneeded = [key for key in self._recent if key not in needed and key in self._replicas]
        spare = [key for key in unneeded if not self._replicas[key].failed][-_SPARE:]
        for key in [key for key in self._replicas if key not in needed and key not in spare]:
            self._recent.remove(key)
            replica = self._replicas.pop(key)
            client = self._clients.pop(key, None)
            idle = partial(self._is_idle, key)
            self._tasks.append(asyncio.create_task(_ended(replica, client, idle, after=2.0)))

    def _is_idle(self, key: str) -> bool:
        return not self._busy[key]

    async def _replace_log(self, wanted: Desired | None) -> None:
        if self._payloads is not None:
            await self._payloads.drained(3)
            if self._log_task is not None:
                self._log_task.cancel()
            self._counts = self._payloads.left_behind()
            self._payloads = None
        if wanted is not None and wanted.logger:
            url = wanted.logger.get("url") or self._sink
            self._payloads = PayloadLog(
                url, wanted.logger["mode"], tuple(wanted.logger["metadata_headers"]), self._counts
            )
            self._log_task = asyncio.create_task(self._payloads.run())

    # -- what is ----------------------------------------------------------------------------

    def _ready(self) -> dict[int, bool]:
        assert self._desired is not None
        return {
            r.number: bool((replica := self._replicas.get(r.key)) and replica.ready)
            for r in self._desired.revisions
        }

    async def _write(self) -> None:
        if self._desired is None:
            return
        revisions = {}
        for revision in self._desired.revisions:
            replica = self._replicas.get(revision.key)
            if replica is not None:
                revisions[str(revision.number)] = {
                    "ready": replica.ready,
                    "failed": replica.failed,
                    "message": replica.message,
                    "pid": replica.pid,
                }
        now = {"generation": self._desired.generation, "gateway": os.getpid(), "revisions": revisions}
        file = self._folder / states.OBSERVED
        if now != self._written or _stamp(file) != self._written_stamp:  # it may have been damaged
            write_json(file, now, mode=0o600)
            self._written, self._written_stamp = now, _stamp(file)

    # -- requests ---------------------------------------------------------------------------

    async def __call__(self, request: Request) -> Answer:
        """Answer health and metrics, hand everything else to a revision."""
        if request.path == "/healthz":
            return Answer(200, {"ready": self._desired is not None})
        if request.path == "/metrics":
            counts = self._payloads.counts if self._payloads else self._counts
            return Answer(
                200,
                self._statistics.text(counts).encode(),
                {"content-type": "text/plain; version=0.0.4"},
            )
        if self._desired is None:
            return Answer.error(503, "the endpoint is starting")
        return await self._routed(request)

    async def _routed(self, request: Request) -> Answer:
        request_id = request.headers.get("x-request-id") or request.headers.get("ce-id") or str(uuid.uuid4())
        wanted, revision = await self._chosen()
        if revision is None:
            return Answer(503, {"error": f"no revision of {wanted.name} is ready"}, {"retry-after": "2"})
        started = time.perf_counter()
        with self._statistics.in_flight():
            answer = await self._handed(request, request_id, revision)
        self._statistics.note(revision.name, answer.status, time.perf_counter() - started)
        headers = {
            **answer.headers,
            "x-request-id": request_id,
            "x-modelyard-model": revision.model,
            "x-modelyard-version": revision.version,
            "x-modelyard-revision": revision.name,
        }
        body = answer.body()
        if self._payloads and answer.status == 200 and request.method == "POST":
            source = {
                "service": wanted.name,
                "namespace": wanted.namespace,
                "model": revision.model,
                "version": revision.version,
                "revision": revision.name,
            }
            self._payloads.note(request, request_id, source, body)
        return Answer(answer.status, body, headers)

    async def _chosen(self) -> tuple[Desired, Wanted | None]:
        """A revision by the split; waits a while for one that is just being started again."""
        for _ in range(100):
            assert self._desired is not None
            wanted, ready = self._desired, self._ready()  # as they are now: both may change meanwhile
            split = {number: share for number, share in wanted.split(ready).items() if ready.get(number)}
            if split:
                (number,) = random.choices(list(split), weights=list(split.values()))
                return wanted, wanted.revision(number)
            needed = [self._replicas.get(revision.key) for revision in self._needed(wanted)]
            if all(replica is not None and replica.failed for replica in needed):
                break
            await asyncio.sleep(0.1)
        return wanted, None

    async def _handed(self, request: Request, request_id: str, revision: Wanted) -> Answer:
        passed = {k: v for k, v in request.headers.items() if k not in _DROPPED_HEADERS}
        passed["x-request-id"] = request_id
        # As bytes: callers' headers may hold more than ASCII.
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in passed.items()]
        target = quote(request.path, _PATH_CHARACTERS)
        target += f"?{quote(request.query, _PATH_CHARACTERS + '?%')}" if request.query else ""
        self._busy[revision.key] += 1
        try:
            return await self._sent(revision, request.method, target, headers, request.body)
        finally:
            self._busy[revision.key] -= 1

    async def _sent(
        self, revision: Wanted, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> Answer:
        import httpx

        client = self._client(revision.key)
        for attempt in (1, 2):
            try:
                response = await client.request(
                    method, f"http://model{target}", headers=headers, content=body
                )
                kind = response.headers.get("content-type", "application/json")
                return Answer(response.status_code, response.content, {"content-type": kind})
            except (
                httpx.ConnectError,
                httpx.RemoteProtocolError,
                httpx.ReadError,
                httpx.WriteError,
            ) as fault:
                # Predictions change nothing, so a call to a server that just died may be made again.
                if attempt == 2:
                    return Answer.error(
                        502, f"revision {revision.name} broke off: {fault or type(fault).__name__}"
                    )
                await self._until_ready(revision)
            except (httpx.LocalProtocolError, httpx.InvalidURL) as fault:
                return Answer.error(400, f"the request can't be passed on: {' '.join(str(fault).split())}")
            except httpx.TimeoutException:
                return Answer.error(504, f"revision {revision.name} did not answer in time")
        raise AssertionError("unreachable")

    async def _until_ready(self, revision: Wanted) -> None:
        for _ in range(200):
            replica = self._replicas.get(revision.key)
            if replica is None or replica.failed:
                return
            replica.look()
            if replica.ready and replica.socket.exists():
                return
            await asyncio.sleep(0.05)

    def _client(self, key: str) -> Any:
        if key not in self._clients:
            import httpx

            transport = httpx.AsyncHTTPTransport(
                uds=str(self._replicas[key].socket),
                limits=httpx.Limits(max_connections=64, max_keepalive_connections=64, keepalive_expiry=60),
            )
            self._clients[key] = httpx.AsyncClient(transport=transport, timeout=300, trust_env=False)
        return self._clients[key]


def _private_folder(endpoint: Path) -> Path:
    """A folder for sockets with a short path, which others can't enter. It is the same at every start,
    so that gateways that were killed leave one folder and not many."""
    folder = states.sockets(endpoint)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if states.is_private(folder):
        return folder
    return Path(tempfile.mkdtemp(prefix="modelyard-"))  # somebody else made it first


async def _tried(step: Callable[[], Any]) -> str:
    """What went wrong in it, in one line."""
    try:
        await step()
    except Exception as fault:
        return f"{type(fault).__name__}: {' '.join(str(fault).split())}"
    return ""


def _stamp(file: Path) -> tuple[int, int] | None:
    """Changes whenever the file is replaced or written; None: it is not there."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino


async def _ended(replica: Replica, client: Any, idle: Callable[[], bool], after: float) -> None:
    """End a replica that gets no new calls, once those on their way are answered."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(after)
        deadline = time.monotonic() + _LAST_ANSWERS
        while not idle() and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
    await replica.end()
    if client is not None:
        with contextlib.suppress(Exception):
            await client.aclose()


def main() -> int:
    """Serve until told to stop."""
    options = argparse.ArgumentParser(prog="gateway")
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--log", type=Path, required=True)
    options.add_argument("--sink")
    given = options.parse_args()
    import uvicorn

    gateway = Gateway(given.folder, given.log, given.sink)
    uvicorn.run(
        application(gateway, started=gateway.started, stopped=gateway.stopped),
        host="127.0.0.1",
        port=given.port,
        log_level="warning",
        access_log=False,
        ws="none",
        timeout_keep_alive=65,
        timeout_graceful_shutdown=5,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
