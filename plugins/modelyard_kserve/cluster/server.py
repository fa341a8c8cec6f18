"""The model server in a pod: V1, V2 and gRPC for one model, which it proves before it answers.

    python -m modelyard_kserve.cluster.server --model_name NAME --model_format sklearn --model_dir /mnt/models

Who the model is stands in the environment (`MODELYARD_MODEL`, `_VERSION`, `_DIGEST`, `_TRUST`), and in the
headers of every answer.

On every port it speaks HTTP/1.1 and HTTP/2: a port that a file names `h2c`, as KServe wants it for gRPC, gets
everything as HTTP/2 from Knative, which has no other one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from modelyard.errors import ModelyardError
from modelyard.processes import child_env
from modelyard_kserve.cluster.termination import HOPELESS, say
from modelyard_kserve.local import signature
from modelyard_kserve.local.http_server import HttpServer
from modelyard_kserve.local.messages import Answer, Request
from modelyard_kserve.local.model_app import ModelApp
from modelyard_kserve.local.model_server import require_same_files
from modelyard_kserve.local.runtimes import FORMATS, load
from modelyard_kserve.local.statistics import EXPOSITION, Answering, Statistics, is_counted

#: Seconds for which requests are still taken after TERM: the routes to a pod end a little later than it.
#: Knative ends the routes first, and needs none.
_LINGER = 3.0
#: Seconds that the last requests get; pods are killed 30 seconds after TERM.
_LAST_ANSWERS = 20


def identity(environment: Mapping[str, str], name: str) -> Answering:
    """Who answers, as the pod's environment says it; outside of Knative a revision is a ReplicaSet.

    Example:
        >>> identity({"HOSTNAME": "flights-predictor-5d8f7c9c4b-x2x9k"}, "flights").revision
        'flights-predictor-5d8f7c9c4b'
    """
    return Answering(
        model=environment.get("MODELYARD_MODEL") or name,
        version=environment.get("MODELYARD_VERSION") or "0",
        revision=environment.get("K_REVISION") or environment.get("HOSTNAME", "").rpartition("-")[0],
    )


class IdentifiedApp:
    """The model's application, with headers that say who answered, and metrics."""

    def __init__(self, app: Callable[[Request], Awaitable[Answer]], who: Answering) -> None:
        self._app, self._who = app, who
        self._headers = {f"x-modelyard-{key}": said for key, said in who._asdict().items()}
        self._statistics = Statistics()

    async def __call__(self, request: Request) -> Answer:
        """Answer; predictions are counted."""
        if request.path == "/metrics":
            return Answer(200, self._statistics.text("", {}).encode(), {"content-type": EXPOSITION})
        started, known_as = time.perf_counter(), _id_of(request)
        request = request._replace(headers={**request.headers, **known_as})
        if is_counted(request):
            with self._statistics.in_flight:
                answer = await self._app(request)
            self._statistics.note(self._who, answer.status, time.perf_counter() - started, answer.rows)
        else:
            answer = await self._app(request)
        return answer._replace(headers={**answer.headers, **self._headers, **known_as})


def ports(http_port: int, grpc_port: int, environment: Mapping[str, str]) -> list[int]:
    """Where to listen. Knative says in `PORT` to which port it sends, whatever number a file gave it.

    Example:
        >>> ports(8080, 8081, {"PORT": "9000"})
        [8080, 8081, 9000]
    """
    return sorted({http_port, grpc_port, int(environment.get("PORT", http_port))})


def _id_of(request: Request) -> dict[str, str]:
    """The id under which the prediction log knows the request. One that came without any gets none: only
    KServe's agent knows the name that it made up."""
    said = request.headers.get("x-request-id") or request.headers.get("ce-id")
    return {"x-request-id": said} if said else {}


def main() -> int:
    """Load the model, then serve until told to stop; one that can't be loaded is a sentence and status 3."""
    os.environ.update(child_env())  # libraries that models need report home as well
    options = argparse.ArgumentParser(prog="server")
    options.add_argument("--model_name", required=True)
    options.add_argument("--model_format", choices=FORMATS, required=True)
    options.add_argument("--model_dir", type=Path, required=True)
    options.add_argument("--http_port", type=int, default=8080)
    options.add_argument("--grpc_port", type=int, default=8081, help="another one, as KServe's servers have")
    given = options.parse_args()
    environment = os.environ
    try:
        require_same_files(given.model_dir, environment.get("MODELYARD_DIGEST"))
        model = load(
            given.model_dir,
            model_format=given.model_format,
            trust_pickle=environment.get("MODELYARD_TRUST") == "true",
            probabilities=environment.get("PREDICT_PROBA", "").lower() == "true",
        )
    except ModelyardError as fault:
        say("model server", fault.message)
        return HOPELESS
    who = identity(environment, given.model_name)
    app = ModelApp(
        given.model_name,
        who.version,
        model,
        environment.get("PREDICT_PROBA", "").lower() == "true",
        signature.of(model, given.model_dir),
    )
    linger = 0.0 if "K_REVISION" in environment else _LINGER
    where = [("0.0.0.0", port) for port in ports(given.http_port, given.grpc_port, environment)]
    HttpServer(IdentifiedApp(app, who), http2=True).run(*where, linger=linger, grace=_LAST_ANSWERS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
