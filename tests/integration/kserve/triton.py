"""NVIDIA's clients, in a process of their own: one patches sockets, and the messages of the other have the
names of KServe's.

python triton.py http|grpc HOST:PORT[/PATH] MODEL; prints JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

ROWS = np.array([[20.5, 0, 1, 2], [-4, 2, 0.5, 1]], np.float32)


def by_http(url: str, name: str) -> dict[str, Any]:
    """Ask everything that the client can ask of a model."""
    import tritonclient.http as triton

    with triton.InferenceServerClient(url) as client:
        said = _said(client, triton, name)
        said["metadata"] = client.get_model_metadata(name)
        said["index"] = client.get_model_repository_index()
        for asked, answered in ((True, True), (False, True), (True, False), (False, False)):
            given = triton.InferInput("x", list(ROWS.shape), "FP32").set_data_from_numpy(ROWS, asked)
            output = triton.InferRequestedOutput("predict", binary_data=answered)
            for compression in (None, "gzip", "deflate"):
                options = {"request_id": "frage", "request_compression_algorithm": compression}
                result = client.infer(name, [given], outputs=[output], **options)
                answer = [result.get_response()["id"], result.as_numpy("predict").tolist()]
                said["answers"][f"{asked} {answered} {compression}"] = answer
        client.unload_model(name)
        said["unloaded"] = client.is_model_ready(name)
        client.load_model(name)
        said["loaded"] = client.is_model_ready(name)
    return said


def by_grpc(target: str, name: str) -> dict[str, Any]:
    """The same, as far as KServe's service has it."""
    import tritonclient.grpc as triton

    host = [("grpc.default_authority", f"{name}-default.example.com")]
    with triton.InferenceServerClient(target, channel_args=host) as client:
        said = _said(client, triton, name)
        said["metadata"] = client.get_model_metadata(name, as_json=True)
        given = triton.InferInput("x", list(ROWS.shape), "FP32").set_data_from_numpy(ROWS)
        for compression in (None, "gzip", "deflate"):
            output = triton.InferRequestedOutput("predict")
            options = {"request_id": "frage", "compression_algorithm": compression}
            result = client.infer(name, [given], outputs=[output], **options)
            said["answers"][f"{compression}"] = [
                result.get_response().id,
                result.as_numpy("predict").tolist(),
            ]
    return said


def _said(client: Any, triton: Any, name: str) -> dict[str, Any]:
    said: dict[str, Any] = {"answers": {}}
    said["ready"] = [client.is_server_live(), client.is_server_ready(), client.is_model_ready(name, "1")]
    try:
        client.infer(name, [triton.InferInput("x", [1, 3], "FP32").set_data_from_numpy(ROWS[:1, :3])])
    except triton.InferenceServerException as fault:
        said["refused"] = [fault.status(), fault.message()]
    return said


if __name__ == "__main__":
    print(json.dumps({"http": by_http, "grpc": by_grpc}[sys.argv[1]](*sys.argv[2:])))
