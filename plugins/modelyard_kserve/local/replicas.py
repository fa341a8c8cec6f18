"""Model-server processes of a gateway: started on a Unix socket, watched, restarted, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from modelyard_kserve.local.desired import Wanted, is_private

_BACKOFF = (0.2, 1.0, 3.0, 10.0)
#: A model that could not be loaded is tried again this late: its package may have been installed.
_LOAD_AGAIN = 60.0
#: A server that ran this long and then died is started again as if it had never failed.
_SETTLED_SECONDS = 60.0
_LOAD_FAILED = 3
#: A few rows are scored fastest by one thread: OpenMP's teams spin for each other, and on two busy
#: cores made a 3 ms answer of a boosted model take 180 ms. `env` in the manifest can say otherwise.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Replica:
    """The process behind one model; several revisions of the same model share it.

    Args:
        wanted: the first revision that needs it.
        sockets: a folder with a short path: socket paths are limited to about 100 characters.
        name: the name under which it serves.
        log: where it writes.
    """

    def __init__(self, wanted: Wanted, sockets: Path, name: str, log: Path) -> None:
        self.wanted = wanted
        self.socket = sockets / f"{wanted.number}.sock"
        self._name, self._log = name, log
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._started = self._not_before = 0.0
        self._log_from = 0
        self.ready = False
        self.message = "loading the model"
        self.failed = False

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

    async def tend(self) -> None:
        """Start it, notice that it is ready or gone, start it again; called every few milliseconds."""
        self.look()
        if self._process is None:
            if time.monotonic() >= self._not_before:
                self._start()
        elif self.ready and not self.socket.exists():
            # Cleaners of /tmp do that; nobody can reach it any more.
            await self.end()
            self.message = "its socket was removed, so it is started again"
        elif not self.ready:
            self.ready = await self._answers()
            if self.ready:
                self.message, self.failed = "", False

    def look(self) -> None:
        """Notice that it is gone."""
        if self._process is not None and self._process.poll() is not None:
            self._died(self._process)

    def again(self) -> None:
        """Somebody asks for it anew: what failed before is tried at once."""
        if self.failed:
            self.failed, self.message = False, "loading the model"
            self._failures, self._not_before = 0, 0.0

    def _start(self) -> None:
        try:
            self._spawn()
        except (OSError, ValueError) as fault:  # too many processes, a zero byte in `env`
            self._note_failure(f"the model server can't be started: {fault}", failed=self._failures >= 2)

    def _spawn(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.socket.parent.mkdir(mode=0o700)
        if not is_private(self.socket.parent):
            raise PermissionError(f"{self.socket.parent} is not a folder of ours alone")
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()
        wanted = self.wanted
        argv = [sys.executable, "-m", "modelyard_kserve.local.model_server"]
        argv += ["--folder", wanted.path, "--socket", str(self.socket)]
        argv += ["--name", self._name, "--version", wanted.version, "--digest", wanted.digest]
        argv += ["--trust-pickle"] if wanted.trust_pickle else []
        with self._log.open("ab") as log:
            self._log_from = log.tell()
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**ONE_THREAD, **os.environ, **wanted.env},
            )
        self._started = time.monotonic()

    def _died(self, process: subprocess.Popen[bytes]) -> None:
        status = process.returncode
        if process.stdin:
            process.stdin.close()
        if self.ready and time.monotonic() - self._started > _SETTLED_SECONDS:
            self._failures = 0
        self._process, self.ready = None, False
        message = self._last_words(process.pid) or f"the model server ended with status {status}"
        # A model that can't be loaded will not load the next time either; say so at once.
        self._note_failure(message, failed=status == _LOAD_FAILED or self._failures >= 2)
        if status == _LOAD_FAILED:
            self._not_before = time.monotonic() + _LOAD_AGAIN

    def _note_failure(self, message: str, *, failed: bool) -> None:
        self.message, self.failed = message, failed
        self._not_before = time.monotonic() + _BACKOFF[min(self._failures, len(_BACKOFF) - 1)]
        self._failures += 1

    def _last_words(self, pid: int) -> str:
        """What that process said, and not another one that writes to the same log."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(max(self._log_from, log.seek(0, os.SEEK_END) - 4000))
            lines = log.read().decode(errors="replace").splitlines()
            said = [line for line in lines if line.startswith(f"model server {pid}: ")]
            return said[-1].removeprefix(f"model server {pid}: ") if said else ""
        return ""

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError:
            return False
        try:
            writer.write(b"GET /v2/health/ready HTTP/1.0\r\nHost: model\r\n\r\n")
            line = await asyncio.wait_for(reader.readline(), 2)
        except (OSError, asyncio.TimeoutError):
            return False
        finally:
            writer.close()
        return b" 200 " in line

    async def end(self) -> None:
        """TERM, then KILL after five seconds."""
        process, self.ready = self._process, False
        if process is None:
            return
        if process.stdin:
            process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        while process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if process.poll() is None:
            process.kill()
            process.wait()
        self._process = None
