"""A graph's router among real servers: whom it asks, with which headers, and what it says of faults."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from modelyard.testing.contexts import answer, serve
from modelyard_kserve.local.graph import board as boards
from modelyard_kserve.local.graph.board import Board
from modelyard_kserve.local.graph.calls import Identity, Services
from modelyard_kserve.local.graph.router import Router
from modelyard_kserve.local.graph.spec import graph_of
from modelyard_kserve.local.messages import BODY_LIMIT, Answer, Request

#: Nothing listens there.
NOBODY = "http://127.0.0.1:9/"


@dataclass
class Gateway:
    """What stands for Envoy and for servers elsewhere: paths, headers and bodies that it was asked with."""

    port: int
    board: Path
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]

    def headers(self, number: int = 0) -> dict[str, str]:
        return self.asked[number][1]

    def know(self, **endpoints: str) -> None:
        """Write what the controller would."""
        said = {"port": self.port, "endpoints": {f"default/{k}": v for k, v in endpoints.items()}}
        self.board.write_text(json.dumps({**said, "tokens": {"default/guarded": "secret"}}), encoding="utf-8")

    def routed(
        self,
        *steps: dict[str, Any],
        kind: str = "Sequence",
        headers: dict[str, str] | None = None,
        patterns: tuple[str, ...] = (),
        name: str = "graph",
        body: bytes = b'{"instances": [1]}',
        **spec: Any,
    ) -> Answer:
        """The answer of a router with these steps."""
        graph = graph_of({"nodes": {"root": {"routerType": kind, "steps": steps}}, **spec})
        identity = Identity("default", name)
        services = Services(identity, Board(self.board), patterns, graph.step_seconds)
        request = Request("POST", "/v1/models/graph:predict", b"", headers or {}, body)

        async def ask() -> Answer:
            await services.started()
            try:
                return await Router(graph, services)(request)
            finally:
                await services.stopped()

        return asyncio.run(ask())


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    def handle(request: BaseHTTPRequestHandler, body: bytes) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        made.asked.append((request.path, headers, body))
        if request.path == "/slow":
            time.sleep(10)
        if request.path == "/moved":
            answer(request, 307, b"", {"Location": "/here"})
        elif request.path == "/closes":
            request.close_connection = True
        elif request.path == "/large":
            request.send_response(200)
            request.end_headers()
            for _ in range(BODY_LIMIT // (1 << 20) + 1):
                request.wfile.write(b" " * (1 << 20))
            request.close_connection = True
        elif request.path == "/text":
            answer(request, 200, b"<html>")
        else:
            answer(request, 200, b'{"predictions": [1]}')

    server = serve(handle)
    made = Gateway(server.server_address[1], tmp_path / "graphs.json")
    made.know()
    yield made
    server.shutdown()
    server.server_close()


def said(answer: Answer) -> tuple[int, str]:
    """Status and cause, in KServe's words."""
    assert answer.value["error"] == "Failed to process request"
    return answer.status, answer.value["cause"]


# -- where ----------------------------------------------------------------------------------


def test_endpoints_are_asked_by_name_through_envoy(gateway: Gateway) -> None:
    gateway.know(a="/v1/models/a:predict", b="/v2/models/b/infer")
    got = gateway.routed({"serviceName": "a"}, {"serviceName": "b"})
    assert (got.status, got.value, got.headers) == (
        200,
        b'{"predictions": [1]}',
        {"content-type": "application/json"},
    )
    assert gateway.paths() == [
        "/serving/default/a/v1/models/a:predict",
        "/serving/default/b/v2/models/b/infer",
    ]


def test_kserves_own_addresses_mean_the_projects_endpoints(gateway: Gateway) -> None:
    gateway.know(a="/v1/models/a:predict")
    hosts = ("a.default", "a.default.svc.cluster.local", "a-predictor.default.svc", "a-default.example.com")
    gateway.routed(*({"serviceUrl": f"http://{host}/v1/models/x:predict?y=1"} for host in hosts))
    assert gateway.paths() == ["/serving/default/a/v1/models/x:predict?y=1"] * 4


