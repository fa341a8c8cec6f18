"""Models that end the process, print without an end, load for long; and callers who never finish."""

from __future__ import annotations

import json
import os
import resource
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from modelyard.errors import EnvironmentFault

#: Does what the first value of a row says, loads as long as the environment says.
MODEL = """
import os, time
time.sleep(float(os.environ.get("LOADS", "0")))
class Model:
    def predict(self, rows):
        wish = int(rows[0][0])
        if wish == 1:
            os._exit(7)
        if wish == 2:
            for _ in range(3000):
                print("chatter " * 2000, flush=True)
        if wish == 3:
            raise RuntimeError("three\\nlines\\nof it")
        if wish == 4:
            raise SystemExit(9)
        if wish == 5:
            raise MemoryError
        return rows
"""


class Odd:
    """The project with that model."""

    def __init__(self, project: Any, place: Path) -> None:
        self.project, self._place = project, place
        (place / "odd_package.py").write_text(MODEL)
        (place / "model").mkdir()
        (place / "model" / "model.pkl").write_bytes(b"codd_package\nModel\n)R.")

    def file(self, name: str, loads: float = 0, **predictor: Any) -> Path:
        env = {"PYTHONPATH": str(self._place), "LOADS": str(loads)}
        given = [{"name": key, "value": value} for key, value in env.items()]
        path: Path = self.project.file(name, str(self._place / "model"), env=given)
        content = json.loads(path.read_text())
        content["metadata"]["annotations"] = {"autoscaling.knative.dev/window": "6s"}
        content["spec"]["predictor"] |= predictor
        path.write_text(json.dumps(content))
        return path


@pytest.fixture(scope="module")
def odd(new_project: Any, tmp_path_factory: pytest.TempPathFactory) -> Odd:
    return Odd(new_project(trust_pickle=True), tmp_path_factory.mktemp("odd"))


def wish(number: int) -> bytes:
    return json.dumps({"instances": [[number]]}).encode()


@pytest.fixture(scope="module")
def odd_url(odd: Odd) -> str:
    url: str = odd.project.server.apply(odd.file("odd")).url
    return url


PATH = "/v1/models/odd:predict"


def test_one_that_ends_the_process_is_started_again_and_its_caller_told(
    odd: Odd, odd_url: str, post: Any, within: Any
) -> None:
    status, _, said = post(odd_url, PATH, wish(1))
    assert (status, json.loads(said)) == (503, {"error": "the model server ended while it answered"})
    assert within(60, lambda: post(odd_url, PATH, wish(0))[0] == 200)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (3, "RuntimeError: three lines of it"),
        (4, "RuntimeError: the model wanted to exit with 9"),
        (5, "MemoryError"),
    ],
)
def test_what_a_model_raises_is_a_500_in_a_sentence_and_it_answers_on(
    odd: Odd, odd_url: str, post: Any, number: int, said: str
) -> None:
    (before,) = odd.project.family("odd")
    status, _, text = post(odd_url, PATH, wish(number))
    assert status == 500
    assert json.loads(text)["error"].startswith(said)
    assert post(odd_url, PATH, wish(0))[0] == 200
    assert [process.pid for process in odd.project.family("odd")] == [before.pid]


def test_one_that_prints_without_an_end_fills_no_disk(odd: Odd, odd_url: str, post: Any, within: Any) -> None:
    log = odd.project.context.state.parent / "logs" / "endpoint-odd.log"
    assert post(odd_url, PATH, wish(2))[0] == 200
    kept = log.with_name("endpoint-odd.log.1")
    assert within(60, kept.exists)
    assert within(60, lambda: log.stat().st_size < 32 * 1024 * 1024)
    assert post(odd_url, PATH, wish(0))[0] == 200
    kept.unlink()


def test_one_that_loads_for_long_is_waited_for_by_requests_but_not_by_apply_for_ever(
    odd: Odd, new_project: Any, post: Any, within: Any
) -> None:
    # Only the command waits so short a time: what comes first, the imports, may take longer.
    impatient = new_project(odd.project.context.root, trust_pickle=True, ready_timeout=20)
    with pytest.raises(EnvironmentFault, match=r"not ready after 2\d s \(loading the model\)"):
        impatient.server.apply(odd.file("long", loads=25, minReplicas=0))
    assert within(60, lambda: odd.project.server.get("long").ready)
    assert within(60, lambda: odd.project.family("long") == [])
    url = odd.project.server.get("long").url
    began = time.monotonic()
    assert post(url, "/v1/models/long:predict", wish(0), seconds=90)[0] == 200
    assert time.monotonic() - began > 20
    odd.project.server.delete("long")


def test_who_waits_longer_than_an_answer_may_take_is_told_to_come_again(
    odd: Odd, post: Any, within: Any
) -> None:
    made = odd.project.server.apply(odd.file("late", loads=8, minReplicas=0, timeout=3))
    assert within(60, lambda: odd.project.family("late") == [])
    status, headers, said = post(made.url, "/v1/models/late:predict", wish(0))
    assert status == 503
    assert headers["Retry-After"]
    assert "late-00001 was not ready within 2 s" in json.loads(said)["error"]
    odd.project.server.delete("late")


def test_a_thousand_slow_connections_hold_nobody_up(odd: Odd, odd_url: str, post: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1500:
        pytest.skip("a thousand connections need the right to open 1500 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1500), hard))
    parts = urlsplit(odd_url)
    head = f"POST {parts.path}{PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
    kinds = (b"POST", head.encode(), head.encode() + b"\r\n{", b"")
    slow = [socket.create_connection(("127.0.0.1", parts.port or 0), timeout=30) for _ in range(1000)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(kinds[number % len(kinds)])
        took = []
        for _ in range(50):
            began = time.monotonic()
            assert post(odd_url, PATH, wish(0))[0] == 200
            took.append(time.monotonic() - began)
        assert sorted(took)[25] < 1, "callers wait for those who say nothing"
        (envoy,) = odd.project.parts("envoy")
        assert len(os.listdir(f"/proc/{envoy}/fd")) < 2500  # noqa: PTH208
    finally:
        for connection in slow:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert post(odd_url, PATH, wish(0))[0] == 200


def test_a_controller_that_takes_no_notice_is_the_reason(odd: Odd, odd_url: str, new_project: Any) -> None:
    impatient = new_project(odd.project.context.root, trust_pickle=True, ready_timeout=20)
    controller = odd.project.part("controller")
    controller.suspend()
    try:
        with pytest.raises(EnvironmentFault, match="its controller has not taken notice") as caught:
            impatient.server.apply(odd.file("odd", timeout=99))
    finally:
        controller.resume()
    assert caught.value.hint.startswith("modelyard down, then modelyard up")
