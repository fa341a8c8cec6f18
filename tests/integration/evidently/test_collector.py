"""The prediction log survives what happens to its collector, and says what it lost."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from modelyard.errors import CorruptStateError, NotFoundError
from modelyard.stages import Label, Reference
from modelyard.testing.feed import MODEL, START, labels_of, rows
from modelyard_evidently import log

END = START + timedelta(days=3)


def ask(url: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def kill(watched: Any) -> None:
    process = watched.collector()
    process.kill()
    psutil.wait_procs([process], timeout=10)


def outcomes(url: str) -> dict[str, int]:
    status, text = ask(url, "GET", "/metrics")
    assert status == 200
    return {k: int(v) for k, v in re.findall(r'modelyard_log_events_total\{outcome="(\w+)"\} (\d+)', text)}


def test_what_was_written_survives_a_kill_and_the_collector_goes_on(watched: Any) -> None:
    watched.feed.send(rows(400, 2), time=START, prediction_id="before")
    assert watched.monitor.find("before").rows == 400  # asking makes it write
    watched.feed.send(rows(5, 3), time=START, prediction_id="lost")
    kill(watched)
    (window,) = watched.monitor.windows(MODEL, until=END)
    assert window.rows == 400, "the log is read without its collector"
    watched.feed.send(rows(400, 4), time=START + timedelta(days=1), prediction_id="after")
    assert [w.rows for w in watched.monitor.windows(MODEL, until=END)] == [400, 400]
    with pytest.raises(NotFoundError):
        watched.monitor.find("lost")


def test_nobody_has_to_ask_for_it_to_be_written(watched: Any) -> None:
    watched.feed.send(rows(10, 2), time=START, prediction_id="x")
    log = watched.context.state / "log"
    deadline = time.monotonic() + 60
    while not list(log.glob("**/part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.1)
    kill(watched)
    assert watched.monitor.windows(MODEL, until=END)[0].rows == 10


def test_many_small_calls_are_counted_once_each_and_their_parts_are_merged(watched: Any) -> None:
    feed = watched.feed
    for number in range(70):
        feed.send(rows(2, number), time=START, prediction_id=f"call-{number}")
        ask(watched.url, "POST", "/flush")
    parts = list((watched.context.state / "log").glob("**/part-*.parquet"))
    assert 0 < len(parts) < 64
    assert watched.monitor.windows(MODEL, until=END)[0].rows == 140
    assert outcomes(watched.url)["stored"] == 140, "two events a call"


def test_a_full_disk_holds_rows_back_and_loses_none_once_there_is_room(
    small_disk: Path, watch: Callable[..., Any], reference: Reference
) -> None:
    watched = watch(reference, root=small_disk / "p")
    url = watched.url
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                os.write(file.fileno(), bytes(512))
        except OSError:
            pass
    watched.feed.send(rows(50, 2), time=START, prediction_id="held")
    status, said = ask(url, "POST", "/flush")
    assert status == 200
    assert json.loads(said)["waiting"] == 50
    assert outcomes(url)["dropped"] == 0
    filler.unlink()
    assert json.loads(ask(url, "POST", "/flush")[1])["waiting"] == 0
    assert watched.monitor.find("held").rows == 50


def test_what_is_no_event_is_refused_and_counted(watched: Any) -> None:
    kind = "org.kubeflow.serving.inference.request"
    cases: list[tuple[dict[str, str], bytes, int]] = [
        ({}, b"{}", 400),
        ({"ce-type": kind}, b"{}", 400),
        ({"ce-type": "something.else", "ce-id": "1"}, b"{}", 400),
        ({"ce-type": kind, "ce-id": "1"}, b" " * (65 << 20), 413),
    ]
    for number, (headers, body, status) in enumerate(cases, 1):
        said, text = ask(watched.url, "POST", "/", body, **headers)
        assert said == status, text
        assert list(json.loads(text)) == ["error"]
        assert sum(outcomes(watched.url).values()) == number
    assert (outcomes(watched.url)["invalid"], outcomes(watched.url)["dropped"]) == (3, 1)
    watched.feed.send(rows(3, 1), time=START, prediction_id="good")
    assert watched.monitor.find("good").rows == 3


def test_a_kill_loses_the_last_two_seconds_at_most(watched: Any) -> None:
    feed = watched.feed
    sent: list[tuple[float, str]] = []
    reader = log.Reader(watched.context.state, MODEL)
    began, lag = time.monotonic(), 0.0
    # A busy machine takes its time to write; how long is seen of the first one.
    while time.monotonic() - began < (max(3.5, lag + 1.5) if lag else 60):
        name = f"call-{len(sent)}"
        feed.send(rows(2, 1), time=START, prediction_id=name)
        sent.append((time.monotonic(), name))
        if not lag and len(sent) % 5 == 0 and reader.find("call-0") is not None:
            lag = time.monotonic() - sent[0][0]
        time.sleep(0.05)
    assert lag, "nothing is written"
    killed = time.monotonic()
    kill(watched)
    early = [name for at, name in sent if killed - at > max(2.0, lag) + 0.5]
    assert len(early) > 3
    assert [name for name in early if reader.find(name) is None] == []


def test_bodies_that_are_no_inference_are_counted_and_harm_nothing(watched: Any) -> None:
    kinds = [f"org.kubeflow.serving.inference.{kind}" for kind in ("request", "response")]
    bodies = [b"no json", b"[]", b'{"instances": 5}', b'{"instances": [[1]], "predictions": [1, 2]}', b"\xff"]
    for number, body in enumerate(bodies):
        for kind in kinds:
            headers = {"ce-type": kind, "ce-id": str(number), "ce-inferenceservicename": MODEL}
            assert ask(watched.url, "POST", "/", body, **headers)[0] == 200
    watched.feed.send(rows(3, 1), time=START, prediction_id="good")
    assert watched.monitor.find("good").rows == 3
    assert outcomes(watched.url)["invalid"] == 2 * len(bodies)


def test_a_name_from_the_network_never_leaves_the_log(watched: Any) -> None:
    names = ["../../x", "..", "a/b", "", "n" * 300]
    for name, kind in itertools.product(names, ("request", "response")):
        headers = {
            "ce-type": f"org.kubeflow.serving.inference.{kind}",
            "ce-id": name[:20] or "1",
            "ce-inferenceservicename": name,
            "ce-annotations": json.dumps({"modelyard.dev/model": name, "modelyard.dev/version": name}),
        }
        ask(watched.url, "POST", "/", b'{"instances": [[1]], "predictions": [1]}', **headers)
    ask(watched.url, "POST", "/flush")
    assert (outcomes(watched.url)["stored"], outcomes(watched.url)["invalid"]) == (6, 4)
    root = watched.context.root
    outside = [
        p for p in root.parent.rglob("part-*.parquet") if watched.context.state / "log" not in p.parents
    ]
    assert outside == []


def test_it_listens_on_this_machine_alone(watched: Any) -> None:
    assert watched.url.startswith("http://127.0.0.1:")
    listening = [c.laddr.ip for c in watched.collector().connections("inet") if c.status == "LISTEN"]
    assert listening == ["127.0.0.1"]


def test_a_damaged_part_is_named_and_can_be_moved_away(watched: Any) -> None:
    watched.feed.send(rows(10, 2), time=START, prediction_id="first")
    watched.monitor.find("first")
    watched.feed.send(rows(10, 3), time=START, prediction_id="second")
    watched.monitor.find("second")
    part = min((watched.context.state / "log").glob("**/part-*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    for question in (
        lambda: watched.monitor.windows(MODEL, until=END),
        lambda: watched.monitor.find("second"),
    ):
        with pytest.raises(CorruptStateError) as caught:
            question()
        assert caught.value.code == "state-corrupt"
        assert str(part) in caught.value.message
    part.rename(part.with_name(f"{part.name}.bad"))
    assert watched.monitor.windows(MODEL, until=END)[0].rows == 10


def test_the_last_label_wins_in_whatever_order_they_were_stored(watched: Any) -> None:
    sample = rows(400, 5)
    watched.feed.send(sample, time=START, prediction_id="p")
    watched.monitor.add_labels(MODEL, labels_of("p", sample))
    good = watched.monitor.windows(MODEL, until=END)[0].quality["accuracy"]
    wrong = [
        Label(prediction_id="p", row=n, value=1 - label.value)
        for n, label in enumerate(labels_of("p", sample))
    ]
    watched.monitor.add_labels(MODEL, wrong)
    (window,) = watched.monitor.windows(MODEL, until=END)
    assert window.labelled == 400
    assert window.quality["accuracy"] == pytest.approx(1 - good)


def test_a_window_is_scored_again_for_new_labels_and_not_without_a_reason(watched: Any) -> None:
    sample = rows(400, 5)
    watched.feed.send(sample, time=START, prediction_id="p")
    watched.monitor.windows(MODEL, until=END)
    (file,) = (watched.context.state / "windows").glob("**/*.json")
    first = file.stat().st_mtime_ns
    watched.monitor.windows(MODEL, until=END)
    assert file.stat().st_mtime_ns == first
    watched.monitor.add_labels(MODEL, labels_of("p", sample)[:5])
    assert watched.monitor.windows(MODEL, until=END)[0].labelled == 5
    assert file.stat().st_mtime_ns != first
