"""Models in a real S3 server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.integration.kserve.storage import resolving

from modelyard.digests import model_digest
from modelyard.errors import MissingRequirementError, ModelyardError
from modelyard.stages import StageContext
from modelyard.testing.contexts import make_context
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.storage import resolve

if TYPE_CHECKING:
    from conftest import Web

pytest.importorskip("kserve_storage", reason="what fetches from S3 is in the extra `storage`")


@pytest.fixture
def model(s3: Path) -> Path:
    """A model in the bucket, beside others whose names begin alike."""
    folder = s3 / "late"
    (folder / "code").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "code" / "__init__.py").touch()
    (folder / "model.bin").write_bytes(os.urandom(300_000))
    (s3 / "late-2").mkdir()
    (s3 / "late-2" / "MLmodel").write_text("another\n")
    return folder


def fault_of(uri: str, context: StageContext) -> ModelyardError:
    fault = resolving.fault_of(uri, context)
    assert list((context.state / "models").glob("*.part")) == []
    return fault


def test_every_byte_arrives_and_nothing_else(model: Path, context: StageContext) -> None:
    found = resolve("s3://models/late/", context)
    assert found.digest == model_digest(model), "an empty file is part of a model, a neighbour is not"
    assert found.path.parent == context.state / "models"


def test_one_object_is_a_model_too(model: Path, context: StageContext) -> None:
    shutil.make_archive(str(model.parent / "packed"), "gztar", model)
    assert [p.name for p in resolve("s3://models/late/model.bin", context).path.iterdir()] == ["model.bin"]
    assert resolve("s3://models/packed.tar.gz", context).digest == model_digest(model)


def test_what_did_not_change_is_not_fetched_again(model: Path, context: StageContext) -> None:
    told: list[str] = []
    first = resolve("s3://models/late", context, told.append)
    assert any(said.startswith("fetching s3://models/late: ") and "of 300.0 kB" in said for said in told)
    del told[:]
    assert resolve("s3://models/late", context, told.append) == first
    assert told == ["looking at s3://models/late"]
    (model / "MLmodel").write_text("flavors: {python_function: {}}\n")
    assert resolve("s3://models/late", context).digest not in (first.digest, "")


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("s3://models/nothing", "model-files-missing"),
        ("s3://models/lat", "model-files-missing"),
        ("s3://no-such-bucket/late", "model-files-missing"),
    ],
)
def test_nothing_there(uri: str, code: str, model: Path, context: StageContext) -> None:
    fault = fault_of(uri, context)
    assert (fault.code, fault.exit_status) == (code, 4)
    assert uri in fault.message


def test_a_wrong_login(model: Path, context: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "falschfalsch")
    fault = fault_of("s3://models/late", context)
    assert fault.code == "storage-refused"
    assert "falsch" not in fault.message
    assert "AWS_ACCESS_KEY_ID" in fault.hint


def test_nobody_there(model: Path, context: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolve("s3://models/late", context)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert fault_of("s3://models/late-2", context).code == "storage-unreachable"
    again = resolve("s3://models/late", context)
    assert replace(again, note="") == first
    assert "can't be reached" in again.note


def test_too_much_is_not_fetched(model: Path, context: StageContext) -> None:
    small = replace(context, settings=KserveSettings(fetch_limit=0.0001))
    assert fault_of("s3://models/late", small).code == "model-too-large"


def test_a_full_disk(model: Path, small_disk: Path) -> None:
    (model / "model.bin").write_bytes(bytes(3_000_000))
    context = make_context(small_disk, provider="kserve", settings=KserveSettings())
    assert fault_of("s3://models/late", context).code == "disk-full"


def test_without_the_library_the_extra_is_named(
    context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "boto3" else name)
    with pytest.raises(MissingRequirementError) as caught:
        resolve("s3://models/late", context)
    assert caught.value.hint == "pip install 'modelyard[storage]'"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 always looks into the working folder")
def test_a_file_of_the_users_does_not_stand_in_for_a_library(
    model: Path, context: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "boto3.py").write_text("raise RuntimeError('the wrong one')\n")
    monkeypatch.chdir(tmp_path)
    assert resolve("s3://models/late", context).digest == model_digest(model)


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
def test_the_process_that_fetches_ends_with_the_command(
    sent: signal.Signals, web: Web, s3: Path, context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An S3 server that takes the question and never answers."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.url)
    web.instead["/models"] = lambda _: time.sleep(3)
    process = subprocess.Popen(
        [sys.executable, "-c", FETCHES, str(context.root), "s3://models/late"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not web.asked and time.monotonic() < deadline:
        time.sleep(0.02)
    (child,) = psutil.Process(process.pid).children()
    assert "s3://" not in " ".join(child.cmdline()), "an address may hold a secret"
    process.send_signal(sent)
    process.wait(20)
    _, alive = psutil.wait_procs([child], timeout=30)
    assert alive == []
