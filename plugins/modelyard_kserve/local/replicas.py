"""A model-server process: started on a Unix socket, adopted, watched, restarted, ended."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from modelyard.errors import EnvironmentFault
from modelyard.processes import child_env
from modelyard_kserve.local.children import Child
from modelyard_kserve.local.desired import Wanted, is_private
from modelyard_kserve.local.forks import ONE_THREAD, Forked, Forks, ForkServer
from modelyard_kserve.local.resources import GPU, threads

#: The folder with the records of model servers, below `Places.run`.
RECORDS = "replicas"
_BACKOFF = (0.2, 1.0, 3.0, 10.0)
#: A model that could not be loaded is tried again this late: its package may have been installed.
_LOAD_AGAIN = 60.0
#: One that found no GPU, this late: others may have ended.
_GPU_AGAIN = 5.0
#: A server that ran this long and then died is started again as if it had never failed.
_SETTLED_SECONDS = 60.0
#: Seconds between two questions whether it lives, and for the answer.
_PROBE_EVERY, _PROBE_SECONDS = 5.0, 2.0


@dataclass(frozen=True)
class Places:
    """Where the processes of a project lie.

    Attributes:
        run: sockets, the controller's records, and what it writes for others.
        logs: where everybody writes.
        root: the project's folder.
        port: where callers come, and components ask for their predictor.
    """

    run: Path
    logs: Path
    root: Path
    port: int = 0


def logging_file(name: str, component: str) -> str:
    """What the file is called that says which answers a component of an endpoint logs."""
    return f"{name}.{component}.logging.json" if component else f"{name}.logging.json"


def recorded(wanted: Wanted, name: str, places: Places) -> Iterator[int]:
    """The ordinals of a model's replicas that somebody wrote down."""
    for record in (places.run / RECORDS).glob(f"{name}.{_short(wanted, name)}-*.json"):
        with contextlib.suppress(ValueError):
            yield int(record.stem.rpartition("-")[2])


def _short(wanted: Wanted, name: str) -> str:
    return hashlib.sha256(f"{name} {wanted.key}".encode()).hexdigest()[:9]


