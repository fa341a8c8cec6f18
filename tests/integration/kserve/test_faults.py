"""What endpoints do when processes are killed, files are damaged, disks are full and callers are rude."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from modelyard.errors import CorruptStateError, EnvironmentFault, ModelyardError
from modelyard.records import Endpoint
from modelyard.state import read_json
from modelyard.testing import EventCollector
from modelyard.testing.contexts import serve

NAME = "steady"
V1, V2 = "models:/late-flights/1", "models:/late-flights/2"
PREDICT = f"/v1/models/{NAME}:predict"
SECRET = "sehr-geheim-4711"


@pytest.fixture(scope="module")
def endpoint(project: Any) -> Endpoint:
    """Version 1 with version 2 as a canary of 20 percent, with a secret in its environment."""
    env = [{"name": "TOKEN", "value": SECRET}]
    project.apply(NAME, V1, env=env)
    made: Endpoint = project.apply(NAME, V2, canary=20, env=env)
    return made


@pytest.fixture
def body(rows: Any) -> bytes:
    return json.dumps({"instances": rows}).encode()


def text_of(file: Path) -> str:
    """Empty if it has just gone: state is written beside its file, and moved there."""
    with contextlib.suppress(FileNotFoundError):
        return file.read_text("latin-1")
    return ""


def shares(endpoint: Endpoint) -> dict[str, int]:
    return {revision.version: revision.traffic for revision in endpoint.revisions if revision.traffic}


# -- processes that are killed ----------------------------------------------------------------


def test_a_killed_model_server_is_started_again_and_no_caller_sees_more_than_a_5xx(
    project: Any, endpoint: Endpoint, callers: Any, within: Any
) -> None:
    killed = project.model_servers(NAME)[1]
    with callers(endpoint.url, NAME) as under_way:
        time.sleep(0.3)
        killed.kill()
        assert within(60, lambda: project.model_servers(NAME).get(1, killed) != killed)
        assert within(60, lambda: shares(project.server.get(NAME)) == {"1": 80, "2": 20})
        back = time.monotonic()
        assert within(60, lambda: under_way.versions(since=back) == {"1", "2"})
    for _, status, said in under_way.failed():
        assert status in (502, 503, 504), said
        assert list(json.loads(said)) == ["error"]
    assert not [f for f in under_way.failed() if f[0] > back + 0.1]
    assert len(project.family(NAME)) == 2


def test_endpoints_answer_on_without_their_controller_and_the_next_one_adopts_them(
    project: Any, endpoint: Endpoint, callers: Any, within: Any
) -> None:
    before = {p.pid for p in project.everything()}
    with callers(endpoint.url, NAME) as under_way:
        killed = project.kill("controller")
        time.sleep(1)
        seen = project.server.get(NAME)
        assert (seen.url, seen.ready) == (None, False)
        assert seen.message.startswith("not running: modelyard up")
        project.up()
        assert within(60, lambda: shares(project.server.get(NAME)) == {"1": 80, "2": 20})
        project.kill("controller")
        back = project.server.reconcile(NAME)
    assert back.url == endpoint.url
    assert under_way.failed() == []
    assert under_way.versions() == {"1", "2"}
    assert {p.pid for p in project.everything()} - {project.part("controller").pid} == before - {killed.pid}


def test_what_a_dead_controller_left_of_a_deleted_endpoint_is_ended_by_the_next(
    new_project: Any, within: Any, rows: Any
) -> None:
    project = new_project()
    project.apply("first", V1)
    kept = project.apply("second", V1)
    project.kill("controller")
    (model,) = project.family("second")
    project.server.delete("first")
    project.up()
    assert within(60, lambda: project.family("first") == [])
    assert [p.pid for p in project.family("second")] == [model.pid]
    assert within(60, lambda: project.server.get("second").ready)
    assert kept.predict(rows).version == "1"


@pytest.mark.parametrize("part", ["envoy", "activator"])
def test_what_else_is_killed_is_started_again(
    project: Any, endpoint: Endpoint, post: Any, body: bytes, within: Any, part: str
) -> None:
    models = {p.pid for p in project.family(NAME)}
    killed = project.kill(part)

    def answered() -> bool:
        with contextlib.suppress(OSError):
            return post(endpoint.url, PREDICT, body)[0] == 200
        return False

    assert within(60, answered)
    assert within(60, lambda: project.parts(part) not in ([], [killed.pid]))
    assert {p.pid for p in project.family(NAME)} == models


def test_down_ends_everything_even_without_a_controller(new_project: Any) -> None:
    project = new_project()
    project.apply("left", V1)
    project.kill("controller")
    assert len(project.everything()) == 4
    project.down()
    assert project.everything() == []


@pytest.mark.parametrize("what", ["socket", "folder"])
def test_a_socket_that_somebody_removed_is_made_again(
    project: Any, endpoint: Endpoint, post: Any, body: bytes, within: Any, what: str
) -> None:
    before = project.model_servers(NAME)
    folder = project.sockets
    if what == "folder":
        shutil.rmtree(folder)
    else:
        Path(before[2].cmdline()[before[2].cmdline().index("--socket") + 1]).unlink()
    expected = {1: what == "folder", 2: True}

    def changed() -> dict[int, bool]:
        now = project.model_servers(NAME)
        return {n: now.get(n, before[n]).pid != before[n].pid for n in before}

    assert within(60, lambda: changed() == expected)
    assert within(60, lambda: shares(project.server.get(NAME)) == {"1": 80, "2": 20})
    assert {post(endpoint.url, PREDICT, body)[0] for _ in range(40)} == {200}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_in_use_is_never_so_old_that_a_temporary_folder_is_swept_of_it(
    project: Any, endpoint: Endpoint, within: Any
) -> None:
    everything = [project.sockets, *project.sockets.rglob("*")]
    project.kill("controller")
    long_ago = time.time() - 30 * 86400
    for path in everything:
        os.utime(path, (long_ago, long_ago))
    project.up()
    kept = [path for path in everything if path.exists()]
    assert len(kept) > 5
    assert within(60, lambda: min(path.stat().st_mtime for path in kept) > time.time() - 3600)


# -- state files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ['{"generation": 3, "revi', "[]", '{"generation": 1, "revisions": {"1": null}}', None]
)
def test_a_damaged_observed_file_is_written_again(
    project: Any, endpoint: Endpoint, within: Any, content: str | None
) -> None:
    file = project.folder(NAME) / "observed.json"
    living = project.part("controller").pid

    def settled() -> bool:  # else it is written once more, by a controller that has just begun, say
        seen = read_json(file)
        ready = all(revision["ready"] for revision in seen["revisions"].values())
        return bool(seen["routed"]) and ready and seen["controller"] == living

    assert within(60, settled)
    whole = file.read_text()
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert project.server.get(NAME).name == NAME
    assert within(60, lambda: file.exists() and file.read_text() == whole)
    assert shares(project.server.reconcile(NAME)) == {"1": 80, "2": 20}


@pytest.mark.parametrize("content", ['{"name": "ste', "null", "{}", '{"revisions": [], "notes": [], "x": 1}'])
def test_a_damaged_desired_file_is_named_and_the_endpoint_answers_on(
    project: Any, endpoint: Endpoint, post: Any, body: bytes, within: Any, content: str
) -> None:
    file = project.folder(NAME) / "desired.json"
    whole = file.read_bytes()
    try:
        file.write_text(content)
        for call in (project.server.get, project.server.reconcile):
            with pytest.raises(CorruptStateError) as refused:
                call(NAME)
            assert f"{file} is damaged" in refused.value.message
            assert "\n" not in refused.value.message
        (listed,) = (e for e in project.server.endpoints() if e.name == NAME)
        assert f"{file} is damaged" in listed.message
        assert post(endpoint.url, PREDICT, body)[0] == 200
        if content == "{}":  # care for the processes goes on too
            killed = project.model_servers(NAME)[1]
            killed.kill()
            assert within(60, lambda: project.model_servers(NAME).get(1, killed) != killed)
    finally:
        file.write_bytes(whole)
    assert within(60, lambda: shares(project.server.get(NAME)) == {"1": 80, "2": 20})


def test_an_endpoint_with_a_damaged_file_can_be_deleted(project: Any) -> None:
    project.server.apply(project.file("damaged", V1), wait=False)
    (project.folder("damaged") / "desired.json").write_text("{")
    project.server.delete("damaged")
    assert project.family("damaged") == []
    assert not project.folder("damaged").exists()


def test_a_full_disk_is_one_sentence_and_the_endpoint_answers_on(
    new_project: Any, small_disk: Path, post: Any, body: bytes, within: Any, runs: Any
) -> None:
    full = new_project(small_disk / "project")
    try:
        made = full.apply(NAME, V1)
        file = full.file(NAME, V2)
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "ballast").write_bytes(b" " * 2_000_000)
        with pytest.raises(EnvironmentFault, match="no space left on the disk") as refused:
            full.server.apply(file)
        assert refused.value.code == "disk-full"
        killed = full.model_servers(NAME)[1]
        killed.kill()  # nor can it be noted that this one died
        assert within(60, lambda: not runs(killed))
        assert within(60, lambda: post(made.url, PREDICT, body)[0] == 200)
        for _ in range(5):
            status, headers, said = post(made.url, PREDICT, body)
            assert (status, headers["X-Modelyard-Version"]) == (200, "1"), said
        (small_disk / "ballast").unlink()
        assert full.server.apply(file).predict([{"temp": 1.0, "stops": 1}]).version == "2"
    finally:
        full.down()
        shutil.rmtree(full.sockets, ignore_errors=True)


# -- secrets ----------------------------------------------------------------------------------


def test_the_environment_reaches_the_model_server_and_nothing_else(
    project: Any, endpoint: Endpoint, tmp_path: Path
) -> None:
    assert all(p.environ()["TOKEN"] == SECRET for p in project.model_servers(NAME).values())
    for part in ("controller", "activator", "envoy"):
        assert "TOKEN" not in project.part(part).environ()
    (tmp_path / "model.pkl").write_bytes(b"no pickle")
    with pytest.raises(EnvironmentFault) as failed:
        project.apply("leaky", str(tmp_path), env=[{"name": "TOKEN", "value": SECRET}])
    with pytest.raises(ModelyardError) as refused:
        project.apply("leaky", V1, env=[{"name": "PIN", "value": 4711}, {"name": "TOKEN", "value": SECRET}])
    said = [str(failed.value), str(refused.value), refused.value.message, repr(project.server.endpoints())]
    said += project.server.logs("leaky", lines=1000)
    said += project.server.logs(NAME, lines=1000)
    assert SECRET not in "\n".join(said)
    assert "4711" not in "\n".join(said)
    holding = [f for f in project.context.root.rglob("*") if f.is_file() and SECRET in text_of(f)]
    state = [f for f in holding if f.suffix != ".yaml"]
    assert {f.name for f in state} == {"desired.json"}
    assert all(stat.S_IMODE(f.stat().st_mode) == 0o600 for f in state)
    project.server.delete("leaky")


def test_everything_listens_on_the_loopback_or_in_a_folder_of_ours_alone(
    project: Any, endpoint: Endpoint
) -> None:
    ports, paths = set(), set()
    for process in project.everything():
        connections = getattr(process, "net_connections", None) or process.connections  # before psutil 6
        for connection in connections("all"):
            if connection.status == psutil.CONN_LISTEN:
                ports.add((connection.laddr.ip, connection.laddr.port))
            elif connection.family == socket.AF_UNIX and connection.laddr:
                paths.add(Path(str(connection.laddr)).parent)
    assert ports == {("127.0.0.1", urlsplit(endpoint.url or "").port)}
    assert paths == {project.sockets}
    assert stat.S_IMODE(project.sockets.stat().st_mode) == 0o700


# -- the prediction log -----------------------------------------------------------------------


def events_in(metrics: str) -> dict[str, int]:
    start = 'modelyard_payload_events_total{endpoint="logged",outcome="'
    lines = [line.removeprefix(start) for line in metrics.splitlines() if line.startswith(start)]
    return {line.split('"')[0]: int(line.split()[-1]) for line in lines}


def test_a_sink_that_is_down_slows_nobody_and_gets_the_rest_when_it_is_back(
    project: Any, post: Any, body: bytes, within: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    content = json.loads(project.file("logged", V1).read_text())
    content["spec"]["predictor"]["logger"] = {"url": f"http://127.0.0.1:{port}/", "mode": "all"}
    file = project.context.root / "logged.yaml"
    file.write_text(json.dumps(content))
    url = project.server.apply(file).url

    def ask(number: int) -> float:
        began = time.monotonic()
        path = "/v1/models/logged:predict"
        status, headers, text = post(url, path, body, {"X-Request-Id": f"frage-{number}"})
        assert (status, headers["X-Request-Id"]) == (200, f"frage-{number}"), text
        return time.monotonic() - began

    def counted() -> dict[str, int]:
        with socket.create_connection(("127.0.0.1", urlsplit(url).port)) as plain:
            plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return events_in(plain.makefile().read())

    assert sorted(ask(number) for number in range(30))[15] < 0.5, "callers wait for the sink"
    assert within(60, lambda: counted().get("dropped", 0) >= 1)
    collector = EventCollector()
    server = serve(collector._take, port)
    try:
        ask(30)
        assert within(60, lambda: len(collector.of("frage-30")) == 2)
        assert within(60, lambda: sum(counted().values()) == 2 * 31)
    finally:
        server.shutdown()
        server.server_close()
    counts = counted()
    assert counts["stored"] == len(collector.events)
    assert 1 <= counts["dropped"] <= 20, "only what was tried in vain is lost"
    kinds = {event.headers["ce-type"].rpartition(".")[2] for event in collector.of("frage-30")}
    assert kinds == {"request", "response"}
    ids = [event.headers["ce-id"] for event in collector.events]
    assert sorted(ids, key=ids.index) == sorted(ids, key=lambda i: int(i.split("-")[1])), "oldest first"
    project.server.delete("logged")


# -- callers ----------------------------------------------------------------------------------


def raw(endpoint: Endpoint, sent: bytes, seconds: float) -> bytes:
    """What comes back when these bytes are sent, until the other side ends it or says nothing more."""
    port, got = urlsplit(endpoint.url or "").port, b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as plain:
        with contextlib.suppress(OSError):
            plain.sendall(sent)
            while piece := plain.recv(65536):
                got += piece
        return got


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: viel\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00 what a browser says to a https port \r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n", None),
        (b"GET /v1/models/a%0Ab%3Fc%23%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Odd: \x01\x02\r\nConnection: close\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n", b"403"),
        (b"BREW / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", None),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        (b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", b"200"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", None),
    ],
    ids=[
        *("length", "negative", "chunk", "tls", "long", "path", "header", "bytes", "upgrade"),
        *("method", "1.0", "head", "expect", "cut"),
    ],
)
def test_what_is_no_proper_http_is_refused_and_the_next_request_answered(
    endpoint: Endpoint, post: Any, body: bytes, sent: bytes, status: bytes | None
) -> None:
    got = raw(endpoint, sent, 20 if status else 0.5).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    first, _, rest = got.partition(b"\r\n")
    if status is not None:
        assert first.split(b" ")[1] == status, got
    assert b" 500 " not in first
    assert b"Traceback" not in got
    assert b'"error":""' not in got, "a refusal says why"
    if sent.startswith(b"HEAD"):
        assert rest.endswith(b"\r\n\r\n"), "an answer to HEAD has no body"
    assert post(endpoint.url, PREDICT, body)[0] == 200


def test_one_connection_carries_many_requests(endpoint: Endpoint, body: bytes) -> None:
    parts = urlsplit(endpoint.url or "")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    connection.connect()
    used = connection.sock
    for number in range(50):
        sent = b"nonsense" if number % 5 == 0 else body
        connection.request("POST", parts.path + PREDICT, sent)
        got = connection.getresponse()
        got.read()
        assert got.status == (400 if number % 5 == 0 else 200)
        assert connection.sock is used, "it was closed"
    connection.close()


def test_a_hundred_callers_and_some_slow_ones_are_all_answered(
    endpoint: Endpoint, post: Any, body: bytes
) -> None:
    port, path = urlsplit(endpoint.url or "").port, urlsplit(endpoint.url or "").path
    head = f"POST {path}{PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    slow = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(20)]
    try:
        for connection in slow:
            connection.sendall(head + body[:10])
        with ThreadPoolExecutor(100) as pool:
            got = list(pool.map(lambda _: post(endpoint.url, PREDICT, body)[0], range(200)))
        assert got == [200] * 200
        for connection in slow[:10]:
            connection.sendall(body[10:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    finally:
        for connection in slow:  # the other half goes away in the middle of a request
            connection.close()
    assert post(endpoint.url, PREDICT, body)[0] == 200
