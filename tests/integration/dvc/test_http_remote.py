"""A remote behind a URL, by the one kind that needs no further package: a real HTTP server."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import CorruptStateError, NotFoundError


class _Folder(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and takes uploads by POST, as DVC sends them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        path = Path(self.translate_path(self.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        content = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers["Content-Length"]))
        path.write_bytes(content)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Be quiet."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """URL and folder of a server that ends with the test."""
    folder = tmp_path / "served"
    folder.mkdir()

    def handler(*arguments: Any, **options: Any) -> _Folder:
        return _Folder(*arguments, directory=str(folder), **options)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", folder
        server.shutdown()
        thread.join()


def lose(project: Path) -> None:
    """All that this machine has of the data."""
    shutil.rmtree(project / ".dvc" / "cache")
    shutil.rmtree(project / "data" / "täglich es")


def test_data_goes_to_a_url_and_comes_back_checked(
    store: Any, project: Path, served: tuple[str, Path]
) -> None:
    url, folder = served
    ref = store.add(project / "data" / "täglich es")
    store.set_remote(url)
    assert store.push()[0].published
    assert store.remote() == url
    lose(project)
    assert store.pull()[0].digest == ref.digest

    some = next(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".dir")
    lose(project)
    good = some.read_bytes()
    some.write_bytes(b"x" * len(good))
    with pytest.raises(CorruptStateError) as corrupt:
        store.pull()
    assert corrupt.value.code == "data-corrupt"
    assert "data/täglich es/day" in corrupt.value.message
    assert not (project / "data" / "täglich es").exists()

    some.unlink()
    with pytest.raises(NotFoundError) as missing:
        store.pull()
    assert missing.value.code == "data-not-in-remote"
    assert "data/täglich es/day" in missing.value.message

    some.write_bytes(good)
    assert store.pull()[0].digest == ref.digest


def test_what_a_remote_behind_a_url_lost_is_pushed_again(
    store: Any, project: Path, served: tuple[str, Path], tmp_path: Path
) -> None:
    url, folder = served
    store.add(project / "data" / "täglich es")
    store.set_remote(url)
    store.push()
    lost = next(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".dir")
    lost.unlink()
    (project / ".modelyard" / "dvc" / "published.json").unlink()
    assert store.push()[0].published
    assert lost.exists()
