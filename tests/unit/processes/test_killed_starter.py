"""Whoever starts a service may be killed at any moment: nothing is leaked, the next start goes on."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard import _spawn
from modelyard.processes import ProcessServices
from modelyard.stages import ServiceSpec

STARTER = """
import sys
from pathlib import Path
from modelyard import _spawn, state
from modelyard.processes import ProcessServices
from modelyard.stages import ServiceSpec

folder, program, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def stand_still(*_, **__):
    print("now", flush=True)
    import time
    time.sleep(60)

if moment == "before its record":
    import modelyard.processes
    modelyard.processes.write_json = stand_still
elif moment == "after its record":
    real = _spawn.spawn
    def spawn(argv, *, remember, **named):
        def remembered(pid, identity):
            remember(pid, identity)
            stand_still()
        real(argv, remember=remembered, **named)
    _spawn.spawn = spawn
elif moment == "while it waits":
    _spawn.answers = stand_still
print("started", flush=True)
spec = ServiceSpec(name="web", argv=(sys.executable, "-c", program, "{port}"), health="/", ready_timeout=20)
ProcessServices(folder).start(spec)
"""
WEB = """
import http.server, sys
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def spec() -> ServiceSpec:
    return ServiceSpec(name="web", argv=(sys.executable, "-c", WEB, "{port}"), health="/", ready_timeout=20)


def starter(state: Path, moment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(state), WEB, moment], stdout=subprocess.PIPE, text=True
    )


def marked(state: Path) -> list[int]:
    return list(_spawn.family(str((state / "services" / "web.json").resolve())))


@pytest.mark.parametrize("moment", ["before its record", "after its record", "while it waits"])
def test_killed_at_the_worst_moment(
    services: ProcessServices, state: Path, moment: str, lives: Callable[[int], bool]
) -> None:
    with starter(state, moment) as killed:
        assert killed.stdout is not None
        while killed.stdout.readline() != "now\n":
            assert killed.poll() is None
        killed.kill()
    running = moment == "while it waits"
    deadline = time.monotonic() + 60
    while len(marked(state)) != running and time.monotonic() < deadline:
        time.sleep(0.05)
    left = marked(state)
    assert len(left) == running
    service = services.start(spec())
    assert service.status == "running"
    assert marked(state) == [service.pid]
    if running:
        assert left == [service.pid]  # it was adopted


def test_killed_at_random_moments(services: ProcessServices, state: Path) -> None:
    chance = random.Random(7)
    for _ in range(8):
        with starter(state, "at random") as killed:
            assert killed.stdout is not None
            killed.stdout.readline()
            time.sleep(chance.uniform(0, 0.35))
            killed.kill()
    service = services.start(spec())
    deadline = time.monotonic() + 60
    while marked(state) != [service.pid] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked(state) == [service.pid]
    services.stop("web")
    assert marked(state) == []
