"""A real Prometheus scrapes the monitor and lets its rules fire; Evidently draws its page."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pandas as pd
import pytest
from tests.served import free_port

from modelyard.stages import Label, Reference
from modelyard.testing.feed import MODEL, START, labels_of, rows

END = START + timedelta(days=3)


class Server:
    """A Prometheus on this machine."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())["data"]
        finally:
            connection.close()

    def until(self, path: str, holds: Callable[[Any], Any], seconds: float = 90) -> Any:
        deadline = time.monotonic() + seconds
        said: Any = None
        while time.monotonic() < deadline:
            try:
                said = self.get(path)
            except (OSError, ValueError, KeyError):
                said = None
            if said is not None and (found := holds(said)):
                return found
            time.sleep(0.3)
        raise AssertionError(f"{path} never became so; last: {json.dumps(said)[:500]}")


@pytest.fixture
def server(prometheus: str, watched: Any, tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "prometheus"
    folder.mkdir()
    # The rules wait ten minutes for a condition to last; that is Prometheus' work and not tested here.
    (folder / "rules.yml").write_text(re.sub(r"for: \w+", "for: 0s", watched.monitor.rules()))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": "modelyard", "static_configs": [{"targets": [urlsplit(watched.url).netloc]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                prometheus,
                "--config.file=prometheus.yml",
                f"--web.listen-address=127.0.0.1:{port}",
                "--storage.tsdb.path=data",
            ],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    yield Server(port)
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def test_prometheus_scrapes_what_was_scored_and_its_alerts_are_ours(watched: Any, server: Server) -> None:
    sample = rows(400, 2, temp=25.0)
    watched.feed.send(sample, time=START, prediction_id="warm")
    watched.monitor.add_labels(MODEL, labels_of("warm", sample))
    (window,) = watched.monitor.windows(MODEL, until=END)

    server.until("/api/v1/targets", lambda said: [t for t in said["activeTargets"] if t["health"] == "up"])
    query = f'modelyard_feature_drift_score{{feature="temp",endpoint="{MODEL}"}}'
    found = server.until(f"/api/v1/query?query={quote(query)}", lambda said: said["result"])
    (score,) = [c.score for c in window.columns if c.column == "temp"]
    assert float(found[0]["value"][1]) == pytest.approx(score)

    firing = server.until(
        "/api/v1/alerts", lambda said: [a for a in said["alerts"] if a["state"] == "firing"]
    )
    ours = {(a.name, a.labels.get("feature")) for a in watched.monitor.alerts(MODEL)}
    theirs = {(a["labels"]["alertname"], a["labels"].get("feature")) for a in firing}
    assert theirs == ours == {("ModelyardFeatureDrift", "temp")}
    assert firing[0]["annotations"]["summary"] == f"temp of {MODEL}/1 left its reference"
    # Those after the one that fires may not have been evaluated yet.
    server.until(
        "/api/v1/rules", lambda said: {rule["health"] for rule in said["groups"][0]["rules"]} == {"ok"}
    )


def test_a_scrape_computes_nothing(watched: Any) -> None:
    """The monitor's answer is a file: the same bytes until windows are scored again."""
    watched.feed.send(rows(400, 2), time=START, prediction_id="x")
    watched.monitor.windows(MODEL, until=END)
    process = watched.collector()
    parts = urlsplit(watched.url)

    def scrape() -> bytes:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.request("GET", "/metrics")
        said = connection.getresponse().read()
        connection.close()
        return said

    first, before = scrape(), process.cpu_times()
    assert all(scrape() == first for _ in range(50))
    after = process.cpu_times()
    assert (after.user + after.system - before.user - before.system) / 50 < 0.05, "seconds of CPU per scrape"
    assert b'modelyard_window_rows{endpoint="late-flights"' in first


#: Notes whom the worker asks over the network, and whether Evidently may send telemetry.
_SPY = """
import os, sys
def note(event, given):
    said = None
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        said = f"{event} {given[1:]}"
    if event == "import" and given[0] == "evidently":
        said = f"evidently with DO_NOT_TRACK={os.environ.get('DO_NOT_TRACK')}"
    if said:
        with open(os.environ["SPY"], "a") as file:
            print(said, file=file)
sys.addaudithook(note)
"""


