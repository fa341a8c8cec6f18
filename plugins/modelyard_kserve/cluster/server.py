"""The model server in a pod: V1 and V2 JSON for one model, which it proves before it answers.

    python -m modelyard_kserve.cluster.server --model_name NAME --model_dir /mnt/models --http_port 8080

Who the model is stands in the environment (`MODELYARD_MODEL`, `_VERSION`, `_DIGEST`, `_TRUST`), and in the
headers of every answer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelyard.errors import ModelyardError
from modelyard_kserve.cluster.termination import HOPELESS, say
from modelyard_kserve.local.asgi import Answer, Request, application
from modelyard_kserve.local.model_server import ModelApp, require_same_files
from modelyard_kserve.local.runtimes import load
from modelyard_kserve.local.statistics import EXPOSITION, Statistics

#: Seconds for which requests are still taken after TERM: the routes to a pod end a little later than it.
#: Knative ends the routes first, and needs none.
_LINGER = 3.0
#: Seconds that the last requests get; pods are killed 30 seconds after TERM.
_LAST_ANSWERS = 20


@dataclass(frozen=True)
class Identity:
    """Who answers."""

    model: str
    version: str
    revision: str

    @classmethod
    def of(cls, environment: Mapping[str, str], name: str) -> Identity:
        """What the pod's environment says; outside of Knative a revision is a ReplicaSet.

        Example:
            >>> Identity.of({"HOSTNAME": "flights-predictor-5d8f7c9c4b-x2x9k"}, "flights").revision
            'flights-predictor-5d8f7c9c4b'
        """
        return cls(
            model=environment.get("MODELYARD_MODEL") or name,
            version=environment.get("MODELYARD_VERSION") or "0",
            revision=environment.get("K_REVISION") or environment.get("HOSTNAME", "").rpartition("-")[0],
        )

    @property
    def headers(self) -> dict[str, str]:
        """As every answer says it."""
        return {
            "x-modelyard-model": self.model,
            "x-modelyard-version": self.version,
            "x-modelyard-revision": self.revision,
        }


class IdentifiedApp:
    """The model's application, with headers that say who answered, and metrics."""

    def __init__(self, app: Callable[[Request], Awaitable[Answer]], identity: Identity) -> None:
        self._app, self._identity = app, identity
        self._statistics = Statistics()

    async def __call__(self, request: Request) -> Answer:
        """Answer; predictions are counted."""
        if request.path == "/metrics":
            return Answer(200, self._statistics.text("", {}).encode(), {"content-type": EXPOSITION})
        started, known_as = time.perf_counter(), _id_of(request)
        request = replace(request, headers={**request.headers, **known_as})
        if request.method == "POST":
            with self._statistics.in_flight():
                answer = await self._app(request)
            self._statistics.note(self._identity.revision, answer.status, time.perf_counter() - started)
        else:
            answer = await self._app(request)
        return replace(answer, headers={**answer.headers, **self._identity.headers, **known_as})


def _id_of(request: Request) -> dict[str, str]:
    """The id under which the prediction log knows the request. One that came without any gets none: only
    KServe's agent knows the name that it made up."""
    said = request.headers.get("x-request-id") or request.headers.get("ce-id")
    return {"x-request-id": said} if said else {}


def main() -> int:
    """Load the model, then serve until told to stop; one that can't be loaded is a sentence and status 3."""
    options = argparse.ArgumentParser(prog="server")
    options.add_argument("--model_name", required=True)
    options.add_argument("--model_dir", type=Path, required=True)
    options.add_argument("--http_port", type=int, default=8080)
    given = options.parse_args()
    environment = os.environ
    try:
        require_same_files(given.model_dir, environment.get("MODELYARD_DIGEST"))
        model = load(
            given.model_dir,
            trust_pickle=environment.get("MODELYARD_TRUST") == "true",
            probabilities=environment.get("PREDICT_PROBA", "").lower() == "true",
        )
    except ModelyardError as fault:
        say("model server", fault.message)
        return HOPELESS
    identity = Identity.of(environment, given.model_name)
    app = ModelApp(
        given.model_name,
        identity.version,
        model,
        environment.get("PREDICT_PROBA", "").lower() == "true",
    )
    _serve(application(IdentifiedApp(app, identity)), given.http_port)
    return 0


def _serve(app: Any, port: int) -> None:
    import uvicorn

    linger = 0.0 if "K_REVISION" in os.environ else _LINGER

    class Draining(uvicorn.Server):
        """Takes requests a little longer after the first TERM."""

        told = False

        def handle_exit(self, sig: int, frame: Any) -> None:
            if sig != signal.SIGTERM or self.told:
                super().handle_exit(sig, frame)
                return
            self.told = True
            asyncio.get_running_loop().call_later(linger, super().handle_exit, sig, frame)

    config = uvicorn.Config(
        app,
        host="0.0.0.0",
        port=port,
        log_level="warning",
        access_log=False,
        ws="none",
        lifespan="off",
        timeout_keep_alive=3600,
        timeout_graceful_shutdown=_LAST_ANSWERS,
    )
    Draining(config).run()


if __name__ == "__main__":
    sys.exit(main())
