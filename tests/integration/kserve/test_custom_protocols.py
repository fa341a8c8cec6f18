"""A project's own kserve.Model classes, asked by KServe's own clients: bytes and gRPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from modelyard.testing import EventCollector

grpc = pytest.importorskip("grpc")

#: Says of what it was given; `small` answers an array and no `InferResponse`.
OURS = """
import numpy as np

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository, ModelServer
from kserve.errors import InvalidInput


class Doubles(Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    async def get_input_types(self):
        return [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]

    def get_output_types(self):
        return [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]

    def predict(self, payload, headers=None):
        assert isinstance(payload, InferRequest)
        given = payload.get_input_by_name("x")
        numbers = given.as_numpy()
        if (numbers < 0).any():
            raise InvalidInput("no negative numbers")
        if (numbers == 13).any():
            raise RuntimeError("broken inside")
        if self.name == "small":
            return numbers * 2
        made = InferOutput("y", list(numbers.shape), given.datatype)
        made.set_data_from_numpy(numbers * 2, binary_data=payload.use_binary_outputs)
        return InferResponse(payload.id, self.name, [made], use_binary_outputs=payload.use_binary_outputs)


class Shelf(ModelRepository):
    def load(self, name):
        if name != "third":
            raise LookupError(name)
        self.update(Doubles("third"))


if __name__ == "__main__":
    ModelServer(registered_models=Shelf()).start([Doubles(name) for name in ("twice", "small", "third")])
"""
NUMBERS = np.array([[1.5, 2], [3, 4]], np.float32)
HEADERS = (("x-modelyard-endpoint", "doubles"),)


@pytest.fixture(scope="module")
def collector() -> Any:
    with EventCollector() as made:
        yield made


@pytest.fixture(scope="module")
def doubles(project: Any, collector: Any) -> Any:
    (project.context.root / "doubles.py").write_text(OURS)
    container = {"name": "kserve-container", "image": "ours:1", "command": ["python", "-m", "doubles"]}
    logger = {"mode": "all", "url": collector.url}
    content = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "doubles"},
        "spec": {"predictor": {"containers": [container], "logger": logger}},
    }
    file = project.context.root / "doubles.yaml"
    file.write_text(json.dumps(content), encoding="utf-8")
    return project.server.apply(file)


def request(name: str, numbers: Any = NUMBERS, *, binary: bool = True, **more: Any) -> Any:
    from kserve import InferInput, InferRequest

    given = InferInput("x", list(numbers.shape), "FP32")
    given.set_data_from_numpy(numbers, binary_data=binary)
    return InferRequest(name, [given], request_id="frage", **more)


@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "JSON"])
@pytest.mark.parametrize("answered", [True, False], ids=["bytes back", "JSON back"])
def test_kserves_rest_client_works(doubles: Any, binary: bool, answered: bool) -> None:
    from kserve import InferenceRESTClient, RESTConfig

    async def ask() -> None:
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        assert await client.is_server_ready(doubles.url)
        assert await client.is_model_ready(doubles.url, "twice")
        asked = request("twice", binary=binary, parameters={"binary_data_output": answered})
        answer = await client.infer(doubles.url, asked, "twice")
        assert (answer.id, answer.outputs[0].name) == ("frage", "y")
        np.testing.assert_array_equal(answer.outputs[0].as_numpy(), NUMBERS * 2, strict=True)
        await client.close()

    asyncio.run(ask())


@pytest.mark.parametrize("binary", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("name", ["twice", "small"])
def test_kserves_grpc_client_works(doubles: Any, name: str, binary: bool) -> None:
    from kserve import InferenceGRPCClient

    async def ask() -> None:
        async with InferenceGRPCClient(urlsplit(doubles.url).netloc) as client:
            assert await client.is_server_live(headers=HEADERS)
            assert await client.is_server_ready(headers=HEADERS)
            assert await client.is_model_ready(name, headers=HEADERS)
            answer = await client.infer(request(name, binary=binary), headers=HEADERS)
            np.testing.assert_array_equal(answer.outputs[0].as_numpy(), NUMBERS * 2, strict=True)
            assert answer.id == "frage"

    asyncio.run(ask())


def method(doubles: Any, name: str, asked: Any) -> Any:
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    with grpc.insecure_channel(urlsplit(doubles.url).netloc) as channel:
        return getattr(GRPCInferenceServiceStub(channel), name)(asked, timeout=60, metadata=HEADERS)


def test_grpc_tells_of_models_and_server(doubles: Any) -> None:
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

    said = method(doubles, "ModelMetadata", pb.ModelMetadataRequest(name="twice"))
    assert (said.name, said.platform) == ("twice", "Doubles")
    assert [(one.name, one.datatype, list(one.shape)) for one in said.inputs] == [("x", "FP32", [-1, 2])]
    assert [one.name for one in said.outputs] == ["y"]
    assert method(doubles, "ServerMetadata", pb.ServerMetadataRequest()).name == "modelyard"


@pytest.mark.parametrize(
    ("name", "numbers", "code", "sentence"),
    [
        ("twice", [[-1, 1]], "INVALID_ARGUMENT", "no negative numbers"),
        ("twice", [[13, 1]], "INTERNAL", "RuntimeError: broken inside"),
        ("other", [[1, 1]], "NOT_FOUND", "there is no model 'other'; there are: twice, small, third"),
    ],
)
def test_faults_have_grpcs_codes(doubles: Any, name: str, numbers: Any, code: str, sentence: str) -> None:
    asked = request(name, np.array(numbers, np.float32)).to_grpc()
    with pytest.raises(grpc.RpcError) as caught:
        method(doubles, "ModelInfer", asked)
    assert (caught.value.code().name, caught.value.details()) == (code, sentence)


def test_versions_in_paths_and_in_grpc_are_the_endpoints_own(doubles: Any, post: Any) -> None:
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": NUMBERS.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    status, _, text = post(doubles.url, "/v2/models/twice/versions/0/infer", body)
    assert (status, json.loads(text)["outputs"][0]["shape"]) == (200, [2, 2])
    status, _, text = post(doubles.url, "/v2/models/twice/versions/7/infer", body)
    assert (status, json.loads(text)) == (404, {"error": "'doubles' has version 0 here, and no version 7"})
    assert method(doubles, "ModelReady", pb.ModelReadyRequest(name="twice", version="0")).ready
    with pytest.raises(grpc.RpcError) as caught:
        method(doubles, "ModelReady", pb.ModelReadyRequest(name="twice", version="7"))
    assert caught.value.code().name == "NOT_FOUND"


def test_the_programs_repository_says_what_is_there_and_loads_it(
    project: Any, doubles: Any, post: Any
) -> None:
    """As KServe's own server: a repository that can't load leaves a model out for good."""
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

    def index(body: bytes = b"{}") -> dict[str, str]:
        found = json.loads(post(doubles.url, "/v2/repository/index", body)[2])
        return {one["name"]: one["state"] for one in found}

    assert index() == {"twice": "READY", "small": "READY", "third": "READY"}
    assert post(doubles.url, "/v2/repository/models/third/unload", b"")[0] == 200
    assert "third" not in index(b'{"ready": true}')
    assert post(doubles.url, "/v1/models/third:predict", b'{"instances": [1]}')[0] == 404
    said = method(doubles, "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="third"))
    assert (said.model_name, said.isLoaded) == ("third", True)
    assert index()["third"] == "READY"
    assert method(
        doubles, "RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="third")
    ).isUnloaded
    for name, status in (("other", 503), ("third", 200)):
        assert post(doubles.url, f"/v2/repository/models/{name}/load", b"")[0] == status
    assert post(doubles.url, "/v2/repository/models/other/unload", b"")[0] == 404


@pytest.mark.parametrize("name", ["twice", "small"])
def test_the_prediction_log_gets_json_of_grpc(
    doubles: Any, collector: Any, within: Callable[..., bool], name: str
) -> None:
    given = NUMBERS + (100 if name == "twice" else 200)
    method(doubles, "ModelInfer", request(name, given).to_grpc())
    wanted = given.ravel().tolist()

    def logged() -> bool:
        bodies = [json.loads(event.body) for event in collector.events]
        tensors = [tensor for body in bodies for tensor in body.get("inputs", []) + body.get("outputs", [])]
        said = [tensor["data"] for tensor in tensors]
        return wanted in said and [2 * number for number in wanted] in said

    assert within(60, logged)
