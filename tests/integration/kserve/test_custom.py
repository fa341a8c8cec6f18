"""A project's own kserve.Model classes, unchanged, and any program that speaks V2, as endpoints."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.integration.programs import answering

from modelyard.errors import ModelyardError

OURS = """
import argparse
import asyncio
import time

import numpy as np
import pandas as pd
from fastapi import HTTPException

from kserve import InferRequest, InferResponse, InferOutput, Model, ModelServer, model_server
from kserve.errors import InvalidInput


class Doubles(Model):
    def __init__(self, name, factor):
        super().__init__(name, return_response_headers=True)
        self.factor = factor

    def load(self):
        self.ready = True

    async def preprocess(self, payload, headers=None):
        if isinstance(payload, InferRequest):
            return payload
        if payload.get("refuse"):
            raise InvalidInput("this is refused")
        if payload.get("teapot"):
            raise HTTPException(418, "a teapot")
        if payload.get("broken"):
            raise RuntimeError("broken inside")
        return payload

    def predict(self, payload, headers=None, response_headers=None):
        response_headers["x-factor"] = str(self.factor)
        if isinstance(payload, InferRequest):
            numbers = payload.inputs[0].as_numpy() * self.factor
            made = InferOutput(payload.inputs[0].name, list(numbers.shape), "FP32")
            made.set_data_from_numpy(numbers, binary_data=payload.from_grpc)
            return InferResponse(payload.id, self.name, [made])
        if payload.get("words"):
            return self.words(payload["words"])
        if payload.get("sleep"):
            time.sleep(payload["sleep"])
        numbers = np.array(payload["instances"]) * self.factor
        return pd.DataFrame(numbers, columns=["a", "b"]) if payload.get("table") else numbers

    async def words(self, words):
        for word in words:
            if word == "broken":
                raise InvalidInput("no such word")
            yield word
            await asyncio.sleep(0.3)

    def explain(self, payload, headers=None):
        return {"explanations": [f"times {self.factor}", headers["x-asked-by"]]}


parser = argparse.ArgumentParser(parents=[model_server.parser])
parser.add_argument("--factor", type=float, default=2)
given, _ = parser.parse_known_args()

if __name__ == "__main__":
    model = Doubles(given.model_name, given.factor)
    model.load()
    ModelServer().start([model])
