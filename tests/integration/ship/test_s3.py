"""Our few words of S3, against a real server; and against servers that are ill."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import EnvironmentFault, NotFoundError
from modelyard.s3 import Bucket, OtherBytes
from modelyard.targets import Address


@pytest.fixture
def bucket(gateway: Any, unique: str) -> Bucket:
    return Bucket(address(gateway), f"s3://dvc/{unique}")


@pytest.fixture
def unique(tmp_path: Path) -> str:
    return f"für {tmp_path.parent.name} {tmp_path.name}"


def address(gateway: Any, **other: str) -> Address:
    from_tests = {"url": gateway.url, "user": "modelyard", "password": "s3cret+never/shown="}
    return Address(**{**from_tests, **other})


def written(folder: Path, content: bytes, name: str = "file.bin") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("key", ["a/b.bin", "ä ö/日本.txt", "a+b=c&d%20'(1)*~!.bin"])
def test_what_is_put_is_there_under_its_name(
    bucket: Bucket, gateway: Any, tmp_path: Path, unique: str, key: str
) -> None:
    content = key.encode() * 1000
    told: list[int] = []
    bucket.put(key, written(tmp_path, content), md5=md5(content), progress=told.append)
    assert gateway.objects("dvc")[f"{unique}/{key}"] == content
    (stored,) = bucket.list().values()
    assert (stored.size, stored.etag) == (len(content), md5(content))
    assert sum(told) == len(content)


def test_an_empty_file_is_a_file(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("leer", written(tmp_path, b""), md5=md5(b""))
    assert bucket.list()["leer"].size == 0


def test_more_objects_than_a_page_holds_are_all_listed(bucket: Bucket, gateway: Any, unique: str) -> None:
    folder = gateway.folder / "dvc" / unique / "viele"
    folder.mkdir(parents=True)
    for number in range(1100):
        (folder / f"{number:04}").touch()
    assert len(bucket.list("viele/")) == 1100
    assert len(bucket.list("viele/00")) == 100
    assert bucket.list("keine/") == {}


@pytest.mark.parametrize("known", ["md5", "sha256"])
def test_other_bytes_are_refused_and_not_left_there(bucket: Bucket, tmp_path: Path, known: str) -> None:
    right, wrong = b"as it was" * 100, b"as it is." * 100
    told: list[int] = []
    hashes = {"md5": md5(right), "sha256": hashlib.sha256(right).hexdigest()}
    with pytest.raises(OtherBytes):
        bucket.put("key", written(tmp_path, wrong), progress=told.append, **{known: hashes[known]})
    assert bucket.list() == {}
    assert sum(told) == 0, "nothing arrived"


def test_a_refused_login_and_a_bucket_that_is_not_there_are_said(gateway: Any) -> None:
    for other in ({"password": "wrong"}, {"user": "nobody"}):
        with pytest.raises(EnvironmentFault, match="refuses the login") as refused:
            Bucket(address(gateway, **other), "s3://dvc").require()
        assert refused.value.code == "s3-refused"
        assert "wrong" not in str(refused.value.to_dict())
    with pytest.raises(NotFoundError, match="s3://nirgends") as missing:
        Bucket(address(gateway), "s3://nirgends/x").require()
    assert missing.value.code == "bucket-not-found"


@pytest.fixture
def server() -> Iterator[Callable[[Callable[[BaseHTTPRequestHandler], None]], Address]]:
    """Starts a server on loopback that answers every request by the given function."""
    started: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> Address:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def do_PUT(self) -> None:
                answer(self)

            do_GET = do_PUT

            def log_message(self, *_: object) -> None:
                pass

        started.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=started[0].serve_forever, args=(0.05,), daemon=True).start()
        return Address(url=f"http://127.0.0.1:{started[0].server_address[1]}", user="me", password="x")

    yield start
    for each in started:
        each.shutdown()
        each.server_close()


def respond(request: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
    request.rfile.read(int(request.headers.get("Content-Length") or 0))
    request.send_response(status)
    for name, value in {"Content-Length": "0", **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()


def test_a_broken_connection_and_a_busy_server_are_tried_again(
    server: Callable[..., Address], tmp_path: Path
) -> None:
    seen: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.path)
        if len(seen) == 1:
            request.connection.close()
            raise ConnectionAbortedError
        respond(request, 503 if len(seen) == 2 else 200, ETag=f'"{md5(b"content")}"')

    told: list[int] = []
    bucket = Bucket(server(answer), "s3://dvc")
    bucket.put("key", written(tmp_path, b"content"), md5=md5(b"content"), progress=told.append)
    assert seen == ["/dvc/key"] * 3
    assert sum(told) == len(b"content"), "what has to be sent again is taken back"


def test_a_server_that_stays_busy_is_given_up(server: Callable[..., Address], tmp_path: Path) -> None:
    bucket = Bucket(server(lambda request: respond(request, 503)), "s3://dvc")
    with pytest.raises(EnvironmentFault) as busy:
        bucket.put("key", written(tmp_path, b"content"), md5=md5(b"content"))
    assert busy.value.code == "s3-unreachable"


def test_the_region_that_the_server_names_is_used(server: Callable[..., Address]) -> None:
    regions: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        regions.append(request.headers["Authorization"].split("/")[2])
        respond(request, 200 if regions[-1] == "eu-central-1" else 400, x_amz_bucket_region="eu-central-1")

    Bucket(server(answer), "s3://dvc").require()
    assert regions == ["us-east-1", "eu-central-1"]


def test_an_etag_that_is_no_md5_lets_the_server_compare(
    server: Callable[..., Address], tmp_path: Path
) -> None:
    """As where objects are encrypted with a key of their own."""
    asked: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.headers.get("Content-MD5"))
        respond(request, 200, ETag='"no-md5"')

    told: list[int] = []
    bucket = Bucket(server(answer), "s3://dvc")
    bucket.put("key", written(tmp_path, b"content"), md5=md5(b"content"), progress=told.append)
    assert asked == [None, "mgNkuembtIDdJeHwKEyFVQ=="]
    assert sum(told) == len(b"content")


def test_a_file_that_can_not_be_read_is_no_fault_of_the_server(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="gibt es nicht"):
        bucket.put("key", tmp_path / "gibt es nicht", md5=md5(b""))
