"""The model server of one model: V1 and V2 JSON on a Unix socket, started and ended by the controller.

python -m modelyard_kserve.local.model_server --folder MODEL --socket PATH --name NAME ...
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from modelyard.digests import model_digest
from modelyard.errors import ConfigError, ModelyardError
from modelyard_kserve.local import protocol
from modelyard_kserve.local.asgi import Answer, Request
from modelyard_kserve.local.http_server import HttpServer
from modelyard_kserve.local.limited import Limited
from modelyard_kserve.local.logged import LoggedApp
from modelyard_kserve.local.runtimes import LoadedModel, load


class ModelApp:
    """Answers for one model under one name; the identity headers are Envoy's."""

    def __init__(self, name: str, version: str, model: LoadedModel, probabilities: bool) -> None:
        self._name, self._version, self._model = name, version, model
        self._probabilities = probabilities
        # One thread: scikit-learn uses the cores itself, and health must answer meanwhile.
        self._thread = ThreadPoolExecutor(1)

    async def __call__(self, request: Request) -> Answer:
        """Route by path."""
        path, model = request.path, f"models/{self._name}"
        if request.method == "POST" and path == f"/v1/{model}:predict":
            return await self._predict(request, version=1)
        if request.method == "POST" and path == f"/v2/{model}/infer":
            return await self._predict(request, version=2)
        fixed = {
            "/": {"status": "alive"},
            "/v1/models": {"models": [self._name]},
            f"/v1/{model}": {"name": self._name, "ready": True},
            "/v2": {"name": "modelyard", "version": "2", "extensions": []},
            "/v2/health/live": {"live": True},
            "/v2/health/ready": {"ready": True},
            f"/v2/{model}": protocol.metadata(self._name, self._version, self._model),
            f"/v2/{model}/ready": {"name": self._name, "ready": True},
        }
        if path in fixed:
            return (
                Answer(200, fixed[path])
                if request.method == "GET"
                else Answer.error(405, "only GET works here")
            )
        if "/models/" in path:
            return Answer.error(404, f"no model answers on {path}; this endpoint serves '{self._name}'")
        return Answer.error(404, f"there is nothing at {path}")

    async def _predict(self, request: Request, version: int) -> Answer:
        try:
            body = request.json()
            rows = (protocol.v1_rows if version == 1 else protocol.v2_rows)(self._model, body)
        except ValueError as fault:
            return Answer.error(400, str(fault))
        try:
            loop = asyncio.get_running_loop()
            answers = await loop.run_in_executor(self._thread, self._model.answer, rows)
        except ValueError as fault:  # what models say about rows that do not fit them
            return Answer.error(400, " ".join(str(fault).split())[:500])
        if version == 1:
            return Answer(200, protocol.v1_response(answers))
        request_id = body.get("id") or request.headers.get("x-request-id", "")
        made = protocol.v2_response(self._name, self._version, request_id, answers, self._probabilities)
        return Answer(200, made)


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model, then serve until told to stop; one that can't be loaded is a line and status 3.

    Args:
        argv: the arguments; None: those of the process.
    """
    options = argparse.ArgumentParser(prog="model_server")
    for name in ("folder", "socket", "name", "version"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--digest", help="of the model's files when the revision was made")
    options.add_argument("--logging", type=Path, required=True, help="says which answers are logged")
    options.add_argument("--format", default="", help="what loads the model; default: its files say")
    options.add_argument("--trust-pickle", action="store_true")
    options.add_argument("--timeout", type=float, default=300.0, help="seconds that an answer may take")
    options.add_argument("--concurrency", type=int, default=0, help="requests at once; 0: as many as come")
    given = options.parse_args(argv)
    probabilities = os.environ.get("PREDICT_PROBA", "").lower() == "true"
    try:
        folder = Path(given.folder)
        require_same_files(folder, given.digest)
        model = load(
            folder,
            model_format=given.format,
            trust_pickle=given.trust_pickle,
            probabilities=probabilities,
        )
    except ModelyardError as fault:
        print(f"model server {os.getpid()}: {fault.message}", flush=True)
        return 3
    app = ModelApp(given.name, given.version, model, probabilities)
    logged = LoggedApp(given.name, Limited(app, given.concurrency, given.timeout), given.logging)
    serving = HttpServer(logged, started=logged.started, stopped=logged.stopped)
    serving.run(path=given.socket, grace=given.timeout)
    return 0


def require_same_files(folder: Path, digest: str | None) -> None:
    """A revision is one model for ever: started again, it must not answer with another one."""
    if not folder.exists():
        raise ConfigError("model-unloadable", f"{folder} is gone", "apply the file again")
    if digest and model_digest(folder) != digest:
        raise ConfigError(
            "model-unloadable",
            f"the files in {folder} are not those that the revision was made of",
            "apply the file again",
        )


if __name__ == "__main__":
    sys.exit(main())
