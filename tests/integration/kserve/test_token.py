"""An endpoint that asks for a token answers to nobody else, and our own callers never have to think of it."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from modelyard.errors import NotFoundError, UsageError
from modelyard.records import Endpoint
from modelyard_kserve.local import tokens

V1 = "models:/late-flights/1"


def asked(
    endpoint: Endpoint, headers: dict[str, str], path: str = "/v2/models/{}", host: str = ""
) -> tuple[int, Any, Any]:
    parts = urlsplit(endpoint.url or "")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        under = "" if host else parts.path
        connection.request(
            "GET", under + path.format(endpoint.name), headers={**({"Host": host} if host else {}), **headers}
        )
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None, answer.headers
    finally:
        connection.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def guarded(project: Any) -> Endpoint:
    file = project.file("guarded", V1)
    content = json.loads(file.read_text())
    content["metadata"]["annotations"] = {tokens.ANNOTATION: "true"}
    file.write_text(json.dumps(content))
    made: Endpoint = project.server.apply(file)
    return made


def test_whoever_lacks_the_token_is_told_so_in_one_sentence(project: Any, guarded: Endpoint) -> None:
    token = project.server.token("guarded")
    for headers in ({}, bearer("wrong"), bearer(token[:-1]), bearer(""), {"Authorization": token}):
        for path in ("/v2/models/{}", "/v1/models/{}", "/v2/health/ready", "/", "/../guarded/v2"):
            status, said, got = asked(guarded, headers, path)
            assert (status, got["WWW-Authenticate"]) == (401, "Bearer"), (headers, path, said)
            assert said["error"].startswith("this endpoint asks for its token")
    status, _, _ = asked(guarded, {}, host="guarded-default.example.com")
    assert status == 401
    assert asked(guarded, bearer(token))[0] == 200
    assert asked(guarded, bearer(token), host="guarded-default.example.com")[0] == 200


def test_grpc_asks_for_it_as_well(project: Any, guarded: Endpoint) -> None:
    grpc = pytest.importorskip("grpc")
    from modelyard_kserve.local import grpc_wire

    def described(headers: list[tuple[str, str]], host: str) -> Any:
        target = urlsplit(guarded.url or "").netloc
        with grpc.insecure_channel(target, options=[("grpc.default_authority", host)]) as channel:
            call = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelMetadata",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=lambda data: data,
            )
            asked = grpc_wire.MESSAGES.ModelMetadataRequest(name="guarded")
            return call(asked, metadata=headers, timeout=30)

    token = ("authorization", f"Bearer {project.server.token('guarded')}")
    for headers, host in (
        ([], "guarded-default.example.com"),
        ([("x-modelyard-endpoint", "guarded")], "localhost"),
        ([("x-modelyard-endpoint", "default/guarded")], "localhost"),
        ([], "localhost"),  # the only endpoint need not be named
    ):
        with pytest.raises(grpc.RpcError) as refused:
            described(headers, host)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, refused.value
        assert described([*headers, token], host)


def test_our_own_callers_send_it_by_themselves(guarded: Endpoint, rows: Any) -> None:
    assert guarded.predict(rows).version == "1"
    with pytest.raises(UsageError, match="guarded refused the token: this endpoint asks") as refused:
        guarded.predict(rows, headers=bearer("wrong"))
    assert (refused.value.code, refused.value.hint) == ("token-refused", "modelyard endpoints token guarded")


def test_it_stands_in_a_file_of_ours_alone_and_nowhere_else(project: Any, guarded: Endpoint) -> None:
    token = project.server.token("guarded")
    assert guarded.token_file is not None
    assert guarded.token_file.stat().st_mode & 0o777 == 0o600
    assert token not in json.dumps(guarded.to_dict())
    assert token not in json.dumps(project.server.explain("guarded").to_dict())
    logs = project.context.state.parent / "logs"
    for file in [*logs.glob("*.log"), *project.folder("guarded").iterdir()]:
        assert token not in file.read_text(errors="replace"), file
    for file in project.sockets.rglob("*.json"):
        if token in file.read_text():
            assert file.stat().st_mode & 0o077 == 0, file
    for process in project.everything():
        assert token not in " ".join(process.cmdline())
        assert token not in str(process.environ())


def test_one_endpoint_s_token_is_not_asked_by_others(project: Any, guarded: Endpoint) -> None:
    free = project.apply("free", V1)
    assert free.token_file is None
    assert asked(free, {})[0] == 200
    with pytest.raises(UsageError, match="'free' asks for no token"):
        project.server.token("free")
    with pytest.raises(NotFoundError):
        project.server.token("gone")
    assert asked(guarded, {})[0] == 401


def test_a_new_token_ends_the_old_one_and_a_lost_one_opens_nothing(
    project: Any, guarded: Endpoint, rows: Any, within: Any
) -> None:
    old = project.server.token("guarded")
    new = project.server.token("guarded", anew=True)
    assert new != old
    assert within(60, lambda: asked(guarded, bearer(new))[0] == 200)
    assert asked(guarded, bearer(old))[0] == 401
    assert guarded.predict(rows).version == "1"
    guarded.token_file.unlink()  # type: ignore[union-attr]
    assert within(60, lambda: asked(guarded, bearer(new))[0] == 401)
    assert asked(guarded, bearer(""))[0] == 401
    again = project.server.token("guarded")
    assert within(60, lambda: asked(guarded, bearer(again))[0] == 200)


def test_the_setting_is_about_all_but_those_that_say_no(new_project: Any, tmp_path: Path) -> None:
    project = new_project(tmp_path / "closed", token=True)
    closed = project.apply("closed", V1)
    assert asked(closed, {})[0] == 401
    file = project.file("open", V1)
    content = json.loads(file.read_text())
    content["metadata"]["annotations"] = {tokens.ANNOTATION: "false"}
    file.write_text(json.dumps(content))
    assert asked(project.server.apply(file), {})[0] == 200
