"""What a model server is asked and answers: whole requests, whole answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

#: Longer bodies are refused: one request must not take the machine's memory.
BODY_LIMIT = 64 * 1024 * 1024
#: On a request: its answer is no prediction for the log.
UNLOGGED_HEADER = "x-modelyard-unlogged"


_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


# Tuples, because there is one of each for every prediction, and nothing is made faster.
class Request(NamedTuple):
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


class Answer(NamedTuple):
    """A response.

    Attributes:
        status: of HTTP.
        value: is sent as JSON, or as it is if it is bytes.
        headers: beside the content type.
        rows: how many a model answered.
        batch: how many rows were in the call of the model that this answer stands for, if its requests are
            gathered; of several requests in one call it is said once.
        logged: make what was asked and answered as JSON, where the bodies are something else.
        pieces: texts or bytes that are sent one by one as they come, instead of `value`; whoever takes the
            answer iterates, and closes them.
    """

    status: int
    value: Any
    headers: Mapping[str, str] = _NO_HEADERS
    rows: int | None = None
    batch: int | None = None
    logged: tuple[Callable[[], bytes], Callable[[], bytes]] | None = None
    pieces: AsyncIterator[str | bytes] | None = None

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


async def closed(pieces: AsyncIterator[str | bytes]) -> None:
    """Let whoever makes the pieces know that nobody wants more."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()
