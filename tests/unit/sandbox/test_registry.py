"""Registries: how they are asked, and what is said when they refuse."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import UsageError
from modelyard_sandbox.errors import ImageFault
from modelyard_sandbox.registry import Registries, Repository


def repository(registry: Any, **ways: Any) -> Repository:
    return Registries(**ways).repository(f"{registry.host}/a/b:1")


def says(status: int, content: bytes = b"", **headers: str) -> Any:
    def do(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(status)
        for name, value in headers.items():
            asked.send_header(name.replace("_", "-"), value)
        asked.send_header("Content-Length", str(len(content)))
        asked.end_headers()
        asked.wfile.write(content)

    return do


def hangs_up(asked: BaseHTTPRequestHandler) -> None:
    asked.close_connection = True


def ends_early(asked: BaseHTTPRequestHandler) -> None:
    asked.send_response(200)
    asked.send_header("Content-Length", "1000")
    asked.end_headers()
    asked.wfile.write(b'{"half":')


def log_in(folder: Path, monkeypatch: pytest.MonkeyPatch, **logins: str) -> None:
    """As `docker login` writes it."""
    auths = {host: {"auth": base64.b64encode(login.encode()).decode()} for host, login in logins.items()}
    (folder / "config.json").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))


def test_a_manifest_comes_with_its_media_type(registry: Any, kit: Any) -> None:
    made = kit.image("any")
    digest = registry.add("a/b", "1", made)
    for tag in ("1", digest):
        content, media = repository(registry).manifest(tag)
        assert (content, media) == (made.manifest, "application/vnd.oci.image.manifest.v1+json")
    assert registry.asked("/v2/a/b/manifests/1")


def test_a_token_is_fetched_once_and_sent_from_then_on(registry: Any, kit: Any) -> None:
    registry.add("a/b", "1", kit.image("any"))
    registry.login = ""
    asked = repository(registry)
    asked.manifest("1")
    asked.manifest("1")
    assert len(registry.asked("/token")) == 1
    assert "scope=repository%3Aa%2Fb%3Apull" in registry.asked("/token")[0]
    assert [h.get("Authorization") for p, h in registry.requests if "/v2/" in p] == [
        None,
        "Bearer let-me-in",
        "Bearer let-me-in",
    ]


def test_a_token_that_ran_out_is_fetched_again(registry: Any, kit: Any) -> None:
    registry.add("a/b", "1", kit.image("any"))
    registry.login = ""
    asked = repository(registry)
    asked._authorization = "Bearer it-was-good-once"
    assert asked.manifest("1")
    assert len(registry.asked("/token")) == 1


@pytest.mark.parametrize("basic", [True, False])
def test_the_login_of_docker_is_used(
    registry: Any, kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, basic: bool
) -> None:
    registry.add("a/b", "1", kit.image("any"))
    registry.login, registry.basic = "anna:secret", basic
    with pytest.raises(ImageFault, match="may not be read with your login") as fault:
        repository(registry).manifest("1")
    assert (fault.value.code, fault.value.hint) == ("image-denied", f"docker login {registry.host}")
    log_in(tmp_path, monkeypatch, **{registry.host: "anna:secret"})
    assert repository(registry).manifest("1")


def test_a_mirror_gets_its_own_login_and_never_that_of_the_registry(
    registry: Any, kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add("hub/library/postgres", "17", kit.image("any"))
    registry.login, registry.basic = "anna:secret", True
    ways = Registries.of([f"docker.io={registry.url}/hub"], None)
    log_in(tmp_path, monkeypatch, **{"https://index.docker.io/v1/": "otto:hub-password"})
    with pytest.raises(ImageFault, match="may not be read"):
        ways.repository("docker.io/library/postgres:17").manifest("17")
    assert not any(headers.get("Authorization") for _, headers in registry.requests)
    log_in(tmp_path, monkeypatch, **{registry.host: "anna:secret"})
    assert ways.repository("docker.io/library/postgres:17").manifest("17")


def test_a_mirror_is_asked_under_its_path_and_named_in_faults(registry: Any, kit: Any) -> None:
    registry.add("hub/library/postgres", "17", kit.image("any"))
    asked = Registries.of([f"docker.io={registry.host}/hub/"], None).repository(
        "docker.io/library/postgres:17"
    )
    assert asked.manifest("17")
    with pytest.raises(ImageFault, match=registry.host):
        asked.manifest("18")


@pytest.mark.parametrize(
    "text", ["docker.io", "docker.io=", "=x", "docker.io=ftp://x", "docker.io=a b", "a=b@c"]
)
def test_a_mirror_that_is_written_wrongly_is_said(text: str) -> None:
    with pytest.raises(UsageError) as fault:
        Registries.of([text], None)
    assert fault.value.code == "mirror-invalid"


def test_dockers_registry_has_several_names() -> None:
    for name in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        assert Registries.of([f"{name}=other.example"], None).mirrors == {"docker.io": "other.example"}
    assert Registries().repository("docker.io/library/postgres:17")._base == (
        "https://registry-1.docker.io/v2/library/postgres"
    )


@pytest.mark.parametrize(
    ("status", "code", "says_"),
    [
        (404, "image-not-found", "a/b (1)"),
        (403, "image-denied", "403"),
        (429, "rate-limited", "no more images"),
        (503, "registry-unreachable", "the cat sits on it"),
    ],
)
def test_a_refusal_is_one_sentence_with_a_code(registry: Any, status: int, code: str, says_: str) -> None:
    registry.fault("/manifests/1", *[says(status, b"the cat\nsits on it")] * 2)
    with pytest.raises(ImageFault) as fault:
        repository(registry).manifest("1")
    assert fault.value.code == code
    assert says_ in fault.value.message
    assert "\n" not in fault.value.message
    assert fault.value.hint


def test_a_refused_token_is_a_refusal(registry: Any) -> None:
    registry.login = ""
    registry.fault("/token", says(429))
    with pytest.raises(ImageFault) as fault:
        repository(registry).manifest("1")
    assert fault.value.code == "rate-limited"


@pytest.mark.parametrize("token", [b"no json", b"[]", b"{}"])
def test_a_token_server_that_gives_no_token_is_said(registry: Any, token: bytes) -> None:
    registry.login = ""
    registry.fault("/token", says(200, token), says(200, token))
    with pytest.raises(ImageFault) as fault:
        repository(registry).manifest("1")
    assert fault.value.code == "registry-unreachable"


@pytest.mark.parametrize("does", [hangs_up, ends_early, says(502)], ids=["hangs up", "ends early", "502"])
def test_what_fails_once_is_asked_for_again(registry: Any, kit: Any, does: Any) -> None:
    made = kit.image("any")
    registry.add("a/b", "1", made)
    registry.fault("/manifests/1", does)
    assert repository(registry).manifest("1")[0] == made.manifest
    registry.fault("/manifests/1", does, does)
    with pytest.raises(ImageFault) as fault:
        repository(registry).manifest("1")
    assert fault.value.code == "registry-unreachable"


def test_a_registry_that_is_not_there_is_named(registry: Any) -> None:
    asked = repository(registry)
    registry.close()
    with pytest.raises(ImageFault, match=registry.host) as fault:
        asked.manifest("1")
    assert fault.value.code == "registry-unreachable"
    assert "--bundle" in fault.value.hint


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example", "127.0.0.1:99999"])
@pytest.mark.usefixtures("registry")
def test_a_host_that_can_not_be_is_said(host: str) -> None:
    with pytest.raises(ImageFault) as fault:
        Registries.of([f"docker.io={host}"], None).repository("docker.io/a/b:1").manifest("1")
    assert fault.value.code == "registry-unreachable"


def test_a_blob_that_lies_elsewhere_is_fetched_without_the_login(registry: Any, kit: Any) -> None:
    made = kit.image("any")
    registry.add("a/b", "1", made)
    registry.add("elsewhere", "1", made)
    registry.login = ""
    digest = next(d for d, content in made.blobs.items() if content == made.config)
    asked = repository(registry)
    asked.manifest("1")
    registry.login = None
    registry.fault(f"/a/b/blobs/{digest}", says(307, Location=f"{registry.url}/v2/elsewhere/blobs/{digest}"))
    assert asked.config(digest) == made.config
    path, headers = registry.requests[-1]
    assert "elsewhere" in path
    assert "Authorization" not in headers


def test_a_registry_that_knows_no_ranges_begins_anew(registry: Any, kit: Any) -> None:
    made = kit.image("any")
    registry.add("a/b", "1", made)
    digest = next(iter(made.blobs))
    for refusal in ([], [says(416)]):
        registry.ranges = False
        registry.fault(digest, *refusal)
        answer, start = repository(registry).blob(digest, 10)
        with answer:
            assert start == 0
            assert answer.read() == made.blobs[digest]


def test_an_unknown_authority_is_said_and_can_be_told(authority: Path, kit: Any, registry: Any) -> None:
    secure = type(registry)(authority.with_name("server.pem"))
    try:
        secure.add("a/b", "1", kit.image("any"))
        for ca, fine in ((None, False), (authority, True)):
            ways = Registries(mirrors={"x.example": secure.url}, ca=ca)
            if fine:
                assert ways.repository("x.example/a/b:1").manifest("1")
                continue
            with pytest.raises(ImageFault, match="does not trust") as fault:
                ways.repository("x.example/a/b:1").manifest("1")
            assert fault.value.code == "untrusted-certificate"
            assert "--ca-cert" in fault.value.hint
    finally:
        secure.close()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_said(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ImageFault, match=r"ca\.pem") as fault:
        Registries(ca=path).repository("x.example/a/b:1").manifest("1")
    assert fault.value.code == "ca-invalid"
