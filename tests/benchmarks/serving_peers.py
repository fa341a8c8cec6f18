"""What the local runtime is held against: the same model behind a bare ASGI handler, and in KServe's server.

python serving_peers.py raw|kserve|grpc MODEL PORT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def raw(model: Any, port: int) -> None:
    """V2 JSON without a framework."""
    import numpy as np
    import orjson
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        pieces = []
        while True:
            message = await receive()
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        status, body = 200, b"{}"
        if scope["method"] == "POST":
            (tensor,) = orjson.loads(b"".join(pieces))["inputs"]
            rows = np.array(tensor["data"], dtype=float).reshape(tensor["shape"])
            answers = model.predict(rows)
            output = {
                "name": "predict",
                "shape": list(answers.shape),
                "datatype": "INT64",
                "data": answers.tolist(),
            }
            body = orjson.dumps({"model_name": "bench", "outputs": [output]})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(
        app, host="127.0.0.1", port=port, log_level="warning", access_log=False, timeout_keep_alive=600
    )


def grpc(model: Any, port: int) -> None:
    """KServe's own model server, by gRPC."""
    kserve(model, http_port=0, grpc_port=port, enable_grpc=True)


def kserve(model: Any, http_port: int, **options: Any) -> None:
    """KServe's own model server."""
    from kserve import InferRequest, InferResponse, Model, ModelServer
    from kserve.utils.utils import get_predict_response

    class Bench(Model):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__("bench")
            self.ready = True

        def predict(self, payload: InferRequest, headers: Any = None, **_: Any) -> InferResponse:
            return get_predict_response(payload, model.predict(payload.inputs[0].as_numpy()), self.name)

    options = {"enable_grpc": False, "workers": 1, "enable_latency_logging": False, **options}
    ModelServer(http_port=http_port, **options).start([Bench()])


if __name__ == "__main__":
    import skops.io

    chosen, folder, at = sys.argv[1:4]
    loaded = skops.io.load(Path(folder) / "model.skops")
    {"raw": raw, "kserve": kserve, "grpc": grpc}[chosen](loaded, int(at))
