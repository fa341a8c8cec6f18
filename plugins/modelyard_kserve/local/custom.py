"""A custom predictor: the command of its container, run in the project's folder, behind a Unix socket.

    python -m modelyard_kserve.local.custom --command 'python -m ours' --socket PATH --name NAME ...

A Python program runs in this process. When it starts KServe's `ModelServer` its models are served by ours,
on the socket and nowhere else; KServe's would listen on all addresses and call `predict` on the event loop.
Any other program, and one that brings a server of its own, listens on 127.0.0.1 at the port that `PORT`
names, and what comes to the socket is handed to it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from modelyard.errors import ModelyardError
from modelyard_kserve.commands import MOUNTED, PythonProgram, python_program, with_values
from modelyard_kserve.local import resources, upstream
from modelyard_kserve.local.http_server import HttpServer
from modelyard_kserve.local.kserve_app import KserveApp
from modelyard_kserve.local.limited import Limited
from modelyard_kserve.local.logged import LoggedApp
from modelyard_kserve.local.model_server import require_same_files

#: The exit status of a program that can't serve; the log's last line says why.
_HOPELESS = 3
_SERVER = "kserve.model_server"
#: Seconds between two looks whether a program listens.
_LOOK = 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command until told to stop."""
    options = argparse.ArgumentParser(prog="custom")
    for name in ("folder", "socket", "name", "version", "command"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--digest", help="of the files in the folder when the revision was made")
    options.add_argument("--model", help="the folder of the model, if the predictor has one")
    options.add_argument("--logging", type=Path, required=True, help="says which answers are logged")
    options.add_argument("--timeout", type=float, default=300.0, help="seconds that an answer may take")
    options.add_argument("--concurrency", type=int, default=0, help="requests at once; 0: as many as come")
    options.add_argument("--memory", type=int, default=0, help="bytes that it may have; 0: any number")
    options.add_argument("--gpus", type=int, default=0, help="how many it gets for itself")
    given = options.parse_args(argv)
    try:
        require_same_files(Path(given.folder), given.digest)
        resources.take(given.memory, given.gpus)
    except ModelyardError as fault:
        return _say(fault.message)
    port = _free_port()
    os.environ["PORT"] = str(port)
    if given.model:  # where KServe mounts it is nothing here
        mounted = {k: v for k, v in os.environ.items() if v == MOUNTED or v.startswith(f"{MOUNTED}/")}
        os.environ.update({name: given.model + value[len(MOUNTED) :] for name, value in mounted.items()})
    command = with_values(shlex.split(given.command), os.environ, given.model)
    program = python_program(command)
    if program is None:
        return _run_program(command, Path(given.socket), port)

    def serve(repository: Any) -> None:
        upstream.address_in_grpc()
        app = KserveApp(given.name, given.version, repository)
        logged = LoggedApp(given.name, Limited(app, given.concurrency, given.timeout), given.logging)
        serving = HttpServer(logged, started=logged.started, stopped=logged.stopped)
        serving.run(given.socket, grace=given.timeout)

    return _run_python(program, Path(given.socket), port, serve)


# -- Python programs ------------------------------------------------------------------------


def _run_python(program: PythonProgram, path: Path, port: int, serve: Callable[[Any], None]) -> int:
    handing = _Handing(path, port)
    handing.begin()

    def started(repository: Any) -> None:
        handing.end()
        serve(repository)

    sys.meta_path.insert(0, _Served(started))
    sys.argv = [program.name, *program.arguments]
    try:
        if program.is_module:
            sys.path.insert(0, str(Path.cwd()))
            runpy.run_module(program.name, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(program.name).resolve().parent))
            runpy.run_path(program.name, run_name="__main__")
    except SystemExit as fault:
        if fault.code not in (None, 0):
            return _say(f"{program.name} ended: {fault.code}")
    except Exception as fault:
        import traceback

        traceback.print_exc()
        return _say(f"{program.name} ended: {resources.in_words(fault)}")
    return 0


class _Served(importlib.abc.MetaPathFinder):
    """Gives KServe's ModelServer another `start`, when and if a program imports it."""

    def __init__(self, serve: Callable[[Any], None]) -> None:
        self._serve = serve

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        """The module's own spec, with a step behind its execution."""
        if name != _SERVER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_replace(module: ModuleType) -> None:
                execute(module)
                module.ModelServer = self._ours(module.ModelServer)  # type: ignore[attr-defined]

            spec.loader.exec_module = execute_and_replace  # type: ignore[method-assign]
        return spec

    def _ours(self, theirs: Any) -> Any:
        serve = self._serve

        class ModelServer(theirs):  # type: ignore[misc]
            """KServe's, whose models are served by ours."""

            def start(self, models: list[Any]) -> None:
                """Check the models as KServe does, then serve them."""
                self._register_and_check_atleast_one_model_is_ready(models)
                serve(self.registered_models)

        return ModelServer


# -- other programs -------------------------------------------------------------------------


def _run_program(command: Sequence[str], path: Path, port: int) -> int:
    try:
        process = subprocess.Popen(command, preexec_fn=_die_with_parent)
    except OSError as fault:
        return _say(f"{command[0]} can't be started: {fault.strerror or fault}")
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    handing = _Handing(path, port)
    handing.begin()
    status = process.wait()
    handing.end()
    if status not in (0, -signal.SIGTERM):
        return _say(f"{command[0]} ended with the status {status}")
    return 0


def _die_with_parent() -> None:
    """Linux ends the program when we are killed; elsewhere the controller finds it by its mark."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class _Handing:
    """Hands what comes to a Unix socket to a port of this machine, byte by byte, in a thread of its own."""

    def __init__(self, path: Path, port: int) -> None:
        self._path, self._port = path, port
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        """Begin to hand over."""
        self._thread.start()

    def end(self) -> None:
        """End; the socket is free when this returns."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._hand_over())

    async def _hand_over(self) -> None:
        # A socket that is there answers: requests that wait for it are sent at once.
        while not await self._listens():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _LOOK)
                return
        server = await asyncio.start_unix_server(self._connected, str(self._path))
        await self._ended.wait()
        server.close()
        self._path.unlink(missing_ok=True)

    async def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.close()
            return True
        return False

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            its_reader, its_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()  # it listens no more
            return
        await asyncio.gather(_pipe(reader, its_writer), _pipe(its_reader, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(64 * 1024):
            writer.write(piece)
            await writer.drain()
    writer.close()


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def _say(why: str) -> int:
    """The line that the controller looks for."""
    print(f"model server {os.getpid()}: {why}", flush=True)
    return _HOPELESS


if __name__ == "__main__":
    sys.exit(main())
