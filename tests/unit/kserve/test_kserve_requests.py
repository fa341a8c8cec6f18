"""What a `kserve.Model` is handed, held against KServe's own decoder."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard_kserve.local.kserve_app import KserveApp
from modelyard_kserve.local.kserve_requests import from_rest, to_grpc
from modelyard_kserve.local.messages import Answer, Request
from modelyard_kserve.local.tensors import NUMPY, to_bytes

pytest.importorskip("kserve")

LENGTH = "inference-header-content-length"


def body_of(arrays: list[tuple[str, Any]], **more: Any) -> tuple[bytes, int]:
    inputs, raw = [], b""
    for number, (datatype, values) in enumerate(arrays):
        piece = to_bytes(values, datatype)
        raw += piece
        parameters = {"binary_data_size": len(piece), "tone": "low"}
        shape = list(values.shape)
        inputs.append({"name": f"x{number}", "shape": shape, "datatype": datatype, "parameters": parameters})
    head = orjson.dumps({"inputs": inputs, **more})
    return head + raw, len(head)


def ours(body: bytes, length: int) -> Any:
    made, _ = from_rest("twice", Request("POST", "/", b"", {LENGTH: str(length)}, body))
    return made


def theirs(body: bytes, length: int) -> Any:
    from kserve import InferRequest

    return InferRequest.from_bytes(body, length, "twice")


@st.composite
def arrays(draw: Any) -> tuple[str, Any]:
    datatype = draw(st.sampled_from([*NUMPY, "BYTES"]))
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    numbers = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 100, shape)
    if datatype == "BYTES":
        return datatype, np.vectorize(lambda n: f"wärmer {n}", otypes=[object])(numbers)
    return datatype, numbers.astype(NUMPY[datatype])


@given(st.lists(arrays(), min_size=1, max_size=3))
@settings(max_examples=80, deadline=None)
def test_bytes_are_what_kserves_decoder_makes_of_them(given_arrays: list[tuple[str, Any]]) -> None:
    more = {
        "id": "7",
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    body, length = body_of(given_arrays, **more)
    mine, reference = ours(body, length), theirs(body, length)
    assert (mine.id, mine.model_name, mine.parameters) == ("7", "twice", more["parameters"])
    assert mine.use_binary_outputs is reference.use_binary_outputs is True
    for one, other in zip(mine.inputs, reference.inputs):
        np.testing.assert_array_equal(one.as_numpy(), other.as_numpy(), strict=True)
        assert one.as_numpy().flags.writeable
        assert one.data == other.data, "the list, after the array"
        np.testing.assert_array_equal(one.as_numpy(), other.as_numpy(), strict=True)
    assert mine == reference
    assert [o.name for o in mine.request_outputs] == [o.name for o in reference.request_outputs]
    if any(datatype == "FP16" for datatype, _ in given_arrays):
        return  # which KServe's classes hand on to nobody
    assert ours(body, length).to_rest() == theirs(body, length).to_rest()
    assert ours(body, length).to_grpc() == theirs(body, length).to_grpc()


def test_an_input_that_a_model_changes_stays_changed() -> None:
    made = ours(*body_of([("FP32", np.array([[1, 2]], np.float32))]))
    (one,) = made.inputs
    assert made.request_outputs is None
    one.shape = [2]
    assert one.as_numpy().tolist() == [1, 2]
    one.data[0] = 5
    assert one.as_numpy().tolist() == [5, 2]
    one.set_data_from_numpy(np.array([7, 8], np.float32), binary_data=True)
    assert one.as_numpy().tolist() == [7, 8]
    one.data = [3, 4]
    one._raw_data = None
    assert one.as_numpy().tolist() == [3, 4]
    copied = copy.deepcopy(ours(*body_of([("FP32", np.array([1, 2], np.float32))])).inputs[0])
    assert copied.as_numpy().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("body", "length", "said"),
    [
        (b"{}", "2", "the body needs 'inputs'"),
        (b"{}", "soon", "Inference-Header-Content-Length is 'soon'"),
        (b"{", "1", "the body is not JSON"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}', "61", "and 'data'"),
    ],
)
def test_broken_bytes_are_a_sentence(body: bytes, length: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        from_rest("twice", Request("POST", "/", b"", {LENGTH: length}, body))


@pytest.mark.parametrize(
    "said",
    [
        np.array([1.5, 2.5]),
        {"id": "7", "outputs": [{"name": "y", "shape": [2], "datatype": "FP64", "data": [1.5, 2.5]}]},
        {
            "id": "7",
            "outputs": [
                {"name": "y", "shape": [2], "datatype": "FP64", "contents": {"fp64_contents": [1.5, 2.5]}}
            ],
        },
    ],
    ids=["array", "as REST", "as gRPC"],
)
def test_whatever_a_class_answers_is_a_message(said: Any) -> None:
    from kserve import InferRequest

    made = to_grpc(said, InferRequest("twice", [], "7"), "twice", "3")
    assert (made.id, made.model_name) == ("7", "twice")
    assert list(made.outputs[0].contents.fp64_contents) == [1.5, 2.5]


def test_a_v1_answer_is_none_of_v2() -> None:
    from kserve import InferRequest

    with pytest.raises(TypeError, match="answered dict, and no outputs"):
        to_grpc({"predictions": [1]}, InferRequest("twice", [], "7"), "twice", "3")


def asked(path: str, body: bytes, **headers: str) -> Answer:
    from kserve import Model, ModelRepository

    class Late(Model):  # type: ignore[misc]
        async def get_input_types(self) -> list[dict[str, Any]]:
            return [{"name": "x", "datatype": "FP32", "shape": [-1]}]

        def predict(self, payload: Any, headers: Any = None) -> Any:
            return payload.inputs[0].as_numpy() * 2

    model = Late("late")
    model.ready = True
    repository = ModelRepository()
    repository.update(model)
    app = KserveApp("late", "3", repository)
    method = "POST" if body else "GET"
    return asyncio.run(app(Request(method, path, b"", headers, body)))


def test_types_may_be_told_by_a_coroutine() -> None:
    said = asked("/v2/models/late", b"").value
    assert said["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1]}]


def test_what_is_no_json_is_the_callers_fault() -> None:
    assert asked("/v1/models/late:predict", b"{").status == 400
    assert asked("/v2/models/late/infer", b"{").status == 400
    assert asked("/inference.GRPCInferenceService/ModelInfer", b"{").status == 400
    assert asked("/inference.GRPCInferenceService/RepositoryModelLoad", b"{").status == 400
    assert asked("/inference.GRPCInferenceService/RepositoryIndex", b"{").status == 501
    assert asked("/v2/repository/index", b"[]").status == 400
    assert asked("/v2/models/late/versions/2/infer", b"{}").status == 404
    assert asked("/v2/models/late/versions/3/infer", b"{").status == 400
    assert asked("/v2/models/other/infer", b"{}").status == 404
    assert asked("/v2/models/other", b"").status == 404


def test_the_prediction_log_gets_json_of_bytes() -> None:
    body, length = body_of([("FP32", np.array([1, 2], np.float32))], id="7")
    made = asked("/v2/models/late/infer", body, **{LENGTH: str(length)})
    assert made.logged is not None
    request, answer = (orjson.loads(make()) for make in made.logged)
    assert (request["id"], request["inputs"][0]["data"]) == ("7", [1, 2])
    assert answer["outputs"][0]["data"] == [2, 4]


def test_a_next_that_finds_nothing_is_a_fault_and_nobody_waits_for_ever() -> None:
    from kserve import Model, ModelRepository

    class Late(Model):  # type: ignore[misc]
        def predict(self, payload: Any, headers: Any = None) -> Any:
            return next(iter(()))

    model, repository = Late("late"), ModelRepository()
    model.ready = True
    repository.update(model)
    request = Request("POST", "/v1/models/late:predict", b"", {}, b'{"instances": [1]}')
    with pytest.raises(RuntimeError, match=r"next\(\) found nothing"):  # a 500
        asyncio.run(asyncio.wait_for(KserveApp("late", "3", repository)(request), 20))
