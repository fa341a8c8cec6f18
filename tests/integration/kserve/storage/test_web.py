"""Models from a web server that answers, lies, breaks off and sends us elsewhere."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.kserve.storage import resolving
from tests.integration.kserve.storage.resolving import content_of

from modelyard.digests import model_digest
from modelyard.errors import ModelyardError
from modelyard.stages import StageContext
from modelyard.testing.contexts import make_context
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.storage import resolve
from modelyard_kserve.storage.cache import Cache

if TYPE_CHECKING:
    from conftest import Web

FILES = {"MLmodel": b"flavors: {}\n", "code/leer.py": b"", "model.skops": bytes(range(256)) * 4000}


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def fault_of(uri: str, context: StageContext) -> ModelyardError:
    fault = resolving.fault_of(uri, context)
    left = [*(context.state / "models").glob("*.part"), *(context.state / "models").glob("*/MLmodel")]
    assert left == [], "something was left"
    return fault


@pytest.mark.parametrize(("name", "made"), [("late.zip", zipped), ("late.tar.gz", tarred), ("l.tgz", tarred)])
def test_an_archive_is_unpacked(name: str, made: Any, web: Web, context: StageContext) -> None:
    web.files[f"/{name}"] = made(FILES)
    found = resolve(f"{web.url}/{name}", context)
    assert content_of(found.path) == FILES
    assert found.digest == model_digest(found.path) == found.path.name
    assert (found.model, found.version, found.trusted) == (None, "0", False)


def test_a_single_file_keeps_its_name(web: Web, context: StageContext) -> None:
    web.files["/sp%C3%A4te%20fl%C3%BCge.skops"] = b"skops"
    found = resolve(f"{web.url}/sp%C3%A4te%20fl%C3%BCge.skops", context)
    assert content_of(found.path) == {"späte flüge.skops": b"skops"}


def test_what_did_not_change_is_not_sent_again(web: Web, context: StageContext) -> None:
    web.files["/late.zip"] = zipped(FILES)
    first, second = (resolve(f"{web.url}/late.zip", context) for _ in range(2))
    assert first == second
    assert "If-None-Match" in web.asked[1][1]
    web.files["/late.zip"] = zipped({**FILES, "model.skops": b"other"})
    third = resolve(f"{web.url}/late.zip", context)
    assert third.digest != first.digest
    assert content_of(first.path) == FILES, "what the old revision serves is still there"


def test_a_server_without_etags_sends_it_again_and_it_stays_the_same_model(
    web: Web, context: StageContext
) -> None:
    def bare(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "5")
        handler.end_headers()
        handler.wfile.write(b"skops")

    web.instead["/late.skops"] = bare
    first, second = (resolve(f"{web.url}/late.skops", context) for _ in range(2))
    assert first == second
    assert web.sent("/late.skops") == 2


def test_an_entry_that_was_tampered_with_is_fetched_again(web: Web, context: StageContext) -> None:
    web.files["/late.zip"] = zipped(FILES)
    found = resolve(f"{web.url}/late.zip", context)
    (found.path / "MLmodel").write_bytes(b"evil")
    assert content_of(resolve(f"{web.url}/late.zip", context).path) == FILES


def test_progress_is_told(web: Web, context: StageContext) -> None:
    web.files["/late.zip"] = zipped(FILES)
    told: list[str] = []
    resolve(f"{web.url.replace('//', '//ann:geheim@')}/late.zip", context, told.append)
    assert told[0] == f"looking at {web.url}/late.zip"
    assert any("1.0 MB" in said for said in told)
    assert "geheim" not in str(told)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "storage-refused"),
        (403, "storage-refused"),
        (404, "model-files-missing"),
        (410, "model-files-missing"),
        (418, "fetch-failed"),
        (500, "storage-unreachable"),
        (503, "storage-unreachable"),
    ],
)
def test_a_status_is_a_sentence(status: int, code: str, web: Web, context: StageContext) -> None:
    web.instead["/late.zip"] = lambda handler: handler.send_error(status)
    fault = fault_of(f"{web.url}/late.zip?sig=geheim", context)
    assert fault.code == code
    assert str(status) in fault.message
    assert f"{web.url}/late.zip?..." in fault.message
    assert "geheim" not in fault.message + fault.hint
    assert web.sent("/late.zip") == (4 if code == "storage-unreachable" else 1), (
        "only what may pass is retried"
    )


def test_a_server_that_is_busy_at_first_is_asked_again(web: Web, context: StageContext) -> None:
    web.files["/late.zip"] = zipped(FILES)

    def busy(handler: BaseHTTPRequestHandler) -> None:
        del web.instead["/late.zip"]
        handler.send_error(503)

    web.instead["/late.zip"] = busy
    assert content_of(resolve(f"{web.url}/late.zip", context).path) == FILES


@pytest.mark.parametrize("etag", ['"abc"', None])
def test_a_connection_that_breaks_goes_on_where_it_was(
    etag: str | None, web: Web, context: StageContext
) -> None:
    whole, begun = zipped(FILES), []

    def breaks(handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        begun.append(begin)
        handler.send_response(206 if asked else 200)
        handler.send_header("Content-Length", str(len(whole) - begin))
        if etag:
            handler.send_header("ETag", etag)
        handler.end_headers()
        end = len(whole) if len(begun) == 3 else begin + 300_000
        handler.wfile.write(whole[begin:end])
        handler.wfile.flush()
        handler.close_connection = True

    web.instead["/late.zip"] = breaks
    assert content_of(resolve(f"{web.url}/late.zip", context).path) == FILES
    assert len(begun) == 3
    assert (begun[2] > 300_000) is bool(etag), "without an ETag it may be another file by now"


def test_a_connection_that_always_breaks_is_a_sentence(web: Web, context: StageContext) -> None:
    def breaks(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x")
        handler.close_connection = True

    web.instead["/late.skops"] = breaks
    assert fault_of(f"{web.url}/late.skops", context).code == "storage-unreachable"


def test_nobody_there_and_a_name_that_is_none(context: StageContext) -> None:
    for host in ("127.0.0.1:1", "there-is-no-such-host.invalid"):
        fault = fault_of(f"http://{host}/late.zip", context)
        assert fault.code == "storage-unreachable"
        assert host in fault.message


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(
    web: Web, context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard_kserve.storage.web._SILENCE", 0.2)
    web.instead["/late.zip"] = lambda _: time.sleep(1)
    assert fault_of(f"{web.url}/late.zip", context).code == "storage-unreachable"


def test_a_redirect_is_followed_but_not_around_in_circles(web: Web, context: StageContext) -> None:
    def to(place: str) -> Any:
        def send(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", place)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        return send

    web.files["/there"] = zipped(FILES)
    web.instead |= {
        "/late.zip": to("/there"),
        "/round.zip": to("/round.zip"),
        "/file.zip": to("file:///etc/passwd"),
    }
    assert content_of(resolve(f"{web.url}/late.zip", context).path) == FILES
    other = make_context(context.root.parent / "another", provider="kserve", settings=KserveSettings())
    assert fault_of(f"{web.url}/round.zip", other).code == "fetch-failed"
    assert fault_of(f"{web.url}/file.zip", other).code == "fetch-failed"


def test_https_is_not_left_for_http(web: Web, context: StageContext, certificate: Any) -> None:
    """A server with a certificate of its own sends us to the plain one."""
    import ssl
    import threading
    from http.server import HTTPServer

    key, signed = certificate("127.0.0.1")

    class Redirects(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{web.url}/late.zip?sig=geheim")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Redirects)
    secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secured.load_cert_chain(signed, key)
    server.socket = secured.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    uri = f"https://127.0.0.1:{server.server_port}/late.zip"
    try:
        assert "certificate" in fault_of(uri, context).message, "nobody vouches for it"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(signed))
            fault = fault_of(uri, context)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert fault.code == "storage-refused"
    assert f"{web.url}/late.zip?..., which is not encrypted" in fault.message
    assert web.asked == []


def test_a_login_comes_from_the_address_or_from_netrc(
    web: Web, context: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files["/late.zip"] = zipped(FILES)
    resolve(f"{web.url.replace('//', '//ann:geheim@')}/late.zip", context)
    assert web.asked[-1][1]["Authorization"].startswith("Basic ")
    netrc = tmp_path / "netrc"
    netrc.write_text("this is none")
    monkeypatch.setenv("NETRC", str(netrc))
    resolve(f"{web.url}/late.zip", context)
    assert "Authorization" not in web.asked[-1][1]
    netrc.write_text("machine 127.0.0.1 login ann password geheim\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    resolve(f"{web.url}/late.zip", context)
    assert web.asked[-1][1]["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("address", ["", "/", "/models/"])
def test_an_address_without_a_name(address: str, web: Web, context: StageContext) -> None:
    assert fault_of(web.url + address, context).code == "storage-unknown"


@pytest.mark.parametrize("declared", [True, False])
def test_too_much_is_not_fetched(declared: bool, web: Web, context: StageContext) -> None:
    small = replace(context, settings=KserveSettings(fetch_limit=0.0005))

    def much(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if declared:
            handler.send_header("Content-Length", "9000000000")
        handler.end_headers()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            for _ in range(1000):
                handler.wfile.write(bytes(100_000))

    web.instead["/late.skops"] = much
    fault = fault_of(f"{web.url}/late.skops", small)
    assert (fault.code, fault.exit_status) == ("model-too-large", 3)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", zipped(FILES)[:-40]])
def test_a_broken_archive_is_a_sentence(content: bytes, web: Web, context: StageContext) -> None:
    web.files["/late.zip"] = content
    fault = fault_of(f"{web.url}/late.zip", context)
    assert fault.code == "archive-invalid"
    assert f"{web.url}/late.zip can't be unpacked" in fault.message


def test_an_archive_of_nothing_is_no_model(web: Web, context: StageContext) -> None:
    web.files["/late.zip"] = zipped({})
    assert fault_of(f"{web.url}/late.zip", context).code == "model-files-missing"


def test_two_at_once_fetch_once(web: Web, context: StageContext) -> None:
    content = zipped(FILES)

    def slow(handler: BaseHTTPRequestHandler) -> None:
        if handler.headers.get("If-None-Match"):
            handler.send_response(304)
            handler.end_headers()
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("ETag", '"1"')
        handler.end_headers()
        time.sleep(0.3)
        handler.wfile.write(content)

    web.instead["/late.zip"] = slow
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: resolve(f"{web.url}/late.zip", context), range(4)))
    assert len(set(found)) == 1
    sent = [headers for _, headers in web.asked if "If-None-Match" not in headers]
    assert len(sent) == 1


def test_who_waits_for_another_command_is_told(web: Web, context: StageContext) -> None:
    web.files["/late.zip"] = zipped(FILES)
    uri, told = f"{web.url}/late.zip", []
    with ThreadPoolExecutor(1) as pool:
        with Cache(context.state / "models", lambda: ()).locked(uri):
            waits = pool.submit(resolve, uri, context, told.append)
            deadline = time.monotonic() + 60
            while "waiting for another command that fetches" not in str(told) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert f"waiting for another command that fetches {uri}" in told
            assert web.asked == []
        assert content_of(waits.result().path) == FILES


FETCHES = """
import sys
from pathlib import Path
from modelyard.testing.contexts import make_context
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.storage import resolve
context = make_context(Path(sys.argv[1]), provider="kserve", settings=KserveSettings())
resolve(sys.argv[2], context, lambda said: print(said, flush=True))
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_one_that_is_killed_or_interrupted_is_made_good_by_the_next(
    sent: signal.Signals, web: Web, context: StageContext
) -> None:
    content = zipped(FILES)

    def hangs(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:300_000])
        handler.wfile.flush()
        time.sleep(3)

    web.instead["/late.zip"] = hangs
    process = subprocess.Popen(
        [sys.executable, "-c", FETCHES, str(context.root), f"{web.url}/late.zip"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(b"fetching"):
            break
    process.send_signal(sent)
    assert process.wait(20) != 0
    process.stdout.close()
    left = list((context.state / "models").glob("*.part"))
    assert len(left) == (1 if sent is signal.SIGKILL else 0)
    del web.instead["/late.zip"]
    web.files["/late.zip"] = content
    assert content_of(resolve(f"{web.url}/late.zip", context).path) == FILES
    assert list((context.state / "models").glob("*.part")) == []


def test_a_full_disk_is_one_sentence_and_works_again_when_there_is_room(web: Web, small_disk: Path) -> None:
    web.files["/late.skops"] = bytes(3_000_000)
    context = make_context(small_disk, provider="kserve", settings=KserveSettings())
    assert fault_of(f"{web.url}/late.skops", context).code == "disk-full"
    web.files["/late.skops"] = bytes(100_000)
    assert resolve(f"{web.url}/late.skops", context).path.is_dir()


def test_who_does_not_answer_now_is_replaced_by_what_is_here(web: Web, context: StageContext) -> None:
    web.files["/late.zip"] = zipped(FILES)
    first = resolve(f"{web.url}/late.zip", context)
    web.instead["/late.zip"] = lambda handler: handler.send_error(503)
    second = resolve(f"{web.url}/late.zip", context)
    assert replace(second, note="") == first
    assert "can't be reached" in second.note
    assert "serving what was fetched at" in second.note
    del web.instead["/late.zip"], web.files["/late.zip"]
    with pytest.raises(ModelyardError, match="there is no model"):
        resolve(f"{web.url}/late.zip", context)
