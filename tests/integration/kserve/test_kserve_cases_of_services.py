"""KServe's own end-to-end cases of graphs, transformers and loggers, in our words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.testing import EventCollector

#: What KServe's cases of graphs ask: one that always answers, and one that refuses on purpose.
ANSWERS = """
import argparse

from fastapi import HTTPException
from kserve import Model, ModelServer, model_server


class Answers(Model):
    def __init__(self, name, fails):
        super().__init__(name)
        self.ready, self.fails = True, fails

    async def predict(self, payload, headers=None):
        if self.fails:
            raise HTTPException(status_code=404, detail="Intentional 404 code")
        return {"predictions": [{"message": "SUCCESS"}]}


parser = argparse.ArgumentParser(parents=[model_server.parser])
parser.add_argument("--fails", action="store_true")
given, _ = parser.parse_known_args()

if __name__ == "__main__":
    ModelServer().start([Answers(given.model_name, given.fails)])
"""
#: Doubles, and says so in a header; a transformer around it that leaves everything as it is.
HEADERS = """
import argparse

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server


class Doubles(Model):
    def __init__(self, name):
        super().__init__(name, return_response_headers=True)
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        response_headers.update({"my-header": "test_header", "seen": headers.get("x-request-id", "nothing")})
        if isinstance(payload, InferRequest):
            numbers = payload.inputs[0].as_numpy() * 2
            made = InferOutput("output-0", list(numbers.shape), "FP32")
            made.set_data_from_numpy(numbers, binary_data=False)
            return InferResponse(payload.id, self.name, [made])
        return {"predictions": [[2 * number for number in row] for row in payload["instances"]]}


class Passes(Model):
    def __init__(self, name):
        super().__init__(name, return_response_headers=True)
        self.ready = True


parser = argparse.ArgumentParser(parents=[model_server.parser])
parser.add_argument("--doubles", action="store_true")
given, _ = parser.parse_known_args()

if __name__ == "__main__":
    ModelServer().start([(Doubles if given.doubles else Passes)(given.model_name)])
