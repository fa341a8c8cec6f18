"""Workers as the Jupyter server sees them: started when somebody asks, started again when they died."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Bytes that asyncio keeps of an answer before it stops reading: one page of runs is far less.
_BUFFER = 16 << 20


class WorkerDied(Exception):
    """The worker ended in the middle of a question; the next question starts another one."""


class Worker:
    """The process that knows one project on one target.

    Args:
        root: the project's folder.
        target: the name of the target.
    """

    def __init__(self, root: Path, target: str) -> None:
        self._root, self._target = root, target
        self._process: _Process | None = None
        self._starting = asyncio.Lock()

    async def ask(
        self, what: str, arguments: Mapping[str, Any], limit: float, again: bool = False
    ) -> tuple[int, bytes]:
        """Status and body of the answer.

        Args:
            what: the name of the question.
            arguments: JSON-able.
            limit: seconds.
            again: whether another process is asked, once, if this one ends: for what changes nothing.

        Raises:
            WorkerDied: it ended before it answered.
            TimeoutError: it did not answer in time; it goes on, and its answer is dropped.
        """

        async def asked() -> tuple[int, bytes]:
            try:
                return await (await self._running()).ask(what, arguments)
            except WorkerDied:
                if not again:
                    raise
                return await (await self._running()).ask(what, arguments)

        return await asyncio.wait_for(asked(), limit)

    async def _running(self) -> _Process:
        async with self._starting:
            if self._process is None or self._process.ended:
                self._process = _Process(await self._start())
            return self._process

    async def _start(self) -> Process:
        folder = self._root / ".modelyard" / "jupyter"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "worker.log", "ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "modelyard_jupyter.worker", str(self._root), self._target),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                cwd=self._root,
                # The server's token is none of its business, nor of what it starts.
                env={key: value for key, value in os.environ.items() if not key.startswith("JUPYTER_TOKEN")},
                limit=_BUFFER,
            )


class _Process:
    """A process with what it was asked: its end is the end of its own questions alone."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._waiting: dict[str, asyncio.Future[tuple[int, bytes]]] = {}
        self._ids = (str(number) for number in itertools.count(1))
        self._reader = asyncio.create_task(self._read())

    @property
    def ended(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._process.returncode is not None or self._reader.done()

    async def ask(self, what: str, arguments: Mapping[str, Any]) -> tuple[int, bytes]:
        """The answer, however long it takes."""
        if self.ended:
            raise WorkerDied
        id, body = next(self._ids), json.dumps(arguments).encode()
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[id] = answer
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{id} {what} {len(body)}\n".encode() + body)
            with contextlib.suppress(ConnectionError):  # its end is told by the reader
                await self._process.stdin.drain()
            return await answer
        finally:
            self._waiting.pop(id, None)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while head := (await self._process.stdout.readline()).split():
                id, status, length = head[0].decode(), int(head[1]), int(head[2])
                body = await self._process.stdout.readexactly(length)
                answer = self._waiting.get(id)
                if answer is not None and not answer.done():
                    answer.set_result((status, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it was killed in the middle of an answer
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(WorkerDied("the worker ended before it answered"))
