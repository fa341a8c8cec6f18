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
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[str, asyncio.Future[tuple[int, bytes]]] = {}
        self._ids = (str(number) for number in itertools.count(1))
        self._starting = asyncio.Lock()

    async def ask(self, what: str, arguments: Mapping[str, Any], limit: float) -> tuple[int, bytes]:
        """Status and body of the answer.

        Args:
            what: the name of the question.
            arguments: JSON-able.
            limit: seconds.

        Raises:
            WorkerDied: it ended before it answered.
            TimeoutError: it did not answer in time; it goes on, and its answer is dropped.
        """
        process = await self._running()
        id, body = next(self._ids), json.dumps(arguments).encode()
        answer = self._waiting[id] = asyncio.get_running_loop().create_future()
        assert process.stdin is not None
        try:
            process.stdin.write(f"{id} {what} {len(body)}\n".encode() + body)
            with contextlib.suppress(ConnectionError):  # its end is told by the reader
                await process.stdin.drain()
            return await asyncio.wait_for(answer, limit)
        finally:
            self._waiting.pop(id, None)

    async def close(self) -> None:
        """End it, at once."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _running(self) -> Process:
        async with self._starting:
            if self._process is None or self._process.returncode is not None or self._reader is None:
                self._process = await self._start()
                self._reader = asyncio.create_task(self._read(self._process))
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

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        try:
            while head := (await process.stdout.readline()).split():
                id, status, length = head[0].decode(), int(head[1]), int(head[2])
                body = await process.stdout.readexactly(length)
                answer = self._waiting.get(id)
                if answer is not None and not answer.done():
                    answer.set_result((status, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it was killed in the middle of an answer
        finally:
            self._reader = None
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(WorkerDied(f"the worker of {self._root.name} ended"))
