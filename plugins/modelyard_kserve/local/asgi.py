"""As much of ASGI as a model server needs: a request with its body, an answer in JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Longer bodies are refused: one request must not take the machine's memory.
BODY_LIMIT = 64 * 1024 * 1024


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
        import orjson

        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as fault:
            raise ValueError(f"the body is not JSON: {fault}") from None


@dataclass(frozen=True)
class Answer:
    """A response: `value` is sent as JSON, or as it is if it is bytes."""

    status: int
    value: Any
    headers: Mapping[str, str] = field(default_factory=dict)

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
            answer = await _answered(handle, scope, receive)
            headers = {"content-type": "application/json", **answer.headers}
            body = answer.body()
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": [
                        (k.lower().encode(), v.encode("latin-1", "replace")) for k, v in headers.items()
                    ]
                    + [(b"content-length", str(len(body)).encode())],
                }
            )
            await send({"type": "http.response.body", "body": body})

    return app


async def _answered(handle: Callable[[Request], Awaitable[Answer]], scope: Any, receive: Any) -> Answer:
    pieces, size = [], 0
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
    if size > BODY_LIMIT:
        return Answer.error(413, f"the body is larger than {BODY_LIMIT // 1024 // 1024} MiB")
    headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
    request = Request(
        scope["method"], scope["path"], scope.get("query_string", b""), headers, b"".join(pieces)
    )
    try:
        return await handle(request)
    except Exception as fault:
        import traceback

        traceback.print_exc()
        return Answer.error(500, f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}")


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
