"""gRPC's messages as they come in a body; what is wrong is a sentence with a code."""

from __future__ import annotations

import gzip
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from tests.unit.kserve.asked import app, ask

from modelyard_kserve.local import grpc_wire
from modelyard_kserve.local.messages import Answer

SERVICE = "/inference.GRPCInferenceService/"


def call(of: Any, method: str, body: bytes, **headers: str) -> Answer:
    import asyncio

    from modelyard_kserve.local.messages import Request

    return asyncio.run(of(Request("POST", SERVICE + method, b"", headers, body)))


def infer(of: Any, inputs: list[Any], **fields: Any) -> Any:
    request = grpc_wire.MESSAGES.ModelInferRequest(model_name="late", inputs=inputs, **fields)
    answer = call(of, "ModelInfer", grpc_wire.framed(request))
    if answer.status != 200:
        return answer.status, answer.value["error"]
    return grpc_wire.message("ModelInferResponse", answer.body(), "")


CONTENTS = [
    ("BOOL", "bool_contents", [True, False]),
    ("INT8", "int_contents", [-1, 2]),
    ("INT32", "int_contents", [-1, 2]),
    ("INT64", "int64_contents", [-(2**62), 2]),
    ("UINT16", "uint_contents", [1, 2]),
    ("UINT64", "uint64_contents", [2**63, 2]),
    ("FP32", "fp32_contents", [0.5, -2]),
    ("FP64", "fp64_contents", [0.1, -2]),
    ("BYTES", "bytes_contents", ["spät".encode(), b"x"]),
]


@pytest.mark.parametrize(("datatype", "place", "values"), CONTENTS, ids=[name for name, *_ in CONTENTS])
def test_typed_contents_go_there_and_back(datatype: str, place: str, values: list[Any]) -> None:
    given = {"name": "x", "shape": [2, 1], "datatype": datatype, "contents": {place: values}}
    (output,) = infer(app(), [given]).outputs
    assert (output.datatype, list(output.shape)) == (datatype, [2, 1])
    assert list(getattr(output.contents, place)) == values


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "UINT64", "BOOL", "BYTES"])
def test_raw_contents_go_there_and_back(datatype: str) -> None:
    raw = {"FP16": b"\0\x3c\0\xc0", "FP32": b"\0\0\x80?" * 2, "UINT64": b"\xff" * 16}
    content = {**raw, "BOOL": b"\1\0", "BYTES": b"\1\0\0\0a\0\0\0\0"}[datatype]
    given = {"name": "x", "shape": [1, 2], "datatype": datatype}
    made = infer(app(), [given], raw_input_contents=[content])
    assert made.raw_output_contents[0] == content
    assert not made.outputs[0].HasField("contents")


def test_answers_of_fp16_are_raw_because_nothing_else_holds_them() -> None:
    given = {"name": "x", "shape": [1], "datatype": "FP32", "contents": {"fp32_contents": [1]}}
    made = infer(app(np.array([0.5], np.float16)), [given])
    assert (made.outputs[0].datatype, made.raw_output_contents[0]) == ("FP16", b"\0\x38")


@pytest.mark.parametrize(
    ("given", "fields", "sentence"),
    [
        ({"shape": [2], "datatype": "FP32"}, {}, "input 'x' holds 0 values, its shape says [2]"),
        ({"shape": [1], "datatype": "FP16"}, {}, "input 'x': FP16 can only come as raw_input_contents"),
        ({"shape": [], "datatype": "FP32"}, {}, "input 'x' has the shape [], a single value"),
        ({"shape": [1], "datatype": "FP99"}, {}, "input 'x': 'FP99' is no datatype"),
        ({"shape": [-1], "datatype": "FP32"}, {}, "input 'x': its shape [-1] has a negative size"),
        (
            {"shape": [1], "datatype": "INT8", "contents": {"int_contents": [300]}},
            {},
            "input 'x': 300 is no INT8",
        ),
        (
            {"shape": [1], "datatype": "BYTES", "contents": {"bytes_contents": [b"\xff"]}},
            {},
            "input 'x' holds BYTES that are not UTF-8 text",
        ),
        (
            {"shape": [1], "datatype": "FP32", "contents": {"fp32_contents": [1]}},
            {"raw_input_contents": [b"1234"]},
            "input 'x' has contents as well as raw_input_contents",
        ),
        (
            {"shape": [1], "datatype": "FP32"},
            {"raw_input_contents": [b"1234"] * 2},
            "there are 2 raw_input_contents for 1 inputs",
        ),
    ],
)
def test_what_is_wrong_with_an_input_is_said(given: Any, fields: Any, sentence: str) -> None:
    status, said = infer(app(np.zeros(1)), [{"name": "x", **given}], **fields)
    assert status == 400
    assert said.startswith(sentence)


@pytest.mark.parametrize(
    ("body", "encoding", "sentence"),
    [
        (b"", "identity", "the body is not one message of gRPC"),
        (b"\0\0\0\0\5ab", "identity", "the body is not one message of gRPC"),
        (b"\2\0\0\0\0", "identity", "the body is not one message of gRPC"),
        (b"\0\0\0\0\1\xff", "identity", "the message is no ModelInferRequest"),
        (b"\1\0\0\0\2ab", "gzip", "the body can't be unpacked with gzip"),
        (b"\1\0\0\0\2ab", "snappy", "bodies may be compressed with gzip or deflate, not with 'snappy'"),
    ],
)
def test_bodies_that_are_no_message_are_refused(body: bytes, encoding: str, sentence: str) -> None:
    answer = call(app(), "ModelInfer", body, **{"grpc-encoding": encoding})
    assert (answer.status, answer.value["error"]) == (400, sentence)


def test_a_compressed_message_is_read() -> None:
    packed = gzip.compress(grpc_wire.MESSAGES.ModelReadyRequest(name="late").SerializeToString())
    body = b"\1" + len(packed).to_bytes(4, "big") + packed
    answer = call(app(), "ModelReady", body, **{"grpc-encoding": "gzip"})
    assert grpc_wire.message("ModelReadyResponse", answer.body(), "").ready


def test_other_methods_are_not_there() -> None:
    said = ask(app(), f"{SERVICE}ModelStreamInfer", b"")
    assert (said.status, said.error) == (501, "KServe's service has no method ModelStreamInfer")


def test_the_messages_cost_no_import_of_kserve_and_leave_their_names_to_others() -> None:
    code = (
        "import sys; from modelyard_kserve.local import grpc_wire\n"
        "assert not {'kserve', 'grpc', 'kubernetes'} & set(sys.modules)\n"
        "import tritonclient.grpc\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
