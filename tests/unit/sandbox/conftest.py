"""Small images, archives of them as engines and tools write them, and a registry that serves them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import ssl
import tarfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modelyard_sandbox.certificates import make_authority, make_certificate

OCI = "application/vnd.oci.image"


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def layer(text: str) -> bytes:
    """A layer with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("hello.txt")
        member.size = len(text.encode())
        tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


@dataclass
class Made:
    """An image that was made, with its blobs."""

    name: str
    plain: list[bytes]
    architecture: str = "amd64"
    packed: bool = True

    @property
    def config(self) -> bytes:
        about = {
            "architecture": self.architecture,
            "os": "linux",
            "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(one) for one in self.plain]},
        }
        return json.dumps(about).encode()

    @property
    def layers(self) -> list[bytes]:
        return [gzip.compress(one, 1, mtime=0) for one in self.plain] if self.packed else self.plain

    @property
    def manifest(self) -> bytes:
        kind = f"{OCI}.layer.v1.tar" + ("+gzip" if self.packed else "")
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{OCI}.manifest.v1+json",
                "config": described(self.config, f"{OCI}.config.v1+json"),
                "layers": [described(one, kind) for one in self.layers],
            }
        ).encode()

    @property
    def blobs(self) -> dict[str, bytes]:
        return {sha256(one): one for one in (self.manifest, self.config, *self.layers)}


def described(content: bytes, media: str) -> dict[str, Any]:
    return {"mediaType": media, "digest": sha256(content), "size": len(content)}


