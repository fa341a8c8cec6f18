"""Models in Azure's blob storage: its own client, through a proxy that leads to a server of ours which
answers for one account, as Azurite does."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from tests.integration.kserve.storage.resolving import content_of, fault_of

from modelyard.stages import StageContext
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.storage import resolve

pytest.importorskip("azure.storage.blob", reason="what fetches from Azure is in the extra `storage`")

HOST = "acme.blob.core.windows.net"
URI = f"https://{HOST}/models"
DATE = "Mon, 30 Nov 2026 10:00:00 GMT"


@dataclass
class Account:
    """Blobs of the container `models` by name; `refused` is the status of every answer, if it is set."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refused: int = 0

    def etag(self, name: str) -> str:
        return f'"{abs(hash(self.blobs[name]))}"'

    def listing(self, prefix: str) -> bytes:
        items = "".join(
            f"<Blob><Name>{escape(name)}</Name><Properties><Etag>{self.etag(name)}</Etag>"
            f"<Content-Length>{len(content)}</Content-Length><BlobType>BlockBlob</BlobType></Properties></Blob>"
            for name, content in self.blobs.items()
            if name.startswith(prefix)
        )
        blobs = f"<Blobs>{items}</Blobs><NextMarker/>"
        return f'<EnumerationResults ContainerName="models">{blobs}</EnumerationResults>'.encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    account: Account

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.account.asked.append(self.path)
        if self.account.refused:
            code = {403: "AuthenticationFailed", 404: "ContainerNotFound"}[self.account.refused]
            self.give(f"<Error><Code>{code}</Code></Error>".encode(), self.account.refused, code)
        elif "comp=list" in parts.query:
            prefix = parse_qs(parts.query).get("prefix", [""])[0]
            self.give(self.account.listing(prefix), 200)
        else:
            self.give_blob(unquote(parts.path).removeprefix("/models/"))

    def give_blob(self, name: str) -> None:
        content, asked = self.account.blobs[name], self.headers.get("x-ms-range") or self.headers.get("Range")
        if (wanted := self.headers.get("If-Match")) and wanted != self.account.etag(name):
            self.give(b"<Error><Code>ConditionNotMet</Code></Error>", 412, "ConditionNotMet")
        elif asked and not content:
            self.give(b"<Error><Code>InvalidRange</Code></Error>", 416, "InvalidRange")
        elif asked:
            begin, end = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            piece = content[begin : end + 1]
            told = f"bytes {begin}-{begin + len(piece) - 1}/{len(content)}"
            self.give(piece, 206, etag=self.account.etag(name), **{"Content-Range": told})
        else:
            self.give(content, 200, etag=self.account.etag(name))

    def give(self, content: bytes, status: int, code: str = "", etag: str = "", **headers: str) -> None:
        self.send_response(status)
        kind = "application/xml" if content.startswith(b"<") else "application/octet-stream"
        told = {"Content-Type": kind, "x-ms-error-code": code, "ETag": etag, "x-ms-blob-type": "BlockBlob"}
        for name, value in {**told, "Last-Modified": DATE, **headers}.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def account(certificate: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    made = Account()
    key, signed = certificate(HOST)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"account": made}))
    server.daemon_threads = True
    secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secured.load_cert_chain(signed, key)
    server.socket = secured.wrap_socket(server.socket, server_side=True)
    proxy = socket.create_server(("127.0.0.1", 0))
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.05,)),
        threading.Thread(target=lead, args=(proxy, server.server_port)),
    ]
    for thread in threads:
        thread.start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(signed))
    monkeypatch.setenv("AZURE_STORAGE_ACCESS_KEY", "Z2VoZWlt")
    yield made
    proxy.shutdown(socket.SHUT_RDWR)
    proxy.close()
    server.shutdown()
    server.server_close()
    for thread in threads:
        thread.join(10)


def lead(proxy: socket.socket, port: int) -> None:
    """Answer CONNECT to whatever host with a way to the server."""
    while True:
        try:
            caller, _ = proxy.accept()
        except OSError:
            return
        said = b""
        while b"\r\n\r\n" not in said:
            said += caller.recv(4096)
        assert said.startswith(f"CONNECT {HOST}:443".encode())
        there = socket.create_connection(("127.0.0.1", port))
        caller.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for one, other in ((caller, there), (there, caller)):
            threading.Thread(target=pass_on, args=(one, other), daemon=True).start()


def pass_on(one: socket.socket, other: socket.socket) -> None:
    with one, contextlib.suppress(OSError):
        while piece := one.recv(65536):
            other.sendall(piece)
        other.shutdown(socket.SHUT_WR)


def test_every_blob_arrives_and_no_neighbour(account: Account, context: StageContext) -> None:
    big = bytes(range(256)) * 4000
    account.blobs = {
        "late/MLmodel": b"eins",
        "late/code/leer.py": b"",
        "late/big": big,
        "late-2/MLmodel": b"x",
    }
    first = resolve(f"{URI}/late", context)
    assert content_of(first.path) == {"MLmodel": b"eins", "code/leer.py": b"", "big": big}
    del account.asked[:]
    assert resolve(f"{URI}/late", context) == first
    assert len(account.asked) == 1, "nothing changed, so nothing was fetched"
    account.blobs["late/MLmodel"] = b"zwei"
    assert content_of(resolve(f"{URI}/late", context).path)["MLmodel"] == b"zwei"
    assert content_of(resolve(f"{URI}/late/MLmodel", context).path) == {"MLmodel": b"zwei"}


def test_what_azure_refuses(account: Account, context: StageContext) -> None:
    account.blobs = {"late/MLmodel": b"eins"}
    assert fault_of(f"{URI}/nothing", context).code == "model-files-missing"
    account.refused = 403
    fault = fault_of(f"{URI}/late?sig=geheim", context)
    assert fault.code == "storage-refused"
    assert "AZURE_STORAGE_ACCESS_KEY" in fault.hint
    assert "geheim" not in fault.message
    assert any("sig=geheim" in path for path in account.asked), "Azure is told the signature"
    account.refused = 404
    assert fault_of(f"{URI}/late", context).code == "model-files-missing"
    account.refused = 0
    small = replace(context, settings=KserveSettings(fetch_limit=1e-9))
    assert fault_of(f"{URI}/late", small).code == "model-too-large"
