"""The monitor of a cluster: who may ask it, how projects stay apart, and what outlives kill -9."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelyard.errors import EnvironmentFault, NotFoundError
from modelyard.stages import Label, Reference
from modelyard.targets import Address, Target
from modelyard.testing import make_context
from modelyard.testing.base import at_once, eventually
from modelyard.testing.contexts import serve
from modelyard.testing.feed import MODEL, START, labels_of, rows
from modelyard_evidently.remote import RemoteMonitor

TOKEN = "geheim-0123456789"


# -- who may ask ----------------------------------------------------------------------------


def test_a_wrong_token_is_refused_in_a_sentence(project: Any) -> None:
    project.token = "geraten"
    asked: list[Callable[[], Any]] = [
        project.windows,
        lambda: project.monitor.find("x"),
        lambda: project.monitor.add_labels(MODEL, []),
        project.monitor.event_sink,
        project.monitor.metrics,
    ]
    for ask in asked:
        with pytest.raises(EnvironmentFault) as caught:
            ask()
        assert caught.value.code == "monitor-refused"
        assert project.pod.url in caught.value.message
        assert TOKEN not in str(caught.value.to_dict())


@pytest.mark.parametrize("said", ["", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"])
def test_nothing_below_api_is_answered_without_the_token(project: Any, said: str) -> None:
    headers = {"Authorization": said} if said else {}
    for path in ("/api/default/fl%C3%BCge%2F2013/metrics", "/api", "/api/a/b/c/d/e"):
        status, text = project.pod.ask("GET", path, **headers)
        assert (status, json.loads(text)["error"]["code"]) == (401, "monitor-refused")


def test_what_it_does_not_know_it_says(project: Any) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    cases = [
        ("GET", "/api/default", b"", 404),
        ("GET", "/api/default/nobody/metrics", b"", 404),
        ("DELETE", "/api/default/fl%C3%BCge%2F2013/metrics", b"", 404),
        ("PUT", "/api/default/" + "n" * 300, b"{}", 400),
        ("PUT", "/api/default/fl%C3%BCge%2F2013", b'{"fenster": "day"}', 400),
        ("GET", "/api/default/fl%C3%BCge%2F2013/endpoints/e/windows?until=bald", b"", 400),
    ]
    for method, path, body, status in cases:
        answered, text = project.pod.ask(method, path, body, **headers)
        assert (answered, set(json.loads(text))) == (status, {"error"}), path
        assert json.loads(text)["error"]["message"]


def test_without_a_token_it_does_not_start(tmp_path: Path) -> None:
    empty = tmp_path / "token"
    empty.write_text("\n")
    command = [sys.executable, "-m", "modelyard_evidently.server", "--state", str(tmp_path / "s")]
    for file in (empty, tmp_path / "none"):
        done = subprocess.run(
            [*command, "--port", "1", "--token-file", str(file)], capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert str(file) in done.stderr
        assert "Traceback" not in done.stderr


# -- who is not there -----------------------------------------------------------------------


def test_a_monitor_that_is_away_is_said_so(project: Any) -> None:
    project.pod.kill()
    with pytest.raises(EnvironmentFault, match="does not answer") as caught:
        project.windows()
    assert caught.value.code == "monitor-unreachable"
    assert len(project.monitor.profile(Reference(features=_frame()))["columns"]) == 1, "that needs no cluster"


def test_something_else_at_its_place_is_said_so(project: Any) -> None:
    def answer(request: Any, _: bytes) -> None:
        request.send_response(502)
        request.end_headers()
        request.wfile.write(b"<html>bad gateway</html>")
        request.close_connection = True

    server = serve(lambda request, body: answer(request, body))
    server.RequestHandlerClass.do_PUT = lambda self: answer(self, b"")  # type: ignore[attr-defined]
    project.pod.end()
    project.pod.port = server.server_address[1]
    try:
        with pytest.raises(EnvironmentFault, match="answers 502") as caught:
            project.windows()
        assert caught.value.code == "monitor-unreachable"
    finally:
        server.shutdown()
        server.server_close()


def test_one_that_takes_the_call_and_stays_silent_is_given_up(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard_evidently.remote._PATIENCE", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        project.pod.end()
        project.pod.port = silent.getsockname()[1]
        with pytest.raises(EnvironmentFault, match="timed out") as caught:
            project.monitor.find("x")
        assert caught.value.code == "monitor-unreachable"


def test_a_target_without_a_monitor_serves_all_the_same(tmp_path: Path, project: Any) -> None:
    def find(_: Any) -> Address:
        raise NotFoundError("target-service-unknown", "the sandbox runs without monitor")

    context = make_context(tmp_path / "p", provider="evidently")
    monitor = RemoteMonitor(context, Target("sandbox", find=find))
    assert monitor.event_sink() is None
    monitor.watch(project.endpoint, [])
    monitor.mark_deployment(project.endpoint)
    with pytest.raises(NotFoundError) as caught:
        monitor.windows(MODEL)
    assert caught.value.code == "target-service-unknown"


# -- several projects -----------------------------------------------------------------------


def test_projects_never_meet(pod: Any, new_project: Callable[..., Any]) -> None:
    """Whatever is the same: the endpoint's name, the project's, the namespace, a prediction's id."""
    names = [("flüge", "anna"), ("flüge", "bert"), ("other", "anna")]
    projects = [
        new_project(pod, str(number), name=name, namespace=namespace, min_rows=10 + number)
        for number, (name, namespace) in enumerate(names)
    ]
    for number, project in enumerate(projects):
        project.feed.send(rows(20 + number, number), time=START, prediction_id="same")
    found = at_once(*(project.windows for project in projects))
    assert [[w.rows for w in each] for each in found] == [[20], [21], [22]]
    assert [project.monitor.find("same").rows for project in projects] == [20, 21, 22]
    projects[0].monitor.add_labels(MODEL, labels_of("same", rows(20, 0)))
    assert [project.windows()[0].labelled for project in projects] == [20, 0, 0]

    text = pod.ask("GET", "/metrics")[1]
    said = re.findall(r'modelyard_window_minimum_rows\{.*namespace="(\w+)",project="(\w+)"\} ([\d.]+)', text)
    assert sorted(said) == [("anna", "flüge", "10.0"), ("anna", "other", "12.0"), ("bert", "flüge", "11.0")]
    samples = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(samples) == len(set(samples)), "Prometheus refuses a sample that is there twice"
    headings = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(headings) == len(set(headings))
    assert "bert" not in projects[0].monitor.metrics()