def tar_of(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


class Kit:
    """Makes images and archives."""

    tar = staticmethod(tar_of)

    def image(self, name: str, *texts: str, architecture: str = "amd64", packed: bool = True) -> Made:
        return Made(name, [layer(text) for text in texts or (name,)], architecture, packed)

    def oci(self, path: Path, *images: Made, without: str = "") -> Path:
        """As `docker save` of engines with containerd's store, skopeo and our own tools write it."""
        entries = []
        for made in images:
            entry = described(made.manifest, f"{OCI}.manifest.v1+json")
            entries.append({**entry, "annotations": {"io.containerd.image.name": made.name}})
        blobs = {digest: content for made in images for digest, content in made.blobs.items()}
        blobs.pop(without, None)
        return self.layout(path, {"manifests": entries}, blobs)

    def layout(self, path: Path, index: dict[str, Any], blobs: dict[str, bytes], **more: bytes) -> Path:
        members = {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": json.dumps({"schemaVersion": 2, **index}).encode(),
            **{name.replace("_", "."): content for name, content in more.items()},
        }
        members |= {"blobs/" + digest.replace(":", "/"): content for digest, content in blobs.items()}
        return tar_of(path, members)

    def docker(self, path: Path, *images: Made) -> Path:
        """As `docker save` before version 25 writes it: folders of layers, a shared one as a link."""
        members: dict[str, bytes] = {}
        links: dict[str, str] = {}
        entries, first = [], {}
        for count, made in enumerate(images):
            files = []
            for place, content in enumerate(made.layers):
                name = f"{count}{place}/layer.tar"
                files.append(name)
                if content in first:
                    links[name] = f"../{first[content]}"
                else:
                    members[name] = content
                    first[content] = name
            config = sha256(made.config)[7:] + ".json"
            members[config] = made.config
            entries.append({"Config": config, "RepoTags": [made.name], "Layers": files})
        members["manifest.json"] = json.dumps(entries).encode()
        return tar_of(path, members, links)


@pytest.fixture
def kit() -> Kit:
    return Kit()


class Registry:
    """A registry on 127.0.0.1 as the distribution specification has it, with faults on demand.

    Attributes:
        login: `user:password` that its tokens cost; empty: anybody gets one; None: it asks for none.
        basic: it takes the login itself instead of tokens.
        ranges: it goes on in the middle of a blob.
        faults: for the end of a path, what is done instead of answering, one entry for each request.
        requests: what was asked for: path and headers.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.login: str | None = None
        self.basic = False
        self.ranges = True
        self.faults: dict[str, deque[Callable[[BaseHTTPRequestHandler], None]]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._manifests: dict[str, tuple[bytes, str]] = {}
        self._blobs: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = f"https://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def add(self, repository: str, tag: str, *images: Made) -> str:
        """Publish an image, or an index of several; what the tag names."""
        kind = f"{OCI}.manifest.v1+json"
        for made in images:
            self._blobs |= made.blobs
            self._manifests[f"{repository}/{sha256(made.manifest)}"] = made.manifest, kind
        content = images[0].manifest
        if len(images) > 1:
            entries = [
                {
                    **described(made.manifest, kind),
                    "platform": {"os": "linux", "architecture": made.architecture},
                }
                for made in images
            ]
            attestation = {**entries[0], "platform": {"os": "unknown", "architecture": "unknown"}}
            index = {"schemaVersion": 2, "manifests": [attestation, *entries]}
            content, kind = json.dumps(index).encode(), f"{OCI}.index.v1+json"
        return self.put(repository, tag, content, kind)

    def put(self, repository: str, tag: str, content: bytes, kind: str) -> str:
        """Have any content under a tag and under its digest."""
        digest = sha256(content)
        for name in (tag, digest):
            self._manifests[f"{repository}/{name}"] = content, kind
        return digest

    def fault(self, end: str, *does: Callable[[BaseHTTPRequestHandler], None]) -> None:
        """Have requests for paths with this end fail, the first ones."""
        self.faults.setdefault(end, deque()).extend(does)

    def asked(self, part: str) -> list[str]:
        """The paths that were asked for and hold this part."""
        return [path for path, _ in self.requests if part in path]

    def _handler(registry) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                registry.requests.append((self.path, dict(self.headers)))
                for end, waiting in registry.faults.items():
                    if waiting and self.path.partition("?")[0].endswith(end):
                        waiting.popleft()(self)
                        return
                if self.path.startswith("/token"):
                    registry._give_token(self)
                elif registry._allowed(self):
                    registry._serve(self)

        return Handler

    def _give_token(self, asked: BaseHTTPRequestHandler) -> None:
        if self.login and asked.headers.get("Authorization") != f"Basic {encoded(self.login)}":
            answer(asked, 401, b"bad login")
        else:
            answer(asked, 200, json.dumps({"token": "let-me-in"}).encode())

    def _allowed(self, asked: BaseHTTPRequestHandler) -> bool:
        given = asked.headers.get("Authorization")
        challenge = f'Bearer realm="{self.url}/token",service="test",scope="repository:x:pull"'
        wanted = "Bearer let-me-in"
        if self.basic:
            challenge, wanted = 'Basic realm="test"', f"Basic {encoded(self.login or '')}"
        if self.login is None or given == wanted:
            return True
        answer(asked, 401, b"{}", **{"WWW-Authenticate": challenge})
        return False

    def _serve(self, asked: BaseHTTPRequestHandler) -> None:
        name = asked.path.removeprefix("/v2/")
        repository, _, reference = name.partition("/manifests/")
        if found := self._manifests.get(f"{repository}/{reference}"):
            answer(asked, 200, found[0], **{"Content-Type": found[1]})
            return
        content = self._blobs.get(name.rpartition("/")[2]) if "/blobs/" in name else None
        if content is None:
            answer(asked, 404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
            return
        start = int(asked.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start and self.ranges:
            answer(asked, 206, content[start:], **{"Content-Range": f"bytes {start}-/{len(content)}"})
        else:
            answer(asked, 200, content)


def encoded(login: str) -> str:
    return base64.b64encode(login.encode()).decode()


def answer(asked: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> None:
    asked.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        asked.send_header(name, value)
    asked.end_headers()
    asked.wfile.write(content)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("modelyard_sandbox.registry._PAUSE", 0.01)
    monkeypatch.setattr("modelyard_sandbox.store._PAUSE", 0.01)
    made = Registry()
    yield made
    made.close()


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A PEM file of an authority that nobody knows; beside it `server.pem`, which it signed for localhost."""
    certificate, key = make_authority("nobody knows me")
    (tmp_path / "authority.pem").write_text(certificate)
    (tmp_path / "server.pem").write_text("".join(make_certificate(certificate, key, ["localhost"])))
    return tmp_path / "authority.pem"
