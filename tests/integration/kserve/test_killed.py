"""Processes that are killed in the middle of something, models that hang, and what is left of them."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

V1, V2 = "models:/late-flights/1", "models:/late-flights/2"
#: Loads as long as the environment says, perhaps deaf to TERM, perhaps to the death; answers with `SAYS`.
MODEL = """
import os, signal, time
if "DEAF" in os.environ:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("it begins to load", flush=True)
time.sleep(float(os.environ.get("LOADS", "0")))
if "DIES" in os.environ:
    print("the weights are torn at byte 4711", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
class Model:
    def predict(self, rows):
        wishes = [row[0] for row in rows] if len(rows[0]) == 1 else []
        if 600 in wishes:
            time.sleep(600)
        if 7 in wishes:
            raise ValueError("no sevens")
        return [os.environ.get("SAYS", "1")] * len(rows)
"""


class Fragile:
    """A project with that model."""

    def __init__(self, project: Any, place: Path) -> None:
        self.project, self._place = project, place
        (place / "fragile_package.py").write_text(MODEL)
        (place / "model").mkdir()
        (place / "model" / "model.pkl").write_bytes(b"cfragile_package\nModel\n)R.")

    def file(self, name: str, env: dict[str, str] | None = None, **predictor: Any) -> Path:
        variables = {"PYTHONPATH": str(self._place), **(env or {})}
        given = [{"name": key, "value": value} for key, value in variables.items()]
        path: Path = self.project.file(name, str(self._place / "model"), env=given)
        content = json.loads(path.read_text())
        content["spec"]["predictor"] |= predictor
        path.write_text(json.dumps(content))
        return path

    def log(self, name: str) -> str:
        file = self.project.context.state.parent / "logs" / f"endpoint-{name}.log"
        return file.read_text() if file.exists() else ""


@pytest.fixture(scope="module")
def fragile(new_project: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fragile]:
    place = tmp_path_factory.mktemp("fragile")
    yield Fragile(new_project(trust_pickle=True), place)
    shutil.rmtree(place)


@pytest.fixture
def body(rows: Any) -> bytes:
    return json.dumps({"instances": rows}).encode()


def wish(number: int) -> bytes:
    return json.dumps({"instances": [[number]]}).encode()


def parts_but_models(project: Any, name: str) -> set[str]:
    """What runs of a project besides the model servers of its one endpoint."""
    models = {process.pid for process in project.family(name)}
    others = [process for process in project.everything() if process.pid not in models]
    known = ("controller", "activator", "envoy", "fork_server")
    found = [next((part for part in known if part in " ".join(one.cmdline())), "?") for one in others]
    assert len(set(found)) == len(found), f"one of {found} is an orphan"
    return set(found)


def answers_anew(asking: Any, version: str) -> Callable[[], bool]:
    """Whether it alone answers requests that begin from now on."""
    now = time.monotonic()
    return lambda: asking.versions(since=now) == {version}


def replaced(project: Any, pid: int) -> Callable[[], bool]:
    """Whether another process than this one serves `again`."""
    return lambda: [one.pid for one in project.model_servers("again").values()] not in ([], [pid])


# -- while it imports, while it rolls out -----------------------------------------------------


def test_a_fork_server_that_is_killed_while_it_imports_keeps_nobody_from_an_answer(
    new_project: Any, post: Any, within: Any, body: bytes
) -> None:
    project = new_project()
    url = project.server.apply(project.file("early", V1), wait=False).url
    assert within(60, lambda: len(project.forkers()) == 1)
    (importing,) = project.forkers()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(post, url, "/v1/models/early:predict", body) for _ in range(8)]
        time.sleep(0.3)
        assert not list(project.sockets.glob("forks-*.sock")), "it has imported everything already"
        importing.kill()
        answers = [task.result() for task in asked]
    for status, headers, said in answers:
        assert status == 200 or (status == 503 and headers["Retry-After"]), said
        assert list(json.loads(said)) == ["predictions" if status == 200 else "error"]
    assert within(60, lambda: project.server.get("early").ready)
    assert project.server.get("early").predict([{"temp": 1.0, "stops": 1}]).version == "1"
    assert len(project.family("early")) == 1
    assert parts_but_models(project, "early") <= {"controller", "activator", "envoy", "fork_server"}
    project.down()
    assert project.everything() == []


@pytest.mark.parametrize("new_one", ["lives", "dies too"])
def test_a_controller_that_is_killed_while_a_revision_loads_is_followed_by_one_that_goes_on(
    fragile: Fragile, callers: Any, within: Any, new_one: str
) -> None:
    project, name = fragile.project, f"rolls-{new_one[:4]}"
    made = project.server.apply(fragile.file(name, {"SAYS": "old"}))
    with callers(made.url, name, rows=[[0]]) as asking:
        project.server.apply(fragile.file(name, {"SAYS": "new", "LOADS": "6"}), wait=False)
        assert within(60, lambda: fragile.log(name).count("it begins to load") == 2)
        assert within(60, lambda: 2 in project.model_servers(name)), "it is not written down"
        half = project.model_servers(name)[2]
        project.kill("controller")
        if new_one == "dies too":
            half.kill()
        time.sleep(0.5)
        project.up()
        assert within(60, lambda: project.server.get(name).predict([[0]]).predictions == ("new",))
        begun = {"lives": 2, "dies too": 3}[new_one]
        assert fragile.log(name).count("it begins to load") == begun, "it was started once too often"
    assert asking.failed() == []
    assert (project.model_servers(name)[2].pid == half.pid) is (new_one == "lives")
    assert len(project.family(name)) <= 2
    project.server.delete(name)
    assert project.family(name) == []


def test_a_controller_may_be_killed_at_any_moment_of_a_roll_out(
    new_project: Any, callers: Any, within: Any
) -> None:
    project = new_project()
    made = project.apply("moments", V1)
    with callers(made.url, "moments") as asking:
        for attempt, pause in enumerate((0.0, 0.05, 0.15, 0.3, 0.6, 1.2)):
            uri = V1 if attempt % 2 else V2
            project.server.apply(project.file("moments", uri), wait=False)
            time.sleep(pause)
            project.kill("controller")
            project.up()
            assert within(60, lambda: project.server.get("moments").revisions[0].ready)
            assert within(60, answers_anew(asking, uri[-1]))
    assert asking.failed() == []
    assert len(project.family("moments")) <= 2, "a model, and one that is kept"
    assert parts_but_models(project, "moments") == {"controller", "activator", "envoy", "fork_server"}


# -- hangs and deaths -------------------------------------------------------------------------


@pytest.mark.parametrize("gathers", [True, False])
def test_nobody_waits_longer_than_an_answer_may_take_for_a_model_that_hangs(
    fragile: Fragile, post: Any, within: Any, gathers: bool
) -> None:
    name = "gathers" if gathers else "hangs"
    batcher = {"batcher": {"maxBatchSize": 4, "maxLatency": 300}} if gathers else {}
    project, path = fragile.project, f"/v1/models/{name}:predict"
    made = project.server.apply(fragile.file(name, timeout=3, **batcher))
    (before,) = project.family(name)

    def ask(sent: bytes) -> tuple[float, int, Any]:
        began = time.monotonic()
        status, _, said = post(made.url, path, sent)
        return time.monotonic() - began, status, json.loads(said)

    healed = threading.Event()

    def annoy() -> None:
        while not healed.wait(0.2):  # what never reaches the model is no sign that it moves
            post(made.url, path, b"nonsense")

    annoying = threading.Thread(target=annoy)
    annoying.start()
    try:
        with ThreadPoolExecutor(5) as pool:
            got = list(pool.map(ask, [wish(0), wish(600), wish(1), wish(2), wish(3)]))
        assert got[1][1:] == (504, {"error": "the model did not answer in time"})
        assert {status for _, status, _ in got} <= {200, 504}
        assert max(took for took, _, _ in got) < 20, "somebody waited for who hangs"
        back = time.monotonic()
        assert within(60, lambda: ask(wish(0))[1] == 200)
        assert time.monotonic() - back < 40
    finally:
        healed.set()
        annoying.join()
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(ask, [wish(0), wish(7), wish(1), wish(2)]))
    assert [status for _, status, _ in got] == [200, 400, 200, 200]
    assert [said["predictions"] for _, status, said in got if status == 200] == [["1"]] * 3
    (after,) = project.family(name)
    assert after.pid != before.pid
    project.server.delete(name)


def test_one_that_is_killed_again_and_again_is_started_later_each_time(
    project: Any, within: Any, rows: Any
) -> None:
    made = project.apply("again", V1)
    pauses = []
    for _ in range(4):
        before = project.model_servers("again")[1]
        began = time.monotonic()
        before.kill()
        assert within(60, replaced(project, before.pid))
        pauses.append(time.monotonic() - began)
        assert within(60, lambda: project.model_servers("again") and project.server.get("again").ready)
    assert min(pauses[:2]) < 3 <= pauses[2]  # one of them may have been slow for other reasons
    assert pauses[3] >= 10
    assert made.predict(rows).version == "1"
    seen = project.server.explain("again")
    assert [replica.restarts for replica in seen.replicas] == [4]
    project.server.delete("again")


def test_one_that_dies_while_it_loads_gives_its_last_words_as_the_reason(
    fragile: Fragile, within: Any, post: Any
) -> None:
    project, words = fragile.project, "the weights are torn at byte 4711"
    url = project.server.apply(fragile.file("torn", {"DIES": "yes"}), wait=False).url
    assert within(60, lambda: project.server.get("torn").revisions[0].failed)
    told = project.server.explain("torn")
    (revision,) = told.endpoint.revisions
    assert words in revision.message
    assert revision.reason == "RuntimeUnhealthy"
    assert words in " ".join(told.logs[revision.name])
    assert words in next(one.message for one in told.endpoint.conditions if one.type == "Ready")
    assert any(words in event.message for event in told.events)
    status, headers, said = post(url, "/v1/models/torn:predict", wish(0), seconds=20)
    assert status == 503
    assert headers["Retry-After"]
    assert words in json.loads(said)["error"]
    project.server.delete("torn")


# -- the end ----------------------------------------------------------------------------------


def test_down_ends_what_loads_for_minutes_though_it_does_not_want_to(
    new_project: Any, fragile: Fragile, within: Any
) -> None:
    project = new_project(trust_pickle=True)
    alone = fragile.file("minutes", {"LOADS": "300", "DEAF": "yes"})
    project.server.apply(alone, wait=False)
    script = project.context.root / "deaf.sh"
    script.write_text("#!/bin/sh\ntrap '' TERM\nwhile true; do sleep 1; done\n")
    script.chmod(0o755)
    program = {"containers": [{"name": "kserve-container", "command": ["./deaf.sh"]}]}
    file = project.file("program", V1)
    file.write_text(json.dumps({**json.loads(file.read_text()), "spec": {"predictor": program}}))
    project.server.apply(file, wait=False)
    log = project.context.state.parent / "logs" / "endpoint-minutes.log"
    assert within(60, lambda: log.exists() and "it begins to load" in log.read_text())
    observed = project.folder("program") / "observed.json"
    assert within(60, lambda: observed.exists() and project.model_servers("program") != {})
    (program_server,) = project.model_servers("program").values()
    assert within(60, lambda: program_server.children() != [])
    everything = {*project.everything(), *program_server.children(recursive=True)}
    began = time.monotonic()
    project.down()
    assert time.monotonic() - began < 40
    assert project.everything() == []
    assert psutil.wait_procs(everything, timeout=30)[1] == []
    assert not project.sockets.exists()
