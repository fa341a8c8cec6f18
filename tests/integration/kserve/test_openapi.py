"""What a model server says of itself is so: schemathesis asks it what the document allows, and more."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from modelyard.records import Endpoint

#: Whatever is asked: no 500, and every answer is one that the document promises.
CHECKS = (
    *("not_a_server_error", "status_code_conformance"),
    *("content_type_conformance", "response_schema_conformance"),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of named columns of several types, and one of a plain matrix."""
    import mlflow.sklearn
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "temp": random.normal(15, 10, 200),
            "stops": random.integers(0, 4, 200),
            "weekend": random.random(200) > 0.7,
            "Flug gesellschaft": random.choice(["UA", "AA", "DL"], 200),
        }
    )
    late = (table["temp"] > 15).astype(int)
    kinds = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["Flug gesellschaft"]), remainder="passthrough"
    )
    columns = make_pipeline(kinds, LogisticRegression(max_iter=1000)).fit(table, late)
    matrix = random.normal(size=(200, 4))
    plain = LogisticRegression().fit(matrix, matrix[:, 0] > 0)
    made = {}
    for name, model, given in (("delays", columns, table), ("plain", plain, matrix)):
        made[name] = tmp_path_factory.mktemp("models") / name
        mlflow.sklearn.save_model(
            model,
            str(made[name]),
            signature=infer_signature(given, model.predict(given)),
            pip_requirements=["scikit-learn"],
            serialization_format="skops",
        )
    return made


@pytest.fixture(scope="module", params=["delays", "plain"])
def endpoint(request: pytest.FixtureRequest, project: Any, folders: dict[str, Path]) -> Endpoint:
    project.shelf.put(request.param, folders[request.param])
    made: Endpoint = project.apply(request.param, f"models:/{request.param}/1")
    return made


#: A class that takes whatever the protocols let through.
OURS = """
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Counts(Model):
    def predict(self, payload, headers=None):
        if isinstance(payload, InferRequest):
            count = InferOutput("count", [1], "INT64", [len(payload.inputs)])
            return InferResponse(payload.id or "", self.name, [count])
        return {"predictions": [len(payload)]}

    def explain(self, payload, headers=None):
        return {"explanations": sorted(payload)}

    async def get_input_types(self):
        return [{"name": "anything", "datatype": "FP32", "shape": [-1]}]


model = Counts("counts")
model.ready = True
ModelServer().start([model])
"""


def post(endpoint: Endpoint, path: str, body: Any) -> tuple[int, Any]:
    parts = urlsplit(endpoint.url or "")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("POST", parts.path + path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def got(endpoint: Endpoint, path: str) -> tuple[int, str, Any]:
    parts = urlsplit(endpoint.url or "")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("GET", parts.path + path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], json.loads(answer.read())
    finally:
        connection.close()


def asked(document: str, url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What schemathesis says; it runs as its users run it."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", document]
    # It takes the server's address, which is relative to the document's, as one relative to the host's.
    command += ["--url", url, "--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS)]
    command += ["--seed", "7", "--max-examples", "10", "--generation-database", "none"]
    command += ["--no-color", "--suppress-health-check", "all", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150, check=False)


@pytest.mark.slow
def test_schemathesis_finds_nothing_else_than_the_document_says(endpoint: Endpoint, tmp_path: Path) -> None:
    url = str(endpoint.url)
    # `unload` comes last, or everything else would be a 404.
    for options, operations in (("--exclude-path-regex", "15/18"), ("--include-path-regex", "3/18")):
        done = asked(f"{url}/openapi.json", url, tmp_path, options, "/repository/")
        assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
        assert f"Selected: {operations}" in done.stdout
        assert f"Tested: {operations.partition('/')[0]}" in done.stdout
    assert post(endpoint, f"/v2/repository/models/{endpoint.name}/load", {})[0] == 200


@pytest.mark.slow
def test_nor_does_it_find_anything_in_a_class_of_ones_own(project: Any, tmp_path: Path) -> None:
    (project.context.root / "counts.py").write_text(OURS)
    container = {"name": "kserve-container", "image": "ours:1", "command": ["python", "-m", "counts"]}
    content = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "counts"},
        "spec": {"predictor": {"containers": [container]}},
    }
    file = project.context.root / "counts.yaml"
    file.write_text(json.dumps(content))
    url = str(project.server.apply(file).url)
    done = asked(f"{url}/openapi.json", url, tmp_path)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
    assert "Tested: 13" in done.stdout
    _, _, document = got(project.server.get("counts"), "/openapi.json")
    (example,) = document["components"]["schemas"]["InferenceRequest"]["examples"]
    status, said = post(project.server.get("counts"), "/v2/models/counts/infer", example)
    assert (status, said["outputs"][0]["data"]) == (200, [1])


def test_a_document_that_promises_too_much_is_found_out(endpoint: Endpoint, tmp_path: Path) -> None:
    _, _, document = got(endpoint, "/openapi.json")
    predict = document["paths"]["/v1/models/{model_name}:predict"]["post"]["responses"]
    del predict["400"]
    predict["200"]["content"]["application/json"]["schema"] = {"required": ["prophecies"]}
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(document))
    done = asked(str(file), str(endpoint.url), tmp_path, "--include-path-regex", ":predict")
    assert done.returncode == 1, done.stdout
    assert "Undocumented status code" in done.stdout
    assert "prophecies" in done.stdout


def test_the_examples_in_the_document_are_answered_as_it_says(endpoint: Endpoint) -> None:
    import jsonschema_rs

    status, kind, document = got(endpoint, "/openapi.json")
    assert (status, kind, document["openapi"]) == (200, "application/json", "3.1.0")
    assert document["info"]["title"] == endpoint.name
    schemas = document["components"]["schemas"]
    for asked_for, answered, path in (
        ("PredictRequest", "PredictResponse", f"/v1/models/{endpoint.name}:predict"),
        ("InferenceRequest", "InferenceResponse", f"/v2/models/{endpoint.name}/infer"),
    ):
        (example,) = schemas[asked_for]["examples"]
        status, said = post(endpoint, path, example)
        assert status == 200, said
        whole = {"$ref": f"#/components/schemas/{answered}", "components": document["components"]}
        jsonschema_rs.validator_for(whole).validate(said)


def test_the_document_says_the_inputs_of_the_model(endpoint: Endpoint) -> None:
    _, _, document = got(endpoint, "/openapi.json")
    _, _, metadata = got(endpoint, f"/v2/models/{endpoint.name}")
    schema = document["components"]["schemas"]["InferenceRequest"]
    (example,) = schema["examples"]
    assert [(one["name"], one["datatype"]) for one in example["inputs"]] == [
        (one["name"], one["datatype"]) for one in metadata["inputs"]
    ]
    assert ("Flug gesellschaft" in json.dumps(schema)) == (endpoint.name == "delays")
