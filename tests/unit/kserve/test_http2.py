"""HTTP/2 as clients of gRPC and Knative's proxy speak it, and what is said to who speaks it badly."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httptools")
pytest.importorskip("h2")

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from modelyard_kserve.local import http_server, messages
from modelyard_kserve.local.http_server import HttpServer
from modelyard_kserve.local.messages import Answer, Request

METHOD = "/inference.GRPCInferenceService/ModelInfer"
GRPC = {"content-type": "application/grpc", "te": "trailers"}
#: Time in which everything that is said has come.
QUIET = 0.3


class Caller:
    """A client that waits for nothing unless it is told to.

    Attributes:
        answers: stream -> status, headers and trailers in one.
        bodies: stream -> what came.
        resets: stream -> the code with which it was ended.
        goodbye: what the server said of the whole connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int) -> None:
        self._reader, self._writer = reader, writer
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        self.h2.config.validate_outbound_headers = False
        self.h2.local_settings = type(self.h2.local_settings)(
            client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.h2.initiate_connection()
        self.answers: dict[int, dict[str, str]] = defaultdict(dict)  # in the order in which they came
        self.bodies: dict[int, bytes] = defaultdict(bytes)
        self.resets: dict[int, int] = {}
        self.goodbye: int | None = None
        self.closed = False
        self.pongs = 0

    def ask(self, path: str, body: bytes | None = None, method: str = "POST", **headers: str) -> int:
        """Send a request; without a body it is not ended."""
        number = self.h2.get_next_available_stream_id()
        said = {":method": method, ":path": path, ":scheme": "http", ":authority": "x", **headers}
        self.h2.send_headers(number, list(said.items()))
        if body is not None:
            self.h2.send_data(number, body, end_stream=True)
        return number

    async def hear(self, seconds: float = QUIET, taking: bool = True) -> None:
        """Send what there is to send, and take what comes until nothing more does."""
        while True:
            self._writer.write(self.h2.data_to_send())
            try:
                data = await asyncio.wait_for(self._reader.read(1 << 16), seconds)
            except asyncio.TimeoutError:
                return
            if not data:
                self.closed = True
                return
            for event in self.h2.receive_data(data):
                self._take(event, taking)

    def _take(self, event: Any, taking: bool) -> None:
        if isinstance(event, (ResponseReceived, TrailersReceived)):
            self.answers[event.stream_id].update(event.headers)
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
            if taking:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, PingAckReceived):
            self.pongs += 1
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, ConnectionTerminated):
            self.goodbye = event.error_code

    async def raw(self, data: bytes) -> None:
        self._writer.write(self.h2.data_to_send() + data)
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


Call = Callable[..., Awaitable[Caller]]


async def echo(request: Request) -> Answer:
    """What came, back again."""
    if request.path == "/large":
        return Answer(200, b"x" * 300_000, {"content-type": "text/plain"})
    if request.path.startswith("/slow"):
        await asyncio.sleep(0.5)
    if request.path == METHOD:
        return Answer(200, request.body[::-1], {"content-type": "application/grpc", "X-Model": "späte"})
    if request.path == "/fails":
        raise RuntimeError("a secret\nof two lines")
    said = {"method": request.method, "path": request.path, "query": request.query.decode()}
    return Answer(200, {**said, "size": len(request.body), "kind": request.headers.get("kind")})


def talk(tmp_path: Path, conversation: Callable[[Call, HttpServer], Awaitable[None]]) -> None:
    """Run a conversation with a server; `call()` connects to it."""

    async def run() -> None:
        path = str(tmp_path / "http.sock")
        serving = HttpServer(echo, http2=True)
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: http_server._Connection(serving), path)
        callers: list[Caller] = []

        async def call(window: int = 65535) -> Caller:
            callers.append(Caller(*await asyncio.open_unix_connection(path), window))
            return callers[-1]

        try:
            await asyncio.wait_for(conversation(call, serving), 60)
        finally:
            for caller in callers:
                caller.close()
            server.close()

    asyncio.run(run())