def test_other_addresses_are_asked_as_they_are(gateway: Gateway) -> None:
    assert gateway.routed({"serviceUrl": f"http://127.0.0.1:{gateway.port}/any?x=1"}).status == 200
    gateway.routed({"serviceUrl": f"http://localhost:{gateway.port}/moved"})
    assert gateway.paths() == ["/any?x=1", "/moved", "/here"]
    assert gateway.asked[2][2] == b'{"instances": [1]}'


def test_a_proxy_is_for_others_not_for_this_machine(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{gateway.port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    gateway.know(a="/v1/models/a:predict")
    gateway.routed({"serviceName": "a"}, {"serviceUrl": f"http://127.0.0.1:{gateway.port}/here"})
    gateway.routed({"serviceUrl": "http://elsewhere.invalid/far"})
    assert gateway.paths() == [
        "/serving/default/a/v1/models/a:predict",
        "/here",
        "http://elsewhere.invalid/far",
    ]


def test_what_the_controller_writes_later_is_followed(gateway: Gateway) -> None:
    board = Board(gateway.board)
    assert board.look()["endpoints"] == {}
    gateway.know(a="/v1/models/a:predict")
    assert board.look()["endpoints"] == {"default/a": "/v1/models/a:predict"}
    gateway.board.write_text("{", encoding="utf-8")
    assert board.look()["endpoints"] == {"default/a": "/v1/models/a:predict"}
    gateway.board.unlink()
    assert board.look()["endpoints"] == {"default/a": "/v1/models/a:predict"}


# -- headers --------------------------------------------------------------------------------


def test_ids_go_on_and_other_headers_only_if_a_pattern_says_so(gateway: Gateway) -> None:
    gateway.know(a="/")
    sent = {"x-request-id": "7", "x-user-name": "u", "cookie": "c", "content-type": "text/plain", "host": "x"}
    gateway.routed({"serviceName": "a"}, headers={**sent, "x-modelyard-split": "3"})
    got = gateway.headers()
    assert (got["x-request-id"], got["x-modelyard-split"], got["content-type"]) == (
        "7",
        "3",
        "application/json",
    )
    assert not {"cookie", "x-user-name"} & got.keys()
    gateway.routed({"serviceName": "a"}, headers=sent, patterns=("^X-User-", "Content-Type", "host"))
    got = gateway.headers(1)
    assert (got["x-user-name"], got["content-type"], got["host"]) == (
        "u",
        "text/plain",
        f"127.0.0.1:{gateway.port}",
    )


def test_an_endpoint_that_is_asked_twice_logs_two_ids(gateway: Gateway) -> None:
    gateway.know(a="/", b="/")
    gateway.routed(*({"serviceName": name} for name in "aaba"), headers={"x-request-id": "7", "ce-id": "8"})
    assert [headers["x-request-id"] for _, headers, _ in gateway.asked] == ["7", "7.2", "7", "7.3"]
    assert [headers["ce-id"] for _, headers, _ in gateway.asked] == ["8", "8.2", "8", "8.3"]


def test_the_token_goes_to_our_endpoints_from_a_graph_that_asks_for_it(gateway: Gateway) -> None:
    gateway.know(a="/")
    outside = {"serviceUrl": f"http://127.0.0.1:{gateway.port}/outside"}
    gateway.routed({"serviceName": "a"}, outside, name="guarded")
    gateway.routed({"serviceName": "a"}, name="open")
    found = [headers.get("authorization") for _, headers, _ in gateway.asked]
    assert found == ["Bearer secret", None, None]


def test_a_graph_that_asks_itself_is_noticed(gateway: Gateway) -> None:
    gateway.know(a="/")
    gateway.routed({"serviceName": "a"}, headers={"x-modelyard-graphs": "default/other"})
    assert gateway.headers()["x-modelyard-graphs"] == "default/other,default/graph"
    got = gateway.routed({"serviceName": "a"}, headers={"x-modelyard-graphs": "default/graph,default/other"})
    assert said(got) == (508, "the graph graph asks itself: default/graph -> default/other")


# -- faults ---------------------------------------------------------------------------------


def test_an_endpoint_that_is_not_there_is_named(gateway: Gateway) -> None:
    got = gateway.routed({"serviceName": "lost", "name": "first"})
    assert said(got) == (404, "step first of node root: there is no endpoint 'lost' in 'default'")


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        (NOBODY, "step 0 of node root, http://127.0.0.1:9/: .*onnect"),
        ("ftp://127.0.0.1/x", "step 0 of node root, .*ftp"),
        ("http://[::1", "step 0 of node root"),
    ],
)
def test_who_can_not_be_asked_is_an_error_in_a_sentence(gateway: Gateway, url: str, cause: str) -> None:
    status, got = said(gateway.routed({"serviceUrl": url}))
    assert status == 500
    assert re.search(cause, got), got
    assert "Traceback" not in got


