"""Starting, finding again and ending the background processes of a project."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelyard import processes
from modelyard.errors import CorruptStateError, EnvironmentFault, NotFoundError
from modelyard.processes import ProcessServices, child_env
from modelyard.records import Service
from modelyard.stages import ServiceSpec

Make = Callable[..., ServiceSpec]

#: Starts a sleeping service, by the name and in the state folder that it is given, and says its pid.
STARTER = """
import os, signal, sys, time
from pathlib import Path
from modelyard.processes import ProcessServices
from modelyard.stages import ServiceSpec
sleeper = (sys.executable, "-c", "import time; time.sleep(600)")
spec = ServiceSpec(name=sys.argv[2], argv=sleeper, port=False)
print(ProcessServices(Path(sys.argv[1])).start(spec).pid, flush=True)
"""

#: Starts a child in a session of its own and says its pid; both ignore TERM. It ends once there is a file of
#: the name that it may be given.
FAMILY = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleeper = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", sleeper], start_new_session=True)
print("child", child.pid, flush=True)
for _ in range(6000):
    if pathlib.Path(*sys.argv[1:]).is_file():
        sys.exit(3)
    time.sleep(0.1)
"""


def record(state: Path, name: str = "web") -> dict[str, object]:
    return dict(json.loads((state / "services" / f"{name}.json").read_text()))


def answer(service: Service) -> str:
    assert service.port is not None
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)
    connection.request("GET", "/")
    return connection.getresponse().read().decode()


def child_of(services: ProcessServices, name: str = "web") -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for line in services.logs(name):
            if line.startswith("child "):
                return int(line.split()[1])
        time.sleep(0.02)
    raise AssertionError("it said no child")


