"""KServe's own model server and an endpoint of ours with the same models answer the same, field by field, by
V1, V2, binary and gRPC; and the clients that people have work with both.

What may differ: `model_version`, which KServe's server leaves empty; the name of an output to which the model
gives none (`output-0` there, `predict` here); and `binary_data_size`, REST's parameter, which KServe's gRPC
puts beside raw contents as well.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson
import pytest
from tests.served import free_port, serving

from modelyard.processes import child_env
from modelyard.testing import ModelShelf, make_context

pytest.importorskip("grpc")

HERE = Path(__file__).parent
#: Whole numbers; fractions that FP16 has; and a missing one, which only a number of FP type can be.
WHOLE = [[20, 0, 1, 2], [-4, 2, 0, 1], [31, 1, 3, 0]]
FRACTIONS = [[20.5, 0, 1.25, 2], [-4, 2, 0.5, 1], [31.25, 1, 3, 0.125]]
LENGTH = "inference-header-content-length"


@dataclass
class Sides:
    """Where each of both answers: base URL of REST, target of gRPC, and the host that a call must name."""

    base: dict[str, Callable[[str], str]]
    target: dict[str, str]

    def rest(
        self, side: str, name: str, path: str, body: bytes, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(
            self.base[side](name) + path, body, {"Content-Type": "application/json", **(headers or {})}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found = {key.lower(): value for key, value in answer.headers.items()}
                return answer.status, found, answer.read()
        except urllib.error.HTTPError as fault:
            return fault.code, {}, fault.read()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path, Path]]:
    """Name -> the model, its file for the oracle, and its MLflow folder for us."""
    import joblib
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPRegressor

    random = np.random.default_rng(0)
    table = random.normal(5, 10, (200, 4))
    target = table @ [1.0, 2.0, -1.0, 0.5]
    labels = np.where(target > 10, "spät", "pünktlich").astype(object)
    network = {"hidden_layer_sizes": (4,), "tol": 10, "random_state": 0}
    small = MLPRegressor(**network).fit(table.astype(np.float32), target.astype(np.float32))
    made = {}
    for name, model in {
        "score": HistGradientBoostingRegressor(max_iter=10, random_state=0).fit(table, target),
        "label": LogisticRegression().fit(table, labels),
        "pair": MLPRegressor(**network).fit(table, np.c_[target, -target]),
        "small": small,
    }.items():
        folder = tmp_path_factory.mktemp("orakel") / name
        signature = infer_signature(table, model.predict(table)) if name in ("score", "pair") else None
        mlflow.sklearn.save_model(
            model, str(folder), signature=signature, pip_requirements=[], serialization_format="cloudpickle"
        )
        file = folder.with_suffix(".joblib")
        joblib.dump(model, file)
        made[name] = (model, file, folder)
    return made


@pytest.fixture(scope="module")
def sides(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """The oracle and a project of ours."""
    from modelyard_kserve.config import KserveSettings
    from modelyard_kserve.provider import KserveServer

    folder = tmp_path_factory.mktemp("orakel")
    rest, grpc = free_port(), free_port()
    command = [sys.executable, str(HERE / "oracle.py"), str(rest), str(grpc)]
    command += [f"{name}={file}" for name, (_, file, _) in models.items()]

    def answers() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{rest}/v2/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)

    shelf = ModelShelf()
    for name, (_, _, mlflow) in models.items():
        shelf.put(name, mlflow)
    context = make_context(
        tmp_path_factory.mktemp("orakel"),
        provider="kserve",
        settings=KserveSettings(),
        resolve_model=shelf.resolve,
    )
    server = KserveServer(context)
    with serving(command, folder, child_env(), folder / "oracle.log", answers):
        try:
            urls = {name: _applied(server, context.root, name) for name in models}
            netloc = urlsplit(urls["score"]).netloc
            yield Sides(
                {"kserve": lambda _: f"http://127.0.0.1:{rest}", "ours": lambda name: urls[name]},
                {"kserve": f"127.0.0.1:{grpc}", "ours": netloc},
            )
        finally:
            for service in context.services.all():
                context.services.stop(service.name)


def _applied(server: Any, root: Path, name: str) -> str:
    model = {"modelFormat": {"name": "mlflow"}, "storageUri": f"models:/{name}/1"}
    content = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"model": model}},
    }
    file = root / f"{name}.yaml"
    file.write_text(json.dumps(content))
    url: str = server.apply(file).url
    return url


def same(theirs: Any, ours: Any) -> None:
    """Whether two answers of V2 say the same but for what may differ."""
    for answer, name in ((theirs, "output-0"), (ours, "predict")):
        assert [output["name"] for output in answer["outputs"]] == [name]
        for output in answer["outputs"]:
            del output["name"]
            if output.get("parameters", {}) is None:  # KServe's JSON says of everything that it is not there
                del output["parameters"]
    assert (theirs.pop("model_version", None) or "") in ("", "1")
    assert ours.pop("model_version") == "1"
    assert {key: value for key, value in theirs.items() if value is not None} == ours


NAMES = pytest.mark.parametrize("name", ["score", "label", "pair", "small"])


@NAMES
@pytest.mark.parametrize("rows", [WHOLE, FRACTIONS], ids=["whole", "fractions"])
def test_v1_is_answered_alike(sides: Sides, name: str, rows: Any) -> None:
    body = orjson.dumps({"instances": rows})
    found = [sides.rest(side, name, f"/v1/models/{name}:predict", body) for side in ("kserve", "ours")]
    assert found[0][0] == found[1][0] == 200, found
    assert json.loads(found[0][2]) == json.loads(found[1][2])


@NAMES
@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT64", "INT32", "INT8", "UINT8"])
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_v2_json_is_answered_alike(sides: Sides, name: str, datatype: str, nested: bool) -> None:
    rows = np.abs(WHOLE) if datatype == "UINT8" else np.array(FRACTIONS if "FP" in datatype else WHOLE)
    data = rows.tolist() if nested else rows.ravel().tolist()
    tensor = {"name": "x", "shape": [3, 4], "datatype": datatype, "data": data}
    body = orjson.dumps({"id": "frage-7", "inputs": [tensor]})
    found = [sides.rest(side, name, f"/v2/models/{name}/infer", body) for side in ("kserve", "ours")]
    assert found[0][0] == found[1][0] == 200, found
    same(json.loads(found[0][2]), json.loads(found[1][2]))


def test_a_missing_number_is_null_in_both_directions(sides: Sides) -> None:
    rows = [value for row in FRACTIONS for value in row]
    rows[2] = None  # type: ignore[call-overload]
    tensor = {"name": "x", "shape": [3, 4], "datatype": "FP64", "data": rows}
    body = orjson.dumps({"id": "frage-7", "inputs": [tensor]})
    found = [sides.rest(side, "score", "/v2/models/score/infer", body) for side in ("kserve", "ours")]
    assert found[0][0] == found[1][0] == 200, found
    same(json.loads(found[0][2]), json.loads(found[1][2]))


@NAMES
@pytest.mark.parametrize("datatype", ["FP64", "FP32", "FP16", "INT32", "UINT8"])
@pytest.mark.parametrize("answered", [True, False], ids=["binary", "json"])
def test_v2_binary_is_answered_alike(sides: Sides, name: str, datatype: str, answered: bool) -> None:
    kinds = {"FP64": "<f8", "FP32": "<f4", "FP16": "<f2", "INT32": "<i4", "UINT8": "u1"}
    rows = np.abs(np.array(FRACTIONS)).astype(kinds[datatype])
    raw = rows.tobytes()
    said = orjson.dumps(
        {
            "id": "frage-8",
            "inputs": [
                {
                    "name": "x",
                    "shape": [3, 4],
                    "datatype": datatype,
                    "parameters": {"binary_data_size": len(raw)},
                }
            ],
            "parameters": {"binary_data_output": answered},
        }
    )
    headers = {LENGTH: str(len(said)), "Content-Type": "application/octet-stream"}
    path = f"/v2/models/{name}/infer"
    theirs, ours = (sides.rest(side, name, path, said + raw, headers) for side in ("kserve", "ours"))
    assert theirs[0] == ours[0] == 200, (theirs, ours)
    assert (LENGTH in theirs[1]) == (LENGTH in ours[1]) == answered
    cut = [int(found[1].get(LENGTH, len(found[2]))) for found in (theirs, ours)]
    assert theirs[2][cut[0] :] == ours[2][cut[1] :]
    same(json.loads(theirs[2][: cut[0]]), json.loads(ours[2][: cut[1]]))


@NAMES
@pytest.mark.parametrize("is_raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT32"])
def test_grpc_is_answered_alike(sides: Sides, name: str, datatype: str, is_raw: bool) -> None:
    from google.protobuf.json_format import MessageToDict

    answers = []
    for side in ("kserve", "ours"):
        made = asyncio.run(_by_grpc(sides, side, name, datatype, is_raw))
        answers.append(MessageToDict(made, preserving_proto_field_name=True))
    for output in answers[0]["outputs"] if is_raw else ():
        assert list(output.pop("parameters")) == ["binary_data_size"]
    same(*answers)


async def _by_grpc(sides: Sides, side: str, name: str, datatype: str, is_raw: bool) -> Any:
    import grpc.aio
    from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    kind, place = {
        "FP64": ("<f8", "fp64_contents"),
        "FP32": ("<f4", "fp32_contents"),
        "INT32": ("<i4", "int_contents"),
    }[datatype]
    rows = np.array(FRACTIONS).astype(kind)
    given: dict[str, Any] = {"name": "x", "shape": [3, 4], "datatype": datatype}
    if not is_raw:
        given["contents"] = {place: rows.ravel().tolist()}
    request = ModelInferRequest(
        model_name=name, id="frage-9", inputs=[given], raw_input_contents=[rows.tobytes()] if is_raw else []
    )
    host = [("grpc.default_authority", f"{name}-default.example.com")]
    async with grpc.aio.insecure_channel(sides.target[side], options=host) as channel:
        return await GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)


# -- clients that people have ---------------------------------------------------------------


@pytest.mark.parametrize("side", ["kserve", "ours"])
def test_kserves_rest_client_works(sides: Sides, models: Any, side: str) -> None:
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    expected = models["score"][0].predict(FRACTIONS)
    given = InferInput("x", [3, 4], "FP64")
    given.set_data_from_numpy(np.array(FRACTIONS), binary_data=True)

    async def ask() -> None:
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        base = sides.base[side]("score")
        assert await client.is_server_live(base)
        assert await client.is_server_ready(base)
        assert await client.is_model_ready(base, "score")
        request = InferRequest("score", [given], parameters={"binary_data_output": True})
        answer = await client.infer(base, request, "score")
        assert np.array_equal(answer.outputs[0].as_numpy(), expected)
        await client.close()
        older = InferenceRESTClient(RESTConfig(protocol="v1"))
        said = await older.infer(base, {"instances": FRACTIONS}, "score")
        assert said == {"predictions": expected.tolist()}
        await older.close()

    asyncio.run(ask())


@pytest.mark.parametrize("side", ["kserve", "ours"])
def test_kserves_grpc_client_works(sides: Sides, models: Any, side: str) -> None:
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    expected = models["score"][0].predict(FRACTIONS)
    given = InferInput("x", [3, 4], "FP64")
    given.set_data_from_numpy(np.array(FRACTIONS), binary_data=True)
    headers = (("x-modelyard-endpoint", "score"),)

    async def ask() -> None:
        async with InferenceGRPCClient(sides.target[side]) as client:
            assert await client.is_server_live(headers=headers)
            assert await client.is_server_ready(headers=headers)
            assert await client.is_model_ready("score", headers=headers)
            answer = await client.infer(InferRequest("score", [given]), headers=headers)
            assert np.array_equal(answer.outputs[0].as_numpy(), expected)

    asyncio.run(ask())


def triton(protocol: str, url: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "triton.py"), protocol, url, "score"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=child_env(), check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["ready"] == [True, True, True]
    return said


@pytest.fixture
def predicted(models: Any) -> list[float]:
    """What the rows of `triton.py` are answered with."""
    rows = np.array([[20.5, 0, 1, 2], [-4, 2, 0.5, 1]], np.float32)
    found: list[float] = models["score"][0].predict(rows).tolist()
    return found


def test_nvidias_http_client_works(sides: Sides, predicted: list[float]) -> None:
    said = triton("http", sides.base["ours"]("score").removeprefix("http://"))
    assert len(said["answers"]) == 12
    assert all(answer == ["frage", predicted] for answer in said["answers"].values()), said["answers"]
    assert said["metadata"]["outputs"] == [{"name": "predict", "datatype": "FP64", "shape": [-1]}]
    assert said["index"] == [{"name": "score", "version": "1", "state": "READY", "reason": ""}]
    assert said["refused"][0] == "400"
    assert "3 features" in said["refused"][1]
    assert (said["unloaded"], said["loaded"]) == (False, True)


def test_nvidias_grpc_client_works(sides: Sides, predicted: list[float]) -> None:
    said = triton("grpc", sides.target["ours"])
    assert said["answers"] == {key: ["frage", predicted] for key in ("None", "gzip", "deflate")}
    assert said["metadata"]["outputs"] == [{"name": "predict", "datatype": "FP64", "shape": ["-1"]}]
    assert said["refused"][0] == "StatusCode.INVALID_ARGUMENT"
    assert "3 features" in said["refused"][1]


def test_curl_works_by_http_1_and_2_and_with_bytes(sides: Sides, models: Any, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    rows = np.array(FRACTIONS, "<f8")
    said = orjson.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": [3, 4],
                    "datatype": "FP64",
                    "parameters": {"binary_data_size": rows.nbytes},
                }
            ]
        }
    )
    body = tmp_path / "body"
    body.write_bytes(said + rows.tobytes())
    url = f"{sides.base['ours']('score')}/v2/models/score/infer"
    for version in ("--http1.1", "--http2-prior-knowledge"):
        command = [curl, "-sS", "--fail-with-body", version, "--data-binary", f"@{body}"]
        command += ["-H", f"{LENGTH}: {len(said)}", "-H", "Content-Type: application/octet-stream", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["outputs"][0]["data"] == models["score"][0].predict(rows).tolist()
