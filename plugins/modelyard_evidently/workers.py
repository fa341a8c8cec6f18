"""The monitor's workers: started when there is work, ended when there is none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from modelyard.errors import EnvironmentFault
from modelyard.processes import child_env
from modelyard_evidently.areas import Area
from modelyard_evidently.wire import error_of

#: One for what people ask, one for what goes on in the background.
_MOST = 2
_IDLE_SECONDS = 60.0
_LONGEST_ANSWER = 256 * 1024 * 1024


class _Worker:
    """One process and its two pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.since = time.monotonic()

    @classmethod
    async def start(cls) -> _Worker:
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "modelyard_evidently.worker"]
        return cls(
            await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, limit=_LONGEST_ANSWER, env=child_env()
            )
        )

    @property
    def lives(self) -> bool:
        return self._process.returncode is None

    async def ask(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(wanted).encode() + b"\n")
        await stdin.drain()
        line = await stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError("it ended")
        self.since = time.monotonic()
        said: dict[str, Any] = json.loads(line)
        return said

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Workers:
    """Gives jobs to processes, a few at a time."""

    def __init__(self) -> None:
        self._free: list[_Worker] = []
        self._room = asyncio.Semaphore(_MOST)

    async def ask(self, job: str, area: Area, given: Mapping[str, Any], *, seconds: float) -> Any:
        """What comes of a job; see `worker`.

        Raises:
            EnvironmentFault: `monitor-worker-failed`: it died, or took too long.
            ModelyardError: what the job says.
        """
        wanted = {"job": job, "area": [str(area.state), area.namespace, area.project], "given": dict(given)}
        async with self._room:
            worker = await self._take()
            try:
                said = await asyncio.wait_for(worker.ask(wanted), seconds)
            except BaseException as fault:  # the next job must not get this one's answer
                await worker.end()
                if isinstance(fault, asyncio.TimeoutError):
                    raise _failed(f"took longer than {seconds:.0f} s for '{job}'") from None
                if isinstance(fault, (OSError, EOFError, ValueError)):
                    raise _failed(f"died at '{job}', perhaps for lack of memory") from fault
                raise
            self._free.append(worker)
        if "error" in said:
            raise error_of(said["error"])
        return said["value"]

    async def rest(self) -> None:
        """End workers that nobody needed for a while, until cancelled."""
        while True:
            await asyncio.sleep(_IDLE_SECONDS / 4)
            idle = [w for w in self._free if time.monotonic() - w.since > _IDLE_SECONDS]
            self._free = [w for w in self._free if w not in idle]
            for worker in idle:
                await worker.end()

    async def end(self) -> None:
        """End them all."""
        while self._free:
            await self._free.pop().end()

    async def _take(self) -> _Worker:
        while self._free:
            worker = self._free.pop()
            if worker.lives:
                return worker
        return await _Worker.start()


def _failed(said: str) -> EnvironmentFault:
    return EnvironmentFault(
        "monitor-worker-failed", f"a worker of the monitor {said}", "modelyard sandbox logs monitor"
    )
