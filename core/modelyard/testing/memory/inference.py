"""KServe's V1 and V2 JSON, and the CloudEvents of the prediction log, in a few plain functions."""

from __future__ import annotations

import http.client
import json
import math
import uuid
from collections.abc import Mapping
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from modelyard.records import Revision, now
from modelyard.testing.models import COLUMNS, ConstantModel


def described(name: str, path: str) -> tuple[int, Any]:
    """Status and body of a GET."""
    pages: dict[str, Any] = {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        f"/v1/models/{name}": {"name": name, "ready": True},
        f"/v2/models/{name}/ready": {"name": name, "ready": True},
        f"/v2/models/{name}": {
            "name": name,
            "platform": "constant",
            "inputs": [{"name": column, "datatype": "FP64", "shape": [-1]} for column in COLUMNS],
            "outputs": [{"name": "output-0", "datatype": "FP64", "shape": [-1]}],
        },
    }
    return (200, pages[path]) if path in pages else (404, {"error": f"there is no {path}"})


def predicted(model: ConstantModel, name: str, path: str, body: bytes) -> tuple[int, Any]:
    """Status and body of a POST; whatever the caller did wrong is a 4xx with a sentence."""
    paths = {f"/v1/models/{name}:predict": "v1", f"/v2/models/{name}/infer": "v2"}
    if path not in paths:
        return 404, {"error": f"there is no {path}"}
    try:
        asked = json.loads(body)
        if paths[path] == "v1":
            return 200, {"predictions": model.predict(asked["instances"])}
        if not asked["inputs"]:
            raise ValueError("the request has no inputs")
        predictions = model.predict(rows_of(asked["inputs"]))
    except KeyError as fault:
        return 400, {"error": f"the request lacks {fault}"}
    except (ValueError, TypeError, AttributeError) as fault:
        return 400, {"error": str(fault)}
    output = {"name": "output-0", "datatype": "FP64", "shape": [len(predictions)], "data": predictions}
    return 200, {"model_name": name, "outputs": [output]}


def rows_of(inputs: list[dict[str, Any]]) -> list[Any]:
    """V2 inputs as rows: one tensor per column, or one tensor of two dimensions."""
    if len(inputs) == 1 and len(inputs[0]["shape"]) == 2 and inputs[0]["shape"][1] != 1:
        data, width = inputs[0]["data"], inputs[0]["shape"][1]
        if math.prod(inputs[0]["shape"]) != len(data):
            raise ValueError(f"shape {inputs[0]['shape']} does not fit {len(data)} values")
        return [data[start : start + width] for start in range(0, len(data), width)]
    columns = {tensor["name"]: tensor["data"] for tensor in inputs}
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError("the input tensors are not equally long")
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def request_id(headers: Message) -> str:
    """The caller's id, or a new one."""
    return str(headers.get("X-Request-Id") or headers.get("Ce-Id") or uuid.uuid4())


def event_headers(
    *,
    endpoint: str,
    namespace: str,
    path: str,
    request_id: str,
    revision: Revision,
    metadata: Mapping[str, str],
) -> dict[str, str]:
    """The headers that the events of request and response share, as KServe's logger sends them."""
    annotations = {
        "modelyard.dev/model": revision.model,
        "modelyard.dev/version": revision.version,
        "modelyard.dev/revision": revision.name,
    }
    return {
        "ce-specversion": "1.0",
        "ce-id": request_id,
        "ce-source": f"http://127.0.0.1/{revision.name}",
        "ce-time": now().isoformat(),
        "ce-inferenceservicename": endpoint,
        "ce-namespace": namespace,
        "ce-component": "predictor",
        "ce-endpoint": path,
        "ce-metadata": json.dumps(metadata),
        "ce-annotations": json.dumps(annotations),
    }


def post_events(sink: str, headers: Mapping[str, str], asked: bytes, answered: bytes) -> None:
    """Send the two events of one answered request.

    Raises:
        OSError: the sink does not take them.
    """
    parts = urlsplit(sink)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=10)
    try:
        for kind, body in (("request", asked), ("response", answered)):
            event = {
                **headers,
                "ce-type": f"org.kubeflow.serving.inference.{kind}",
                "Content-Type": "application/json",
            }
            connection.request("POST", parts.path or "/", body, event)
            got = connection.getresponse()
            said = got.read()
            if got.status >= 300:
                raise OSError(f"{sink} answered {got.status}: {said[:200]!r}")
    except http.client.HTTPException as fault:
        raise OSError(f"{sink}: {fault!r}") from fault
    finally:
        connection.close()
