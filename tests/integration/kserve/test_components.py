"""A transformer and an explainer, classes of KServe's unchanged, around a predictor."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import ModelyardError
from modelyard.testing import EventCollector
from modelyard_kserve.local import tokens

#: As KServe's examples are written: `predict` is the one that asks the predictor.
TRANSFORMER = """
import argparse

from kserve import InferInput, InferRequest, InferResponse, Model, ModelServer, model_server


class Halves(Model):
    def __init__(self, name, divisor):
        super().__init__(name)
        self.ready = True
        self.divisor = divisor

    def preprocess(self, payload, headers=None):
        if isinstance(payload, InferRequest):
            numbers = payload.inputs[0].as_numpy() / self.divisor
            made = InferInput(payload.inputs[0].name, list(numbers.shape), "FP64")
            made.set_data_from_numpy(numbers, binary_data=False)
            return InferRequest(self.name, [made], request_id=payload.id)
        rows = payload["instances"]
        return {"instances": [[number / self.divisor for number in row] for row in rows]}

    def postprocess(self, result, headers=None, response_headers=None):
        if isinstance(result, InferResponse):
            return result
        return {"predictions": result["predictions"], "protocol": self.predictor_config.protocol}


parser = argparse.ArgumentParser(parents=[model_server.parser])
parser.add_argument("--divisor", type=float, default=2)
given, _ = parser.parse_known_args()

if __name__ == "__main__":
    ModelServer().start([Halves(given.model_name, given.divisor)])
"""
#: The predictor: doubles, so that what comes out tells what went in.
DOUBLES = """
import argparse

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server
from kserve.errors import InvalidInput


