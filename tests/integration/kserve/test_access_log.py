"""The access log: every request that came to Envoy, nothing that is secret, never in the way of an answer."""

from __future__ import annotations

import json
import shutil
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from modelyard.errors import NotFoundError, UsageError
from modelyard.records import Endpoint
from modelyard_kserve.local import access_log, logs, tokens

V1 = "models:/late-flights/1"
SECRET = "streng-geheim"
BODY = json.dumps({"instances": [{"temp": 20.5, "stops": 0}]}).encode()


@pytest.fixture(scope="module")
def logged(new_project: Callable[..., Any]) -> Any:
    made = new_project(access_log=True)
    for name, noted in (("open", {}), ("guarded", {tokens.ANNOTATION: "true"})):
        file = made.file(name, V1)
        content = json.loads(file.read_text())
        content["metadata"]["annotations"] = noted
        file.write_text(json.dumps(content))
        made.server.apply(file)
    return made


def file_of(project: Any) -> Path:
    return Path(project.context.state.parent / "logs" / access_log.FILE)


def requests(project: Any, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in project.server.access_log(name, lines=1000)]


def found(project: Any, name: str, request_id: str, within: Any) -> dict[str, Any]:
    """The only line with that id; Envoy writes within a second."""

    def lines() -> list[dict[str, Any]]:
        return [one for one in requests(project, name) if one["request_id"] == request_id]

    assert within(60, lambda: bool(lines())), requests(project, name)[-5:]
    (line,) = lines()
    return line


def test_a_request_is_a_line_that_says_who_answered_and_holds_no_secret(
    logged: Any, post: Any, within: Any
) -> None:
    endpoint = logged.server.get("open")
    headers = {"X-Request-Id": "one", "Authorization": SECRET, "Cookie": SECRET}
    path = "/v1/models/open:predict"
    assert post(endpoint.url, f"{path}?key={SECRET}", BODY, headers)[0] == 200
    line = found(logged, "open", "one", within)
    assert abs(time.time() - _seconds(line.pop("time"))) < 60
    assert 0 <= line.pop("duration_ms") < 60_000
    assert line.pop("bytes_out") > 10
    assert line == {
        "endpoint": "open",
        "namespace": "default",
        "model": "late-flights",
        "version": "1",
        "revision": "open-00001",
        "answered_by": "open-00001",
        "method": "POST",
        "path": path,
        "status": 200,
        "grpc_status": None,
        "flags": "-",
        "bytes_in": len(BODY),
        "request_id": "one",
        "protocol": "HTTP/1.1",
    }
    assert SECRET not in file_of(logged).read_text()
    assert stat.S_IMODE(file_of(logged).stat().st_mode) == 0o600


