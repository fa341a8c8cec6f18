"""A project's background processes, and small programs to run as such."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from modelyard.processes import ProcessServices
from modelyard.stages import ServiceSpec

#: Answers every GET with 200 and its pid; `{port}` is its first argument.
WEB = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(str(os.getpid()).encode())
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
SLEEP = "import time; print('awake', flush=True); time.sleep(600)"


def spec(
    program: str,
    *arguments: str,
    name: str = "web",
    health: str | None = None,
    port: bool = False,
    ready_timeout: float = 20,
    env: Mapping[str, str] | None = None,
) -> ServiceSpec:
    """A service that is a little Python program."""
    return ServiceSpec(
        name=name,
        argv=(sys.executable, "-c", program, *arguments),
        health=health,
        port=port,
        ready_timeout=ready_timeout,
        env=env or {},
    )


@pytest.fixture
def python() -> Callable[..., ServiceSpec]:
    return spec


@pytest.fixture
def web() -> Callable[..., ServiceSpec]:
    def make(name: str = "web", **changed: object) -> ServiceSpec:
        return spec(WEB, "{port}", name=name, health="/", port=True, **changed)  # type: ignore[arg-type]

    return make


@pytest.fixture
def sleep() -> Callable[..., ServiceSpec]:
    def make(name: str = "web", **changed: object) -> ServiceSpec:
        return spec(SLEEP, name=name, **changed)  # type: ignore[arg-type]

    return make


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "späte flüge" / ".modelyard"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def services(state: Path) -> Iterator[ProcessServices]:
    made = ProcessServices(state)
    yield made
    for service in made.all():
        made.stop(service.name, grace=0.5)


@pytest.fixture
def lives() -> Callable[[int], bool]:
    """Whether a process runs (a zombie does not)."""

    def ask(pid: int) -> bool:
        try:
            return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    return ask
