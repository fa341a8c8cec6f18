"""HTTP for a model server: whole requests in, whole answers out.

A prediction takes a tenth of a millisecond, and so does what a server for everything does around it. In
front of this one stands a proxy (Envoy, or Knative's), which speaks to slow and hostile callers; it keeps
connections open and sends one request after the other. Parsing is httptools', as in uvicorn.

This is HTTP/1.1. In pods, where nobody turns HTTP/2 into it, connections may begin with that: `http2`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from modelyard_kserve.local.grpc_status import CONTENT_TYPE, SERVICE, refusal
from modelyard_kserve.local.messages import BODY_LIMIT, Answer, Request, closed
from modelyard_kserve.local.resources import in_words
from modelyard_kserve.local.unpacking import unpacked

#: Seconds that a body may take, and how many bytes give it a second more: who sends nothing, or next to
#: nothing, holds no connection.
BODY_SECONDS, BODY_RATE = 30.0, 128 * 1024
#: Connections that may wait to be taken: everybody who waited for a model that woke comes at once.
_BACKLOG = 2048
#: The whole head; proxies send 60 KiB at most.
_HEAD_LIMIT = 128 * 1024
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_LARGE_HEAD = Answer.error(431, f"the head of the request is larger than {_HEAD_LIMIT // 1024} KiB")
_IMPROPER = Answer.error(400, "the request is no proper HTTP")
#: With which connections of HTTP/2 begin, and no method does.
_PREFACE = b"PRI * "
Handle = Callable[[Request], Awaitable[Answer]]


class Connection(Protocol):
    """Of whatever HTTP."""

    def close_if_idle(self) -> None:
        """Close it unless something is to be answered."""


class HttpServer:
    """Answers on sockets until it is told to stop.

    Args:
        handle: answers a request; what it raises is a 500.
        http2: connections may begin with HTTP/2; answers of `handle` come whole then, never in pieces.
        started: runs before the first request.
        stopped: runs after the last answer.
    """

    def __init__(
        self,
        handle: Handle,
        *,
        http2: bool = False,
        started: Callable[[], Awaitable[None]] | None = None,
        stopped: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.handle, self._started, self._stopped = handle, started, stopped
        self.http2 = http2
        self.connections: set[Connection] = set()
        self.ending = False

    def run(self, *where: str | tuple[str, int], linger: float = 0.0, grace: float) -> None:
        """Serve until TERM or INT.

        Args:
            where: paths of Unix sockets, or hosts and ports.
            linger: seconds for which requests are taken after that.
            grace: seconds that the last answers may take.

        Raises:
            OSError: it can't listen there.
        """
        with contextlib.suppress(ImportError):
            import uvloop

            uvloop.run(self._run(where, linger, grace))
            return
        asyncio.run(self._run(where, linger, grace))

    async def _run(self, where: Iterable[str | tuple[str, int]], linger: float, grace: float) -> None:
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, told.set)
        if self._started is not None:
            await self._started()
        servers = [await self._listening(loop, one) for one in where]
        await told.wait()
        await asyncio.sleep(linger)
        for server in servers:
            server.close()
        await self._last_answers(grace)
        if self._stopped is not None:
            await self._stopped()

    async def _listening(
        self, loop: asyncio.AbstractEventLoop, where: str | tuple[str, int]
    ) -> asyncio.AbstractServer:
        if isinstance(where, str):
            return await loop.create_unix_server(lambda: _Connection(self), where, backlog=_BACKLOG)
        return await loop.create_server(lambda: _Connection(self), *where, backlog=_BACKLOG)

    async def _last_answers(self, grace: float) -> None:
        self.ending = True
        for connection in list(self.connections):
            connection.close_if_idle()
        deadline = asyncio.get_running_loop().time() + grace
        while self.connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)


class _Connection(asyncio.Protocol):
    """One connection: requests are answered in turn."""

    def __init__(self, server: HttpServer) -> None:
        import httptools

        self._server = server
        self._parser, self._improper = httptools.HttpRequestParser(self), httptools.HttpParserError
        self._transport: Any = None
        self._waiting: deque[Request | Answer] = deque()
        self._working: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        self._writable = asyncio.Event()
        self._writable.set()
        self._came = 0  # bytes of a head that has not ended, and of what came with them
        self._loop = asyncio.get_running_loop()
        self._close_after = False
        self._is_first = True  # what comes next is the first that comes
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._named: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._begun = self._has_head = False

    # -- from the transport -----------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._server.connections.discard(self)
        self._stop_timer()  # what a model works on, it works on
        self._writable.set()  # who waits for that sees that it is over

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._is_first and self._server.http2 and data.startswith(_PREFACE):
            from modelyard_kserve.local import http2

            self._server.connections.discard(self)
            http2.go_on(self._server, self._transport, data)
            return
        self._is_first = False
        if not self._has_head:
            self._came += len(data)
        try:
            self._parser.feed_data(data)
        except self._improper:
            self._refuse(_LARGE_HEAD if self._came > _HEAD_LIMIT else _IMPROPER)
            return
        if self._begun:
            self._give_time(len(data))
            if self._came > _HEAD_LIMIT:
                self._refuse(_LARGE_HEAD)

    # -- from the parser --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._reset()
        self._begun = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._named.append((name, value))

    def on_headers_complete(self) -> None:
        size = sum(len(name) + len(value) for name, value in self._named) if self._came > _HEAD_LIMIT else 0
        if size > _HEAD_LIMIT:  # else it was the body that came with it
            raise ValueError("ends the parser")
        self._has_head, self._came = True, 0

    def on_body(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > BODY_LIMIT:
            self._pieces.clear()  # and read on: who is still sending would not see the answer
        else:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self._begun = self._has_head = False
        self._stop_timer()
        if not self._parser.should_keep_alive():
            self._close_after = True
        if self._size > BODY_LIMIT:
            self._take(in_words_of(self._headers(), too_large()))
            return
        method = self._parser.get_method().decode()
        self._take(request_of(method, self._url, self._headers(), self._pieces))

    def _headers(self) -> dict[str, str]:
        return {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in self._named}

    # -- answers ----------------------------------------------------------------------------

    def _take(self, request: Request | Answer) -> None:
        self._waiting.append(request)
        if self._working is None:
            self._working = self._loop.create_task(self._work())
        elif len(self._waiting) > 1:
            self._transport.pause_reading()

    async def _work(self) -> None:
        while self._waiting:
            request = self._waiting.popleft()
            method = "GET"
            if isinstance(request, Request):
                method = request.method
                answer = await answered(self._server.handle, request)
            else:
                answer = request
            if answer.pieces is not None:
                await self._write_pieces(answer, answer.pieces)
            else:
                self._write(answer, method)
            self._transport.resume_reading()
        self._working = None
        if self._last:
            self._transport.close()

    @property
    def _last(self) -> bool:
        """Whether nothing more is taken here after what is being answered."""
        return (self._close_after or self._server.ending) and not self._waiting

    def _write(self, answer: Answer, method: str) -> None:
        answer, body = with_body(answer)
        head = self._head(answer, "application/json")
        head.append(b"content-length: %d\r\n\r\n" % len(body))
        if method != "HEAD":
            head.append(body)
        self._transport.write(b"".join(head))

    def _head(self, answer: Answer, content_type: str) -> list[bytes]:
        lines = [_LINES.get(answer.status) or f"HTTP/1.1 {answer.status} \r\n".encode()]
        if "content-type" not in answer.headers:
            lines.append(f"content-type: {content_type}\r\n".encode())
        for name, value in answer.headers.items():
            lines.append(f"{name}: {value}\r\n".encode("latin-1", "replace"))
        if self._last:  # or a proxy would send its next request here, and lose it
            lines.append(b"connection: close\r\n")
        return lines

    async def _write_pieces(self, answer: Answer, pieces: AsyncIterator[str | bytes]) -> None:
        """Each piece when it comes, no faster than the caller takes them. What goes wrong on the way can't be
        a status any more: the connection ends before the answer does."""
        head = [*self._head(answer, "text/plain; charset=utf-8"), b"transfer-encoding: chunked\r\n\r\n"]
        self._transport.write(b"".join(head))
        try:
            async for piece in pieces:
                raw = piece.encode() if isinstance(piece, str) else bytes(piece)
                if raw:
                    self._transport.write(b"%x\r\n%b\r\n" % (len(raw), raw))
                await self._writable.wait()
                if self._transport.is_closing():
                    break
            else:
                self._transport.write(b"0\r\n\r\n")
        except (Exception, SystemExit):
            import traceback

            traceback.print_exc()
            self._transport.abort()
        finally:
            await closed(pieces)

    def _refuse(self, answer: Answer) -> None:
        """The last thing said here."""
        self._close_after = True
        self._transport.pause_reading()
        self._take(answer)

    def close_if_idle(self) -> None:
        """Close it unless something is to be answered."""
        if self._working is None and not self._begun:
            self._transport.close()

    # -- patience ---------------------------------------------------------------------------

    def _give_time(self, size: int) -> None:
        """More time for a body of which something came. The timer that runs is left alone: it looks when it
        rings."""
        if self._timer is None:
            self._until = self._loop.time() + BODY_SECONDS
            self._timer = self._loop.call_at(self._until, self._rings)
        else:
            self._until += size / BODY_RATE

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rings(self) -> None:
        if self._loop.time() < self._until:
            self._timer = self._loop.call_at(self._until, self._rings)
        else:
            self._timer = None
            self._gone()

    def _gone(self) -> None:
        self._refuse(in_words_of(self._headers(), too_late()))


def too_large() -> Answer:
    """To who sends more than is taken."""
    return Answer.error(413, f"the body is larger than {BODY_LIMIT // 1024 // 1024} MiB")


def too_late() -> Answer:
    """To who sends nothing, or next to nothing."""
    return Answer.error(408, f"the body did not come within {BODY_SECONDS:.0f} s")


def request_of(method: str, target: bytes, headers: Mapping[str, str], pieces: Sequence[bytes]) -> Request:
    """The request of which the parts came."""
    path, _, query = target.partition(b"?")
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return Request(method, _unquoted(path), query, headers, body)


def with_body(answer: Answer) -> tuple[Answer, bytes]:
    """The answer and its body; one that is no JSON is a 500."""
    try:
        return answer, answer.body()
    except (TypeError, ValueError) as fault:
        answer = Answer.error(500, f"the model's answer can't be sent: {fault}")
        return answer, answer.body()


async def answered(handle: Handle, request: Request) -> Answer:
    """The answer to a request, whatever happens; callers get no traceback."""
    answer = await _answer(handle, request)
    if answer.status == 404 and not request.path.startswith(SERVICE) and in_grpc(request.headers):
        answer = answer._replace(status=501)  # a service that is not here, such as gRPC's own health checks
    return in_words_of(request.headers, answer)


def in_words_of(headers: Mapping[str, str], answer: Answer) -> Answer:
    """The answer; to a caller with gRPC what went wrong is said as gRPC does. The status is counted, and who
    speaks HTTP/2 with callers makes it 200."""
    if answer.status == 200 or not in_grpc(headers):
        return answer
    said = answer.value if isinstance(answer.value, dict) else {}
    sentence = str(said.get("error") or said.get("detail") or "")
    return Answer(answer.status, b"", {**answer.headers, **refusal(answer.status, sentence)})


def in_grpc(headers: Mapping[str, str]) -> bool:
    """Whether the caller speaks gRPC."""
    return headers.get("content-type", "").startswith(CONTENT_TYPE)


async def _answer(handle: Handle, request: Request) -> Answer:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        try:
            request = request._replace(body=unpacked(request.body, encoding, BODY_LIMIT))
        except ValueError as fault:
            return Answer.error(400, str(fault))
    try:
        return await handle(request)
    except (Exception, SystemExit) as fault:  # a model that says sys.exit() does not mean us
        import traceback

        traceback.print_exc()
        return Answer.error(500, in_words(fault))


def _unquoted(path: bytes) -> str:
    if b"%" in path:
        from urllib.parse import unquote

        return unquote(path.decode("latin-1"))
    return path.decode("latin-1")
