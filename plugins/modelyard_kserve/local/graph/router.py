"""The process of a graph: takes requests through it, behind a Unix socket.

    python -m modelyard_kserve.local.graph.router --graph JSON --socket PATH --name NAME ...

`--graph` is a JSON object: `namespace`, `spec` (the InferenceGraph's) and `headers` (patterns of those that
are handed on).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelyard_kserve.local.envoy import SPLIT_HEADER
from modelyard_kserve.local.graph.board import FILE, Board
from modelyard_kserve.local.graph.calls import Identity, Services
from modelyard_kserve.local.graph.routing import Failed, Routing
from modelyard_kserve.local.graph.spec import Graph, graph_of
from modelyard_kserve.local.grpc_status import CONTENT_TYPE
from modelyard_kserve.local.http_server import HttpServer
from modelyard_kserve.local.limited import Limited
from modelyard_kserve.local.logged import LoggedApp
from modelyard_kserve.local.messages import Answer, Request, parsed

#: What the controller asks; everything else is a request of the graph's.
_HEALTH = {"/v2/health/live": {"live": True}, "/v2/health/ready": {"ready": True}}
#: As KServe's router says that there is no answer.
_FAILED = "Failed to process request"


class Router:
    """Answers requests with what comes of a graph.

    Args:
        graph: where they go.
        services: asks its steps.
    """

    def __init__(self, graph: Graph, services: Services) -> None:
        self._graph, self._services = graph, services

    async def __call__(self, request: Request) -> Answer:
        """The answer, in the words of KServe's router: any method, any path."""
        if request.method == "GET" and request.path in _HEALTH:
            return Answer(200, _HEALTH[request.path])
        if request.headers.get("content-type", "").startswith(CONTENT_TYPE):
            return Answer.error(501, "a graph takes JSON over HTTP, as KServe's router does, and no gRPC")
        try:
            asking = self._services.asking(request)
            routing = Routing(self._graph, asking, _point(request.headers))
            answering = routing.answer(request.body)
            status, body = await asyncio.wait_for(answering, self._graph.seconds)
        except Failed as fault:
            return Answer(fault.status, {"error": _FAILED, "cause": str(fault)})
        except asyncio.TimeoutError:
            cause = f"the graph did not answer within {self._graph.seconds:g} s"
            return Answer(504, {"error": _FAILED, "cause": cause})
        return Answer(status, body, {"content-type": _kind(body)})


def _point(headers: Mapping[str, str]) -> int | None:
    """Where splits are decided by a header instead of chance."""
    said = headers.get(SPLIT_HEADER, "")
    return int(said) if said.isascii() and said.isdigit() else None


def _kind(body: bytes) -> str:
    """The content type that KServe's router gives an answer."""
    try:
        parsed(body)
    except ValueError:
        return "text/plain; charset=utf-8"
    return "application/json"


def main(argv: Sequence[str] | None = None) -> int:
    """Route until told to stop."""
    options = argparse.ArgumentParser(prog="router")
    options.add_argument("--graph", required=True)
    options.add_argument("--logging", type=Path, required=True, help="says which answers are logged")
    options.add_argument("--timeout", type=float, required=True, help="seconds that an answer may take")
    for name in ("socket", "name"):
        options.add_argument(f"--{name}", required=True)
    given, _ = options.parse_known_args(argv)  # the others are about models
    said = json.loads(given.graph)
    graph = graph_of(said["spec"])
    board = Board(given.logging.with_name(FILE))
    identity = Identity(said["namespace"], given.name)
    services = Services(identity, board, said["headers"], graph.step_seconds)
    logged = LoggedApp(given.name, Limited(Router(graph, services), 0, given.timeout), given.logging)

    async def started() -> None:
        await services.started()
        await logged.started()

    async def stopped() -> None:
        await logged.stopped()
        await services.stopped()

    serving = HttpServer(logged, started=started, stopped=stopped)
    serving.run(given.socket, grace=given.timeout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
