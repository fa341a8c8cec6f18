"""Files of rows are asked about as the endpoint's metadata says, batch by batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from modelyard.asking import ask
from modelyard.client import inputs_of, predict
from modelyard.errors import UsageError
from modelyard.records import Endpoint, now
from modelyard.testing.contexts import answer, serve

NAMED = [
    {"name": "code", "datatype": "BYTES", "shape": [-1]},
    {"name": "temp", "datatype": "FP64", "shape": [-1, 1]},
]
MATRIX = [{"name": "input-0", "datatype": "FP64", "shape": [-1, 3]}]


class Stub:
    """An endpoint with the given metadata that keeps the rows it was asked about, and refuses `cold`."""

    def __init__(self) -> None:
        self.metadata: Any = {"inputs": NAMED}
        self.status = 200
        self.asked: list[list[Any]] = []
        self.headers: list[dict[str, str]] = []
        self.server = serve(self._handle)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def endpoint(self, **more: Any) -> Endpoint:
        return Endpoint(name="flights", url=self.url, ready=True, storage_uri="m", created=now(), **more)

    def _handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.headers.append(dict(request.headers.items()))
        if request.command == "GET":
            return answer(request, self.status, json.dumps(self.metadata).encode())
        rows = json.loads(body)["instances"]
        self.asked.append(rows)
        who = {"X-Modelyard-Revision": "flights-00001"}
        if self.status != 200 or any("cold" in str(row) for row in rows):
            return answer(request, 401 if self.status == 401 else 400, b'{"error": "row 1 is cold"}', who)
        return answer(request, 200, json.dumps({"predictions": [1] * len(rows)}).encode(), who)


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize(
    ("metadata", "status", "inputs"),
    [
        ({"inputs": NAMED}, 200, {"code": "BYTES", "temp": "FP64"}),
        ({"inputs": MATRIX}, 200, {}),
        ({"inputs": None}, 200, {}),
        ({}, 200, {}),
        ([1], 200, {}),
        ({"error": "nothing here"}, 404, {}),
    ],
)
def test_what_a_model_takes_is_asked_of_its_metadata(
    stub: Stub, metadata: Any, status: int, inputs: dict[str, str]
) -> None:
    stub.metadata, stub.status = metadata, status
    assert inputs_of(stub.url, "flights") == inputs


def test_digits_stay_text_and_columns_of_others_are_not_sent(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,code,temp\n1,007,2\n2,008,3\n3,009,\n")
    answers = list(ask(stub.endpoint(), tmp_path / "rows.csv", batch=2))
    assert stub.asked == [
        [{"code": "007", "temp": 2.0}, {"code": "008", "temp": 3.0}],
        [{"code": "009", "temp": None}],
    ]
    assert [(one.first, len(one.predictions)) for one in answers] == [(1, 2), (3, 1)]


def test_a_model_that_takes_a_matrix_gets_lists_of_tables_and_json_as_it_is(
    stub: Stub, tmp_path: Path
) -> None:
    stub.metadata = {"inputs": MATRIX}
    (tmp_path / "rows.csv").write_text("a,b,c\n1,2,\n")
    list(ask(stub.endpoint(), tmp_path / "rows.csv"))
    (tmp_path / "rows.json").write_text('{"instances": [{"a": 1}]}')
    list(ask(stub.endpoint(), tmp_path / "rows.json"))
    assert stub.asked == [[[1.0, 2.0, None]], [{"a": 1}]]


def test_a_refusal_in_a_later_batch_says_where(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("code,temp\na,1\nb,2\ncold,3\n")
    with pytest.raises(UsageError, match="from row 3 on: flights refused the rows: row 1 is cold"):
        list(ask(stub.endpoint(), tmp_path / "rows.csv", batch=2))
    (tmp_path / "rows.csv").write_text("code\ncold\n")
    with pytest.raises(UsageError, match="lacks the column 'temp', which flights takes") as refused:
        list(ask(stub.endpoint(), tmp_path / "rows.csv"))
    assert refused.value.hint == "it takes: code, temp"


def test_a_column_that_the_model_can_do_without_may_be_missing(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("code\nwarm\n")
    assert [one.predictions for one in ask(stub.endpoint(), tmp_path / "rows.csv")] == [(1,)]


def test_the_token_of_its_file_is_sent_with_everything(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("geheim\n")
    (tmp_path / "rows.csv").write_text("code,temp\na,1\n")
    guarded = stub.endpoint(token_file=tmp_path / "token")
    list(ask(guarded, tmp_path / "rows.csv"))
    assert [headers["Authorization"] for headers in stub.headers] == ["Bearer geheim"] * 2
    assert Endpoint.from_dict(json.loads(json.dumps(guarded.to_dict()))) == guarded
    (tmp_path / "token").unlink()
    assert guarded.authorization == {}


def test_a_refused_token_is_told_from_refused_rows(stub: Stub) -> None:
    stub.status = 401
    with pytest.raises(UsageError) as refused:
        predict(stub.url, "flights", [[1]])
    assert (refused.value.code, refused.value.hint) == ("token-refused", "modelyard endpoints token flights")
