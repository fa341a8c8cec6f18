"""What an endpoint with a real model answers, refuses, and sends where."""

from __future__ import annotations

import http.client
import json
import math
import socket
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest

from modelyard.records import Endpoint
from modelyard.testing import EventCollector

NAME = "late-flights"
V1, V2 = f"models:/{NAME}/1", f"models:/{NAME}/2"


@pytest.fixture(scope="module")
def endpoint(project: Any) -> Endpoint:
    """Version 1 with version 2 as a canary of 20 percent."""
    project.apply(NAME, V1)
    made: Endpoint = project.apply(NAME, V2, canary=20)
    return made


@pytest.fixture(scope="module")
def steady(project: Any) -> Endpoint:
    """Version 1 alone, which answers with its classes."""
    made: Endpoint = project.apply("steady", V1)
    return made


def post(endpoint: Endpoint, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Status and text of the answer to a plain POST."""
    parts = urlsplit(endpoint.url or "")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        connection.request(
            "POST", parts.path + path, body, {"Content-Type": "application/json", **(headers or {})}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def paths(endpoint: Endpoint) -> list[str]:
    return [f"/v1/models/{endpoint.name}:predict", f"/v2/models/{endpoint.name}/infer"]


def asked(endpoint: Endpoint, times: int, rows: Any) -> Counter[str]:
    return Counter(endpoint.predict(rows[:1]).version for _ in range(times))


# -- traffic --------------------------------------------------------------------------------


def test_a_canary_of_20_percent_gets_a_fifth_of_300_requests(endpoint: Endpoint, rows: Any) -> None:
    counted = asked(endpoint, 300, rows)
    sigma = math.sqrt(0.2 * 0.8 * 300)
    assert abs(counted["2"] - 60) < 5 * sigma, f"chance alone does that once in two million runs: {counted}"
    assert counted["1"] + counted["2"] == 300


@pytest.mark.parametrize(
    ("canary", "version"), [(0, "1"), (100, "2"), (None, "2")], ids=["0", "100", "removed"]
)
def test_at_0_100_or_without_a_canary_one_version_answers_everything(
    project: Any, endpoint: Endpoint, rows: Any, canary: int | None, version: str
) -> None:
    moved = project.apply(NAME, V2, canary=canary)
    assert {r.version: r.traffic for r in moved.revisions if r.traffic} == {version: 100}
    assert [r.name for r in moved.revisions] == [r.name for r in endpoint.revisions]
    assert asked(moved, 20, rows) == {version: 20}


# -- answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_the_answers_are_those_of_the_model_in_this_process(
    steady: Endpoint, samples: Any, rows: Any, protocol: Any
) -> None:
    many = pd.DataFrame(rows * 50)
    expected = samples["1"].model.predict(many).tolist()
    assert len(set(expected)) == 2
    assert list(steady.predict(many, protocol=protocol).predictions) == expected
    assert list(steady.predict(rows, protocol=protocol).predictions) == expected[: len(rows)]


def test_a_matrix_and_a_tensor_for_each_column_are_answered_alike(
    steady: Endpoint, samples: Any, rows: Any
) -> None:
    table = pd.DataFrame(rows)
    columns = {name: table[name].astype(object).where(table[name].notna(), None).tolist() for name in table}
    flat = [value for row in zip(*columns.values()) for value in row]
    for inputs in (
        [{"name": n, "shape": [len(v)], "datatype": "FP64", "data": v} for n, v in columns.items()],
        [{"name": "all", "shape": [len(rows), 2], "datatype": "FP64", "data": flat}],
    ):
        status, said = post(steady, paths(steady)[1], json.dumps({"id": "7", "inputs": inputs}))
        assert status == 200, said
        (output,) = json.loads(said)["outputs"]
        assert json.loads(said)["id"] == "7"
        assert output["shape"] == [len(rows)]
        assert output["data"] == samples["1"].model.predict(table).tolist()


def test_probabilities_are_those_of_the_model_in_this_process(project: Any, samples: Any, rows: Any) -> None:
    made = project.apply("proba", V2, env=[{"name": "PREDICT_PROBA", "value": "true"}])
    expected = samples["2"].model.predict_proba(pd.DataFrame(rows))
    for protocol in ("v1", "v2"):
        assert np.allclose(made.predict(rows, protocol=protocol).predictions, expected, rtol=0, atol=1e-12)
    project.server.delete("proba")


# -- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"not json", "the body is not JSON"),
        (b"", "the body is not JSON"),
        (b'{"instances": [[1, 2]', "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b'{"instances": [[NaN, 2]]}', "the body is not JSON"),
        (b"[" * 5000, "the body is not JSON"),
        (b"[1]", "the body needs '"),
        (b'{"instances": [5], "inputs": [5]}', ""),
    ],
    ids=["text", "empty", "torn", "bytes", "nan", "deep", "list", "wrong"],
)
def test_a_body_that_can_not_be_read_is_one_sentence(steady: Endpoint, body: bytes, said: str) -> None:
    for path in paths(steady):
        status, text = post(steady, path, body)
        assert status == 400, text
        error = json.loads(text)["error"]
        assert said in error
        assert "\n" not in error
        assert "Traceback" not in text


def test_a_body_that_is_too_large_is_refused_and_the_next_one_answered(steady: Endpoint, rows: Any) -> None:
    limit = 64 * 1024 * 1024
    for body in (b" " * (limit + 1), b" " * (limit + 8 * 1024 * 1024)):
        status, text = post(steady, paths(steady)[0], body)
        assert (status, json.loads(text)) == (413, {"error": "the body is larger than 64 MiB"})
    assert len(steady.predict(rows).predictions) == len(rows)


def test_a_body_in_pieces_is_refused_too_when_it_is_too_large(steady: Endpoint) -> None:
    pieces = (b" " * (1 << 20) for _ in range(66))
    status, text = post(steady, paths(steady)[0], pieces)  # http.client sends an iterable in chunks
    assert (status, json.loads(text)) == (413, {"error": "the body is larger than 64 MiB"})


def test_a_fraction_in_a_column_of_whole_numbers_is_refused(steady: Endpoint) -> None:
    status, text = post(steady, paths(steady)[0], b'{"instances": [{"temp": 1, "stops": 1.5}]}')
    assert status == 400
    assert json.loads(text)["error"] == "row 0, column 'stops': 1.5 is not a whole number"


def test_an_unknown_path_or_method_is_one_sentence(steady: Endpoint) -> None:
    for path, wanted in (("/v1/models", 405), ("/nowhere", 404), ("/v1/models/other:predict", 404)):
        status, text = post(steady, path, b"{}")
        assert status == wanted
        assert list(json.loads(text)) == ["error"]


@pytest.mark.slow
def test_a_body_that_never_comes_holds_no_connection(steady: Endpoint) -> None:
    parts = urlsplit(steady.url or "")
    head = f"POST {parts.path}{paths(steady)[1]} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{"
    began = time.monotonic()
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'{"error":"the body did not come within 30 s"}' in answer
    assert 29 < time.monotonic() - began < 60


# -- headers and the prediction log ---------------------------------------------------------


def test_headers_beyond_ascii_harm_neither_the_answer_nor_the_log(
    project: Any, rows: Any, within: Any
) -> None:
    with EventCollector() as collector:
        content = json.loads(project.file("logged", V1).read_text())
        content["spec"]["predictor"]["logger"] = {
            "url": collector.url,
            "mode": "request",
            "metadataHeaders": ["X-Place"],
        }
        file = project.context.root / "logged.yaml"
        file.write_text(json.dumps(content))
        made = project.server.apply(file)
        body = json.dumps({"instances": rows})
        for number, headers in enumerate(
            [{"X-Request-Id": "frage-ü", "X-Place": "Köln"}, {"X-Request-Id": "frage-2"}], start=1
        ):
            status, text = post(made, paths(made)[0], body, headers)
            assert status == 200, text
            arrived = within(60, lambda n=number: len(collector.events) >= n)
            assert arrived, f"event {number} did not arrive"
        assert json.loads(collector.events[0].headers["ce-metadata"]) == {"X-Place": "Köln"}
        assert collector.events[1].headers["ce-id"] == "frage-2"
    project.server.delete("logged")


def test_the_metrics_count_what_was_answered(steady: Endpoint, rows: Any, within: Any) -> None:
    revision = steady.revisions[0].name

    def count(start: str) -> int:
        parts = urlsplit(steady.url or "")
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        lines = answer.read().decode().splitlines()
        connection.close()
        assert answer.headers["Content-Type"].startswith("text/plain")
        return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith(start))

    counters = [
        f'modelyard_requests_total{{revision="{revision}",code="200",replica="',
        f'envoy_cluster_upstream_rq{{envoy_response_code="200",envoy_cluster_name="{revision}"}} ',
    ]
    before = [count(start) for start in counters]
    for _ in range(5):
        steady.predict(rows)
    wanted = [number + 5 for number in before]
    assert within(60, lambda: [count(start) for start in counters] == wanted)


def test_a_page_shows_people_what_answers_here(steady: Endpoint) -> None:
    parts = urlsplit(steady.url or "")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request("GET", "/")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert f"<td>{steady.revisions[0].name}</td><td>{NAME}/1</td><td>100 %</td><td>ready</td>" in text
    assert f'<a href="{parts.path}/openapi.json">OpenAPI</a>' in text


@pytest.mark.parametrize("port", ["", ":8080"])
def test_an_endpoint_answers_under_the_host_name_that_kserve_gives_it(steady: Endpoint, port: str) -> None:
    parts = urlsplit(steady.url or "")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request(
        "GET", f"/v2/models/{steady.name}", headers={"Host": f"{steady.name}-default.example.com{port}"}
    )
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    assert (answer.status, said["name"]) == (200, steady.name)
    assert answer.headers["X-Modelyard-Revision"] == steady.revisions[0].name


def test_what_nobody_answers_is_one_sentence(steady: Endpoint) -> None:
    parts = urlsplit(steady.url or "")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request("POST", "/serving/default/nobody/v1/models/nobody:predict", b"{}")
    answer = connection.getresponse()
    assert answer.status == 404
    assert json.loads(answer.read())["error"].startswith("there is nothing at this path")
    connection.close()


@pytest.mark.parametrize("host", [b"", b"Host: steady-default.example.com\r\n"])
def test_clients_of_http_1_0_are_answered(steady: Endpoint, host: bytes) -> None:
    """Proxies and load generators speak it; some send no host name."""
    parts = urlsplit(steady.url or "")
    path = b"" if host else parts.path.encode()
    body = json.dumps({"instances": [{"temp": 20.5, "stops": 0}]}).encode()
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        head = b"POST %b/v1/models/steady:predict HTTP/1.0\r\n%bContent-Length: %d\r\n\r\n"
        connection.sendall(head % (path, host, len(body)) + body)
        said = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 "), said
    assert b"\r\ntransfer-encoding:" not in head
    assert len(json.loads(body)["predictions"]) == 1
