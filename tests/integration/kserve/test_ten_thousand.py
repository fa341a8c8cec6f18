"""Ten thousand requests while everything that can happen to an endpoint happens."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

V1, V2 = "models:/late-flights/1", "models:/late-flights/2"
NAME, CALLERS, REQUESTS = "steady", 8, 10_000


@dataclass
class Crowd:
    """Callers with a connection of their own each, who connect again when nobody listens.

    Attributes:
        said: when a request began, the version that answered or why none did.
    """

    url: str
    body: bytes
    said: list[tuple[float, str]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Crowd:
        self._threads = [threading.Thread(target=self._ask) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self._threads:
            thread.join(60)

    def until(self, count: int) -> None:
        """Wait for so many answers since now."""
        wanted, deadline = len(self.said) + count, time.monotonic() + 120
        while len(self.said) < wanted:
            assert time.monotonic() < deadline, "they stopped answering"
            time.sleep(0.01)

    def failed(self, since: int) -> list[str]:
        return [said for _, said in self.said[since:] if said not in ("1", "2")]

    def _ask(self) -> None:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        path = f"{parts.path}/v1/models/{NAME}:predict"
        while not self.ended.is_set():
            began = time.monotonic()
            try:
                _connected(connection)
                connection.request("POST", path, self.body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read().decode()
                said = (
                    answer.headers["X-Modelyard-Version"]
                    if answer.status == 200
                    else f"{answer.status} {text}"
                )
            except (OSError, http.client.HTTPException) as fault:
                connection.close()
                said = repr(fault)
            self.said.append((began, said))
        connection.close()


def _connected(connection: http.client.HTTPConnection) -> None:
    """Nothing was asked yet when nobody listens, so it may be tried again."""
    deadline = time.monotonic() + 30
    while connection.sock is None:
        try:
            connection.connect()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "nobody listens any more"
            time.sleep(0.01)


def file(project: Any, uri: str, canary: int | None = None, **predictor: Any) -> Path:
    path: Path = project.file(NAME, uri, canary)
    content = json.loads(path.read_text())
    content["metadata"]["annotations"] = {"autoscaling.knative.dev/window": "6s"}
    content["spec"]["predictor"] |= predictor
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def crowd(project: Any, rows: Any) -> Iterator[Crowd]:
    made = project.server.apply(file(project, V1))
    with Crowd(made.url, json.dumps({"instances": rows}).encode()) as asking:
        asking.until(100)
        yield asking
    project.server.delete(NAME)


def test_a_roll_out_and_a_canary_lose_nothing_and_share_as_they_are_told(project: Any, crowd: Crowd) -> None:
    began = len(crowd.said)
    project.server.apply(file(project, V2, canary=20))
    start = time.monotonic()
    time.sleep(0.2)
    crowd.until(4000)
    split = [said for at, said in list(crowd.said) if at >= start + 0.1]
    share, sigma = split.count("2") / len(split), (0.2 * 0.8 / len(split)) ** 0.5
    assert abs(share - 0.2) < 5 * sigma, f"{share:.4f} of {len(split)} asked the canary"
    project.server.apply(file(project, V2))
    switched = time.monotonic()
    crowd.until(2000)
    assert {said for at, said in list(crowd.said) if at >= switched + 0.1} == {"2"}
    assert crowd.failed(began) == []


def test_a_killed_controller_loses_nothing(project: Any, crowd: Crowd) -> None:
    began = len(crowd.said)
    project.kill("controller")
    crowd.until(500)
    project.up()
    crowd.until(500)
    assert crowd.failed(began) == []


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_killed_replica_loses_what_it_was_working_on(
    project: Any, crowd: Crowd, within: Any, replicas: int
) -> None:
    project.server.apply(file(project, V2, minReplicas=replicas))
    serving = project.model_servers(NAME)[max(project.model_servers(NAME))]
    assert within(60, lambda: len(project.family(NAME)) >= replicas)
    began = len(crowd.said)
    serving.kill()
    crowd.until(800)
    lost = crowd.failed(began)
    # Its connections end one after the other: who was refused may ask again on one that is still open.
    assert len(lost) <= 2 * CALLERS, "more than it can have been working on"
    assert all("the model server ended while it answered" in said for said in lost), lost


def test_a_killed_envoy_loses_what_was_under_way(project: Any, crowd: Crowd) -> None:
    began = len(crowd.said)
    project.kill("envoy")
    dead = time.monotonic()
    crowd.until(800)
    lost = [(at, said) for at, said in crowd.said[began:] if said not in ("1", "2")]
    # While it dies its port still takes connections, and loses them.
    assert len(lost) <= 3 * CALLERS, "more than there were connections"
    assert all(at < dead + 0.5 for at, _ in lost), "it was gone by then"
    assert all("503" not in said for _, said in lost), lost
    gap = max(b - a for (a, _), (b, _) in zip(crowd.said[began:], crowd.said[began + 1 :]))
    assert gap < 15, f"{gap:.1f} s without an answer"


def test_what_slept_wakes_for_all_of_them(project: Any, crowd: Crowd, within: Any) -> None:
    crowd.until(max(0, REQUESTS - len(crowd.said)))
    assert len(crowd.said) >= REQUESTS
    project.server.apply(file(project, V2, minReplicas=0))
    crowd.__exit__()
    assert within(60, lambda: project.family(NAME) == [])
    again = Crowd(crowd.url, crowd.body)
    with again:
        again.until(1000)
    assert again.failed(0) == []
    assert {said for _, said in again.said} == {"2"}
