"""Places that models come from: a web server that can misbehave, an S3 server, and a project."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.served import free_port, serving

from modelyard.stages import StageContext
from modelyard.testing.contexts import make_context

_CACHE = Path(os.environ.get("MODELYARD_TEST_CLUSTER_CACHE") or "/var/cache/modelyard-cluster")
Respond = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Web:
    """A web server: what it holds by path, what it was asked, and who answers a path instead."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    instead: dict[str, Respond] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def sent(self, path: str) -> int:
        """How often the path was asked for."""
        return sum(1 for asked, _ in self.asked if asked == path)


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            made.asked.append((path, dict(self.headers.items())))
            if path in made.instead:
                made.instead[path](self)
            elif path in made.files:
                self.give(made.files[path])
            else:
                self.send_error(404)

        do_HEAD = do_POST = do_GET

        def give(self, content: bytes, **headers: str) -> None:
            etag = f'"{hash(content)}"'
            if self.headers.get("If-None-Match") == etag:
                self.send_response(304)
                self.end_headers()
                return
            begin = 0
            if (asked := self.headers.get("Range")) and self.headers.get("If-Range") == etag:
                begin = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if begin else 200)
            for name, value in {"ETag": etag, "Content-Length": str(len(content) - begin), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[begin:])

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Those who ask hang up when it suits them."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    """A project without endpoints."""
    from modelyard_kserve.config import KserveSettings

    return make_context(tmp_path / "ein Projekt", provider="kserve", settings=KserveSettings())


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Makes a key and the certificate of a host, which nobody else has signed."""

    def make(host: str) -> tuple[Path, Path]:
        key, signed = tmp_path / "key.pem", tmp_path / "cert.pem"
        name = f"IP:{host}" if host[0].isdigit() else f"DNS:{host}"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", f"/CN={host}", "-addext", f"subjectAltName={name}"]
        command += ["-keyout", str(key), "-out", str(signed)]
        subprocess.run(command, check=True, capture_output=True)
        return key, signed

    return make


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long before another attempt."""
    monkeypatch.setattr("modelyard_kserve.storage.web._PAUSES", (0.01, 0.01, 0.01))


@pytest.fixture(scope="package")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A real S3 server over a folder in which folders are buckets, and the environment that reaches it."""
    program = shutil.which("versitygw") or str(_CACHE / "bin" / "versitygw")
    if not Path(program).exists():
        pytest.skip("versitygw is not there, neither on PATH nor in MODELYARD_TEST_CLUSTER_CACHE/bin")
    folder = tmp_path_factory.mktemp("s3")
    (folder / "models").mkdir()
    port = free_port()
    keys = {"ROOT_ACCESS_KEY": "yard", "ROOT_SECRET_KEY": "geheimgeheim"}
    command = [program, "--port", f"127.0.0.1:{port}", "posix", str(folder)]

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with serving(command, folder, {**os.environ, **keys}, folder.parent / "s3.log", answers):
        yield (
            folder / "models",
            {
                "AWS_ACCESS_KEY_ID": "yard",
                "AWS_SECRET_ACCESS_KEY": "geheimgeheim",
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_DEFAULT_REGION": "us-east-1",
                "S3_MAX_ATTEMPTS": "1",
            },
        )


@pytest.fixture
def s3(s3_server: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder behind the bucket `models`, which this process may read."""
    folder, environment = s3_server
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return folder
