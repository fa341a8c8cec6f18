"""Holds requests for a revision that has no replica, asks for one, and hands them over when it is there.

    python -m modelyard_kserve.local.activator --socket PATH --board FILE --bell PATH

It is a process of its own, so that what it holds survives the controller. `--board` is where the controller
writes what there is (revision -> its sockets, or why it can't come up); `--bell` is the controller's socket,
on which a revision's name means that somebody waits for it.

Requests come from Envoy alone. They are not read beyond their head before somebody takes them: what waits,
waits in the caller's socket and costs no memory here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from modelyard_kserve.local.grpc_status import CONTENT_TYPE, refusal

#: Says who is waited for: a revision, or its transformer or explainer. Envoy sets it.
CLUSTER_HEADER = "x-modelyard-cluster"
_HEAD_LIMIT = 128 * 1024
_PIECE = 64 * 1024
#: Seconds between two looks whether the replica is there, and between two rings of the bell.
_LOOK, _RING = 0.02, 0.5
#: Requests for one revision that may wait.
_MOST = 1000
#: What a caller is told to wait before it comes again.
_RETRY_AFTER = 5


class Activator:
    """Waits for replicas on behalf of requests.

    Args:
        board: the controller's file: `{revision: {"sockets": [PATH], "failed": SENTENCE or null,
            "patience": SECONDS}}`.
        bell: the controller's datagram socket.
    """

    def __init__(self, board: Path, bell: Path) -> None:
        self._board_file, self._bell = board, bell
        self._board: dict[str, Any] = {}
        self._stamp: tuple[int, int] | None = None
        self._waiting: Counter[str] = Counter()

    async def serve(self, path: Path) -> None:
        """Take requests on a socket until cancelled."""
        making = path.with_suffix(".new")
        making.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, str(making), limit=_HEAD_LIMIT)
        making.chmod(0o600)
        making.replace(path)  # it is there once somebody listens
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await self._taken(head, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # Envoy has gone, or never asked for anything
        finally:
            writer.close()

    async def _taken(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        revision = _header(head, CLUSTER_HEADER.encode())
        in_grpc = _header(head, b"content-type").startswith(CONTENT_TYPE)
        if self._waiting[revision] >= _MOST:
            await _refuse(writer, f"{_MOST} requests wait for {revision} already", in_grpc)
            return
        self._waiting[revision] += 1
        try:
            found = await self._replica(revision, reader)
        finally:
            self._waiting[revision] -= 1
        if isinstance(found, str):
            await _refuse(writer, found, in_grpc)
        elif found is not None:
            await _spliced(_once(head), reader, writer, *found)

    async def _replica(
        self, revision: str, caller: asyncio.StreamReader
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | str | None:
        """A connection to a replica; why there is none; None: the caller has gone."""
        began = rung = 0.0
        while True:
            now = time.monotonic()
            began = began or now
            known = self._look().get(revision)
            if known is None:
                return f"there is no revision {revision}"
            if known.get("failed"):
                return f"{revision} can't be started: {known['failed']}"
            for path in known["sockets"]:
                with contextlib.suppress(OSError):
                    return await asyncio.open_unix_connection(path, limit=_HEAD_LIMIT)
            if now - began > known["patience"]:
                return f"{revision} was not ready within {now - began:.0f} s"
            if now - rung > _RING:
                rung = now
                self._ring(revision)
            if caller.at_eof():
                return None
            await asyncio.sleep(_LOOK)

    def _ring(self, revision: str) -> None:
        """Ask for a replica; a controller that is being started again hears it the next time."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
            bell.setblocking(False)
            bell.sendto(revision.encode(), str(self._bell))

    def _look(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            status = self._board_file.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._board = json.loads(self._board_file.read_text(encoding="utf-8"))
                self._stamp = stamp
        return self._board


def _header(head: bytes, name: bytes) -> str:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().decode("latin-1")
    return ""


def _once(head: bytes) -> bytes:
    """The head with the wish to close afterwards: one connection carries one request here."""
    first, *lines = head[:-4].split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() != b"connection"]
    return b"\r\n".join([first, *kept, b"connection: close", b"", b""])


async def _spliced(
    head: bytes,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answers: asyncio.StreamReader,
    replica: asyncio.StreamWriter,
) -> None:
    replica.write(head)
    asking = asyncio.create_task(_copied(reader, replica))
    try:
        await _copied(answers, writer)
    finally:
        asking.cancel()
        replica.close()


async def _copied(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(_PIECE):
            sink.write(piece)
            await sink.drain()


async def _refuse(writer: asyncio.StreamWriter, sentence: str, in_grpc: bool) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = {"content-type": "application/json", "retry-after": f"{_RETRY_AFTER}"}
    if in_grpc:
        body, headers = b"", refusal(503, sentence)
    headers |= {"connection": "close", "content-length": f"{len(body)}"}
    lines = [
        "HTTP/1.1 503 Service Unavailable",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    writer.write("\r\n".join(lines).encode() + body)
    await writer.drain()


def main() -> int:
    """Serve until told to stop."""
    options = argparse.ArgumentParser(prog="activator")
    for name in ("socket", "board", "bell"):
        options.add_argument(f"--{name}", type=Path, required=True)
    given = options.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Activator(given.board, given.bell).serve(given.socket))
    return 0


if __name__ == "__main__":
    sys.exit(main())
