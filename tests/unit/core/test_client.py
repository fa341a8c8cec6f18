"""Rows that nobody could predict for are refused here, before anything is sent; what is sent says its id."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
import pytest

from modelyard.client import as_instances, predict
from modelyard.errors import ModelyardError, UsageError
from modelyard.testing.contexts import answer, serve

NOBODY = "http://127.0.0.1:9"
LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize("rows", [None, 3, "temp", b"temp", {"temp": 1.0}, object()])
def test_what_is_no_list_of_rows_is_named(rows: Any) -> None:
    with pytest.raises(UsageError) as refused:
        predict(NOBODY, "late-flights", rows)
    assert refused.value.code == "rows-invalid"
    assert f"a {type(rows).__name__} is no list of rows" in refused.value.message


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"temp": 1}, {"tmp": 1}], "row 2 and row 1 differ in 'temp'"),
        ([[1, 2], [3, 4], [5]], "row 3 has 1 values, row 1 has 2"),
        ([{"temp": 1}, [1]], "row 2 is [1], neither a dict nor a list like row 1"),
        ([1, 2], "row 1 is 1, neither"),
    ],
)
def test_rows_that_make_no_columns_are_refused_for_v2(rows: Any, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        predict(NOBODY, "late-flights", rows, protocol="v2")
    assert refused.value.code == "rows-invalid"
    assert said in refused.value.message


@pytest.mark.parametrize("value", [{1, 2}, object(), 1j])
def test_values_that_json_can_not_carry_are_refused(value: Any) -> None:
    with pytest.raises(UsageError) as refused:
        predict(NOBODY, "late-flights", [[value]])
    assert refused.value.code == "rows-invalid"


def test_arrays_and_generators_are_rows() -> None:
    assert as_instances(np.array([[1.0, np.nan]])) == [[1.0, None]]
    assert as_instances(row for row in ([1], [2])) == [[1], [2]]


@pytest.fixture
def asked() -> Iterator[tuple[int, list[dict[str, str]]]]:
    """The port of an endpoint that answers with the id of the question, and the headers that it got."""
    headers: list[dict[str, str]] = []

    def handle(request: BaseHTTPRequestHandler, body: bytes) -> None:
        headers.append({name.lower(): value for name, value in request.headers.items()})
        said = {"X-Request-Id": headers[-1]["x-request-id"]}
        answer(
            request, 200, json.dumps({"predictions": [1] * len(json.loads(body)["instances"])}).encode(), said
        )

    server = serve(handle)
    yield server.server_address[1], headers
    server.shutdown()
    server.server_close()


def test_names_below_localhost_are_this_machine(asked: tuple[int, list[dict[str, str]]]) -> None:
    port, headers = asked
    host = f"flights-predictor.team.modelyard.localhost:{port}"
    assert predict(f"http://{host}", "flights", [[1.0]]).predictions == (1,)
    assert headers[0]["host"] == host


@pytest.mark.parametrize(
    ("given", "is_it"),
    [
        ({}, lambda got: len(got) == 36),
        ({"x-request-id": "mine"}, lambda got: got == "mine"),
        ({"Ce-Id": "event"}, lambda got: got == "event"),
    ],
)
def test_every_request_has_one_id_for_its_answer_and_for_kserves_log(
    asked: tuple[int, list[dict[str, str]]], given: dict[str, str], is_it: Callable[[str], bool]
) -> None:
    port, headers = asked
    made = predict(f"http://127.0.0.1:{port}", "flights", [[1.0]], headers=given)
    assert is_it(made.id)
    assert headers[0]["x-request-id"] == headers[0]["ce-id"] == made.id


LABEL = {"name": "late", "shape": [2], "data": [1, 0]}
CHANCES = {"name": "p", "shape": [2, 2], "data": [0.1, 0.9, 0.7, 0.3]}
TOTAL = {"name": "total", "shape": [], "data": [3]}
ROUTED = {"error": "Failed to process request", "cause": "step x: it is gone"}


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (200, {"first": {"predictions": [1]}}, ({"first": {"predictions": [1]}},)),
        (200, {"predictions": {"a": 1}}, ({"predictions": {"a": 1}},)),
        (200, {"outputs": [{"data": [1, 2], "shape": [2]}]}, (1, 2)),
        (200, {"outputs": [LABEL, CHANCES]}, ({"late": 1, "p": [0.1, 0.9]}, {"late": 0, "p": [0.7, 0.3]})),
        (200, {"outputs": [LABEL, TOTAL]}, ({"outputs": [LABEL, TOTAL]},)),
        (200, {"outputs": [TOTAL]}, (3,)),
        (200, ["x"], (["x"],)),
        (400, ROUTED, "asked refused the rows: Failed to process request: step x: it is gone"),
        (500, ROUTED, "asked answered 500: Failed to process request: step x: it is gone"),
    ],
)
def test_a_graph_answers_what_its_steps_do(status: int, said: Any, expected: Any) -> None:
    bodies = []

    def handle(request: BaseHTTPRequestHandler, body: bytes) -> None:
        bodies.append(json.loads(body))
        answer(request, status, json.dumps(said).encode())

    server = serve(handle)
    url, whole = f"http://127.0.0.1:{server.server_address[1]}", {"instances": [[1]], "source": "app"}
    try:
        if status == 200:
            assert predict(url, "asked", whole).predictions == expected
        else:
            with pytest.raises(ModelyardError) as refused:
                predict(url, "asked", whole)
            assert refused.value.message == expected
    finally:
        server.shutdown()
        server.server_close()
    assert bodies == [whole]


@pytest.mark.parametrize(
    ("protocol", "rows", "where", "said"),
    [
        ("v1", [[1.0]], "params", {"trees": 3}),
        ("v2", [[1.0]], "parameters", {"trees": 3}),
        ("v1", {"instances": [[1.0]], "params": {"trees": 1, "seed": 2}}, "params", {"trees": 3, "seed": 2}),
    ],
)
def test_params_stand_where_each_protocol_has_them(protocol: Any, rows: Any, where: str, said: Any) -> None:
    bodies = []

    def handle(request: BaseHTTPRequestHandler, body: bytes) -> None:
        bodies.append(json.loads(body))
        answer(request, 200, b'{"predictions": [1]}')

    server = serve(handle)
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        predict(url, "asked", rows, protocol=protocol, params={"trees": np.int64(3)})
    finally:
        server.shutdown()
        server.server_close()
    assert bodies[0][where] == said


def test_a_whole_request_is_one_of_its_protocol() -> None:
    with pytest.raises(UsageError, match="a dict is no list of rows"):
        predict(NOBODY, "asked", {"instances": [[1]]}, protocol="v2")
