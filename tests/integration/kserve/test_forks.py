"""Model servers that come out of a process with its imports done, and those that can't."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard_kserve.local.forks import Forks

V1, V2 = "models:/late-flights/1", "models:/late-flights/2"
PROBA = [{"name": "PREDICT_PROBA", "value": "true"}]


def forked(process: Any) -> bool:
    return "modelyard_kserve.local.fork_server" in process.cmdline()


# -- in a project -----------------------------------------------------------------------------


def test_two_endpoints_come_out_of_one_fork_server(project: Any, rows: Any, samples: Any) -> None:
    one, other = project.apply("one", V1), project.apply("other", V2, env=PROBA)
    assert one.predict(rows).predictions == tuple(samples["1"].model.predict(pd.DataFrame(rows)).tolist())
    expected = samples["2"].model.predict_proba(pd.DataFrame(rows))
    assert np.allclose(other.predict(rows).predictions, expected, rtol=0, atol=1e-12)
    servers = [*project.family("one"), *project.family("other")]
    assert [forked(server) for server in servers] == [True, True]
    assert {server.ppid() for server in servers} == {1}, "nobody watches them but the controller"
    assert {server.name() for server in servers} == {"model one", "model other"}
    assert len({os.getpgid(server.pid) for server in servers}) == 2
    assert project.part("fork_server"), "there is exactly one"


def test_a_model_with_an_environment_of_its_own_is_started_afresh(project: Any, rows: Any) -> None:
    made = project.apply("own", V1, env=[{"name": "OMP_NUM_THREADS", "value": "2"}])
    (server,) = project.family("own")
    assert not forked(server)
    assert server.environ()["OMP_NUM_THREADS"] == "2"
    assert made.predict(rows).version == "1"
    project.server.delete("own")


def test_models_outlive_the_fork_server_and_the_next_one_makes_new_ones(
    project: Any, rows: Any, within: Callable[..., bool]
) -> None:
    (before,) = project.family("one")
    killed = project.kill("fork_server")
    assert within(60, lambda: [p for p in project.forkers() if p.pid != killed.pid] != [])
    assert [p.pid for p in project.family("one")] == [before.pid]
    before.kill()
    assert within(60, lambda: [p.pid for p in project.family("one")] not in ([], [before.pid]))
    assert within(60, lambda: project.server.get("one").ready)
    (server,) = project.family("one")
    assert forked(server)
    assert project.server.get("one").predict(rows).version == "1"


def test_what_models_come_out_of_goes_when_they_all_sleep_for_long(project: Any, tmp_path: Path) -> None:
    """A tenth of a gigabyte; who asks after that waits for its imports once."""

    async def run() -> None:
        forks = Forks(tmp_path, tmp_path / "log", tmp_path)
        server = forks.for_model("sklearn", tmp_path, {})
        assert server is not None

        async def tended(awake: bool, rests_after: float, wanted: Callable[[], bool]) -> None:
            deadline = time.monotonic() + 60
            while not wanted() and time.monotonic() < deadline:
                await forks.tend(awake=awake, rests_after=rests_after)
                await asyncio.sleep(0.05)
            assert wanted()

        try:
            await tended(False, 60, lambda: server.ready)
            await forks.tend(awake=True, rests_after=0.1)
            assert server.ready, "a model may have to be started again at once"
            await tended(False, 0.1, lambda: server.pid is None)
            await forks.tend(awake=False, rests_after=0.1)
            assert server.pid is None
            server.want()
            await tended(False, 60, lambda: server.ready)
            following = Forks(tmp_path, tmp_path / "log", tmp_path)
            following.adopt()
            assert following.pids() == forks.pids() != set()
            await asyncio.sleep(0.2)
            await following.tend(awake=False, rests_after=0.1)
            assert following.pids() == set(), "nor does one that was adopted stay for ever"
        finally:
            await forks.end()

    asyncio.run(run())


# -- by itself --------------------------------------------------------------------------------


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "some-packages"
    folder.mkdir()
    (folder / "quiet.py").write_text("")
    (folder / "busy.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    return folder


Starter = Callable[[str], "tuple[subprocess.Popen[bytes], Path]"]


@pytest.fixture
def start(packages: Path, tmp_path: Path) -> Iterator[Starter]:
    """Starts a fork server that imported a module."""
    started: list[subprocess.Popen[bytes]] = []

    def make(module: str) -> tuple[subprocess.Popen[bytes], Path]:
        place = Path(os.path.relpath(tmp_path / "forks.sock"))
        argv = [sys.executable, "-m", "modelyard_kserve.local.fork_server", "--socket", str(place)]
        env = {**os.environ, "PYTHONPATH": str(packages)}
        process = subprocess.Popen([*argv, "--import", module], env=env)
        started.append(process)
        deadline = time.monotonic() + 30
        while not place.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return process, place

    yield make
    for process in started:
        process.kill()
        process.wait()


def asked(place: Path, wish: Any) -> Any:
    """What it says first; the connection ends without the word."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(place))
        connection.sendall((wish if isinstance(wish, bytes) else json.dumps(wish).encode()) + b"\n")
        try:
            return json.loads(connection.makefile("rb").readline() or b"null")
        except ConnectionResetError:  # it has not read all that was sent
            return None


def test_a_child_that_nobody_wrote_down_ends(
    start: Starter, tmp_path: Path, within: Callable[..., bool]
) -> None:
    _, place = start("quiet")
    wish = {"argv": ["--nonsense"], "env": {}, "name": "model x", "log": str(tmp_path / "log")}
    pids = [asked(place, wish)["pid"] for _ in range(3)]
    assert len(set(pids)) == 3

    def ended(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    assert within(60, lambda: all(ended(pid) for pid in pids))
    assert not (tmp_path / "log").exists()


def test_one_with_a_second_thread_does_not_fork(start: Starter) -> None:
    process, place = start("busy")
    assert "it has 2 threads" in asked(place, {"argv": []})["refused"]
    assert process.poll() is None


@pytest.mark.parametrize("sent", [b"", b"nonsense", b"[]", b"{" + b"x" * 200_000])
def test_what_is_no_wish_changes_nothing(start: Starter, sent: bytes) -> None:
    process, place = start("quiet")
    assert asked(place, sent) is None
    assert "pid" in asked(place, {"argv": [], "env": {}, "name": "x", "log": "/dev/null"})
    assert process.poll() is None


def test_it_ends_when_packages_were_installed(start: Starter, packages: Path) -> None:
    process, place = start("quiet")
    (packages / "numpy-9.0.dist-info").mkdir()
    assert asked(place, {"argv": []}) == {"stale": True}
    assert process.wait(10) == 4
    assert not place.exists()
