"""`GET /openapi.json`: what a model server answers to, with the inputs and outputs of its own model.

Paths and names of schemas are those of KServe's ModelServer, so what was generated from its document asks
ours. What a schema can't say (rows of equal number, a shape that fits its data) is a 400 with a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelyard_kserve.local import openapi_bodies as bodies
from modelyard_kserve.local.openapi_bodies import Schema
from modelyard_kserve.local.runtimes import LoadedModel, Spec
from modelyard_kserve.local.signature import Signature

_JSON, _BYTES, _PLAIN = "application/json", "application/octet-stream", "text/plain"
_JSON_LENGTH = "Inference-Header-Content-Length"
_SENTENCES = {
    "400": "What is wrong in the request, by name.",
    "401": "The endpoint asks for its token.",
    "404": "There is no such model or version here, or it was unloaded.",
    "408": "The body did not come in time.",
    "413": "The body is larger than 64 MiB.",
    "431": "The head of the request is too large.",
    "500": "The model failed.",
    "501": "The model does not do that.",
    "503": "No model server takes requests now; after Retry-After, where it is said.",
    "504": "The model did not answer in time.",
}
#: What stands between a caller and a model server may say to anything.
_ALWAYS = ("400", "401", "431", "503", "504")
_OF_BODIES = ("408", "413")
_IDENTITY = {
    "X-Modelyard-Model": "Which model answered,",
    "X-Modelyard-Version": "in which version,",
    "X-Modelyard-Revision": "by which revision of the endpoint.",
    "X-Request-Id": "The caller's, or one that was made: the key of the prediction.",
}
_ABOUT = """\
The endpoint by V1 and V2 (Open Inference Protocol); gRPC is on the same port. Whatever is refused is
`{"error": "one sentence"}`."""
_METHODS = " A path asked with another method than its own is a 405."
_BINARY = f"""\
Tensors are JSON, or bytes behind it (V2's binary tensor extension). `{_JSON_LENGTH}` says how long
the JSON is, `parameters.binary_data_size` of an input how many bytes are its own. `binary_data_output` in the
request's `parameters`, or `binary_data` in an output's, asks for bytes, which come in the same way."""


def of_model(
    name: str,
    version: str,
    model: LoadedModel,
    signature: Signature,
    outputs: Sequence[Spec],
    *,
    batched: bool,
) -> dict[str, Any]:
    """The document of one model that we loaded.

    Args:
        name, version: of the model.
        model, signature: what it takes.
        outputs: what it answers, as far as it is known.
        batched: its requests are gathered, and V1's answers say so.

    Example:
        >>> made = of_model("late", "3", LoadedModel((), len), Signature(), (), batched=False)
        >>> made["openapi"], made["info"]["title"], "/v2/models/{model_name}/infer" in made["paths"]
        ('3.1.0', 'late', True)
    """
    schemas = bodies.SCHEMAS | {
        "InferenceRequest": bodies.v2_request(model, signature, outputs),
        "InferenceResponse": bodies.v2_response(outputs),
        "PredictRequest": bodies.v1_request(model, signature),
        "PredictResponse": bodies.v1_response(outputs, batched=batched),
    }
    model_name = _in_path("model_name", [name])
    of_version = [model_name, _in_path("model_version", [version])]
    versioned = "/v2/models/{model_name}/versions/{model_version}"
    paths = {
        **_server_paths(),
        **_v1_paths([model_name]),
        **_v2_paths("/v2/models/{model_name}", [model_name], ""),
        **_v2_paths(versioned, of_version, "_version"),
        **_repository_paths([model_name]),
    }
    made = _document(name, version, paths, schemas)
    made["info"]["description"] += _METHODS
    return made


def of_classes(
    name: str, version: str, models: Sequence[str], inputs: Iterable[Any], outputs: Iterable[Any]
) -> dict[str, Any]:
    """The document of a project's own `kserve.Model` classes: V1's bodies are theirs.

    Args:
        name: of the endpoint.
        version: of the model.
        models: the names under which classes answer.
        inputs, outputs: what a single class says of its tensors.
    """
    takes, gives = _specs(inputs), _specs(outputs)
    known = Signature(takes, gives)
    anything: Schema = {"type": "object"}
    schemas = bodies.SCHEMAS | {
        "InferenceRequest": bodies.v2_request(LoadedModel((), len), known, ()),
        "InferenceResponse": {"type": "object", "description": bodies.listed("Outputs", gives)},
        "PredictRequest": anything,
        "PredictResponse": anything,
    }
    model_name = _in_path("model_name", models)
    paths = {
        **_server_paths(),
        **_v1_paths([model_name], explains=True),
        **_v2_paths("/v2/models/{model_name}", [model_name], ""),
    }
    for operation in (one for path in paths.values() for one in path.values()):
        if operation["operationId"] in ("predict", "explain", "infer"):  # a class may answer with any status
            operation["responses"] |= {"501": _refusal("501"), "default": _refusal("500")}
    return _document(name, version, paths, schemas)


def _document(
    name: str, version: str, paths: Mapping[str, Any], schemas: Mapping[str, Schema]
) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": version, "description": _ABOUT},
        # Relative to this document: an endpoint is reached by path and by host name.
        "servers": [{"url": "."}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": {
                header: {"description": said, "schema": {"type": "string"}}
                for header, said in _IDENTITY.items()
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Where the endpoint asks for one: modelyard endpoints token NAME",
                }
            },
        },
    }


# -- paths ----------------------------------------------------------------------------------


def _server_paths() -> dict[str, Any]:
    """What is about the server, and not about one of its models."""
    listed = _get("models", "V2", "The models that answer here.", _ref("ListModelsResponse"))
    live = _get("server_live", "V2", "Whether the server lives.", _ref("ServerLiveResponse"))
    live["responses"]["503"] = _answers(live["responses"]["503"], {"error": "", "live": False})
    ready = _get("server_ready", "V2", "Whether the server is ready.", _ref("ServerReadyResponse"))
    ready["responses"]["503"] = _answers(ready["responses"]["503"], {"error": "", "ready": False})
    metrics = _get("metrics", "Server", "What was counted, for Prometheus.", {"type": "string"}, _PLAIN)
    return {
        "/": {"get": _get("live", "Server", "Whether the server lives.", bodies.record(status="string"))},
        "/metrics": {"get": metrics},
        "/v1/models": {"get": {**listed, "operationId": "v1_models", "tags": ["V1"]}},
        "/v2": {"get": _get("metadata", "V2", "Who serves.", _ref("ServerMetadataResponse"))},
        "/v2/health/live": {"get": live},
        "/v2/health/ready": {"get": ready},
        "/v2/models": {"get": listed},
    }


def _v1_paths(parameters: Sequence[Schema], *, explains: bool = False) -> dict[str, Any]:
    path = "/v1/models/{model_name}"
    request, response = _ref("PredictRequest"), _ref("PredictResponse")
    paths = {
        path: {"get": _of_model(_model_ready("v1_model_ready", "V1"), parameters)},
        f"{path}:predict": {
            "post": _of_model(_post("predict", "V1", "Ask for predictions.", request, response), parameters)
        },
    }
    if explains:
        explain = _post("explain", "V1", "Ask why the model predicts so.", request, response)
        paths[f"{path}:explain"] = {"post": _of_model(explain, parameters)}
    return paths


def _v2_paths(path: str, parameters: Sequence[Schema], suffix: str) -> dict[str, Any]:
    metadata = _get("model_metadata", "V2", "What the model takes and gives.", _ref("ModelMetadataResponse"))
    made = {
        path: {"get": _of_model(metadata, parameters)},
        f"{path}/ready": {"get": _of_model(_model_ready("model_ready", "V2"), parameters)},
        f"{path}/infer": {"post": _of_model(_infer(), parameters)},
    }
    for operation in (one for methods in made.values() for one in methods.values()):
        operation["operationId"] += suffix
    return made


def _infer() -> Schema:
    request, response = _ref("InferenceRequest"), _ref("InferenceResponse")
    made = _post("infer", "V2", "Ask for predictions.", request, response)
    made["description"] = _BINARY
    as_bytes = {"schema": {"type": "string", "contentMediaType": _BYTES}}
    made["requestBody"]["content"][_BYTES] = as_bytes
    answer = made["responses"]["200"]
    answer["content"][_BYTES] = as_bytes
    length = {"type": "integer", "minimum": 0}
    answer["headers"][_JSON_LENGTH] = {"description": "How long the JSON is.", "schema": length}
    made["parameters"] = [{"name": _JSON_LENGTH, "in": "header", "schema": length}]
    return made


def _repository_paths(parameters: Sequence[Schema]) -> dict[str, Any]:
    asked, entries = _ref("RepositoryIndexRequest"), {"type": "array", "items": _ref("RepositoryIndexEntry")}
    index = _post("repository_index", "V2", "Which models are here, and whether they answer.", asked, entries)
    index["requestBody"]["required"] = False
    made: dict[str, Any] = {"/v2/repository/index": {"post": index}}
    for what, said in (("load", "Let the model answer again."), ("unload", "Let the model answer no more.")):
        operation = _get(what, "V2", said, bodies.record(**{"name": "string", what: "boolean"}))
        made[f"/v2/repository/models/{{model_name}}/{what}"] = {"post": _of_model(operation, parameters)}
    return made


# -- operations -----------------------------------------------------------------------------


def _get(name: str, tag: str, summary: str, answer: Schema, kind: str = _JSON) -> Schema:
    said = {"description": summary, "headers": _headers(), "content": {kind: {"schema": answer}}}
    responses = {"200": said} | {status: _refusal(status) for status in _ALWAYS}
    return {"operationId": name, "tags": [tag], "summary": summary, "responses": responses}


def _post(name: str, tag: str, summary: str, body: Schema, answer: Schema) -> Schema:
    made = _get(name, tag, summary, answer)
    made["requestBody"] = {"required": True, "content": {_JSON: {"schema": body}}}
    made["responses"] |= {status: _refusal(status) for status in (*_OF_BODIES, "500")}
    return made


def _of_model(operation: Schema, parameters: Sequence[Schema]) -> Schema:
    """About one model, which may not be there."""
    made = {**operation, "parameters": [*parameters, *operation.get("parameters", ())]}
    made["responses"] = {**operation["responses"], "404": _refusal("404")}
    return made


def _model_ready(name: str, tag: str) -> Schema:
    made = _get(name, tag, "Whether the model answers.", _ref("ModelReadyResponse"))
    made["responses"]["503"] = _answers(made["responses"]["503"], {"error": "", "name": "", "ready": False})
    return made


def _refusal(status: str) -> Schema:
    said: Schema = {"description": _SENTENCES[status], "content": {_JSON: {"schema": _ref("Error")}}}
    if status == "503":
        said["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}}
    return said


def _answers(refusal: Schema, possible: Mapping[str, Any]) -> Schema:
    """The refusal of somebody else, or what a server says of itself."""
    _, *own = possible
    state = {"type": "object", "required": own}
    return {**refusal, "content": {_JSON: {"schema": {"anyOf": [_ref("Error"), state]}}}}


def _in_path(name: str, values: Sequence[str]) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": list(values)}}


def _headers() -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in _IDENTITY}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _specs(said: Iterable[Any]) -> tuple[Spec, ...]:
    """What a class says of its tensors: V2's metadata, as dictionaries."""
    found = (one for one in said if isinstance(one, Mapping))
    return tuple(
        Spec(str(one.get("name", "")), str(one.get("datatype", "")), tuple(one.get("shape") or ()) or None)
        for one in found
    )
