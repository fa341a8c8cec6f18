"""The little of ASGI that a model server needs: whole bodies or none, and no traceback for callers."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from modelyard_kserve.local import asgi
from modelyard_kserve.local.asgi import Answer, Request, application


async def echo(request: Request) -> Answer:
    return Answer(200, {"bytes": len(request.body)})


def piece(body: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def asked(
    *messages: Any, of: Any = echo, headers: dict[str, str] | None = None, pause: float = 0.0
) -> tuple[dict[str, Any], bytes]:
    """The start and the body of an answer; after the messages nothing more comes."""
    left, sent = list(messages), []

    async def receive() -> Any:
        if not left:
            await asyncio.sleep(3600)
        await asyncio.sleep(pause)
        return left.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    asyncio.run(application(of)(scope, receive, send))
    start, body = sent
    return {**start, "headers": dict(start["headers"])}, body["body"]


def test_a_body_in_pieces_is_whole() -> None:
    start, body = asked(piece(b"12", True), piece(b"", True), piece(b"345"))
    assert (start["status"], json.loads(body)) == (200, {"bytes": 5})
    assert start["headers"][b"content-length"] == str(len(body)).encode()


def test_a_request_that_was_cut_off_is_refused() -> None:
    start, body = asked(piece(b"12", True), {"type": "http.disconnect"})
    assert (start["status"], json.loads(body)) == (400, {"error": "the request was cut off"})


@pytest.mark.parametrize("messages", [(), (piece(b"1", True),)], ids=["nothing", "one byte"])
def test_a_body_that_never_comes_is_refused_in_time(
    monkeypatch: pytest.MonkeyPatch, messages: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.05)
    start, body = asked(*messages)
    assert (start["status"], start["headers"][b"connection"]) == (408, b"close")
    assert json.loads(body)["error"].startswith("the body did not come within ")


def test_one_byte_now_and_then_is_no_body_but_a_large_one_has_the_time_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.1)
    dripping = [piece(b"1", True) for _ in range(100)]
    assert asked(*dripping, pause=0.01)[0]["status"] == 408
    steady = [*(piece(b"1" * asgi.BODY_RATE, True) for _ in range(5)), piece()]
    assert json.loads(asked(*steady, pause=0.05)[1]) == {"bytes": 5 * asgi.BODY_RATE}


def test_compressed_bodies_are_unpacked_as_far_as_bodies_may_go() -> None:
    for encoding, packed in (("gzip", gzip.compress(b"12345")), ("deflate", zlib.compress(b"12345"))):
        assert json.loads(asked(piece(packed), headers={"content-encoding": encoding})[1]) == {"bytes": 5}
    bomb = gzip.compress(b"\0" * (asgi.BODY_LIMIT + 1))
    for body, encoding, sentence in (
        (bomb, "gzip", "larger than 64 MiB unpacked"),
        (gzip.compress(b"12345")[:-9], "gzip", "the body is cut off"),
        (b"12345", "gzip", "can't be unpacked with gzip"),
        (b"12345", "br", "bodies may be compressed with gzip or deflate, not with 'br'"),
    ):
        start, said = asked(piece(body), headers={"content-encoding": encoding})
        assert start["status"] == 400
        assert sentence in json.loads(said)["error"]


def raising(fault: Exception) -> Callable[[Request], Any]:
    async def handle(_: Request) -> Answer:
        raise fault

    return handle


def test_a_fault_is_one_sentence_and_its_traceback_is_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    start, body = asked(piece(), of=raising(ZeroDivisionError("by\nzero")))
    assert (start["status"], json.loads(body)) == (500, {"error": "ZeroDivisionError: by zero"})
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("of", "status", "sentence"),
    [
        (raising(ZeroDivisionError("by zero")), b"13", b"ZeroDivisionError: by zero"),
        (raising(RuntimeError("spät, 100 %")), b"13", b"RuntimeError: sp%C3%A4t, 100 %25"),
    ],
)
def test_in_grpc_a_fault_is_a_status_and_a_message(of: Any, status: bytes, sentence: bytes) -> None:
    start, body = asked(piece(), of=of, headers={"content-type": "application/grpc+proto"})
    headers = start["headers"]
    assert (start["status"], body) == (500, b"")
    assert (headers[b"grpc-status"], headers[b"grpc-message"]) == (status, sentence)
    assert headers[b"content-type"] == b"application/grpc"