def test_two_clones_of_one_project_share_its_endpoints(project: Any, new_project: Callable[..., Any]) -> None:
    clone = new_project(project.pod, "clone")
    project.feed.send(rows(5, 1), time=START, prediction_id="x")
    assert clone.monitor.find("x").endpoint == MODEL


def test_events_of_a_project_that_nobody_named_are_refused_and_heard_of(project: Any) -> None:
    kind = {"ce-type": "org.kubeflow.serving.inference.request", "ce-id": "1"}
    assert project.pod.ask("POST", "/events/default/nobody", b"{}", **kind)[0] == 404
    assert project.pod.ask("POST", "/", b"{}", **kind)[0] == 404
    said = project.pod.ask("GET", "/metrics")[1]
    assert 'modelyard_log_events_total{outcome="dropped"} 1' in said
    assert 'modelyard_log_events_total{outcome="invalid"} 1' in said
    (last,) = re.findall(r"^modelyard_log_last_loss_timestamp_seconds ([\d.e+]+)", said, re.MULTILINE)
    assert abs(float(last) - time.time()) < 60
    assert not (project.pod.state / "areas" / "default" / "nobody").exists()
    assert project.monitor.alerts(MODEL) == [], "it was none of this project's"


# -- kill -9 --------------------------------------------------------------------------------


def test_kill_9_loses_nothing_that_was_written(project: Any) -> None:
    feed = project.feed
    feed.send(rows(400, 2), time=START, prediction_id="before")
    project.monitor.add_labels(MODEL, labels_of("before", rows(400, 2)))
    (window,) = project.windows()
    project.pod.kill()
    project.pod.start()
    feed.send(rows(400, 3), time=START + timedelta(days=1), prediction_id="after")
    found = project.windows()
    assert found[-1] == window
    assert [w.rows for w in found] == [400, 400]
    assert "modelyard_window_rows" in project.pod.ask("GET", "/metrics")[1]


def test_kill_9_in_the_middle_of_labels_stores_none_of_them_and_a_second_try_all(project: Any) -> None:
    project.feed.send(rows(400, 2), time=START, prediction_id="p")
    assert project.windows()[0].labelled == 0
    labels = labels_of("p", rows(400, 2))

    def endless() -> Iterator[Label]:
        while True:
            yield from labels

    caught: list[BaseException] = []

    def upload() -> None:
        try:
            project.monitor.add_labels(MODEL, endless())
        except BaseException as fault:
            caught.append(fault)

    thread = threading.Thread(target=upload)
    thread.start()
    work = project.pod.state / "work"
    eventually("bytes of the labels", lambda: any(f.stat().st_size > 1 << 20 for f in work.iterdir()) or None)
    project.pod.kill()
    thread.join(60)
    assert [getattr(fault, "code", fault) for fault in caught] == ["monitor-unreachable"]
    project.pod.start()
    assert list(work.iterdir()) == [], "what was left half done is gone"
    assert project.windows()[0].labelled == 0
    assert project.monitor.add_labels(MODEL, labels) == 400
    assert project.windows()[0].labelled == 400


def test_a_worker_that_dies_is_replaced(project: Any) -> None:
    project.feed.send(rows(10, 2), time=START, prediction_id="x")
    assert project.monitor.find("x").rows == 10
    assert project.pod.process is not None
    workers = psutil.Process(project.pod.process.pid).children()
    assert workers
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers, timeout=10)
    assert eventually("a new worker", lambda: project.monitor.find("x").rows) == 10


def _frame() -> Any:
    import pandas as pd

    return pd.DataFrame({"x": [1.0, 2.0, 3.0]})
