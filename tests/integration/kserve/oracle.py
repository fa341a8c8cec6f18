"""KServe's own model server, as KServe's scikit-learn runtime uses it: what ours is held against.

python oracle.py HTTP_PORT GRPC_PORT NAME=FILE ...
"""

from __future__ import annotations

import sys
from typing import Any


def main(http_port: str, grpc_port: str, *models: str) -> None:
    """Serve until told to stop."""
    sys.argv = sys.argv[:1]  # KServe reads it at import
    _stay_on_this_machine()
    import joblib
    from kserve import Model, ModelServer
    from kserve.utils.utils import get_predict_input, get_predict_response

    class Oracle(Model):  # type: ignore[misc,unused-ignore]
        """`python/sklearnserver/sklearnserver/model.py` of KServe, without its loading."""

        def __init__(self, name: str, model: Any) -> None:
            super().__init__(name)
            self._model, self.ready = model, True

        def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            result = self._model.predict(get_predict_input(payload))
            return get_predict_response(payload, result, self.name)

    made = [Oracle(name, joblib.load(file)) for name, file in (model.split("=", 1) for model in models)]
    server = ModelServer(
        http_port=int(http_port), grpc_port=int(grpc_port), workers=1, enable_latency_logging=False
    )
    server.start(made)


def _stay_on_this_machine() -> None:
    """KServe's server listens on every address, and has no option for that."""
    import grpc.aio._server
    import uvicorn

    class Here(uvicorn.Config):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **{**options, "host": "127.0.0.1"})

    def add_port(server: Any, address: str) -> int:
        return int(everywhere(server, address.replace("[::]", "127.0.0.1")))

    everywhere = grpc.aio._server.Server.add_insecure_port
    uvicorn.Config = Here  # type: ignore[misc]
    grpc.aio._server.Server.add_insecure_port = add_port  # type: ignore[method-assign,unused-ignore]


if __name__ == "__main__":
    main(*sys.argv[1:])
