"""As much of ASGI as a model server needs: a request with its body, an answer in JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelyard_kserve.local.grpc_status import CONTENT_TYPE, refusal
from modelyard_kserve.local.unpacking import unpacked

#: Longer bodies are refused: one request must not take the machine's memory.
BODY_LIMIT = 64 * 1024 * 1024
#: Seconds that a body may take, and how many bytes give it a second more: who sends nothing, or next to
#: nothing, holds no connection.
BODY_SECONDS, BODY_RATE = 30.0, 128 * 1024


@dataclass(frozen=True)
class Request:
    """A whole request; header names are in lower case."""

    method: str
    path: str
    query: bytes
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body.

        Raises:
            ValueError: it is not JSON.
        """
        return parsed(self.body)


def parsed(body: Any) -> Any:
    """JSON in bytes.

    Raises:
        ValueError: it is not JSON.
    """
    import orjson

    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise ValueError(f"the body is not JSON: {fault}") from None


@dataclass(frozen=True)
class Answer:
    """A response.

    Attributes:
        status: of HTTP.
        value: is sent as JSON, or as it is if it is bytes.
        headers: beside the content type.
        rows: how many a model answered.
        logged: make what was asked and answered as JSON, where the bodies are something else.
    """

    status: int
    value: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None
    logged: tuple[Callable[[], bytes], Callable[[], bytes]] | None = None

    @staticmethod
    def error(status: int, sentence: str) -> Answer:
        """An error as KServe sends it."""
        return Answer(status, {"error": sentence})

    def body(self) -> bytes:
        """The bytes to send."""
        if isinstance(self.value, bytes):
            return self.value
        import orjson

        return orjson.dumps(self.value, option=orjson.OPT_SERIALIZE_NUMPY)


def application(
    handle: Callable[[Request], Awaitable[Answer]],
    *,
    started: Callable[[], Awaitable[None]] | None = None,
    stopped: Callable[[], Awaitable[None]] | None = None,
) -> Any:
    """An ASGI application around one coroutine; `started` and `stopped` run at both ends of its life."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send, started, stopped)
        elif scope["type"] == "http":
            headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
            answer = await _answered(handle, scope, headers, receive)
            if headers.get("content-type", "").startswith(CONTENT_TYPE):
                answer = _in_grpc(answer)
            said = {"content-type": "application/json", **answer.headers}
            body = answer.body()
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": [(k.lower().encode(), v.encode("latin-1", "replace")) for k, v in said.items()]
                    + [(b"content-length", str(len(body)).encode())],
                }
            )
            await send({"type": "http.response.body", "body": body})

    return app


async def _answered(
    handle: Callable[[Request], Awaitable[Answer]], scope: Any, headers: Mapping[str, str], receive: Any
) -> Answer:
    body = await _body(receive)
    if isinstance(body, Answer):
        return body
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        try:
            body = unpacked(body, encoding, BODY_LIMIT)
        except ValueError as fault:
            return Answer.error(400, str(fault))
    request = Request(scope["method"], scope["path"], scope.get("query_string", b""), headers, body)
    try:
        return await handle(request)
    except Exception as fault:
        import traceback

        traceback.print_exc()
        return Answer.error(500, f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}")


async def _body(receive: Any) -> bytes | Answer:
    """The whole body; why there is none."""
    pieces: list[bytes] = []
    size = 0
    async with _Patience() as patience:
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return Answer.error(400, "the request was cut off")
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > BODY_LIMIT:
                pieces.clear()  # and read on: who is still sending would not see the answer
            if not message.get("more_body"):
                break
            patience.grow(len(pieces[-1]) if pieces else 0)
    if patience.ended:
        sentence = f"the body did not come within {BODY_SECONDS:.0f} s"
        return Answer(408, {"error": sentence}, {"connection": "close"})
    if size > BODY_LIMIT:
        return Answer.error(413, f"the body is larger than {BODY_LIMIT // 1024 // 1024} MiB")
    return b"".join(pieces)


class _Patience:
    """Ends what runs in its block when its time is over. `asyncio.wait_for` makes a task each time, which
    costs more than all the rest of reading a small request."""

    def __init__(self) -> None:
        self.ended = False
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + BODY_SECONDS

    async def __aenter__(self) -> _Patience:
        self._task = asyncio.current_task()
        self._timer = self._loop.call_at(self._until, self._end)
        return self

    def grow(self, size: int) -> None:
        """Something came, for which there is more time."""
        self._timer.cancel()
        self._until += size / BODY_RATE
        self._timer = self._loop.call_at(self._until, self._end)

    def _end(self) -> None:
        self.ended = True
        assert self._task is not None
        self._task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._timer.cancel()
        if not self.ended or kind is not asyncio.CancelledError:
            return False
        getattr(self._task, "uncancel", int)()  # of Python 3.11
        return True


def _in_grpc(answer: Answer) -> Answer:
    """An error as gRPC says it: the same sentence. Envoy counts the status, and makes it 200 for callers."""
    if answer.status == 200:
        return answer
    sentence = answer.value["error"] if isinstance(answer.value, dict) else ""
    return Answer(answer.status, b"", {**answer.headers, **refusal(answer.status, sentence)})


async def _live(
    receive: Any,
    send: Any,
    started: Callable[[], Awaitable[None]] | None,
    stopped: Callable[[], Awaitable[None]] | None,
) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            if started is not None:
                await started()
            await send({"type": "lifespan.startup.complete"})
        else:
            if stopped is not None:
                await stopped()
            await send({"type": "lifespan.shutdown.complete"})
            return