def test_the_page_of_evidently_is_whole_and_asks_nobody(
    watched: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy, heard = tmp_path / "spy", tmp_path / "heard"
    spy.mkdir()
    (spy / "sitecustomize.py").write_text(_SPY)
    sample = rows(400, 2, temp=25.0)
    watched.feed.send(sample, time=START, prediction_id="warm")
    watched.feed.send(rows(5, 2), time=START + timedelta(days=1), prediction_id="few")
    watched.monitor.add_labels(MODEL, labels_of("warm", sample))
    newest, whole = watched.monitor.windows(MODEL, until=END)
    assert (newest.enough, whole.enough) == (False, True)
    with monkeypatch.context() as spied:
        spied.setenv("PYTHONPATH", str(spy))
        spied.setenv("SPY", str(heard))
        spied.delenv("DO_NOT_TRACK", raising=False)
        page = watched.monitor.report(MODEL, tmp_path / "juli ä.html").read_text(encoding="utf-8")
    assert set(heard.read_text().splitlines()) == {"evidently with DO_NOT_TRACK=1"}
    assert list((watched.context.state / "work").iterdir()) == [], "no rows are left behind"
    which = (
        f"{MODEL}/{whole.version} at {MODEL}, {whole.start:%Y-%m-%d %H:%M} to {whole.end:%Y-%m-%d %H:%M} UTC"
    )
    heading = f"{which}: 400 rows beside the reference"
    assert f"<title>{heading}</title>" in page
    assert f">{heading}</h1>" in page
    for word in ("temp", "wind speed", "carrier"):
        assert word in page
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?:https?:)?//[^"]+"', page)


def test_a_bad_column_is_an_error_of_that_column_alone(watched: Any) -> None:
    sample = [{**row, "wind speed": "words"} for row in rows(400, 2)]
    for row in sample:
        del row["carrier"]
    watched.feed.send(sample, time=START, prediction_id="bad")
    (window,) = watched.monitor.windows(MODEL, until=END)
    errors = {c.column: c.error for c in window.columns}
    assert errors["temp"] is None
    assert errors["wind speed"]
    assert errors["carrier"] == "all values are missing"
    assert {
        a.labels["feature"] for a in watched.monitor.alerts(MODEL) if a.name == "ModelyardColumnUnscored"
    } == {
        "wind speed",
        "carrier",
    }


@pytest.mark.parametrize(
    ("truth", "answer", "metric", "good", "bad"),
    [
        (lambda x: 3 * x, lambda x: 3 * x + 0.1, "rmse", 0.1, 5.1),
        (lambda x: "hot" if x > 0 else "kühl", lambda x: "hot" if x > 0 else "kühl", "accuracy", 1.0, 0.0),
    ],
    ids=["regression", "classes"],
)
def test_other_tasks_have_their_own_quality_and_alert(
    watch: Any, truth: Any, answer: Any, metric: str, good: float, bad: float
) -> None:
    values = np.random.default_rng(0).normal(0, 1, 1000)
    watched = watch(
        Reference(
            features=pd.DataFrame({"x": values}),
            labels=[truth(x) for x in values],
            predictions=[answer(x) for x in values],
        )
    )
    asked = [{"x": float(x)} for x in values[:400]]
    bodies = {"request": {"instances": asked}, "response": {"predictions": [answer(r["x"]) for r in asked]}}
    parts = urlsplit(watched.url)
    for kind, body in bodies.items():
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.request("POST", "/", json.dumps(body), {
            "ce-type": f"org.kubeflow.serving.inference.{kind}", "ce-id": "p",
            "ce-inferenceservicename": MODEL, "ce-time": START.isoformat(),
            "ce-annotations": json.dumps({"modelyard.dev/model": MODEL, "modelyard.dev/version": "1"}),
        })  # fmt: skip
        assert connection.getresponse().status == 200
        connection.close()
    labels = [truth(row["x"]) for row in asked]
    watched.monitor.add_labels(
        MODEL, [Label(prediction_id="p", row=n, value=v) for n, v in enumerate(labels)]
    )
    (window,) = watched.monitor.windows(MODEL, until=END)
    assert window.quality_reference[metric] == pytest.approx(good)
    assert window.quality[metric] == pytest.approx(good)
    assert watched.monitor.alerts(MODEL) == []

    wrong = [label + 5 if metric == "rmse" else "other" for label in labels]
    watched.monitor.add_labels(MODEL, [Label(prediction_id="p", row=n, value=v) for n, v in enumerate(wrong)])
    (window,) = watched.monitor.windows(MODEL, until=END)
    assert window.quality[metric] == pytest.approx(bad, abs=0.3)
    (alert,) = watched.monitor.alerts(MODEL)
    assert alert.severity == "critical"
    assert alert.name in ("ModelyardErrorGrew", "ModelyardAccuracyLost")