class Doubles(Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    def predict(self, payload, headers=None):
        if isinstance(payload, InferRequest):
            numbers = payload.inputs[0].as_numpy() * 2
            made = InferOutput("y", list(numbers.shape), "FP64")
            made.set_data_from_numpy(numbers, binary_data=False)
            return InferResponse(payload.id, self.name, [made])
        if payload["instances"] == [[0.5]]:
            raise InvalidInput("0.5 is refused")
        return {"predictions": [[number * 2 for number in row] for row in payload["instances"]]}


given, _ = argparse.ArgumentParser(parents=[model_server.parser]).parse_known_args()

if __name__ == "__main__":
    ModelServer().start([Doubles(given.model_name)])
"""
EXPLAINER = """
import argparse

from kserve import Model, ModelServer, model_server


class Tries(Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    async def explain(self, payload, headers=None):
        tried = [await self.predict({"instances": [[n]]}, headers) for n in (1, 2, 3)]
        return {"explanations": [one["predictions"][0][0] for one in tried]}


given, _ = argparse.ArgumentParser(parents=[model_server.parser]).parse_known_args()

if __name__ == "__main__":
    ModelServer().start([Tries(given.model_name)])
"""


def container(module: str, *args: str, **more: Any) -> dict[str, Any]:
    return {"name": "kserve-container", "command": ["python", "-m", module], "args": list(args), **more}


def service(
    project: Any,
    name: str,
    predictor: dict[str, Any] | None = None,
    annotations: Any = None,
    **components: Any,
) -> Path:
    """Write an InferenceService with components; a list is the args of a class of ours."""
    for module, code in (("halves", TRANSFORMER), ("doubles_it", DOUBLES), ("tries", EXPLAINER)):
        file = project.context.root / f"{module}.py"
        if not file.exists():
            file.write_text(code)
    spec = {"predictor": predictor or {"containers": [container("doubles_it")]}, **components}
    content = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": spec,
    }
    file = project.context.root / f"{name}.yaml"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def halves(*args: str, **more: Any) -> dict[str, Any]:
    return {"containers": [container("halves", *args)], **more}


@pytest.fixture
def ask(post: Callable[..., Any]) -> Callable[..., tuple[int, Any, Any]]:
    def asked(endpoint: Any, path: str, body: Any, **headers: str) -> tuple[int, Any, Any]:
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        status, answered, text = post(endpoint.url, path, json.dumps(body).encode(), given)
        return status, answered, json.loads(text)

    return asked


def test_a_transformer_stands_before_the_predictor(project: Any, ask: Any) -> None:
    made = project.server.apply(service(project, "late", transformer=halves()))
    status, headers, said = ask(
        made, "/v1/models/late:predict", {"instances": [[10, 20]]}, x_request_id="one"
    )
    assert (status, said) == (200, {"predictions": [[10.0, 20.0]], "protocol": "v1"})
    assert headers["x-modelyard-revision"] == "late-00001"
    assert headers["x-request-id"] == "one"


def tensor(*numbers: float) -> dict[str, Any]:
    return {"name": "x", "shape": [1, len(numbers)], "datatype": "FP64", "data": list(numbers)}


@pytest.mark.parametrize("protocol", ["v2", "grpc-v2"])
def test_the_predictor_is_asked_in_v2_and_in_grpc(project: Any, ask: Any, protocol: str) -> None:
    file = service(
        project, f"by-{protocol}", sklearn(project), transformer=halves(f"--predictor_protocol={protocol}")
    )
    made = project.server.apply(file, trust=True)
    status, headers, said = ask(
        made, f"/v2/models/by-{protocol}/infer", {"id": "7", "inputs": [tensor(10.0, 20.0)]}
    )
    assert (status, said["id"]) == (200, "7"), said
    assert said["outputs"][0]["data"] == [15.0], "half of the sum"
    assert headers["x-modelyard-revision"] == f"by-{protocol}-00001"
    project.server.delete(f"by-{protocol}")


def test_classes_are_asked_in_grpc_as_well(project: Any, within: Any) -> None:
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    with EventCollector() as collector:
        predictor = {"containers": [container("doubles_it")], "logger": {"url": collector.url, "mode": "all"}}
        transformer = halves("--predictor_protocol=grpc-v2", "--divisor=5")
        made = project.server.apply(service(project, "in-grpc", predictor, transformer=transformer))
        options = [("grpc.default_authority", "in-grpc-default.example.com")]
        with grpc.insecure_channel(made.url.split("/")[2], options) as channel:
            stub = GRPCInferenceServiceStub(channel)
            assert stub.ModelReady(pb.ModelReadyRequest(name="in-grpc"), timeout=60).ready
            told = stub.ModelMetadata(pb.ModelMetadataRequest(name="in-grpc"), timeout=60)
            assert told.platform == "Halves"
            asked = {
                "name": "x",
                "datatype": "FP64",
                "shape": [1, 2],
                "contents": {"fp64_contents": [10, 20]},
            }
            request = pb.ModelInferRequest(model_name="in-grpc", id="7", inputs=[asked])
            said, call = stub.ModelInfer.with_call(
                request, timeout=60, metadata=[("x-request-id", "by-grpc")]
            )
            assert (said.id, list(said.outputs[0].contents.fp64_contents)) == ("7", [4.0, 8.0])
            assert dict(call.initial_metadata())["x-modelyard-revision"] == "in-grpc-00001"
            with pytest.raises(grpc.RpcError, match="other") as refused:
                stub.ModelInfer(pb.ModelInferRequest(model_name="other", inputs=[asked]), timeout=60)
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
            loaded = pb.RepositoryModelLoadRequest(model_name="in-grpc")
            assert stub.RepositoryModelLoad(loaded, timeout=60).isLoaded
        assert within(60, lambda: len(collector.of("by-grpc")) == 2)
        first = json.loads(collector.of("by-grpc")[0].body)
        assert first["inputs"][0]["data"] == [2.0, 4.0], "what the predictor was asked"
    project.server.delete("in-grpc")


def test_who_asks_in_another_protocol_than_the_predictor_is_asked_in_is_told_so(
    project: Any, ask: Any
) -> None:
    import grpc
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    made = project.server.apply(service(project, "by-v1", transformer=halves()))
    to_do = "or start the transformer with --predictor_protocol=v2"
    status, _, said = ask(made, "/v2/models/by-v1/infer", {"inputs": [tensor(10.0, 20.0)]})
    assert (status, to_do in said["error"]) == (400, True), said
    with grpc.insecure_channel(
        made.url.split("/")[2], [("grpc.default_authority", "by-v1-default.example.com")]
    ) as channel:
        asked = {"name": "x", "datatype": "FP64", "shape": [1, 1]}
        request = pb.ModelInferRequest(
            model_name="by-v1", inputs=[asked], raw_input_contents=[struct.pack("<d", 10)]
        )
        with pytest.raises(grpc.RpcError, match=to_do) as refused:
            GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status, _, said = ask(made, "/v1/models/by-v1:predict", {"instances": [[1]]})
    assert (status, said) == (400, {"error": "the predictor: 0.5 is refused"})
    project.server.delete("by-v1")


def test_a_component_has_a_model_of_its_own(project: Any, ask: Any) -> None:
    folder = project.context.root / "divisors"
    folder.mkdir()
    (folder / "five").write_text("5")
    (project.context.root / "divides.py").write_text(
        "import pathlib, sys\nfrom kserve import ModelServer\nfrom halves import Halves, given\n"
        "ModelServer().start([Halves(given.model_name, float(pathlib.Path(sys.argv[1]).read_text()))])\n"
    )
    own = {"command": ["python", "-m", "divides"], "args": ["/mnt/models/five"]}
    own |= {"name": "kserve-container", "env": [{"name": "STORAGE_URI", "value": "divisors"}]}
    made = project.server.apply(service(project, "owner", transformer={"containers": [own]}))
    said = ask(made, "/v1/models/owner:predict", {"instances": [[10]]})[2]
    assert said["predictions"] == [[4.0]], "a fifth, doubled"
    (folder / "five").write_text("10")
    again = project.server.apply(service(project, "owner", transformer={"containers": [own]}))
    assert again.revisions[0].number == 2
    assert ask(again, "/v1/models/owner:predict", {"instances": [[10]]})[2]["predictions"] == [[2.0]]
    project.server.delete("owner")


def sklearn(project: Any) -> dict[str, Any]:
    """A model that sums its two columns."""
    import joblib
    from sklearn.linear_model import LinearRegression

    folder = project.context.root / "sums"
    folder.mkdir(exist_ok=True)
    model = LinearRegression(fit_intercept=False).fit([[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
    joblib.dump(model, folder / "model.joblib")
    return {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": str(folder)}}


def test_an_explainer_asks_the_predictor_and_each_prediction_is_logged_once(
    project: Any, ask: Any, within: Any
) -> None:
    with EventCollector() as collector:
        sink = collector.url
        predictor = {"containers": [container("doubles_it")], "logger": {"url": sink, "mode": "all"}}
        made = project.server.apply(
            service(
                project,
                "explained",
                predictor,
                transformer=halves(logger={"url": sink, "mode": "all"}),
                explainer={"containers": [container("tries")]},
            )
        )
        assert any("transformer.logger logs nothing here" in note for note in made.message.split("; "))
        status, headers, said = ask(
            made, "/v1/models/explained:explain?deep=1", {"instances": [[1]]}, x_request_id="why"
        )
        assert (status, said) == (200, {"explanations": [2, 4, 6]})
        assert (headers["x-request-id"], headers["x-modelyard-revision"]) == ("why", "explained-00001")
        status, _, said = ask(made, "/v1/models/explained:predict", {"instances": [[3]]}, x_request_id="what")
        assert (status, said["predictions"]) == (200, [[3.0]])
        assert within(60, lambda: len(collector.of("what")) == 2)
    assert [event.headers["ce-id"] for event in collector.events] == ["what", "what"]
    assert {event.headers["ce-component"] for event in collector.events} == {"predictor"}
    project.server.delete("explained")


def test_the_transformer_logs_what_callers_sent_if_it_is_the_one_with_a_logger(
    project: Any, ask: Any, within: Any
) -> None:
    with EventCollector() as collector:
        sink = collector.url
        made = project.server.apply(
            service(project, "outside", transformer=halves(logger={"url": sink, "mode": "request"}))
        )
        assert ask(made, "/v1/models/outside:predict", {"instances": [[8]]}, x_request_id="out")[0] == 200
        assert within(60, lambda: len(collector.of("out")) == 1)
    (event,) = collector.events
    assert (event.headers["ce-component"], json.loads(event.body)) == ("transformer", {"instances": [[8]]})
    project.server.delete("outside")


def test_what_the_predictor_refuses_is_refused_in_its_words(project: Any, ask: Any) -> None:
    made = project.server.apply(service(project, "late", transformer=halves()))
    status, _, said = ask(made, "/v1/models/late:predict", {"instances": [[1]]})
    assert (status, said) == (400, {"error": "the predictor: 0.5 is refused"})
    assert ask(made, "/v1/models/late:explain", {"instances": [[1]]})[0] == 501, "nobody explains"


def test_a_component_that_fails_is_said_and_keeps_the_old_revision_answering(project: Any, ask: Any) -> None:
    project.server.apply(service(project, "fails", transformer=halves()))
    (project.context.root / "broken.py").write_text("import nothing_like_it\n")
    broken = {"containers": [container("broken")]}
    with pytest.raises(ModelyardError, match="transformer: broken ended: ModuleNotFoundError") as failed:
        project.server.apply(service(project, "fails", transformer=broken))
    assert failed.value.code == "revision-failed"
    shown = project.server.explain("fails")
    facts = {one.type: (one.status, one.message) for one in shown.endpoint.conditions}
    assert facts["TransformerReady"][0] == "False"
    assert "fails-00002, transformer failed: broken ended" in facts["TransformerReady"][1]
    assert (facts["PredictorReady"][0], facts["Ready"][0]) == ("True", "False")
    assert [one.name.endswith("(transformer)") for one in shown.replicas if not one.ready] == [True]
    status, headers, _ = ask(shown.endpoint, "/v1/models/fails:predict", {"instances": [[4]]})
    assert (status, headers["x-modelyard-revision"]) == (200, "fails-00001")
    project.server.delete("fails")


def test_another_transformer_is_another_revision_and_both_ask_their_own_predictor(
    project: Any, ask: Any
) -> None:
    first = project.server.apply(service(project, "moves", transformer=halves()))
    assert project.server.apply(service(project, "moves", transformer=halves())).revisions == first.revisions
    canary = {"containers": [container("doubles_it")], "canaryTrafficPercent": 30}
    both = project.server.apply(service(project, "moves", canary, transformer=halves("--divisor=10")))
    assert [(one.number, one.traffic) for one in both.revisions] == [(2, 30), (1, 70)]

    def asked(place: int) -> tuple[str, Any]:
        _, headers, said = ask(
            both, "/v1/models/moves:predict", {"instances": [[10]]}, x_modelyard_split=str(place)
        )
        return headers["x-modelyard-revision"], said["predictions"]

    assert dict([asked(0), asked(99)]) == {"moves-00001": [[10.0]], "moves-00002": [[2.0]]}
    counted = {one.revision: one.requests for one in project.server.statistics("moves")}
    assert sorted(counted) == ["moves-00001", "moves-00002"]
    assert min(counted.values()) >= 1
    file = project.context.root / "halves.py"
    file.write_text(file.read_text() + "# changed\n")
    changed = project.server.apply(service(project, "moves", transformer=halves("--divisor=10")))
    assert changed.revisions[0].number == 3, "its file is another one"
    project.server.delete("moves")


def test_killed_parts_come_back_and_a_new_controller_adopts_them(
    project: Any, ask: Any, within: Any, runs: Any
) -> None:
    made = project.server.apply(service(project, "hardy", transformer=halves(minReplicas=2, maxReplicas=2)))
    before = {process.pid for process in project.family("hardy")}
    assert len(before) == 3
    project.kill("controller")
    assert ask(made, "/v1/models/hardy:predict", {"instances": [[4]]})[0] == 200
    project.up()
    assert within(60, lambda: project.server.get("hardy").ready)
    assert {process.pid for process in project.family("hardy")} == before

    def answers() -> bool:
        status, _, said = ask(made, "/v1/models/hardy:predict", {"instances": [[4]]})
        assert status in (200, 503), said
        assert status == 200 or said["error"]
        return status == 200

    for process in project.family("hardy"):
        process.kill()
        assert within(60, lambda process=process: not runs(process))
        assert within(60, answers)
    assert within(60, lambda: len(project.family("hardy")) == 3)
    assert not before & {process.pid for process in project.family("hardy")}
    project.server.delete("hardy")
    assert not project.family("hardy")


def test_parts_that_sleep_are_woken_by_one_request(project: Any, ask: Any, within: Any) -> None:
    predictor = {"containers": [container("doubles_it")], "minReplicas": 0}
    file = service(
        project,
        "sleeper",
        predictor,
        {"autoscaling.knative.dev/window": "6s"},
        transformer=halves(minReplicas=0),
    )
    made = project.server.apply(file)
    assert within(60, lambda: not project.family("sleeper")), "nobody asks"
    assert project.server.get("sleeper").ready
    status, _, said = ask(made, "/v1/models/sleeper:predict", {"instances": [[4]]})
    assert (status, said["predictions"]) == (200, [[4.0]])
    project.server.delete("sleeper")


def test_who_must_know_the_token_is_asked_for_it_at_the_predictor_too(project: Any, ask: Any) -> None:
    file = service(project, "guarded", annotations={tokens.ANNOTATION: "true"}, transformer=halves())
    made = project.server.apply(file)
    bearer = f"Bearer {project.server.token('guarded')}"
    rows = {"instances": [[4]]}
    within = "/guarded-00001/predictor/v1/models/guarded:predict"
    for path in ("/v1/models/guarded:predict", within):
        assert ask(made, path, rows)[0] == 401
        assert ask(made, path, rows, authorization=bearer)[0] == 200
    assert ask(made, within, rows, authorization=bearer)[2] == {"predictions": [[8]]}, "not halved before"
    project.server.delete("guarded")


def test_nobody_notices_a_roll_out_behind_a_transformer(project: Any, callers: Any, within: Any) -> None:
    (project.context.root / "passes.py").write_text(
        "import argparse\nfrom kserve import Model, ModelServer, model_server\n"
        "parser = argparse.ArgumentParser(parents=[model_server.parser])\n"
        "model = Model(parser.parse_known_args()[0].model_name)\nmodel.load()\nModelServer().start([model])\n"
    )

    def applied(version: int) -> Any:
        uri = f"models:/late-flights/{version}"
        predictor = {"model": {"modelFormat": {"name": "mlflow"}, "storageUri": uri}}
        return project.server.apply(
            service(project, "busy", predictor, transformer={"containers": [container("passes")]})
        )

    made = applied(1)
    with callers(made.url, "busy") as asking:
        assert within(60, lambda: asking.versions() == {"1"})
        applied(2)
        since = time.monotonic()
        assert within(60, lambda: asking.versions(since) == {"2"})
        applied(1)
        since = time.monotonic()
        assert within(60, lambda: asking.versions(since) == {"1"})
    assert not asking.failed()
    assert len(asking.answers) > 20
    project.server.delete("busy")


def test_down_ends_every_part(project: Any, within: Any) -> None:
    project.server.apply(
        service(project, "last", transformer=halves(), explainer={"containers": [container("tries")]})
    )
    assert len(project.family("last")) == 3
    project.down()
    assert within(60, lambda: not project.everything())
