"""The monitor of a cluster under load: many labels, slow clients, a full disk, and little memory."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from modelyard.errors import EnvironmentFault, UsageError
from modelyard.records import Actor, Promotion, now
from modelyard.stages import Label
from modelyard.testing.base import eventually
from modelyard.testing.feed import MODEL, START, labels_of, rows

# -- much, slow, full -----------------------------------------------------------------------


def test_half_a_million_labels_pass_through_and_memory_stays_small(project: Any) -> None:
    project.feed.send(rows(400, 2), time=START, prediction_id="p")
    assert project.pod.process is not None
    process = psutil.Process(project.pod.process.pid)
    peak = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    many = (Label(prediction_id=f"call-{n // 10}", row=n % 10, value=n % 2) for n in range(500_000))
    try:
        assert project.monitor.add_labels(MODEL, many) == 500_000
    finally:
        done.set()
        thread.join()
    assert peak[0] < 250 << 20, f"{peak[0] >> 20} MiB"
    assert project.monitor.add_labels(MODEL, labels_of("p", rows(400, 2))) == 400
    assert project.windows()[0].labelled == 400


def test_labels_of_every_kind_arrive_as_they_are_stored_here(project: Any) -> None:
    import numpy as np

    values: list[Any] = [1, 2.5, True, "spät", np.int64(3), np.float64("nan"), float("nan")]
    project.feed.send(rows(len(values), 2), time=START, prediction_id="p")
    listed = [Label(prediction_id="p", row=np.int64(n), value=v) for n, v in enumerate(values)]  # type: ignore[arg-type]
    assert project.monitor.add_labels(MODEL, iter(listed)) == len(values)
    assert project.windows()[0].labelled == 5


def test_a_file_of_labels_that_breaks_off_stores_none(project: Any) -> None:
    project.feed.send(rows(400, 2), time=START, prediction_id="p")

    def broken() -> Iterator[Label]:
        yield from labels_of("p", rows(400, 2))
        raise UsageError("labels-invalid", "line 401 is no label")

    with pytest.raises(UsageError, match="line 401"):
        project.monitor.add_labels(MODEL, broken())
    assert project.windows()[0].labelled == 0


def test_events_are_taken_while_a_slow_client_sends_labels(project: Any) -> None:
    feed = project.feed
    gate = threading.Event()

    def slow() -> Iterator[Label]:
        yield from labels_of("p", rows(4, 2))
        gate.wait(120)

    thread = threading.Thread(target=lambda: project.monitor.add_labels(MODEL, slow()))
    thread.start()
    try:
        began = time.monotonic()
        for number in range(20):
            feed.send(rows(2, number), time=START, prediction_id=f"call-{number}")
        assert project.monitor.find("call-19").rows == 2
        assert time.monotonic() - began < 60
    finally:
        gate.set()
        thread.join(60)


@pytest.mark.parametrize("small_disk", ["2m"], indirect=True)
def test_a_full_disk_is_said_and_nothing_is_half_stored(
    small_disk: Path, new_pod: Callable[..., Any], new_project: Callable[..., Any]
) -> None:
    pod = new_pod(small_disk / "data")
    project = new_project(pod)
    sample = rows(50, 2)
    project.feed.send(sample, time=START, prediction_id="p")
    assert project.monitor.find("p").rows == 50
    many = (Label(prediction_id=f"call-{n}", row=0, value=1) for n in range(200_000))
    with pytest.raises(EnvironmentFault) as caught:
        project.monitor.add_labels(MODEL, many)
    assert caught.value.code == "disk-full"
    assert project.monitor.add_labels(MODEL, labels_of("p", sample)) == 50, "there is room again"
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                os.write(file.fileno(), bytes(512))
        except OSError:
            pass
    project.feed.send(rows(5, 3), time=START, prediction_id="held")
    assert json.loads(pod.ask("POST", "/flush")[1])["default/flüge/2013"]["waiting"] == 5
    filler.unlink()
    assert project.monitor.find("held").rows == 5
    assert project.windows()[0].labelled == 50


# -- what goes on by itself -----------------------------------------------------------------


def test_windows_are_scored_without_being_asked_for(
    tmp_path: Path, new_pod: Callable[..., Any], new_project: Callable[..., Any]
) -> None:
    pod = new_pod(tmp_path / "data", every=0.5)
    project = new_project(pod)
    project.feed.send(rows(400, 2, temp=40.0), time=START, prediction_id="x")

    def scored() -> str | None:
        text = pod.ask("GET", "/metrics")[1]
        found = re.search(r"^modelyard_feature_drift_detected\{.*temp.*\} 1.0", text, re.MULTILINE)
        return text if found else None

    assert "modelyard_monitor_last_success_timestamp_seconds" in eventually("a scored window", scored)


def test_marks_of_promotions_and_deployments_are_shown(project: Any) -> None:
    promotion = Promotion(
        id=f"{MODEL}#1", model=MODEL, alias="production", action="promote", from_version=None,
        to_version="1", time=now(), actor=Actor(user="anna"), reason="better", status="completed",
    )  # fmt: skip
    project.monitor.mark_promotion(promotion)
    project.monitor.mark_deployment(project.endpoint)
    project.monitor.mark_deployment(project.endpoint)
    text = project.monitor.metrics()
    assert len(re.findall(r'modelyard_promotion_timestamp_seconds\{alias="production"', text)) == 1
    assert len(re.findall(r'modelyard_deployment_timestamp_seconds\{endpoint="late-flights"', text)) == 1


def test_it_is_small_while_nobody_needs_it(pod: Any, new_project: Callable[..., Any]) -> None:
    assert pod.process is not None
    process = psutil.Process(pod.process.pid)
    assert process.memory_info().rss < 80 << 20
    project = new_project(pod)
    for number in range(20):
        project.feed.send(rows(100, number), time=START, prediction_id=f"call-{number}")
    assert project.windows()[0].rows == 2000
    assert process.memory_info().rss < 190 << 20, "pyarrow writes here; pandas and DuckDB work elsewhere"


def test_it_listens_on_this_machine_alone_unless_told_otherwise(pod: Any) -> None:
    assert pod.process is not None
    connections = psutil.Process(pod.process.pid).connections("inet")
    assert {c.laddr.ip for c in connections if c.status == "LISTEN"} == {"127.0.0.1"}
    assert urlsplit(pod.url).hostname == "127.0.0.1"
