"""Asks the services of a graph's steps: endpoints of the project through Envoy, others at their URL."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelyard_kserve.local.envoy import HOST, SPLIT_HEADER
from modelyard_kserve.local.graph.board import Board, own_endpoint, path_of
from modelyard_kserve.local.graph.routing import Failed
from modelyard_kserve.local.graph.spec import Step
from modelyard_kserve.local.messages import BODY_LIMIT, Request

#: Handed on in any case: they find the prediction, date it, and decide splits.
ALWAYS = ("x-request-id", "ce-id", "x-event-time", SPLIT_HEADER, "traceparent", "tracestate")
#: The graphs that a request went through, so that one that asks itself in circles is noticed.
_THROUGH = "x-modelyard-graphs"
#: How often a service that could not be connected to is tried again; it got nothing of the request.
_CONNECT_AGAIN = 4
_REDIRECTS = 10


@dataclass(frozen=True)
class Identity:
    """The graph that asks."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Services:
    """Asks services; there is one for a router.

    Args:
        graph: who asks.
        board: says where the project's endpoints are.
        patterns: of headers that are handed on beside `ALWAYS`; see `handed_on`.
        seconds: that a step may take; None: as long as the whole answer.
    """

    def __init__(self, graph: Identity, board: Board, patterns: Sequence[str], seconds: float | None) -> None:
        self._graph, self._board, self._seconds = graph, board, seconds
        self._patterns = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
        self._inside: Any = None
        self._outside: Any = None

    async def started(self) -> None:
        """Open the clients: ours stays on this machine, whatever proxy the environment names."""
        import httpx

        context = httpx.create_ssl_context()  # which takes a while: one for both
        self._inside, self._outside = (_client(context, trust_env=trust) for trust in (False, True))

    async def stopped(self) -> None:
        """Close them."""
        await asyncio.gather(self._inside.aclose(), self._outside.aclose())

    def asking(self, request: Request) -> Asking:
        """What asks the steps of one request.

        Raises:
            Failed: it went through this graph before.
        """
        through = [one for one in request.headers.get(_THROUGH, "").split(",") if one]
        if str(self._graph) in through:
            raise Failed(508, f"the graph {self._graph.name} asks itself: {' -> '.join(through)}")
        headers = handed_on(request.headers, self._patterns)
        headers[_THROUGH] = ",".join([*through, str(self._graph)])
        return Asking(self, headers)

    def found(self, step: Step, where: str) -> tuple[str, str]:
        """The URL of a step's service, and which endpoint of the project it is, if it is one.

        Raises:
            Failed: there is no such endpoint.
        """
        board = self._board.look()
        endpoints: Mapping[str, str] = board.get("endpoints") or {}
        if step.service:
            known = f"{self._graph.namespace}/{step.service}"
            if known not in endpoints:
                raise Failed(
                    404, f"{where}: there is no endpoint '{step.service}' in '{self._graph.namespace}'"
                )
            return self._through_envoy(board, known, endpoints[known]), known
        own = own_endpoint(step.url, endpoints)
        if own is None:
            return step.url, ""
        return self._through_envoy(board, own, path_of(step.url, own)), own

    async def post(self, url: str, own: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            OSError: there is none; the sentence says why.
        """
        import httpx

        token = (self._board.look().get("tokens") or {}).get(str(self._graph)) if own else None
        sent = {**headers, "authorization": f"Bearer {token}"} if token else headers
        client = self._inside if own else self._outside
        try:
            asking = _post(client, url, sent, body)
            return await asyncio.wait_for(asking, self._seconds)
        except asyncio.TimeoutError:
            raise OSError(f"it did not answer within {self._seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as fault:
            said = " ".join(str(fault).split()) or type(fault).__name__
            raise OSError(said[:300]) from None

    def _through_envoy(self, board: Mapping[str, Any], endpoint: str, path: str) -> str:
        return f"http://{HOST}:{board['port']}/serving/{endpoint}{path}"


class Asking:
    """Asks the steps of one request.

    Args:
        services: does it.
        headers: go with all of them.
    """

    def __init__(self, services: Services, headers: Mapping[str, str]) -> None:
        self._services, self._headers = services, headers
        self._asked: Counter[str] = Counter()

    async def __call__(self, node: str, place: int, step: Step, body: bytes) -> tuple[int, bytes]:
        """Status and body of a step's answer.

        Raises:
            Failed: it has none.
        """
        where = f"step {step.name or place} of node {node}"
        url, own = self._services.found(step, where)
        try:
            return await self._services.post(url, own, self._for(own or url), body)
        except OSError as fault:
            raise Failed(500, f"{where}, {step.target}: {fault}") from None

    def _for(self, service: str) -> Mapping[str, str]:
        """The headers; a service that is asked twice would log the second answer under the first one's id."""
        self._asked[service] += 1
        count = self._asked[service]
        ids = {name: self._headers[name] for name in ALWAYS[:2] if name in self._headers}
        return {
            **self._headers,
            **({name: f"{one}.{count}" for name, one in ids.items()} if count > 1 else {}),
        }


def handed_on(headers: Mapping[str, str], patterns: Sequence[re.Pattern[str]]) -> dict[str, str]:
    """The headers that go on to the steps: `ALWAYS`, and those in whose name a pattern is found.

    As with KServe's router the content type is JSON unless a pattern lets the caller's through.

    Example:
        >>> handed_on({"x-request-id": "7", "x-user": "a", "cookie": "b"}, [re.compile("^x-u")])
        {'content-type': 'application/json', 'x-request-id': '7', 'x-user': 'a'}
    """
    chosen = {name: value for name, value in headers.items() if any(p.search(name) for p in patterns)}
    of_connection = ("host", "content-length", "transfer-encoding", "connection", "accept-encoding")
    for name in (*of_connection, "content-encoding", "upgrade", "te", "expect", "keep-alive"):
        chosen.pop(name, None)
    always = {name: headers[name] for name in ALWAYS if name in headers}
    return {"content-type": "application/json", **always, **chosen}


def _client(context: ssl.SSLContext, *, trust_env: bool) -> Any:
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30)
    # Only what reached nobody is tried again: `retries` are those of connecting.
    direct = httpx.AsyncHTTPTransport(context, retries=_CONNECT_AGAIN, limits=limits)
    return httpx.AsyncClient(
        mounts={"all://" + host: direct for host in ("127.0.0.1", "localhost")},
        verify=context,
        trust_env=trust_env,
        limits=limits,
        timeout=None,
        follow_redirects=True,
        max_redirects=_REDIRECTS,
    )


async def _post(client: Any, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    pieces, size = [], 0
    sent = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    async with client.stream("POST", url, headers=sent, content=body) as answer:
        async for piece in answer.aiter_bytes():
            size += len(piece)
            if size > BODY_LIMIT:
                raise OSError(f"its answer is larger than {BODY_LIMIT // 1024 // 1024} MiB")
            pieces.append(piece)
        return answer.status_code, b"".join(pieces)
