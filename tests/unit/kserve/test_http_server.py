"""HTTP as a proxy speaks it, and what is said to who speaks it badly."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httptools")

from modelyard_kserve.local import http_server
from modelyard_kserve.local.http_server import HttpServer
from modelyard_kserve.local.messages import Answer, Request


async def echo(request: Request) -> Answer:
    """What came, back again."""
    if request.path == "/fails":
        raise RuntimeError("a secret\nof two lines")
    if request.path == "/unsendable":
        return Answer(200, object())
    if request.path == "/bytes":
        return Answer(201, b"raw", {"content-type": "text/plain", "x-name": "späte"})
    said = {"method": request.method, "path": request.path, "size": len(request.body)}
    return Answer(200, {**said, "query": request.query.decode(), "kind": request.headers.get("kind")})


Asked = Callable[..., Awaitable[bytes]]


def talk(tmp_path: Path, conversation: Callable[[Asked], Awaitable[None]], handle: Any = echo) -> None:
    """Run a conversation with a server; `asked(*pieces)` sends them and gives all that comes until it closes
    or nothing more comes."""

    async def run() -> None:
        path = str(tmp_path / "http.sock")
        serving = HttpServer(handle)
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: http_server._Connection(serving), path)

        async def asked(*pieces: bytes, pause: float = 0.0, seconds: float = 0.3) -> bytes:
            reader, writer = await asyncio.open_unix_connection(path)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            said = b""
            try:
                # The first may take its time, on a busy machine; what belongs to it comes right after it.
                while piece := await asyncio.wait_for(reader.read(1 << 20), seconds if said else 20):
                    said += piece
            except asyncio.TimeoutError:
                said += b"<open>"
            writer.close()
            return said

        try:
            await conversation(asked)
        finally:
            server.close()

    asyncio.run(run())


def test_a_request_in_pieces_and_several_in_one(tmp_path: Path) -> None:
    post = b"POST /a%20b?c=d HTTP/1.1\r\nhost: x\r\nKind: V2\r\ncontent-length: 4\r\n\r\nbody"

    async def conversation(asked: Asked) -> None:
        whole = await asked(post)
        assert whole.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        assert b'{"method":"POST","path":"/a b","size":4,"query":"c=d","kind":"V2"}' in whole
        assert whole.endswith(b"<open>"), "the connection stays for the next request"
        assert b"connection: close" not in whole
        assert await asked(*(post[n : n + 1] for n in range(len(post)))) == whole
        assert (await asked(post * 3)).count(b"HTTP/1.1 200 OK") == 3
        chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        assert b'"size":5' in await asked(chunked, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    talk(tmp_path, conversation)


def test_the_connection_ends_for_who_wants_it(tmp_path: Path) -> None:
    async def conversation(asked: Asked) -> None:
        for head in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"):
            said = await asked(head)
            assert said.startswith(b"HTTP/1.1 200")
            assert b"\r\nconnection: close\r\n" in said, "or the next request would be sent here, and lost"
            assert not said.endswith(b"<open>")
        head_only = await asked(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"content-length: " in head_only
        assert head_only.endswith(b"\r\n\r\n<open>")

    talk(tmp_path, conversation)


def test_faults_are_a_sentence_without_a_traceback(tmp_path: Path, capsys: Any) -> None:
    async def conversation(asked: Asked) -> None:
        def get(path: bytes) -> bytes:
            return b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n"

        failed = await asked(get(b"/fails"))
        assert failed.startswith(b"HTTP/1.1 500")
        assert b'{"error":"RuntimeError: a secret of two lines"}' in failed
        assert b"can't be sent" in await asked(get(b"/unsendable"))
        raw = await asked(get(b"/bytes"))
        assert b"content-type: text/plain\r\nx-name: sp\xe4te\r\n" in raw
        for nonsense in (
            b"\x00\x01\x02\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST / HTTP/1.1\r\ncontent-length: -4\r\n\r\n",
        ):
            said = await asked(nonsense)
            assert said.startswith(b"HTTP/1.1 400"), said
            assert not said.endswith(b"<open>")
        long = await asked(b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 200_000 + b"\r\n\r\n")
        assert long.startswith(b"HTTP/1.1 431")

    talk(tmp_path, conversation)
    assert "Traceback" in capsys.readouterr().err, "whoever runs the server sees it"


def test_a_body_that_is_too_large_is_refused_whole(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(http_server, "BODY_LIMIT", 1000)

    async def conversation(asked: Asked) -> None:
        large = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n"
        said = await asked(large, b"a" * 2500, b"a" * 2500, pause=0.01)
        assert said.startswith(b"HTTP/1.1 413")
        assert b'"size":4' in await asked(large + b"a" * 5000 + large.replace(b"5000", b"4") + b"abcd")

    talk(tmp_path, conversation)


def test_a_body_that_does_not_come_is_given_up_and_a_slow_one_is_not(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(http_server, "BODY_SECONDS", 1.0)
    monkeypatch.setattr(http_server, "BODY_RATE", 10)

    async def conversation(asked: Asked) -> None:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n\r\n"
        never = await asked(head, seconds=2)
        assert never.startswith(b"HTTP/1.1 408")
        assert not never.endswith(b"<open>")
        slow = await asked(head, *[b"a" * 10] * 4, pause=0.3)
        assert slow.startswith(b"HTTP/1.1 200")
        said = await asked(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", seconds=1.5)
        assert b"408" not in said, "between requests there is no hurry"

    talk(tmp_path, conversation)


def test_compressed_bodies_are_unpacked_as_far_as_bodies_may_go(tmp_path: Path) -> None:
    def packed(body: bytes, encoding: str) -> bytes:
        head = f"content-encoding: {encoding}\r\ncontent-length: {len(body)}\r\n\r\n"
        return b"POST / HTTP/1.1\r\nhost: x\r\n" + head.encode() + body

    async def conversation(asked: Asked) -> None:
        of_gzip, of_deflate = gzip.compress(b"12345"), zlib.compress(b"12345")
        for encoding, body in (
            *(("gzip", of_gzip), ("GZip", of_gzip), ("x-gzip", of_gzip)),
            *(("deflate", of_deflate), ("Identity", b"12345")),
        ):
            assert b'"size":5' in await asked(packed(body, encoding))
        bomb = gzip.compress(b"\0" * (http_server.BODY_LIMIT + 1))
        for body, encoding, sentence in (
            (bomb, "gzip", b"larger than 64 MiB unpacked"),
            (gzip.compress(b"12345")[:-9], "gzip", b"the body is cut off"),
            (b"12345", "gzip", b"can't be unpacked with gzip"),
            (b"12345", "br", b"bodies may be compressed with gzip or deflate, not with 'br'"),
        ):
            said = await asked(packed(body, encoding), seconds=2)
            assert said.startswith(b"HTTP/1.1 400")
            assert sentence in said

    talk(tmp_path, conversation)


def test_in_grpc_a_fault_is_a_status_and_a_message(tmp_path: Path) -> None:
    async def late(_: Request) -> Answer:
        raise RuntimeError("spät, 100 %")

    async def conversation(asked: Asked) -> None:
        said = await asked(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc+proto\r\n\r\n")
        assert b"content-type: application/grpc\r\n" in said
        assert b"grpc-status: 13\r\n" in said
        assert b"grpc-message: RuntimeError: sp%C3%A4t, 100 %25\r\n" in said

    talk(tmp_path, conversation, late)


def test_in_grpc_another_service_is_unimplemented(tmp_path: Path) -> None:
    async def nowhere(_: Request) -> Answer:
        return Answer.error(404, "there is nothing at this path")

    async def conversation(asked: Asked) -> None:
        head = b" HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\n\r\n"
        assert b"grpc-status: 12\r\n" in await asked(b"POST /grpc.health.v1.Health/Check" + head)
        assert b"grpc-status: 5\r\n" in await asked(b"POST /inference.GRPCInferenceService/ModelReady" + head)

    talk(tmp_path, conversation, nowhere)


_PROGRAM = """
import asyncio, sys
from modelyard_kserve.local.messages import Answer
from modelyard_kserve.local.http_server import HttpServer
async def slow(request):
    print("asked", flush=True)
    await asyncio.sleep(float(request.path[1:]))
    return Answer(200, {})
