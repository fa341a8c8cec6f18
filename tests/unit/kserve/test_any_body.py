"""Whatever bytes come: an answer, or a refusal in one sentence; never a 500, never a hang."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.unit.kserve.asked import app

from modelyard_kserve.local import grpc_wire
from modelyard_kserve.local.messages import Request
from modelyard_kserve.local.runtimes import Column
from modelyard_kserve.local.signature import Signature, Spec
from modelyard_kserve.local.tensors import DATATYPES

COLUMNS = (
    *(Column("temp", "double"), Column("stops", "long", required=False)),
    *(Column("carrier", "string", required=False), Column("night", "boolean", required=False)),
    Column("day", "datetime", required=False),
)
APPS = {
    "columns": app(lambda rows: np.zeros(len(rows)), COLUMNS),
    "array": app(),
    "named": app(
        lambda rows: rows, stated=Signature(inputs=(Spec("temp", "FP32"), Spec("day", "BYTES")), by_name=True)
    ),
}
PATHS = ("/v1/models/late:predict", "/v2/models/late/infer")
#: Two hundred for each; all of them together take some seconds.
FEW = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
pytestmark = pytest.mark.timeout(60)

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats() | st.integers(-3, 3)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
names = st.sampled_from(("temp", "stops", "carrier", "night", "day", "x", "ö\u0000\ud83d\ude00")) | st.text()
shapes = st.lists(st.integers(-2, 5) | st.sampled_from((2**31, 2**63)), max_size=4) | values
datatypes = st.sampled_from(DATATYPES) | values
tensors = st.fixed_dictionaries(
    {"name": names, "shape": shapes, "datatype": datatypes},
    optional={
        "data": st.lists(numbers | st.text(max_size=4) | st.booleans(), max_size=6) | values,
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data_size": st.integers(-2, 40) | values, "binary_data": values}
        )
        | values,
    },
)
v1_bodies = st.fixed_dictionaries(
    {
        "instances": st.lists(
            st.dictionaries(names, values, max_size=6) | st.lists(numbers, max_size=6) | values, max_size=4
        )
        | values
    }
)
v2_bodies = st.fixed_dictionaries(
    {"inputs": st.lists(tensors | values, max_size=4)},
    optional={
        "id": st.text(max_size=5) | values,
        "parameters": st.dictionaries(st.sampled_from(("binary_data_output", "x")), values) | values,
        "outputs": st.lists(st.fixed_dictionaries({"name": names}) | values, max_size=3) | values,
    },
)


def asked(path: str, body: bytes, headers: dict[str, str]) -> None:
    """Ask each of the models; what goes wrong beyond a refusal is raised."""
    for name, of in APPS.items():
        answer = asyncio.run(of(Request("POST", path, b"", headers, body)))
        assert answer.status in (200, 400, 404, 501), (name, answer)
        if answer.status != 200:
            sentence = answer.value["error"]
            assert sentence
            assert "\n" not in sentence
            assert len(sentence) < 700
        if answer.logged is not None:
            for made in answer.logged:
                orjson.loads(made())


def as_json(value: Any) -> bytes:
    """With NaN and lone surrogates as Python writes them: some of it is no JSON."""
    return json.dumps(value).encode()


@FEW
@given(st.sampled_from(PATHS), st.binary(max_size=200) | values.map(as_json), st.none() | st.text(max_size=5))
@example(PATHS[0], b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}", None)
@example(PATHS[1], b'{"inputs": ' + b'[{"name":' * 500, None)
def test_any_bytes(path: str, body: bytes, length: str | None) -> None:
    asked(path, body, {} if length is None else {"inference-header-content-length": length})


@FEW
@given(v1_bodies.map(as_json))
def test_any_v1_body(body: bytes) -> None:
    asked(PATHS[0], body, {})


@FEW
@given(v2_bodies.map(as_json), st.binary(max_size=40), st.integers(-3, 3) | st.none())
def test_any_v2_body_with_any_bytes_behind_it(body: bytes, raw: bytes, off: int | None) -> None:
    length = {} if off is None else {"inference-header-content-length": str(len(body) + off)}
    asked(PATHS[1], body + raw, length)


@pytest.mark.parametrize("depth", [50, 900, 1000, 100_000])
@pytest.mark.parametrize("place", ["data", "instance", "name", "shape", "parameters"])
def test_any_depth(place: str, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    tensor = {"name": b'"temp"', "shape": b"[1]", "datatype": b'"FP64"', "data": b"[1]", place: deep}
    inside = b",".join(b'"' + key.encode() + b'":' + value for key, value in tensor.items())
    for path, body in (
        (PATHS[0], b'{"instances":[' + deep + b"]}"),
        (PATHS[1], b'{"inputs":[{' + inside + b"}]}"),
    ):
        asked(path, body, {})


@FEW
@given(st.data())
def test_any_message_of_grpc(data: Any) -> None:
    made = grpc_wire.MESSAGES.ModelInferRequest(model_name=data.draw(st.sampled_from(("late", "", "other"))))
    for _ in range(data.draw(st.integers(0, 3))):
        tensor = made.inputs.add(
            name=data.draw(st.sampled_from(("temp", "stops", "carrier", "x"))),
            datatype=data.draw(st.sampled_from((*DATATYPES, "", "ö"))),
            shape=data.draw(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), max_size=3)),
        )
        tensor.contents.fp64_contents.extend(data.draw(st.lists(st.floats(), max_size=3)))
        tensor.contents.int_contents.extend(data.draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)))
        tensor.contents.bytes_contents.extend(data.draw(st.lists(st.binary(max_size=4), max_size=3)))
    made.raw_input_contents.extend(data.draw(st.lists(st.binary(max_size=24), max_size=3)))
    raw = data.draw(st.just(made.SerializeToString()) | st.binary(max_size=60))
    flag, off = data.draw(st.sampled_from((0, 0, 0, 1, 9))), data.draw(st.sampled_from((0, 0, 1)))
    body = bytes([flag]) + struct.pack(">I", len(raw) + off) + raw
    method = data.draw(st.sampled_from(("ModelInfer", "ModelInfer", "ModelReady", "ModelMetadata")))
    asked(f"/inference.GRPCInferenceService/{method}", body, {"grpc-encoding": "gzip"})
