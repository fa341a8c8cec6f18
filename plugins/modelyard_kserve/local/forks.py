"""The controller's side of the fork servers: which one a model needs, and how it comes out of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from modelyard.processes import child_env
from modelyard_kserve.local.children import Child
from modelyard_kserve.local.runtimes import RUNTIMES, forked_as

#: What every model server imports, and what models of each library need besides.
_ALWAYS = (
    *("modelyard_kserve.local.model_server", "orjson", "pandas", "encodings.cp437"),
    *("modelyard_kserve.local.grpc_wire", "httptools", "uvloop"),
)
_OF = {name: runtime.forked for name, runtime in RUNTIMES.items() if runtime.forked}
#: Variables of a manifest's `env` that mean something after the imports; others need a process of their own.
_LATE = {"PREDICT_PROBA"}
#: Seconds for the answer to a request; the child is there in a few milliseconds.
_SECONDS = 10.0
#: Seconds after which one that failed is tried again.
_AGAIN = 60.0
#: A few rows are scored fastest by one thread: OpenMP's teams spin for each other, and on two busy
#: cores made a 3 ms answer of a boosted model take 180 ms. `env` in the manifest can say otherwise.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
#: pyarrow, which pandas imports, would start a thread that gives memory back.
_ALONE = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}


@dataclass(frozen=True)
class Forked:
    """A model server to be: its arguments, environment, endpoint, and where it writes."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    name: str
    log: Path


class ForkServer:
    """One process that imported a library, and becomes model servers.

    Args:
        name: of the library.
        run: the folder of sockets and records.
        log: where it writes.
        root: the project's folder.
    """

    def __init__(self, name: str, run: Path, log: Path, root: Path) -> None:
        self._name, self._log = name, log
        self._socket = run / f"forks-{name}.sock"
        self._child = Child(run / f"forks-{name}.json", log, root)
        self._began = self._not_before = 0.0
        self._wanted = time.monotonic()

    @property
    def ready(self) -> bool:
        """Whether it has imported everything."""
        return self._child.pid is not None and self._socket.exists()

    @property
    def failed(self) -> bool:
        """Whether models must do without it for now."""
        return time.monotonic() < self._not_before

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid

    def adopt(self) -> None:
        """Take over the one of a controller before us, if it runs."""
        self._child.adopt(self._key)

    def want(self) -> None:
        """A model comes out of it, or may again soon."""
        self._wanted = time.monotonic()

    async def tend(self, rests_after: float) -> None:
        """Start it, and start it again when it ended; end it when nobody wanted it for so many seconds."""
        if time.monotonic() - self._wanted > rests_after:
            if self._child.pid is not None:
                await self.end()
            return
        if self._child.pid is None and not self.failed:
            if self._began and time.monotonic() - self._began < _AGAIN / 2 and not self._child.reachable:
                self._give_up("it ended while it imported")
                return
            self._began = time.monotonic()
            with contextlib.suppress(FileNotFoundError):
                self._socket.unlink()
            argv = [sys.executable, "-m", "modelyard_kserve.local.fork_server", "--socket", str(self._socket)]
            for module in (*_ALWAYS, *_OF[self._name]):
                argv += ["--import", module]
            self._child.start(argv, {**ONE_THREAD, **_ALONE, **child_env()}, self._key)
        self._child.reachable = self._child.reachable or self.ready

    def fork(self, wanted: Forked, remember: Callable[[int], None]) -> bool:
        """A model server, which runs once `remember(pid)` has returned.

        Returns:
            False: there is none; if this `failed` now, the model needs a process of its own.
        """
        wish = {**asdict(wanted), "name": f"model {wanted.name}"[:15], "log": str(wanted.log)}
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_SECONDS)
                connection.connect(str(self._socket))
                connection.sendall(json.dumps(wish).encode() + b"\n")
                said = json.loads(connection.makefile("rb").readline() or b"{}")
                if "pid" in said:
                    remember(said["pid"])
                    connection.sendall(b"g")
                    return True
        except (OSError, ValueError) as fault:
            said = {"refused": f"{fault}"}
        if said.get("stale"):
            return False  # it ends, and the next one imports what is installed now
        self._give_up(said.get("refused", "it ended"))
        return False

    async def end(self) -> None:
        """TERM, then KILL."""
        await self._child.end()
        self._socket.unlink(missing_ok=True)

    def _give_up(self, why: str) -> None:
        self._not_before = time.monotonic() + _AGAIN
        print(f"controller: no forks of {self._name}: {why}; models are started afresh", flush=True)

    @property
    def _key(self) -> str:
        return f"{sys.executable} {os.fsdecode(sys.prefix)} {_ALWAYS} {_OF[self._name]}"


class Forks:
    """The fork servers of a project: one for each library, started when the first model needs it."""

    def __init__(self, run: Path, log: Path, root: Path) -> None:
        self._made = {name: ForkServer(name, run, log, root) for name in _OF}
        self._used: set[str] = set()

    def for_model(self, model_format: str, folder: Path, env: Mapping[str, str]) -> ForkServer | None:
        """The one that a model comes out of; None: it needs a process of its own."""
        if not env.keys() <= _LATE or not hasattr(os, "fork"):
            return None
        name = forked_as(model_format, folder)
        if name is None:
            return None
        self._used.add(name)
        return self._made[name]

    async def tend(self, *, awake: bool, rests_after: float) -> None:
        """Start those that are used, and end what models that sleep have not needed for long.

        Args:
            awake: some model has a process, which may have to be started again at once.
            rests_after: seconds.
        """
        for server in [self._made[name] for name in self._used]:
            if awake:
                server.want()
            await server.tend(rests_after)

    def adopt(self) -> None:
        """Take over those of a controller before us."""
        for name, server in self._made.items():
            server.adopt()
            if server.pid is not None:
                self._used.add(name)

    def pids(self) -> set[int]:
        """Their processes."""
        return {server.pid for server in self._made.values() if server.pid is not None}

    async def end(self) -> None:
        """End them all."""
        for server in self._made.values():
            await server.end()