def test_requests_are_answered_beside_each_other(tmp_path: Path) -> None:
    async def conversation(call: Call, _: HttpServer) -> None:
        caller = await call()
        slow = caller.ask("/slow", b"")
        quick = caller.ask("/a%20b?c=d", b"body", kind="V2")
        head = caller.ask("/h", b"", method="HEAD")
        await caller.hear(1.5)
        assert list(caller.answers) == [quick, head, slow]
        assert caller.answers[quick][":status"] == "200"
        assert caller.answers[quick]["content-type"] == "application/json"
        assert caller.bodies[quick] == (b'{"method":"POST","path":"/a b","query":"c=d","size":4,"kind":"V2"}')
        assert caller.answers[quick]["content-length"] == str(len(caller.bodies[quick]))
        assert (caller.answers[head][":status"], caller.bodies[head]) == ("200", b"")
        assert caller.answers[slow][":status"] == "200"

    talk(tmp_path, conversation)


def test_grpc_ends_with_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def conversation(call: Call, _: HttpServer) -> None:
        caller = await call()
        good = caller.ask(METHOD, b"abc", **GRPC)
        bad = caller.ask("/fails", b"", **GRPC)
        await caller.hear()
        assert caller.bodies[good] == b"cba"
        assert caller.answers[good] == {
            ":status": "200",
            "content-type": "application/grpc",
            "x-model": "späte",
            "grpc-status": "0",
        }
        said = caller.answers[bad]
        assert (said[":status"], said["grpc-status"]) == ("200", "13")
        assert "a secret" in said["grpc-message"]
        assert "\n" not in said["grpc-message"]

    talk(tmp_path, conversation)
    assert "RuntimeError" in capsys.readouterr().err


def test_an_answer_goes_no_faster_than_it_is_taken(tmp_path: Path) -> None:
    async def conversation(call: Call, _: HttpServer) -> None:
        caller = await call(window=1000)
        large, small = caller.ask("/large", b""), caller.ask("/small", b"")
        await caller.hear(taking=False)
        assert len(caller.bodies[large]) == 1000
        assert caller.bodies[small], "it does not wait for the other one"
        caller.h2.increment_flow_control_window(400_000, large)
        caller.h2.increment_flow_control_window(400_000)
        await caller.hear(taking=False)
        assert caller.bodies[large] == b"x" * 300_000

    talk(tmp_path, conversation)


def test_a_body_that_is_too_large_is_read_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "BODY_LIMIT", 1000)

    async def conversation(call: Call, _: HttpServer) -> None:
        caller = await call()
        plain, grpc = caller.ask("/a", b"x" * 1001), caller.ask(METHOD, b"x" * 1001, **GRPC)
        right = caller.ask("/a", b"x" * 1000)
        await caller.hear()
        assert caller.answers[plain][":status"] == "413"
        assert b"the body is larger than" in caller.bodies[plain]
        assert caller.answers[grpc]["grpc-status"] == "8"
        assert caller.answers[right][":status"] == "200"

    talk(tmp_path, conversation)


def test_who_sends_next_to_nothing_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(http_server, "BODY_RATE", 1)

    async def conversation(call: Call, _: HttpServer) -> None:
        caller = await call()
        silent, grpc, steady = caller.ask("/a"), caller.ask(METHOD, **GRPC), caller.ask("/b")
        caller.h2.send_data(steady, b"x" * 10)  # ten seconds more
        await caller.hear(1.5)
        assert caller.answers[silent][":status"] == "408"
        assert caller.answers[grpc]["grpc-status"] == "4"
        assert caller.resets == {silent: ErrorCodes.NO_ERROR, grpc: ErrorCodes.NO_ERROR}
        caller.h2.send_data(steady, b"", end_stream=True)
        await caller.hear()
        assert b'"size":10' in caller.bodies[steady]

    talk(tmp_path, conversation)


