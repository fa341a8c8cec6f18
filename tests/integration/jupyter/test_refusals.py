"""Who is not let in, and what is not taken."""

from __future__ import annotations

import http.cookiejar
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
from tests.integration.jupyter.conftest import Jupyter

from modelyard_jupyter.handlers import QUESTIONS

READS = [question.path.replace("([^/]+)", "x") for question in QUESTIONS if question.read]
CHANGES = [question.path.replace("([^/]+)", "x") for question in QUESTIONS if question.change]


@pytest.mark.parametrize("token", [None, "wrong"])
@pytest.mark.parametrize("path", ["summary", "projects/{}/events", *(f"projects/{{}}/{p}" for p in READS)])
def test_nothing_is_read_without_the_token(jupyter: Jupyter, path: str, token: str | None) -> None:
    said = jupyter.ask(path.format("0" * 12), token=token)
    assert said.status == 403, said.body


@pytest.mark.parametrize("token", [None, "wrong"])
@pytest.mark.parametrize("path", CHANGES)
def test_nothing_is_changed_without_the_token(jupyter: Jupyter, path: str, token: str | None) -> None:
    said = jupyter.ask(f"projects/{'0' * 12}/{path}", {}, token=token)
    assert said.status == 403, said.body


def test_a_page_of_somebody_else_can_change_nothing(jupyter: Jupyter) -> None:
    """A browser that is logged in sends its cookie along; only our page knows the token against forgery."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    browser.open(f"{jupyter.url}api/status?token={jupyter.token}", timeout=60).read()
    address = f"{jupyter.url}modelyard/api/v1/{jupyter.project}/models/late-flights/rollback"
    body = json.dumps({"alias": "production", "reason": "forged"}).encode()
    request = urllib.request.Request(address, body, {"Idempotency-Key": "12345678"})
    with pytest.raises(urllib.error.HTTPError) as fault:
        browser.open(request, timeout=60)
    assert fault.value.code == 403


@pytest.mark.parametrize("id", ["000000000000", "..", "../../etc", "%2e%2e", "%2Fetc", "x" * 12])
def test_projects_have_ids_and_no_paths(jupyter: Jupyter, id: str) -> None:
    assert jupyter.ask(f"projects/{id}/runs").status == 404


def test_a_change_needs_a_key_json_and_the_right_fields(jupyter: Jupyter) -> None:
    address = f"{jupyter.project}/models/late-flights/promote"
    wish = {"version": "1", "alias": "staging", "reason": "why not", "expect": ""}
    assert jupyter.ask(address, wish, key=None).json["code"] == "key-missing"
    assert jupyter.ask(address, wish, key="short").json["code"] == "key-missing"
    assert jupyter.ask(address, b"{no json").json["code"] == "request-invalid"
    for wrong, named in (
        ({**wish, "allias": "x"}, "allias"),
        ({**wish, "reason": ""}, "reason"),
        ({k: v for k, v in wish.items() if k != "expect"}, "expect"),
        ({**wish, "reason": "x" * 3000}, "reason"),
    ):
        said = jupyter.ask(address, wrong)
        assert (said.status, said.json["code"]) == (400, "request-invalid")
        assert named in said.json["message"]
    large = jupyter.ask(address, {**wish, "reason": "x" * 2_000_000})
    assert large.status == 413


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("runs/no-such-run", 404, "run-not-found"),
        ("runs?sort=colour", 400, "sort-unknown"),
        ("runs?limit=100000", 400, "request-invalid"),
        ("runs?page=2", 400, "request-invalid"),
        ("models/nobody/versions/1", 404, "model-not-found"),
        ("endpoints/nobody", 404, "endpoint-not-found"),
        ("jobs/none", 404, "job-not-found"),
    ],
)
def test_what_is_not_there_is_one_sentence(jupyter: Jupyter, path: str, status: int, code: str) -> None:
    said = jupyter.ask(f"{jupyter.project}/{path}")
    assert (said.status, said.json["code"]) == (status, code), said.body
    assert "Traceback" not in said.json["message"]


def test_of_a_killed_worker_those_who_read_notice_nothing(jupyter: Jupyter) -> None:
    assert jupyter.ask(f"{jupyter.project}/runs").status == 200
    reads, change = ["runs", "drift", "models", "runs"], f"{jupyter.project}/models/late-flights/promote"
    with ThreadPoolExecutor() as pool, _stopped(jupyter):
        asked = [pool.submit(jupyter.ask, f"{jupyter.project}/{what}") for what in reads]
        wish = {"version": "1", "alias": "staging", "reason": "why not", "expect": ""}
        changing = pool.submit(jupyter.ask, change, wish)
        _passed_on(jupyter, len(asked) + 1)
    assert [one.result().status for one in asked] == [200] * len(reads)
    assert (changing.result().status, changing.result().json["code"]) == (503, "worker-died")
    assert len(_workers(jupyter)) == 1


@contextmanager
def _stopped(jupyter: Jupyter) -> Iterator[None]:
    """The worker answers nothing, and is killed in the end."""
    (worker,) = _workers(jupyter)
    worker.suspend()
    try:
        yield
    finally:
        worker.kill()
        worker.wait(60)


def _passed_on(jupyter: Jupyter, questions: int) -> None:
    """Wait until the server has taken so many questions, and had time to pass them on.

    How much that is goes by how quick it is: it answers what needs no worker in turn with them.
    """
    deadline = time.monotonic() + 60
    while _connections(jupyter) < questions:
        assert time.monotonic() < deadline, "the questions did not arrive"
        time.sleep(0.05)
    for _ in range(10):
        assert jupyter.ask("summary").status == 200
    time.sleep(1)


def _connections(jupyter: Jupyter) -> int:
    """Clients that wait for the server's answer."""
    port = urllib.parse.urlsplit(jupyter.url).port
    found = psutil.Process(jupyter.pid).connections("tcp")
    return sum(one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in found)


def _workers(jupyter: Jupyter) -> list[psutil.Process]:
    children = psutil.Process(jupyter.pid).children()
    return [child for child in children if "modelyard_jupyter.worker" in child.cmdline()]
