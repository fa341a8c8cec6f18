"""A transformer and an explainer, classes of KServe's unchanged, around a predictor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