def test_what_was_taken_back_counts_until_it_is_done(tmp_path: Path) -> None:
    """Who asks and takes it back, again and again, gets no more work done than others."""

    async def conversation(call: Call, _: HttpServer) -> None:
        caller = await call()
        for _number in range(100):
            caller.h2.reset_stream(caller.ask("/slow", b""))
        one_more = caller.ask("/a", b"")
        half = caller.ask("/b")
        await caller.hear(0.2)
        assert caller.resets == dict.fromkeys((one_more, half), ErrorCodes.REFUSED_STREAM)
        await caller.hear(0.6)
        later = caller.ask("/a", b"")
        caller.h2.reset_stream(caller.ask("/b"))
        await caller.hear()
        assert caller.answers[later][":status"] == "200"

    talk(tmp_path, conversation)


def test_at_the_end_what_was_begun_is_answered_and_nothing_else(tmp_path: Path) -> None:
    async def conversation(call: Call, serving: HttpServer) -> None:
        idle, busy = await call(), await call()
        await idle.hear(0.1)
        slow = busy.ask("/slow", b"")
        await busy.hear(0.1)
        began = time.monotonic()
        ending = asyncio.create_task(serving._last_answers(30))
        await asyncio.sleep(0.05)
        late = busy.ask("/a", b"")
        await asyncio.gather(idle.hear(1), busy.hear(1), ending)
        assert time.monotonic() - began < 15
        assert (idle.closed, idle.goodbye) == (True, ErrorCodes.NO_ERROR)
        assert busy.answers[slow][":status"] == "200"
        assert busy.resets == {late: ErrorCodes.REFUSED_STREAM}
        assert (busy.closed, busy.goodbye) == (True, ErrorCodes.NO_ERROR)

    talk(tmp_path, conversation)


def test_who_is_gone_takes_nothing_along(tmp_path: Path) -> None:
    async def conversation(call: Call, serving: HttpServer) -> None:
        for path, body in (("/slow", b""), ("/large", b""), ("/a", None)):
            caller = await call(window=1000)
            caller.ask(path, body)
            await caller.hear(0.1, taking=False)
            caller.close()
        deadline = time.monotonic() + 50
        while serving.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        assert not serving.connections
        await asyncio.sleep(0.6)
        caller = await call()
        number = caller.ask("/a", b"")
        await caller.hear()
        assert caller.answers[number][":status"] == "200"

    talk(tmp_path, conversation)


def test_who_reads_nothing_is_not_read_either(tmp_path: Path) -> None:
    """Each ping is answered; the answers must not pile up."""

    async def conversation(call: Call, serving: HttpServer) -> None:
        caller = await call()
        await caller.hear(0.1)
        ping = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"p" * 8
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(caller.raw(ping * 60_000), 1)
        (connection,) = serving.connections
        assert connection._transport.get_write_buffer_size() < 1 << 20  # type: ignore[attr-defined]
        while caller.pongs < 60_000:
            await caller.hear(0.1)
        number = caller.ask("/a", b"")
        await caller.hear(1)
        assert caller.answers[number][":status"] == "200"

    talk(tmp_path, conversation)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x00\x00\x04\x00\x00\x00\x00\x00\x09abcd",  # DATA of no request
        b"\x00\x40\x01\x00\x00\x00\x00\x00\x01" + b"x" * 0x4001,  # a frame that is too long
        b"\x00\x00\x06\x04\x00\x00\x00\x00\x01" + b"x" * 6,  # SETTINGS of one request
    ],
)
def test_nonsense_ends_the_connection(tmp_path: Path, nonsense: bytes) -> None:
    async def conversation(call: Call, _: HttpServer) -> None:
        caller = await call()
        await caller.hear(0.1)
        await caller.raw(nonsense)
        await caller.hear(2)
        assert caller.closed
        assert caller.goodbye not in (None, ErrorCodes.NO_ERROR)

    talk(tmp_path, conversation)


def test_heads_are_not_taken_in_any_size(tmp_path: Path) -> None:
    async def conversation(call: Call, _: HttpServer) -> None:
        caller = await call()
        caller.ask("/a", b"", **{f"x-{number}": "y" * 1000 for number in range(80)})
        await caller.hear(2)
        assert caller.closed
        assert caller.goodbye == ErrorCodes.ENHANCE_YOUR_CALM

    talk(tmp_path, conversation)
