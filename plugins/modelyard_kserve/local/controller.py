"""The controller of a project's endpoints: makes what is there what was asked for.

    python -m modelyard_kserve.local.controller --state FOLDER --port PORT --logs FOLDER --root FOLDER

It follows `endpoints/*/desired.json`, starts and ends model servers, tells Envoy and the activator where they
are, and writes what is so to `observed.json`. Killed, it leaves all of them running: they answer on, and the
next controller adopts them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from modelyard.errors import CorruptStateError
from modelyard.processes import child_env
from modelyard.state import read_json, write_json
from modelyard_kserve.local import access_log, conditions, envoy, logs, pages
from modelyard_kserve.local import desired as states
from modelyard_kserve.local.admin import Admin
from modelyard_kserve.local.children import Child, end_strays
from modelyard_kserve.local.deaths import Deaths
from modelyard_kserve.local.forks import Forks
from modelyard_kserve.local.graph import board as graphs
from modelyard_kserve.local.replicas import RECORDS, Places
from modelyard_kserve.local.scaling import Scaling
from modelyard_kserve.local.service import Service

#: Seconds between two looks at everything: while something is under way, and otherwise. Who changes a file or
#: waits for a model rings.
_LOOK_EVERY, _LOOK_SETTLED = 0.05, 0.5
#: So many of the longest window, after which a model goes to sleep.
_RESTS_AFTER = 10
#: Milliseconds after which Envoy writes what it has to log.
_WRITTEN_WITHIN = 1000
#: Seconds between two looks which revisions are idle.
_COUNT_EVERY = 1.0
#: Seconds in which Envoy goes by what it was given, however busy the machine is.
_TAKEN_WITHIN = 15.0
#: Seconds after which our files look new again: temporary folders are swept of what is some days old.
_YOUNG_FOR = 3600.0
#: The bell, and where our pages are.
_OWN_SOCKETS = (states.BELL, "controller.sock")


class Controller:
    """Everything behind one project's port.

    Args:
        state: the provider's folder; `endpoints/` lies in it.
        port: where callers come.
        log_folder: where everybody writes.
        root: the project's folder.
        log_requests: whether there is an access log.
    """

    def __init__(
        self, state: Path, port: int, log_folder: Path, root: Path, *, log_requests: bool = False
    ) -> None:
        self._state, self._endpoints, self._run = state, state / "endpoints", _private_folder(state)
        self._port = port
        self._places = Places(self._run, log_folder, root, port)
        self._logs_requests, self._requests = log_requests, log_folder / access_log.FILE
        self._admin = Admin(self._run / "admin.sock")
        self._envoy = Child(self._run / "envoy.json", log_folder / "serving.log", root)
        self._activator = Child(self._run / "activator.json", log_folder / "serving.log", root)
        self._forks = Forks(self._run, log_folder / "serving.log", root)
        self._services: dict[str, Service] = {}
        self._swept = False
        self._deleted: list[Service] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._routing: envoy.Routing | None = None
        self._routes_written = self._listener_written = False
        # Versions: the one that Envoy was given, and the one that it took; and when it was to change.
        self._routes, self._taken, self._changed = "", "", time.monotonic()
        self._board: object = None
        self._graphs: object = None
        self._said = ""
        self._bell = asyncio.Event()
        self._deaths = Deaths(self._bell.set)
        self._rung: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        for name in _OWN_SOCKETS:  # a controller before us may have left them
            (self._run / name).unlink(missing_ok=True)
        counting = asyncio.create_task(self._count())
        try:
            await self._follow()
        finally:
            counting.cancel()

    async def end(self) -> None:
        """End everything."""
        services = (*self._services.values(), *self._deleted)
        await asyncio.gather(
            *(self._envoy.end(), self._activator.end(), self._forks.end(), *self._ending),
            *(service.end() for service in services),
        )
        shutil.rmtree(self._run, ignore_errors=True)

    async def _follow(self) -> None:
        while True:
            # Each for itself: a damaged state file or a full disk must not end the care for the models.
            steps = (
                *(self._keep_sockets, self._look, self._end_strays, self._tend),
                *(self._tell, self._end_deleted, self._keep_activator, self._keep_envoy),
            )
            said = "; ".join(filter(None, [await _tried(step) for step in steps]))
            if said and said != self._said:
                with contextlib.suppress(OSError):  # the disk of the log may be full as well
                    print(f"controller: {said}", flush=True)
            self._said = said
            self._deaths.watch(self._pids())
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._bell.wait(), 1 if said else self._pause)
            self._bell.clear()

    @property
    def _pause(self) -> float:
        settled = (
            (self._routed or self._ingress() == conditions.REFUSES)
            and self._activator.reachable
            and all(service.settled for service in self._services.values())
        )
        return _LOOK_SETTLED if settled else _LOOK_EVERY

    async def _look(self) -> None:
        there = {file.parent.name for file in self._endpoints.glob(f"*/{states.DESIRED}")}
        for name in sorted(there - self._services.keys()):
            self._services[name] = Service(self._endpoints / name, self._places, self._forks)
        for name in self._services.keys() - there:
            self._deleted.append(self._services.pop(name))
        sink = (read_json(self._state / "sink.json") or {}).get("url")
        faults = []
        for service in self._services.values():
            try:
                service.look()
                service.say_logging(sink)  # before there is a process that looks where its first answer goes
            except (CorruptStateError, OSError) as fault:  # which keeps nobody else from being looked at
                faults.append(fault)
        if faults:
            raise faults[0]

    async def _end_strays(self) -> None:
        """Once: what a controller before us started and nobody knows any more: its endpoint was deleted, it
        gets no traffic now, or its record was lost. An endpoint whose file is damaged may keep its own."""
        if self._swept:
            return
        self._swept = True
        self._forks.adopt()
        await self._lives(self._envoy, str(self._port), "admin.sock")
        await self._lives(self._activator, "1", "activator.sock")
        owned = self._pids()
        unknown = {name for name, service in self._services.items() if not service.known}
        for record in (self._run / RECORDS).glob("*.json"):
            with contextlib.suppress(CorruptStateError, OSError):
                pid = int((read_json(record) or {}).get("pid") or 0)
                if record.name.rpartition(".")[0].rpartition(".")[0] in unknown:
                    owned.add(pid)
                elif pid not in owned:
                    record.unlink()
        await asyncio.to_thread(end_strays, owned)

    def _pids(self) -> set[int]:
        """The processes that are known."""
        found = {pid for service in self._services.values() for pid in service.pids()} | self._forks.pids()
        return found | {child.pid for child in (self._envoy, self._activator) if child.pid is not None}

    async def _end_deleted(self) -> None:
        """Their processes, once nobody is sent there any more."""
        while self._deleted and self._routes_written:
            task = asyncio.create_task(self._deleted.pop().end())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _tend(self) -> None:
        awake = any(service.pids() for service in self._services.values())
        await self._forks.tend(awake=awake, rests_after=self._rests_after)
        rung, self._rung = self._rung, set()
        await asyncio.gather(*(service.tend(rung) for service in self._services.values()))

    @property
    def _rests_after(self) -> float:
        """Seconds in which all models sleep, after which what they come out of goes as well."""
        wanted = [one for service in self._services.values() if (one := service.desired) is not None]
        return _RESTS_AFTER * max((one.scaling.window for one in wanted), default=Scaling.window)

    async def _tell(self) -> None:
        """Envoy, the activator, and whoever reads `observed.json`."""
        services = list(self._services.values())
        board = {k: v for service in services for k, v in service.board().items()}
        if board != self._board:
            write_json(self._run / "board.json", board, mode=0o600)
            self._board = board
        wanted = [one for service in services if (one := service.desired) is not None]
        self._graphs = graphs.written(self._run / graphs.FILE, wanted, self._port, self._state, self._graphs)
        routing = envoy.Routing(
            folder=self._run,
            port=self._port,
            activator=self._run / "activator.sock",
            controller=self._run / _OWN_SOCKETS[1],
            routes=tuple(route for service in services if (route := service.route()) is not None),
            sockets={k: v for service in services for k, v in service.sockets().items()},
        )
        if routing != self._routing:
            envoy.write_clusters(routing)
            self._routing, self._routes_written, self._changed = routing, False, time.monotonic()
        if not self._routes_written and await self._knows(envoy.routed(routing)):
            self._routes = envoy.write_routes(routing)
            self._routes_written = True
        if self._routes_written and self._taken != self._routes:
            with contextlib.suppress(OSError):
                self._taken = await asyncio.to_thread(self._admin.routes_version)
        ingress = self._ingress()
        for service in services:
            service.write(ingress, routed=self._routed)

    @property
    def _routed(self) -> bool:
        """Whether Envoy sends callers where they should be sent."""
        return self._routes_written and self._taken == self._routes and self._envoy.pid is not None

    def _ingress(self) -> conditions.Fact:
        if self._envoy.pid is None:
            return conditions.STARTS
        late = not self._routed and time.monotonic() > self._changed + _TAKEN_WITHIN
        return conditions.REFUSES if late else conditions.REACHABLE

    async def _keep_sockets(self) -> None:
        """Ours are made, and made again: cleaners of /tmp remove them, and nobody could reach us any more."""
        if all((self._run / name).exists() for name in _OWN_SOCKETS):
            return
        with contextlib.suppress(FileExistsError):
            self._run.mkdir(mode=0o700)
        (self._run / RECORDS).mkdir(exist_ok=True)
        self._board = self._graphs = self._routing = None  # what was written for others is gone as well
        self._hang_up_the_bell(self._run / _OWN_SOCKETS[0])
        await pages.serve(self._run / _OWN_SOCKETS[1], self._status, self._metrics)

    async def _knows(self, revisions: set[str]) -> bool:
        """Whether Envoy can route to them; one that does not run yet reads everything when it starts."""
        if self._envoy.pid is None:
            return True
        with contextlib.suppress(OSError):
            return revisions <= await asyncio.to_thread(self._admin.clusters)
        return False

    async def _keep_envoy(self) -> None:
        if self._routing is None:
            return
        if await self._lives(self._envoy, str(self._port), "admin.sock"):
            if not self._listener_written:  # the controller before us may have wanted another access log
                envoy.write_listener(self._routing, self._access_log())
                self._listener_written = True
            return
        if not (self._run / "activator.sock").exists():
            return  # who asks for a model that sleeps must find somebody
        bootstrap = envoy.write_first(self._routing, self._run / "admin.sock", self._access_log())
        self._listener_written = True
        argv = [envoy.program(), "-c", str(bootstrap), "--log-level", "warn", "--disable-hot-restart"]
        argv += ["--concurrency", "1", "--file-flush-interval-msec", str(_WRITTEN_WITHIN)]
        self._envoy.start(argv, child_env(), str(self._port))
        self._taken, self._changed = "", time.monotonic()

    def _access_log(self) -> Path | None:
        """Where Envoy logs requests, if it shall and can."""
        if not self._logs_requests:
            return None
        if access_log.writable(self._requests):
            return self._requests
        self._logs_requests = False
        with contextlib.suppress(OSError):
            print(f"controller: {self._requests} can't be opened, so requests are not logged", flush=True)
        return None

    async def _keep_activator(self) -> None:
        if await self._lives(self._activator, "1", "activator.sock"):
            return
        argv = [sys.executable, "-m", "modelyard_kserve.local.activator"]
        argv += ["--socket", str(self._run / "activator.sock"), "--board", str(self._run / "board.json")]
        self._activator.start([*argv, "--bell", str(self._run / _OWN_SOCKETS[0])], child_env(), "1")

    async def _lives(self, child: Child, key: str, socket_name: str) -> bool:
        """Whether it runs and can be reached; one whose socket was removed is ended."""
        if child.pid is None and not child.adopt(key):
            return False
        if (self._run / socket_name).exists():
            child.reachable = True
        elif child.reachable:
            await child.end()
        return child.pid is not None

    # -- what is so -------------------------------------------------------------------------

    def _status(self) -> str:
        found = ((service.route(), service.lines()) for service in self._services.values())
        return pages.status_page((route, lines) for route, lines in found if route is not None)

    async def _metrics(self) -> str:
        """What the model servers and Envoy counted."""
        sockets = [path for service in self._services.values() for path in service.replica_sockets()]
        admins = {path.stem: Admin(path) for path in sockets}
        said = await asyncio.gather(
            *(asyncio.to_thread(_exposition, admin, "/metrics") for admin in admins.values()),
            asyncio.to_thread(_exposition, self._admin, "/stats/prometheus?usedonly"),
        )
        return pages.labelled(dict(zip(admins, said))) + said[-1]

    # -- who is wanted ----------------------------------------------------------------------

    def _hang_up_the_bell(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        bell.setblocking(False)
        bell.bind(str(path))

        def rung() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._rung.add(bell.recv(4096).decode(errors="replace"))
                    self._bell.set()

        asyncio.get_running_loop().add_reader(bell, rung)

    async def _count(self) -> None:
        """Which revisions answered something lately, how much was printed, and that all is in use."""
        until = 0.0
        while True:
            if time.monotonic() >= until:
                await asyncio.to_thread(_make_young, self._run)
                until = time.monotonic() + _YOUNG_FOR
            await asyncio.sleep(_COUNT_EVERY)
            await asyncio.to_thread(logs.bound, self._places.logs)
            if self._logs_requests and self._listener_written:
                await asyncio.to_thread(access_log.turn_over, self._requests, self._admin.reopen_logs)
            if any(service.moves for service in self._services.values()):
                pattern = r"^cluster\..*\.upstream_rq_(total|active)$"
                with contextlib.suppress(OSError):
                    counted = await asyncio.to_thread(self._admin.counters, pattern)
                    for service in self._services.values():
                        service.note(counted)


def _exposition(admin: Admin, target: str) -> str:
    """What somebody counted; nothing if it has just ended."""
    with contextlib.suppress(OSError):
        return admin.get(target)
    return ""


def _make_young(folder: Path) -> None:
    """Let the folder, and all in it, be of now."""
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(OSError):  # files come and go here
            os.utime(path, follow_symlinks=False)


def _private_folder(state: Path) -> Path:
    """A folder for sockets with a short path, which others can't enter. It is the same at every start,
    so that the next controller finds what is there."""
    folder = states.run_folder(state)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if states.is_private(folder):
        return folder
    return Path(tempfile.mkdtemp(prefix="modelyard-"))  # somebody else made it first


async def _tried(step: Callable[[], Awaitable[None]]) -> str:
    """What went wrong in it, in one line."""
    try:
        await step()
    except Exception as fault:
        return f"{type(fault).__name__}: {' '.join(str(fault).split())}"
    return ""


def main() -> int:
    """Follow until TERM, then end everything."""
    options = argparse.ArgumentParser(prog="controller")
    options.add_argument("--port", type=int, required=True)
    for name in ("state", "logs", "root"):
        options.add_argument(f"--{name}", type=Path, required=True)
    options.add_argument("--access-log", action="store_true", help="log requests")
    given = options.parse_args()
    controller = Controller(given.state, given.port, given.logs, given.root, log_requests=given.access_log)
    asyncio.run(_until_told(controller))
    return 0


async def _until_told(controller: Controller) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, told.set)
    running = asyncio.create_task(controller.run())
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await controller.end()


if __name__ == "__main__":
    sys.exit(main())