def test_a_request_that_reached_somebody_is_not_sent_again(gateway: Gateway) -> None:
    status, _ = said(gateway.routed({"serviceUrl": f"http://127.0.0.1:{gateway.port}/closes"}))
    assert (status, gateway.paths()) == (500, ["/closes"])


def test_a_step_has_its_time_and_a_graph_has(gateway: Gateway) -> None:
    slow = {"serviceUrl": f"http://127.0.0.1:{gateway.port}/slow", "name": "s"}
    status, cause = said(gateway.routed(slow, routerTimeouts={"serviceClient": 1}))
    assert (status, cause.partition(": ")[2]) == (500, "it did not answer within 1 s")
    for limits in ({"timeout": 1}, {"routerTimeouts": {"serverWrite": 1}}):
        assert said(gateway.routed(slow, **limits)) == (504, "the graph did not answer within 1 s")


def test_an_answer_without_an_end_is_given_up(gateway: Gateway) -> None:
    status, cause = said(gateway.routed({"serviceUrl": f"http://127.0.0.1:{gateway.port}/large"}))
    assert status == 500
    assert cause.endswith("its answer is larger than 64 MiB")


def test_what_is_no_json_comes_as_text(gateway: Gateway) -> None:
    got = gateway.routed({"serviceUrl": f"http://127.0.0.1:{gateway.port}/text"})
    assert (got.status, got.value, got.headers["content-type"]) == (
        200,
        b"<html>",
        "text/plain; charset=utf-8",
    )


def test_grpc_is_refused_in_a_sentence(gateway: Gateway) -> None:
    got = gateway.routed({"serviceName": "a"}, headers={"content-type": "application/grpc"})
    assert (got.status, gateway.asked) == (501, [])
    assert "no gRPC" in got.value["error"]


def test_the_controller_hears_that_it_lives(gateway: Gateway) -> None:
    graph = graph_of({"nodes": {"root": {"routerType": "Sequence", "steps": [{"serviceName": "a"}]}}})
    router = Router(graph, Services(Identity("default", "graph"), Board(gateway.board), (), None))
    for path, value in (("/v2/health/live", {"live": True}), ("/v2/health/ready", {"ready": True})):
        assert asyncio.run(router(Request("GET", path, b"", {}, b""))).value == value


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://127.0.0.1:1/serving/default/a", "default/a"),
        ("http://127.0.0.1:1/serving/default/ab", None),
        ("http://a.other", None),
        ("http://a-default.example.com", "default/a"),
        ("a.default", None),
        ("", None),
    ],
)
def test_an_address_means_an_endpoint_only_if_it_is_known(url: str, found: str | None) -> None:
    assert boards.own_endpoint(url, ["default/a", "other/b"]) == found