class Replica:
    """One of the processes behind a model.

    Args:
        wanted: the first revision that needs it.
        ordinal: its number among them.
        name: the name under which it serves.
        places: where everything lies.
        forks: what model servers come out of.
    """

    def __init__(self, wanted: Wanted, ordinal: int, name: str, places: Places, forks: Forks) -> None:
        self.wanted, self._forks = wanted, forks
        short = f"{_short(wanted, name)}-{ordinal}"
        self.socket = places.run / f"{short}.sock"
        self._name = name
        log = places.logs / f"endpoint-{name}.log"
        self._logging = places.run / logging_file(name, wanted.component)
        self._child = Child(places.run / RECORDS / f"{name}.{short}.json", log, places.root)
        self._probe: asyncio.Task[bool | None] | None = None
        self._probed = self._answered = 0.0
        self._replacing: asyncio.Task[None] | None = None
        self._failures = 0
        self._started = self._not_before = 0.0
        self._runs = False
        self.ready = False
        self.message = "loading the model"
        self.failed = False

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid

    def adopt(self) -> bool:
        """Take over the process that a controller before us started, if it runs; else its record goes."""
        self._runs = self._child.adopt(self.wanted.key)
        self._started = time.monotonic()
        if not self._runs:
            self._child.forget()
        return self._runs

    async def tend(self) -> None:
        """Start it, notice that it is ready or gone, start it again; called every few milliseconds."""
        if self._replacing is not None and not self._replacing.done():
            return
        self.look()
        if not self._runs:
            if time.monotonic() >= self._not_before:
                self._start()
        elif self.ready and not self.socket.exists():
            # Cleaners of /tmp do that; nobody can reach it any more.
            self._replace("its socket was removed, so it is started again")
        elif self.ready:
            self._watch()
        else:
            self.ready = bool(await self._asked("ready"))
            if self.ready:
                self.message, self.failed = "", False
                self._answered = time.monotonic()

    def look(self) -> None:
        """Notice that it is gone."""
        pid = self._child.known
        if self._runs and self._child.pid is None:
            self._died(pid)

    def again(self) -> None:
        """Somebody asks for it anew: what failed before is tried at once."""
        if self.failed:
            self.failed, self.message = False, "loading the model"
            self._failures, self._not_before = 0, 0.0

    async def end(self, *, drained: bool = False) -> None:
        """TERM, then KILL: after five seconds, or, `drained`, when its answers may have been given."""
        self._runs = self.ready = False
        if self._probe is not None:
            self._probe.cancel()
        await self._child.end(self.wanted.timeout + _PROBE_SECONDS if drained else 5.0)

    def _start(self) -> None:
        try:
            self._spawn()
        except (EnvironmentFault, OSError, ValueError) as fault:  # too many processes, a zero byte in `env`
            self._note_failure(f"the model server can't be started: {fault}", failed=self._failures >= 2)

    def _spawn(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.socket.parent.mkdir(mode=0o700)
        if not is_private(self.socket.parent):
            raise PermissionError(f"{self.socket.parent} is not a folder of ours alone")
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()
        wanted = self.wanted
        argv = ["--folder", wanted.path, "--socket", str(self.socket)]
        argv += ["--name", self._name, "--version", wanted.version, "--digest", wanted.digest]
        argv += ["--logging", str(self._logging), "--timeout", f"{wanted.timeout:g}"]
        argv += ["--concurrency", str(wanted.concurrency)]
        if wanted.graph:
            argv += ["--graph", wanted.graph]
        elif wanted.command:
            argv += ["--command", wanted.command, *(["--model", wanted.path] if wanted.storage_uri else [])]
        else:
            argv += ["--format", wanted.model_format] if wanted.model_format else []
            argv += ["--alias", wanted.alias] if wanted.alias else []
            argv += ["--trust-pickle"] if wanted.trust_pickle else []
            argv += ["--own-requirements"] if wanted.own_requirements else []
            if wanted.batcher:
                argv += ["--batch-rows", str(wanted.batcher["maxBatchSize"])]
                argv += ["--batch-latency", str(wanted.batcher["maxLatency"])]
        argv += ["--memory", f"{wanted.limits.get('memory', 0):.0f}"]
        argv += ["--gpus", f"{wanted.limits.get(GPU, 0):.0f}"]
        forks = self._source
        if forks is not None and not forks.failed:
            forks.want()
            made = Forked(tuple(argv), wanted.env, self._name, self._child.log)
            if (forks.ready and forks.fork(made, self._remember)) or not forks.failed:
                return  # it is there, or what it comes out of is importing
        module = "graph.router" if wanted.graph else "custom" if wanted.command else "model_server"
        program = [sys.executable, "-m", f"modelyard_kserve.local.{module}"]
        self._child.start([*program, *argv], {**ONE_THREAD, **child_env(), **self._env}, wanted.key)
        self._runs, self._started = True, time.monotonic()

    @property
    def _env(self) -> dict[str, str]:
        return {**threads(self.wanted.limits), **self.wanted.env}

    @cached_property
    def _source(self) -> ForkServer | None:
        if self.wanted.graph or self.wanted.command or self.wanted.own_requirements:
            return None  # it imports something else
        return self._forks.for_model(self.wanted.model_format, Path(self.wanted.path), self._env)

    def _remember(self, pid: int) -> None:
        self._child.remember(pid, self.wanted.key)
        self._runs, self._started = True, time.monotonic()

    def _died(self, pid: int | None) -> None:
        if self.ready and time.monotonic() - self._started > _SETTLED_SECONDS:
            self._failures = 0
        self._runs = self.ready = False
        said = self._child.last_words(f"model server {pid}: ")
        # A model that can't be loaded will not load the next time either; say so at once.
        last = self._child.last_words("")
        ended = f"the model server ended; the log's last line: {last}" if last else "the model server ended"
        self._note_failure(said or ended, failed=bool(said) or self._failures >= 2)
        if said:
            self._not_before = time.monotonic() + (_GPU_AGAIN if GPU in said else _LOAD_AGAIN)

    def _note_failure(self, message: str, *, failed: bool) -> None:
        self.message, self.failed = message, failed
        self._not_before = time.monotonic() + _BACKOFF[min(self._failures, len(_BACKOFF) - 1)]
        self._failures += 1

    def _watch(self) -> None:
        """Give up one that says that nothing moves in it, and one that has not said anything for as long as
        an answer may take: native code may hold the interpreter meanwhile."""
        now = time.monotonic()
        if self._probe is not None and self._probe.done():
            lives, self._probe = self._probe.result(), None
            if lives:
                self._answered = now
            elif lives is False or now - self._answered > self.wanted.timeout:
                self._replace(f"it finished nothing within {self.wanted.timeout:g} s, so it is started again")
        elif self._probe is None and now - self._probed > _PROBE_EVERY:
            self._probed = now
            self._probe = asyncio.create_task(self._asked("live"))

    def _replace(self, message: str) -> None:
        print(f"controller: {self._name}, process {self.pid}: {message}", flush=True)
        self._runs = self.ready = False
        self.message = message
        self._replacing = asyncio.create_task(self._child.end())

    async def _asked(self, what: str) -> bool | None:
        """Whether it says that it is `live` or `ready`; None: it says nothing."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError:
            return None
        try:
            writer.write(f"GET /v2/health/{what} HTTP/1.0\r\nHost: model\r\n\r\n".encode())
            line = await asyncio.wait_for(reader.readline(), _PROBE_SECONDS)
        except (OSError, asyncio.TimeoutError):
            return None
        finally:
            writer.close()
        return b" 200 " in line if line else None