"""


def container(module: str, *args: str) -> dict[str, Any]:
    return {"name": "kserve-container", "image": "x", "command": ["python", "-m", module], "args": list(args)}


def apply(project: Any, version: str, kind: str, name: str, spec: dict[str, Any]) -> Any:
    for module, code in (("answers", ANSWERS), ("headers", HEADERS)):
        (project.context.root / f"{module}.py").write_text(code)
    content = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    file: Path = project.context.root / f"{name}.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return project.server.apply(file, trust=True)  # KServe loads every pickle


def service(project: Any, name: str, predictor: dict[str, Any], **more: Any) -> Any:
    spec = {"predictor": predictor, **more}
    return apply(project, "serving.kserve.io/v1beta1", "InferenceService", name, spec)


@pytest.fixture
def ask(post: Callable[..., Any]) -> Callable[..., tuple[int, Any, Any]]:
    def asked(endpoint: Any, path: str, body: Any, **headers: str) -> tuple[int, Any, Any]:
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        status, answered, text = post(endpoint.url, path, json.dumps(body).encode(), given)
        return status, json.loads(text), answered

    return asked


# -- graphs ---------------------------------------------------------------------------------

GOOD, BAD = {"serviceName": "success-200-isvc"}, {"serviceName": "error-404-isvc"}
PICKS_ERROR = {"condition": "[@this].#(decision_picker==ERROR)"}
PICKS_SUCCESS = {"condition": "[@this].#(decision_picker==SUCCESS)"}
SUCCESS, REFUSED = {"predictions": [{"message": "SUCCESS"}]}, {"detail": "Intentional 404 code"}
NOBODY = {
    "error": "Failed to process request",
    "cause": "None of the routes matched with the switch condition",
}
HARD, SOFT = {"dependency": "Hard"}, {"dependency": "Soft"}


def node(kind: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"routerType": kind, "steps": list(steps)}


def before_success(step: dict[str, Any], kind: str, inner: dict[str, Any]) -> dict[str, Any]:
    """A node, and then the service that answers."""
    root = node("Sequence", {"name": "rootStep1", "nodeName": "node1", **step}, {"name": "rootStep2", **GOOD})
    return {"root": root, "node1": node(kind, {"name": "node1Step1", **inner})}


SCENARIOS: dict[str, tuple[dict[str, Any], str, int, Any]] = {
    "1 the answer of the last step, which refuses": (
        {"root": node("Sequence", GOOD, {**BAD, "data": "$request"})},
        "ANY",
        404,
        REFUSED,
    ),
    "2 a soft step that refuses is passed": (
        {"root": node("Sequence", BAD, {**GOOD, "data": "$request"})},
        "ANY",
        200,
        SUCCESS,
    ),
    "3 a hard step that refuses ends it": (
        {"root": node("Sequence", {**BAD, **HARD}, {**GOOD, **SOFT})},
        "ANY",
        404,
        REFUSED,
    ),
    "5 a soft switch whose step refuses is passed": (
        before_success(SOFT, "Switch", {**BAD, **PICKS_ERROR}),
        "ERROR",
        200,
        SUCCESS,
    ),
    "6 a hard switch whose hard step refuses ends it": (
        before_success(HARD, "Switch", {**BAD, **PICKS_ERROR, **HARD}),
        "ERROR",
        404,
        REFUSED,
    ),
    "7 an ensemble of soft steps holds what each says": (
        {"root": node("Ensemble", {"name": "rootStep1", **GOOD}, {"name": "rootStep2", **BAD})},
        "SUCCESS",
        200,
        {"rootStep1": SUCCESS, "rootStep2": REFUSED},
    ),
    "8 an ensemble with a hard step that refuses is its refusal": (
        {
            "root": node(
                "Ensemble",
                {"name": "rootStep1", **BAD, **HARD},
                {"name": "rootStep2", **GOOD},
                {"name": "rootStep3", **GOOD},
            )
        },
        "SUCCESS",
        404,
        REFUSED,
    ),
    "9 a soft splitter whose step refuses is passed": (
        before_success(SOFT, "Splitter", {**BAD, **PICKS_ERROR, "weight": 100}),
        "ANY",
        200,
        SUCCESS,
    ),
    "10 a hard splitter whose hard step refuses ends it": (
        before_success(HARD, "Splitter", {**BAD, **PICKS_ERROR, **HARD, "weight": 100}),
        "ANY",
        404,
        REFUSED,
    ),
}


@pytest.fixture(scope="module")
def steps(project: Any) -> None:
    """The two services that the graphs ask."""
    service(project, "success-200-isvc", {"containers": [container("answers", "--model_name", "ours")]})
    service(project, "error-404-isvc", {"containers": [container("answers", "--fails")]})


def graph(project: Any, name: str, nodes: dict[str, Any]) -> Any:
    return apply(project, "serving.kserve.io/v1alpha1", "InferenceGraph", name, {"nodes": nodes})


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenarios_of_graphs(project: Any, steps: None, ask: Any, scenario: str) -> None:
    nodes, picked, status, answer = SCENARIOS[scenario]
    made = graph(project, f"graph-{scenario.split()[0]}", nodes)
    body = {"decision_picker": picked, "key1": {"name": "abc"}}
    assert ask(made, "/", body)[:2] == (status, answer)
    project.server.delete(made.name)


def test_a_switch_takes_the_step_whose_condition_is_met(project: Any, steps: None, ask: Any) -> None:
    made = graph(
        project,
        "graph-4",
        {
            "root": node(
                "Switch",
                {"name": "rootStep1", **BAD, **PICKS_ERROR, **SOFT},
                {"name": "rootStep2", **GOOD, **PICKS_SUCCESS, **SOFT},
            )
        },
    )
    for picked, status, answer in (("ERROR", 404, REFUSED), ("SUCCESS", 200, SUCCESS), ("NONE", 404, NOBODY)):
        assert ask(made, "/", {"decision_picker": picked})[:2] == (status, answer)


# -- transformers ---------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_headers_of_the_predictor_come_through_a_transformer(project: Any, ask: Any, protocol: str) -> None:
    made = service(
        project,
        f"headers-{protocol}",
        {"containers": [container("headers", "--model_name", "custom-model", "--doubles")]},
        transformer={
            "containers": [
                container("headers", "--model_name", "custom-model", "--predictor_protocol", protocol)
            ]
        },
    )
    body: dict[str, Any] = {"instances": [[1.5, 2.0]]}
    path, wanted = "/v1/models/custom-model:predict", {"predictions": [[3.0, 4.0]]}
    if protocol == "v2":
        path = "/v2/models/custom-model/infer"
        body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1.5, 2.0]]}]}
    status, said, headers = ask(made, path, body, X_Request_Id=f"by-{protocol}")
    assert status == 200
    assert (headers["my-header"], headers["seen"]) == ("test_header", f"by-{protocol}")
    assert said == wanted if protocol == "v1" else said["outputs"][0]["data"] == [3.0, 4.0]
    project.server.delete(made.name)


def test_a_transformer_asks_a_model_by_the_name_in_its_arguments(
    project: Any, ask: Any, tmp_path: Path
) -> None:
    import joblib
    from sklearn.linear_model import LinearRegression

    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]), tmp_path / "model.joblib")
    model = {
        "modelFormat": {"name": "sklearn"},
        "storageUri": str(tmp_path),
        "args": ["--model_name", "mnist"],
    }
    transformer = {"containers": [container("headers", "--model_name=mnist")]}
    made = service(project, "named", {"model": model}, transformer=transformer)
    status, said, _ = ask(made, "/v1/models/mnist:predict", {"instances": [[2.0]]})
    assert (status, said["predictions"]) == (200, [pytest.approx(5.0)])
    project.server.delete("named")


# -- loggers --------------------------------------------------------------------------------

TYPES = {kind: f"org.kubeflow.serving.inference.{kind}" for kind in ("request", "response")}


@pytest.mark.parametrize(("mode", "kinds"), [("all", ["request", "response"]), ("response", ["response"])])
def test_a_logger_sends_cloudevents_to_its_address(
    project: Any, ask: Any, within: Any, mode: str, kinds: list[str]
) -> None:
    with EventCollector() as collector:
        name = f"logged-{mode}"
        logger = {"mode": mode, "url": collector.url, "metadataHeaders": ["x-b3-traceid"]}
        made = service(project, name, {"logger": logger, "containers": [container("headers", "--doubles")]})
        body = {"instances": [[1.0]]}
        assert (
            ask(made, f"/v1/models/{name}:predict", body, X_Request_Id=mode, X_B3_TraceId="trace")[0] == 200
        )
        assert within(60, lambda: len(collector.of(mode)) == len(kinds))
        events = sorted(collector.of(mode), key=lambda event: event.headers["ce-type"])
    assert [event.headers["ce-type"] for event in events] == [TYPES[kind] for kind in kinds]
    assert {event.headers["ce-inferenceservicename"] for event in events} == {name}
    assert {event.headers["ce-namespace"] for event in events} == {"default"}
    assert json.loads(events[-1].body) == {"predictions": [[2.0]]}
    assert "trace" in events[0].headers["ce-metadata"]