"""
#: Speaks V2 without any framework, on the port that Knative names.
PLAIN = answering('{"said": sys.argv[1:], "tone": os.environ.get("TONE")}')


def apply(project: Any, name: str, container: dict[str, Any]) -> Any:
    content = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"containers": [{"name": "kserve-container", "image": "ours:1", **container}]}},
    }
    file = project.context.root / f"{name}.yaml"
    file.write_text(json.dumps(content), encoding="utf-8")
    return project.server.apply(file)


@pytest.fixture
def ask(post: Callable[..., Any]) -> Callable[..., tuple[int, Any]]:
    def asked(endpoint: Any, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        status, _, text = post(endpoint.url, path, json.dumps(body).encode(), given)
        return status, json.loads(text)

    return asked


@pytest.fixture(scope="module")
def doubles(project: Any) -> Any:
    (project.context.root / "doubles.py").write_text(OURS)
    return apply(
        project,
        "doubles",
        {"command": ["python", "-m", "doubles"], "args": ["--model_name=twice", "--factor=3"]},
    )


@pytest.mark.parametrize("name", ["doubles", "twice"])
def test_a_class_answers_v1_and_v2_under_both_names(doubles: Any, ask: Any, name: str) -> None:
    assert ask(doubles, f"/v1/models/{name}:predict", {"instances": [[1, 2]]}) == (
        200,
        {"predictions": [[3.0, 6.0]]},
    )
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    status, said = ask(doubles, f"/v2/models/{name}/infer", {"id": "7", "inputs": [tensor]})
    assert (status, said["id"], said["model_name"]) == (200, "7", "twice")
    assert said["outputs"][0]["data"] == [3.0, 6.0]


def test_tables_headers_and_explanations(doubles: Any, ask: Any, post: Any) -> None:
    body = json.dumps({"instances": [[1, 2]], "table": True}).encode()
    status, headers, text = post(doubles.url, "/v1/models/twice:predict", body)
    assert (status, json.loads(text)) == (200, {"predictions": [{"a": 3.0, "b": 6.0}]})
    assert headers["x-factor"] == "3.0"
    assert ask(doubles, "/v1/models/twice:explain", {"instances": [[1, 2]]}, X_Asked_By="me") == (
        200,
        {"explanations": ["times 3.0", "me"]},
    )


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"refuse": True}, 400, "this is refused"),
        ({"teapot": True}, 418, "a teapot"),
        ({"broken": True}, 500, "RuntimeError: broken inside"),
        ({"rows": []}, 400, "the body needs 'instances'"),
        ([], 400, "the body is not a JSON object"),
    ],
)
def test_errors_are_the_callers_or_the_models(
    doubles: Any, ask: Any, body: Any, status: int, said: str
) -> None:
    key = "detail" if status == 418 else "error"  # an HTTPException is said as FastAPI says it
    assert ask(doubles, "/v1/models/twice:predict", body) == (status, {key: said})


@pytest.mark.parametrize(
    ("body", "said"),
    [({}, "inputs: Field required"), ({"inputs": [{"name": "x"}]}, "inputs.0.shape: Field required")],
)
def test_v2_bodies_that_are_none(doubles: Any, ask: Any, body: Any, said: str) -> None:
    status, answer = ask(doubles, "/v2/models/twice/infer", body)
    assert (status, answer["error"]) == (400, said)


def test_an_answer_in_pieces_comes_as_it_is_made(doubles: Any, ask: Any) -> None:
    import httpx

    url = f"{doubles.url}/v1/models/twice:predict"
    came, began = [], time.monotonic()
    with httpx.stream("POST", url, json={"words": ["late ", "again ", "today"]}) as answer:
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-modelyard-revision"] == "doubles-00001"
        for text in answer.iter_text():
            came.append((text, time.monotonic() - began))
    assert [text for text, _ in came] == ["late ", "again ", "today"]
    assert came[2][1] - came[0][1] > 0.4, "not kept back until all is there"
    assert ask(doubles, "/v1/models/twice:predict", {"words": ["broken"]}) == (400, {"error": "no such word"})
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(url, json={"words": ["late", "broken"]})
    assert ask(doubles, "/v1/models/twice:predict", {"instances": [[1, 2]]})[0] == 200


def test_unknown_models_are_named(doubles: Any, ask: Any) -> None:
    assert ask(doubles, "/v1/models/other:predict", {}) == (
        404,
        {"error": "there is no model 'other'; there are: twice, doubles"},
    )


@pytest.mark.parametrize("path", ["/", "/v1/models", "/v2/health/ready", "/v2/models/twice"])
def test_what_can_be_looked_at_has_a_head(doubles: Any, path: str) -> None:
    import httpx

    said = httpx.head(f"{doubles.url}{path}")
    assert (said.status_code, said.content) == (200, b"")


def test_a_slow_predict_does_not_block_health(doubles: Any, ask: Any) -> None:
    import httpx

    slow = threading.Thread(
        target=ask, args=(doubles, "/v1/models/twice:predict", {"instances": [[1, 1]], "sleep": 6})
    )
    slow.start()
    time.sleep(0.5)
    began = time.monotonic()
    assert httpx.get(f"{doubles.url}/v2/health/ready").status_code == 200
    took = time.monotonic() - began
    slow.join()
    assert took < 5


def test_nothing_listens_on_a_port(project: Any, doubles: Any) -> None:
    (process,) = project.model_servers("doubles").values()
    listening = [c for c in process.connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert listening == []


def test_changed_code_is_a_new_revision(project: Any, ask: Any) -> None:
    code = project.context.root / "changing.py"
    code.write_text(OURS)
    command = {"command": ["python", "changing.py"]}
    assert [r.number for r in apply(project, "changing", command).revisions] == [1]
    assert [r.number for r in apply(project, "changing", command).revisions] == [1]
    code.write_text(OURS.replace("default=2", "default=5"))
    endpoint = apply(project, "changing", command)
    assert endpoint.revisions[0].number == 2
    assert ask(endpoint, "/v1/models/changing:predict", {"instances": [[1, 1]]}) == (
        200,
        {"predictions": [[5.0, 5.0]]},
    )


def test_a_program_that_brings_its_own_server_gets_a_port(project: Any, ask: Any) -> None:
    (project.context.root / "plain.py").write_text(PLAIN)
    endpoint = apply(
        project,
        "plain",
        {
            "command": ["python", "plain.py"],
            "args": ["--tone=$(TONE)", "$(NOT_SET)"],
            "env": [{"name": "TONE", "value": "low"}],
        },
    )
    assert ask(endpoint, "/v2/models/plain/infer", {}) == (
        200,
        {"said": ["--tone=low", "$(NOT_SET)"], "tone": "low"},
    )
    assert "containers[0].image is not used here" in endpoint.message
    assert endpoint.storage_uri.startswith("python plain.py")


def test_any_program_of_the_project_runs(project: Any, ask: Any, within: Any, runs: Any) -> None:
    import sys

    script = project.context.root / "serve.sh"
    (project.context.root / "plain.py").write_text(PLAIN)
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" plain.py "$@"\n')
    script.chmod(0o755)
    endpoint = apply(project, "script", {"command": ["./serve.sh", "one"]})
    assert ask(endpoint, "/v2/models/script/infer", {}) == (200, {"said": ["one"], "tone": None})
    (server,) = project.model_servers("script").values()
    (program,) = server.children()
    server.kill()
    assert within(60, lambda: not runs(program)), "it goes with its model server"
    assert within(60, lambda: ask(endpoint, "/v2/models/script/infer", {})[0] == 200)
    (server,) = project.model_servers("script").values()
    (program,) = server.children()
    project.server.delete("script")
    assert within(60, lambda: not runs(program))


def test_the_model_of_a_container_is_where_kserve_mounts_it(project: Any, ask: Any, tmp_path: Path) -> None:
    (project.context.root / "plain.py").write_text(PLAIN)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    env = [{"name": "STORAGE_URI", "value": str(tmp_path / "model")}]
    endpoint = apply(project, "mounted", {"command": ["python", "plain.py", "--dir=/mnt/models"], "env": env})
    status, said = ask(endpoint, "/v2/models/mounted/infer", {})
    assert (status, said["said"]) == (200, [f"--dir={tmp_path / 'model'}"])


# -- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["sh", "-c", "id"], ["python", "-c", "pass"], ["python", "-m", "http.server"], ["../x"]]
)
def test_programs_that_are_not_the_projects_are_refused(project: Any, command: list[str]) -> None:
    with pytest.raises(ModelyardError) as caught:
        apply(project, "strange", {"command": command})
    assert caught.value.code == "custom-untrusted"
    assert "runs no file of the project" in caught.value.message


def test_without_a_command_there_is_nothing_to_run(project: Any) -> None:
    with pytest.raises(ModelyardError) as caught:
        apply(project, "image", {})
    assert "containers[0].command: is missing: images are not run here" in caught.value.message


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError('no\\nweights')", "broken ended: ValueError: no weights"),
        ("import sys; sys.exit('no GPU')", "broken ended: no GPU"),
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("def (", "broken ended: SyntaxError: "),
    ],
)
def test_a_program_that_fails_says_why(project: Any, code: str, said: str) -> None:
    (project.context.root / "broken.py").write_text(code)
    with pytest.raises(ModelyardError) as caught:
        apply(project, "broken", {"command": ["python", "-m", "broken"]})
    assert caught.value.code == "revision-failed"
    assert said in caught.value.message
    project.server.delete("broken")


def test_a_class_sleeps_and_wakes_as_models_do(project: Any, ask: Any, within: Any) -> None:
    (project.context.root / "doubles.py").write_text(OURS)
    content = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "sleepy", "annotations": {"autoscaling.knative.dev/window": "6s"}},
        "spec": {
            "predictor": {
                "minReplicas": 0,
                "containers": [{"name": "kserve-container", "command": ["python", "doubles.py"]}],
            }
        },
    }
    file = project.context.root / "sleepy.yaml"
    file.write_text(json.dumps(content), encoding="utf-8")
    endpoint = project.server.apply(file)
    assert within(60, lambda: not project.model_servers("sleepy"))
    assert ask(endpoint, "/v1/models/sleepy:predict", {"instances": [[1, 2]]}) == (
        200,
        {"predictions": [[2.0, 4.0]]},
    )