def _seconds(time_of: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(time_of.replace("Z", "+00:00")).timestamp()


def test_what_was_refused_is_a_line_too_and_nobody_writes_into_anothers(
    logged: Any, post: Any, within: Any
) -> None:
    opened, guarded = logged.server.get("open"), logged.server.get("guarded")
    forged = {"X-Modelyard-Revision": 'x","endpoint":"open",', "X-Modelyard-Model": SECRET}
    posts = [
        (opened.url, "/v1/models/open:predict", b"{", "bad", 400),
        (guarded.url, "/v1/models/guarded:predict", BODY, "shut", 401),
        (guarded.url, '/v1/"endpoint":"open",', BODY, "quoted", 401),
    ]
    for url, path, body, request_id, status in posts:
        assert post(url, path, body, {**forged, "X-Request-Id": request_id})[0] == status
    line = found(logged, "open", "bad", within)
    assert (line["status"], line["revision"], line["model"]) == (400, "open-00001", "late-flights")
    line = found(logged, "guarded", "shut", within)
    assert (line["status"], line["revision"], line["model"]) == (401, None, None)
    assert found(logged, "guarded", "quoted", within)["endpoint"] == "guarded"
    assert {one["endpoint"] for one in requests(logged, "open")} == {"open"}
    assert SECRET not in file_of(logged).read_text()
    assert len(list(logged.server.access_log("guarded", lines=1))) == 1
    with pytest.raises(NotFoundError):
        logged.server.access_log("nobody")


def test_grpc_is_logged_with_its_status(logged: Any, within: Any) -> None:
    import grpc

    parts = urlsplit(logged.server.get("open").url)
    options = [("grpc.default_authority", "open-default.example.com")]
    method = "/inference.GRPCInferenceService/ServerLive"
    with grpc.insecure_channel(f"{parts.hostname}:{parts.port}", options) as channel:
        live = channel.unary_unary(method, lambda said: said, lambda said: said)
        assert live(b"", metadata=[("x-request-id", "by-grpc")], timeout=30) == b"\x08\x01"
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(f"{method}s")(b"", metadata=[("x-request-id", "no-method")], timeout=30)
    line = found(logged, "open", "by-grpc", within)
    assert (line["protocol"], line["grpc_status"], line["revision"]) == ("HTTP/2", 0, "open-00001")
    assert line["path"] == method
    assert found(logged, "open", "no-method", within)["grpc_status"] == 12


def test_the_log_is_turned_over_and_no_line_is_lost(logged: Any, post: Any, within: Any) -> None:
    url, file = logged.server.get("open").url, file_of(logged)
    older = file.with_name(f"{file.name}.1")
    ids = [f"turned-{number}" for number in range(60)]
    for number, request_id in enumerate(ids):
        if number == 20:
            with file.open("ab") as log:  # as if there had been as many requests
                log.write((b" " * 1023 + b"\n") * (logs.MOST // 1024 + 1))
        assert post(url, "/v1/models/open:predict", BODY, {"X-Request-Id": request_id})[0] == 200
        time.sleep(0.05)
    assert within(60, older.exists)
    assert within(60, lambda: ids[-1] in [one["request_id"] for one in requests(logged, "open")])
    said = [one["request_id"] for one in requests(logged, "open")]
    assert [one for one in said if one.startswith("turned-")] == ids
    assert within(60, lambda: file.exists() and file.stat().st_size < logs.MOST)
    file.unlink()  # somebody cleans up
    assert within(60, file.exists)
    assert post(url, "/v1/models/open:predict", BODY, {"X-Request-Id": "after"})[0] == 200
    found(logged, "open", "after", within)


def test_it_is_switched_on_and_off_while_callers_ask(
    new_project: Callable[..., Any], callers: Any, within: Any
) -> None:
    from modelyard_kserve.config import KserveSettings

    made = new_project()
    endpoint: Endpoint = made.apply("switched", V1)
    with pytest.raises(UsageError) as refused:
        made.server.access_log("switched")
    assert refused.value.code == "no-access-log"
    before = made.part("envoy").pid
    with callers(endpoint.url, "switched") as asking:
        for wanted in (True, False):
            made.context = replace(made.context, settings=KserveSettings(access_log=wanted))
            made.up()
            if wanted:
                assert within(60, lambda: len(requests(made, "switched")) > 5)
            else:
                assert within(60, lambda: _stands_still(file_of(made)))
    assert asking.failed() == []
    assert len(asking.answers) > 20
    assert made.part("envoy").pid == before


def _stands_still(file: Path) -> bool:
    size = file.stat().st_size
    time.sleep(2.5)
    return file.stat().st_size == size


def test_a_file_that_cannot_be_opened_keeps_nobody_from_asking(
    new_project: Callable[..., Any], post: Any
) -> None:
    made = new_project(access_log=True)
    file_of(made).mkdir(parents=True)
    endpoint = made.apply("unlogged", V1)
    assert post(endpoint.url, "/v1/models/unlogged:predict", BODY)[0] == 200
    assert "so requests are not logged" in (file_of(made).parent / "serving.log").read_text()


def test_a_full_disk_costs_lines_and_no_answers(
    new_project: Callable[..., Any], small_disk: Path, post: Any, within: Any
) -> None:
    full = new_project(small_disk / "project", access_log=True)
    path = "/v1/models/full:predict"
    try:
        url = full.apply("full", V1).url
        assert post(url, path, BODY, {"X-Request-Id": "before"})[0] == 200
        found(full, "full", "before", within)
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "ballast").write_bytes(b" " * 2_000_000)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert post(url, path, BODY)[0] == 200
        (small_disk / "ballast").unlink()
        assert post(url, path, BODY, {"X-Request-Id": "after"})[0] == 200
        found(full, "full", "after", within)
    finally:
        full.down()
        shutil.rmtree(full.sockets, ignore_errors=True)