async def said(word):
    print(word, flush=True)
serving = HttpServer(slow, started=lambda: said("started"), stopped=lambda: said("stopped"))
serving.run(sys.argv[1], grace=5)
"""


def test_term_waits_for_the_answers_that_are_under_way(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    server = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "started\n"
        deadline = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)

        async def ask() -> bytes:
            idle_reader, idle = await asyncio.open_unix_connection(str(path))
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"GET /2 HTTP/1.1\r\nhost: x\r\n\r\n")
            assert server.stdout is not None
            assert await asyncio.to_thread(server.stdout.readline) == "asked\n"
            os.kill(server.pid, signal.SIGTERM)
            assert await asyncio.wait_for(idle_reader.read(), 60) == b"", "who asks nothing is sent away"
            said = await asyncio.wait_for(reader.read(), 60)
            idle.close()
            writer.close()
            return said

        said = asyncio.run(ask())
        assert said.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in said
        assert server.wait(60) == 0
        assert server.stdout.read() == "stopped\n"
    finally:
        server.kill()
        server.wait()


def test_an_answer_in_pieces_is_sent_as_it_is_made(tmp_path: Path, capsys: Any) -> None:
    ended: list[str] = []

    async def pieces(path: str) -> AsyncIterator[str | bytes]:
        try:
            yield "one "
            yield b""  # would end the answer
            await asyncio.sleep(0.1)
            if path == "/fails":
                raise ValueError("the model lost its thread")
            while path == "/endless":
                yield b"x" * 65536
            yield "zwei ä".encode()
        finally:
            ended.append(path)

    async def streams(request: Request) -> Answer:
        return Answer(200, None, pieces=pieces(request.path))

    async def conversation(asked: Asked) -> None:
        def get(path: bytes) -> bytes:
            return b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n"

        both = await asked(get(b"/") + get(b"/"))
        assert both.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n")
        assert both.count(b"\r\n\r\n4\r\none \r\n7\r\nzwei \xc3\xa4\r\n0\r\n\r\n") == 2, "the next in turn"
        assert both.endswith(b"<open>")
        broken = await asked(get(b"/fails"))
        assert broken.endswith(b"4\r\none \r\n"), "it is closed without an end, so callers know"
        assert len(await asked(get(b"/endless"), seconds=0.0)) < 64 << 20
        deadline = time.monotonic() + 60
        while "/endless" not in ended and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    talk(tmp_path, conversation, streams)
    assert ended == ["/", "/", "/fails", "/endless"], "who makes the pieces is told that nobody wants more"
    assert "the model lost its thread" in capsys.readouterr().err
