"""What KServe's own library fetches: from an emulator of Google's storage, and from servers of ours that
answer as a Hugging Face hub and an OCI registry do."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.integration.kserve.storage.resolving import content_of, fault_of
from tests.served import free_port, serving

from modelyard.stages import StageContext
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.storage import resolve

if TYPE_CHECKING:
    from conftest import Web

pytest.importorskip("kserve_storage", reason="what fetches there is in the extra `storage`")


# -- Google --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("google"), free_port()
    command = [str(Path(sys.executable).with_name("gcp-storage-emulator")), "start", "--in-memory"]
    command += ["--host=127.0.0.1", f"--port={port}", "--default-bucket=models"]

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with serving(command, folder, dict(os.environ), folder / "log", answers):
        yield f"http://127.0.0.1:{port}"


def test_google(google: str, context: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.cloud import storage

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    client = storage.Client.create_anonymous_client()
    client.project = "p"
    bucket = client.bucket("models")
    for name, content in {"late/MLmodel": "eins", "late/code/leer.py": "", "late-2/MLmodel": "x"}.items():
        bucket.blob(name).upload_from_string(content)
    first = resolve("gs://models/late", context)
    assert content_of(first.path) == {"MLmodel": b"eins", "code/leer.py": b""}
    told: list[str] = []
    assert resolve("gs://models/late", context, told.append) == first
    assert told == ["looking at gs://models/late"], "nothing changed, nothing was fetched"
    bucket.blob("late/MLmodel").upload_from_string("zwei")
    assert content_of(resolve("gs://models/late", context).path)["MLmodel"] == b"zwei"
    assert fault_of("gs://models/nothing", context).code == "model-files-missing"
    assert fault_of("gs://no-such-bucket/late", context).code == "model-files-missing"
    small = replace(context, settings=KserveSettings(fetch_limit=1e-9))
    bucket.blob("late/MLmodel").upload_from_string("drei" * 1000)
    assert fault_of("gs://models/late", small).code == "model-too-large"


# -- Hugging Face ----------------------------------------------------------------------------------


class Hub:
    """Answers as the hub does what its client asks for one model."""

    def __init__(self, web: Web, files: dict[str, bytes]) -> None:
        self.web, self.files, self.commit = web, files, "a" * 40
        self.publish()

    def publish(self) -> None:
        api, listed = "/api/models/org/late", []
        for name, content in self.files.items():
            oid = hashlib.sha1(content).hexdigest()
            listed.append({"type": "file", "path": name, "size": len(content), "oid": oid})
            self.web.instead[f"/org/late/resolve/{self.commit}/{name}"] = self._file(content, oid)
        about = {"id": "org/late", "sha": self.commit, "siblings": [{"rfilename": n} for n in self.files]}
        for place in (api, f"{api}/revision/main", f"{api}/revision/{self.commit}"):
            self.web.instead[place] = self._json({**about, "tags": [], "private": False})
        self.web.instead[f"{api}/tree/{self.commit}"] = self._json(listed)

    def _file(self, content: bytes, oid: str) -> Any:
        headers = {"ETag": f'"{oid}"', "X-Repo-Commit": self.commit}
        return lambda handler: give(handler, content, headers)

    def _json(self, value: Any) -> Any:
        content = json.dumps(value).encode()
        return lambda handler: give(handler, content, {"Content-Type": "application/json"})


def give(handler: BaseHTTPRequestHandler, content: bytes, headers: dict[str, str], status: int = 200) -> None:
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(content))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content)


@pytest.fixture
def hub(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return Hub(web, {"config.json": b"{}", "model.bin": b"x" * 5000})


def test_hugging_face(hub: Hub, context: StageContext) -> None:
    first = resolve("hf://org/late", context)
    assert content_of(first.path) == hub.files, (
        "what the hub's client notes beside them is no part of the model"
    )
    assert resolve("hf://org/late:main", context).digest == first.digest
    del hub.web.asked[:]
    assert resolve("hf://org/late", context) == first
    assert hub.web.sent("/api/models/org/late") == len(hub.web.asked) == 1, (
        "the commit says that it is the same"
    )
    hub.commit, hub.files["config.json"] = "b" * 40, b"{ }"
    hub.publish()
    assert content_of(resolve("hf://org/late", context).path) == hub.files


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (401, "RepoNotFound", "storage-refused"),
        (403, "GatedRepo", "storage-refused"),
        (404, "RevisionNotFound", "model-files-missing"),
    ],
)
def test_what_the_hub_refuses(status: int, error: str, code: str, hub: Hub, context: StageContext) -> None:
    hub.web.instead["/api/models/org/other"] = lambda handler: give(
        handler, b"{}", {"X-Error-Code": error, "X-Error-Message": "no"}, status
    )
    fault = fault_of("hf://org/other", context)
    assert fault.code == code
    assert ("HF_TOKEN" in fault.hint) is (code == "storage-refused")


def test_an_address_that_the_hub_has_not(hub: Hub, context: StageContext) -> None:
    assert fault_of("hf://late", context).code == "storage-unknown"


# -- OCI -------------------------------------------------------------------------------------------


def layer(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def publish(web: Web, files: dict[str, bytes]) -> str:
    """An image with the files, as a registry hands it out; returns its address."""
    content, kind = layer(files), "application/vnd.oci.image.manifest.v1+json"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2},
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": digest,
                "size": len(content),
            }
        ],
    }
    said = json.dumps(manifest).encode()
    web.instead["/v2/org/late/manifests/1"] = lambda handler: give(handler, said, {"Content-Type": kind})
    web.files[f"/v2/org/late/blobs/{digest}"] = content
    return f"oci://{web.url.removeprefix('http://')}/org/late:1"


def test_an_image_of_a_registry(web: Web, context: StageContext) -> None:
    uri = publish(web, {"etc/passwd": b"x", "models/MLmodel": b"eins", "models/code/leer.py": b""})
    first = resolve(uri, context)
    assert content_of(first.path) == {"MLmodel": b"eins", "code/leer.py": b""}
    del web.asked[:]
    assert resolve(uri, context) == first
    assert {path for path, _ in web.asked} == {"/v2/org/late/manifests/1"}, (
        "the manifest says that it is the same"
    )
    publish(web, {"models/MLmodel": b"zwei"})
    assert content_of(resolve(uri, context).path) == {"MLmodel": b"zwei"}
    assert fault_of(uri.replace("late:1", "nothing:1"), context).code == "model-files-missing"


def test_an_image_without_a_model(web: Web, context: StageContext) -> None:
    fault = fault_of(publish(web, {"etc/passwd": b"x"}), context)
    assert fault.code == "model-files-missing"
    assert "/models/" in fault.message


def test_a_registry_that_is_not_there(context: StageContext) -> None:
    assert fault_of("oci://127.0.0.1:1/org/late:1", context).code == "storage-unreachable"


# -- what hangs or dies ------------------------------------------------------------------------------


def test_a_library_that_hangs_is_ended(
    web: Web, context: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard_kserve.storage.apart._STALLED", 2.0)
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    web.instead["/api/models/org/late"] = lambda _: time.sleep(8)
    fault = fault_of("hf://org/late", context)
    assert fault.code == "storage-unreachable"
    assert "nothing has arrived for 2 seconds" in fault.message


def test_a_worker_that_dies_is_a_sentence(context: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = subprocess.Popen
    monkeypatch.setattr(
        "modelyard_kserve.storage.apart.subprocess.Popen",
        lambda _, **how: whole([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], **how),
    )
    fault = fault_of("hf://org/late", context)
    assert fault.code == "fetch-failed"
    assert "ended with status -9" in fault.message


def test_a_worker_that_is_killed_in_the_middle_leaves_nothing_and_the_next_one_fetches(
    hub: Hub, context: StageContext
) -> None:
    place, begun = f"/org/late/resolve/{hub.commit}/model.bin", threading.Event()
    whole = hub.web.instead[place]

    def half(handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "HEAD":
            whole(handler)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", "5000")
        handler.end_headers()
        handler.wfile.write(b"x" * 2500)
        handler.wfile.flush()
        begun.set()
        time.sleep(3)

    hub.web.instead[place] = half
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(fault_of, "hf://org/late", context)
        assert begun.wait(60)
        started = psutil.Process().children()
        (worker,) = (p for p in started if "modelyard_kserve.storage.worker" in p.cmdline())
        worker.kill()
        fault = fetching.result(60)
    assert fault.code == "fetch-failed"
    assert "the process that fetches it ended with status -9" in fault.message
    hub.web.instead[place] = whole
    assert content_of(resolve("hf://org/late", context).path) == hub.files
    assert list((context.state / "models").glob("*.part")) == []