def wait_until(check: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not check() and time.monotonic() < deadline:
        time.sleep(0.02)
    return check()


def test_a_service_runs_and_answers_on_the_port_it_was_given(services: ProcessServices, web: Make) -> None:
    started = services.start(web())
    assert started.status == "running"
    assert started.url == f"http://127.0.0.1:{started.port}"
    assert answer(started) == str(started.pid)
    assert services.get("web") == started


def test_starting_it_again_with_the_same_spec_leaves_it_alone(
    services: ProcessServices, state: Path, web: Make
) -> None:
    first = services.start(web())
    assert ProcessServices(state).start(web()).pid == first.pid


def test_another_spec_replaces_it_on_the_same_port(
    services: ProcessServices, web: Make, lives: Callable[[int], bool]
) -> None:
    first = services.start(web())
    second = services.start(web(env={"DEPTH": "6"}))
    assert second.pid != first.pid
    assert second.port == first.port
    assert not lives(first.pid or 0)


def test_one_of_another_version_is_replaced(
    services: ProcessServices, web: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = services.start(web())
    monkeypatch.setattr("modelyard.__version__", "99.0")
    after = services.start(web())
    assert (after.port, after.pid != before.pid) == (before.port, True)


def test_the_port_is_remembered_over_a_stop(services: ProcessServices, web: Make) -> None:
    first = services.start(web())
    services.stop("web")
    stopped = services.get("web")
    assert stopped is not None
    assert (stopped.status, stopped.pid, stopped.url, stopped.port) == (
        "stopped",
        None,
        None,
        first.port,
    )
    assert services.start(web()).port == first.port


def test_a_taken_port_is_given_up_and_the_new_one_is_remembered(services: ProcessServices, web: Make) -> None:
    first = services.start(web())
    services.stop("web")
    with socket.create_server(("127.0.0.1", first.port or 0)):
        second = services.start(web())
        assert second.port != first.port
        assert answer(second) == str(second.pid)
    services.stop("web")
    assert services.start(web()).port == second.port


def test_a_port_that_is_taken_while_it_starts_is_given_up_too(
    services: ProcessServices, python: Make, tmp_path: Path
) -> None:
    # Its first life finds its port taken, as when somebody was quicker.
    program = f"""
import http.server, pathlib, socket, subprocess, sys
first = pathlib.Path({str(tmp_path / "first")!r})
if not first.exists():
    first.touch()
    thief = "import socket,time; s = socket.create_server(('127.0.0.1', %s)); print(1,flush=1); time.sleep(5)"
    taken = subprocess.Popen([sys.executable, "-c", thief % sys.argv[1]], stdout=subprocess.PIPE, env={{}})
    taken.stdout.readline()
    sys.exit("address in use")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
    started = services.start(python(program, "{port}", port=True, health="/"))
    assert started.status == "running"
    assert (tmp_path / "first").exists()
    assert sum("starting web" in line for line in services.logs("web")) == 2


def test_two_starts_at_once_make_one_process(state: Path, services: ProcessServices) -> None:
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, str(state), "web"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    pids = {starter.communicate(timeout=60)[0] for starter in starters}
    assert len(pids) == 1
    assert sum("starting web" in line for line in services.logs("web")) == 1


def test_it_outlives_the_command_that_started_it(
    state: Path, services: ProcessServices, lives: Callable[[int], bool]
) -> None:
    program = STARTER + "os.killpg(os.getpgrp(), signal.SIGHUP)"
    done = subprocess.run(
        [sys.executable, "-c", program, str(state), "web"],
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    found = services.get("web")
    assert found is not None
    assert found.pid == int(done.stdout)
    assert lives(found.pid)
    assert os.getsid(found.pid) == found.pid


def test_its_input_is_empty(services: ProcessServices, python: Make) -> None:
    services.start(
        python("import sys, time; print('read', repr(sys.stdin.read()), flush=True); time.sleep(600)")
    )
    assert wait_until(lambda: "read ''" in list(services.logs("web")))


def test_a_broken_pipe_ends_it_as_it_would_in_a_shell(services: ProcessServices) -> None:
    # Python ignores SIGPIPE, and a program started by Python would inherit that.
    services.start(ServiceSpec(name="web", argv=("sleep", "600"), port=False))
    found = services.get("web")
    assert found is not None
    status = dict(line.split(":", 1) for line in Path(f"/proc/{found.pid}/status").read_text().splitlines())
    assert int(status["SigIgn"], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_it_runs_in_the_project_folder_with_telemetry_off(
    services: ProcessServices, python: Make, state: Path
) -> None:
    program = (
        "import os, time;"
        "print(os.getcwd(), os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['DEPTH'], flush=True);"
        "time.sleep(600)"
    )
    services.start(python(program, env={"DEPTH": "6"}))
    assert wait_until(lambda: f"{state.parent} true 6" in list(services.logs("web")))
    assert '"6"' not in json.dumps(record(state))  # secrets in the environment are not written down


def test_children_get_no_telemetry_and_what_is_asked_for() -> None:
    env = child_env({"DVC_NO_ANALYTICS": "0"})
    assert env["DO_NOT_TRACK"] == "true"
    assert env["DVC_NO_ANALYTICS"] == "0"
    assert env["PATH"] == os.environ["PATH"]


def test_one_that_ends_at_once_is_an_error_with_its_last_words(
    services: ProcessServices, python: Make
) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        # With its health it is waited for until it has ended, however long that takes.
        services.start(
            python(
                "import sys; print('no model here'); sys.exit('it gave up: no model')", health="/", port=True
            )
        )
    error = caught.value
    assert error.code == "service-died"
    assert error.message == "web ended while it was starting: it gave up: no model"
    assert error.hint == "modelyard logs web"
    assert "no model here" in error.details["log"]  # type: ignore[operator]
    died = services.get("web")
    assert died is not None
    assert (died.status, died.message) == ("died", "it gave up: no model")


def test_one_that_is_not_ready_in_time_is_ended(
    services: ProcessServices, state: Path, lives: Callable[[int], bool]
) -> None:
    says_it_at_once = ("sh", "-c", "echo loading; exec sleep 600")
    slow = ServiceSpec(name="web", argv=says_it_at_once, port=True, health="/healthz", ready_timeout=1)
    with pytest.raises(EnvironmentFault) as caught:
        services.start(slow)
    assert caught.value.code == "service-not-ready"
    assert caught.value.message == "web was not ready after 1 s: loading"
    assert not lives(int(str(record(state)["pid"])))


def test_a_program_that_does_not_exist_is_said(services: ProcessServices) -> None:
    with pytest.raises(EnvironmentFault, match="no-such-program can't be run: No such file"):
        services.start(ServiceSpec(name="web", argv=("no-such-program",), port=False))


def test_stopping_ends_children_that_left_the_group_and_ignore_term(
    services: ProcessServices, python: Make, lives: Callable[[int], bool]
) -> None:
    started = services.start(python(FAMILY))
    child = child_of(services)
    services.stop("web", grace=0.3)
    assert not lives(started.pid or 0)
    assert not lives(child)


def test_orphans_of_one_that_died_are_ended_before_it_starts_again(
    services: ProcessServices, python: Make, lives: Callable[[int], bool], tmp_path: Path
) -> None:
    end = tmp_path / "end"
    services.start(python(FAMILY, str(end)))
    child = child_of(services)
    end.touch()
    assert wait_until(lambda: services.all()[0].status == "died")
    assert lives(child)
    end.unlink()
    services.start(python(FAMILY, str(end)))
    assert not lives(child)


def test_stopping_gives_it_time_to_put_things_in_order(services: ProcessServices, python: Make) -> None:
    program = (
        "import signal, sys, time\n"
        "def tidy(*_): time.sleep(0.3); print('in order', flush=True); sys.exit()\n"
        "signal.signal(signal.SIGTERM, tidy); print('in place', flush=True); time.sleep(600)"
    )
    services.start(python(program))
    assert wait_until(lambda: "in place" in list(services.logs("web")))
    services.stop("web")
    assert "in order" in list(services.logs("web"))


def test_stopping_what_does_not_run_changes_nothing(
    services: ProcessServices, sleep: Make, state: Path
) -> None:
    services.stop("web")
    assert list(state.iterdir()) == []
    services.start(sleep())
    services.stop("web")
    before = record(state)
    services.stop("web")
    assert record(state) == before


def test_a_service_of_a_service_lives_on_when_its_starter_is_stopped(
    state: Path, services: ProcessServices, python: Make
) -> None:
    services.start(python(STARTER + "time.sleep(600)", str(state), "monitor", name="endpoint"))
    ready = [("endpoint", "running", ""), ("monitor", "running", "")]
    assert wait_until(lambda: [(s.name, s.status, s.message) for s in services.all()] == ready)
    services.stop("endpoint")
    assert [(s.name, s.status) for s in services.all()] == [
        ("endpoint", "stopped"),
        ("monitor", "running"),
    ]


def test_a_pid_that_now_belongs_to_somebody_else_is_neither_ours_nor_killed(
    services: ProcessServices, sleep: Make, state: Path, lives: Callable[[int], bool]
) -> None:
    services.start(sleep())
    services.stop("web")
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    try:
        file = state / "services" / "web.json"
        file.write_text(json.dumps({**record(state), "pid": stranger.pid, "stopped": False}))
        found = services.get("web")
        assert found is not None
        assert found.status == "died"
        services.stop("web")
        started = services.start(sleep())
        assert started.pid != stranger.pid
        assert lives(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_zombie_counts_as_dead(services: ProcessServices, sleep: Make, state: Path) -> None:
    started = services.start(sleep())
    os.kill(started.pid or 0, signal.SIGKILL)
    assert wait_until(
        lambda: (
            psutil.Process(started.pid).status() == psutil.STATUS_ZOMBIE
            if psutil.pid_exists(started.pid or 0)
            else True
        )
    )
    found = services.get("web")
    assert found is not None
    assert found.status == "died"


@pytest.mark.parametrize("content", ["{torn", "[]", '{"pid": 1}', ""])
def test_a_damaged_record_is_named_and_the_others_go_on(
    services: ProcessServices, sleep: Make, state: Path, content: str, lives: Callable[[int], bool]
) -> None:
    pid = services.start(sleep("a")).pid or 0
    services.start(sleep("b"))
    (state / "services" / "a.json").write_text(content)
    for ask in (services.get, lambda name: services.start(sleep(name))):
        with pytest.raises(CorruptStateError, match=r"a\.json is damaged") as caught:
            ask("a")
        assert caught.value.code == "state-corrupt"
        assert "a.json.bad" in caught.value.hint
    damaged, other = services.all()
    assert (damaged.name, damaged.status, other.status) == ("a", "running", "running")
    assert "is damaged" in damaged.message
    services.stop("a")
    services.stop("b")
    assert not lives(pid)
    assert [s.status for s in services.all()] == ["died", "stopped"]
    assert (state / "services" / "a.json").read_text() == content


def test_a_process_whose_record_was_removed_is_replaced_not_leaked(
    services: ProcessServices, sleep: Make, state: Path, lives: Callable[[int], bool]
) -> None:
    first = services.start(sleep())
    (state / "services" / "web.json").unlink()
    second = services.start(sleep())
    assert second.pid != first.pid
    assert not lives(first.pid or 0)


def test_forgetting_ends_it_and_keeps_the_log(services: ProcessServices, sleep: Make) -> None:
    services.start(sleep())
    services.forget("web")
    assert services.all() == []
    assert any("starting web" in line for line in services.logs("web"))


def test_one_that_is_started_while_it_is_forgotten_is_remembered(
    services: ProcessServices, sleep: Make, monkeypatch: pytest.MonkeyPatch, lives: Callable[[int], bool]
) -> None:
    services.start(sleep())
    held = processes.locked

    @contextlib.contextmanager
    def and_then_started(path: Path, **given: Any) -> Iterator[None]:
        with held(path, **given):
            yield
        monkeypatch.undo()
        services.start(sleep())  # somebody waited for the lock

    monkeypatch.setattr(processes, "locked", and_then_started)
    services.forget("web")
    (found,) = services.all()
    assert found.status == "running"
    assert lives(found.pid or 0)


@pytest.mark.parametrize("name", ["", "../web", "a/b", ".hidden"])
def test_names_that_lead_elsewhere_are_refused(services: ProcessServices, name: str) -> None:
    with pytest.raises(NotFoundError):
        services.get(name)


def test_a_folder_that_cannot_be_written_is_said(read_only_folder: Path, sleep: Make) -> None:
    services = ProcessServices(read_only_folder / ".modelyard")
    assert services.all() == []
    with pytest.raises(EnvironmentFault) as caught:
        services.start(sleep())
    assert caught.value.code == "read-only"


def test_listing_imports_nothing_heavy(services: ProcessServices, sleep: Make, state: Path) -> None:
    services.start(sleep())
    program = (
        "import sys; from pathlib import Path; from modelyard.processes import ProcessServices;"
        "assert ProcessServices(Path(sys.argv[1])).all()[0].status == 'running';"
        "print({'psutil', 'filelock', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(state)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
