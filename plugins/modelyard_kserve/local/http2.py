"""HTTP/2 without TLS for a model server: what clients of gRPC speak, and proxies that were told so (`h2c`).

Everything else is as with HTTP/1.1: routes, limits, patience, the end. Frames are h2's, as in hypercorn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from modelyard_kserve.local import http_server, messages
from modelyard_kserve.local.http_server import HttpServer, answered, in_grpc, in_words_of
from modelyard_kserve.local.messages import Answer, Request

#: Requests at once on a connection; clients wait with more, or open another one.
_STREAMS = 100
#: Bytes that may come before they are taken: for each request, and for all.
_WINDOW, _WINDOWS = 1 << 20, 1 << 24


@dataclass
class _Stream:
    """A request that comes, and is answered."""

    headers: dict[str, str]
    until: float
    timer: asyncio.TimerHandle | None = None
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    working: asyncio.Task[None] | None = None


def go_on(server: HttpServer, transport: Any, data: bytes) -> None:
    """Take over a connection of which these are the first bytes."""
    _Http2Connection(server, transport).data_received(data)


class _Http2Connection(asyncio.Protocol):
    """One connection: its requests are answered beside each other."""

    def __init__(self, server: HttpServer, transport: Any) -> None:
        from h2.config import H2Configuration
        from h2.connection import H2Connection
        from h2.settings import SettingCodes

        self._server, self._transport = server, transport
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, _Stream] = {}
        self._moved = asyncio.Event()  # something that keeps us from sending may be over
        self._may_write = True
        self._h2 = H2Connection(H2Configuration(client_side=False))
        self._h2.initiate_connection()
        self._h2.update_settings(
            {SettingCodes.MAX_CONCURRENT_STREAMS: _STREAMS, SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW}
        )
        self._h2.increment_flow_control_window(_WINDOWS)
        transport.set_protocol(self)
        server.connections.add(self)

    # -- from the transport -----------------------------------------------------------------

    def connection_lost(self, _: Exception | None) -> None:
        self._server.connections.discard(self)
        for number in self._streams:
            self._stop_timer(number)  # what a model works on, it works on
        self._moved.set()

    def pause_writing(self) -> None:
        self._may_write = False
        self._transport.pause_reading()  # much of what comes is answered at once, such as pings

    def resume_writing(self) -> None:
        self._may_write = True
        self._transport.resume_reading()
        self._moved.set()

    def data_received(self, data: bytes) -> None:
        from h2.exceptions import ProtocolError

        try:
            for event in self._h2.receive_data(data):
                self._take(event)
        except ProtocolError:  # of which the caller is told
            self._flush()
            self._transport.close()
            return
        self._flush()
        self._moved.set()

    # -- requests ---------------------------------------------------------------------------

    def _take(self, event: Any) -> None:
        from h2 import events

        if isinstance(event, events.RequestReceived):
            self._begin(event.stream_id, event.headers)
        elif isinstance(event, events.DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self._more(event.stream_id, event.data)
        elif isinstance(event, events.StreamEnded):
            self._whole(event.stream_id)
        elif isinstance(event, events.StreamReset):
            self._taken_back(event.stream_id)
        elif isinstance(event, events.ConnectionTerminated):
            self._transport.close()

    def _begin(self, number: int, named: Iterable[tuple[bytes, bytes]]) -> None:
        from h2.errors import ErrorCodes

        # A request that was taken back counts while a model works on it.
        if self._server.ending or len(self._streams) >= _STREAMS:
            self._h2.reset_stream(number, ErrorCodes.REFUSED_STREAM)  # nobody began it: it may be sent again
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in named}
        until = self._loop.time() + http_server.BODY_SECONDS
        self._streams[number] = _Stream(headers, until, self._loop.call_at(until, self._rings, number))

    def _more(self, number: int, data: bytes) -> None:
        stream = self._coming(number)
        if stream is None:
            return  # it was refused, or is answered already
        stream.size += len(data)
        stream.until += len(data) / http_server.BODY_RATE
        if stream.size > messages.BODY_LIMIT:
            stream.pieces.clear()  # and read on: who is still sending would not see the answer
        elif data:
            stream.pieces.append(data)

    def _whole(self, number: int) -> None:
        stream = self._coming(number)
        if stream is None:
            return
        self._stop_timer(number)
        if stream.size > messages.BODY_LIMIT:
            self._answer(number, stream, in_words_of(stream.headers, http_server.too_large()))
            return
        headers = {name: value for name, value in stream.headers.items() if name[:1] != ":"}
        target = stream.headers.get(":path", "*").encode("latin-1")
        method = stream.headers[":method"]
        self._answer(number, stream, http_server.request_of(method, target, headers, stream.pieces))

    def _coming(self, number: int) -> _Stream | None:
        """The request, unless nothing more is taken for it."""
        stream = self._streams.get(number)
        return stream if stream is not None and stream.timer is not None else None

    def _taken_back(self, number: int) -> None:
        if self._coming(number) is not None:
            self._stop_timer(number)
            self._forget(number)
        self._moved.set()

    def _rings(self, number: int) -> None:
        stream = self._streams[number]
        if self._loop.time() < stream.until:
            stream.timer = self._loop.call_at(stream.until, self._rings, number)
            return
        stream.timer = None
        self._answer(number, stream, in_words_of(stream.headers, http_server.too_late()))

    def _stop_timer(self, number: int) -> None:
        stream = self._streams[number]
        if stream.timer is not None:
            stream.timer.cancel()
            stream.timer = None

    # -- answers ----------------------------------------------------------------------------

    def _answer(self, number: int, stream: _Stream, what: Request | Answer) -> None:
        stream.pieces = []
        stream.working = self._loop.create_task(self._work(number, stream.headers, what))

    async def _work(self, number: int, headers: dict[str, str], what: Request | Answer) -> None:
        from h2.errors import ErrorCodes
        from h2.exceptions import ProtocolError

        answer = await answered(self._server.handle, what) if isinstance(what, Request) else what
        try:
            await self._send(number, headers, answer)
            if isinstance(what, Answer):  # nothing more is taken
                self._h2.reset_stream(number, ErrorCodes.NO_ERROR)
        except ProtocolError:  # it was taken back, or can't be said in HTTP/2
            with contextlib.suppress(ProtocolError):
                self._h2.reset_stream(number, ErrorCodes.INTERNAL_ERROR)
        self._flush()
        self._forget(number)

    async def _send(self, number: int, asked: dict[str, str], answer: Answer) -> None:
        answer, body = http_server.with_body(answer)
        if asked[":method"] == "HEAD":
            body = b""
        grpc = in_grpc(asked)
        said = {"content-type": "application/json", **answer.headers}
        head = [(b":status", b"200" if grpc else b"%d" % answer.status)]
        head += [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in said.items()]
        if not grpc:
            head.append((b"content-length", b"%d" % len(body)))
        trailers = [(b"grpc-status", b"0")] if grpc and "grpc-status" not in said else []
        self._h2.send_headers(number, head, end_stream=not body and not trailers)
        await self._send_body(number, body, end=not trailers)
        if trailers:
            self._h2.send_headers(number, trailers, end_stream=True)

    async def _send_body(self, number: int, body: bytes, *, end: bool) -> None:
        """No faster than the caller takes it."""
        rest = memoryview(body)
        while rest and not self._transport.is_closing():
            room = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)
            if room <= 0 or not self._may_write:
                self._flush()
                self._moved.clear()
                await self._moved.wait()
                continue
            self._h2.send_data(number, bytes(rest[:room]), end_stream=end and len(rest) <= room)
            rest = rest[room:]

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _forget(self, number: int) -> None:
        del self._streams[number]
        if self._server.ending:
            self.close_if_idle()

    def close_if_idle(self) -> None:
        """Close it unless something is to be answered."""
        if not self._streams and not self._transport.is_closing():
            self._h2.close_connection()
            self._flush()
            self._transport.close()
