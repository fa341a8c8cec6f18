"""What fetches models into pods, against a real S3 server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelyard.digests import model_digest
from modelyard_kserve.cluster import termination

pytest.importorskip("kserve_storage", reason="the storage initializer's library is in the extra `stack`")
boto3 = pytest.importorskip("boto3")

_CACHE = Path(os.environ.get("MODELYARD_TEST_CLUSTER_CACHE") or "/var/cache/modelyard-cluster")
Fetch = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """An S3 server over a folder, in which folders are buckets, and the environment that reaches it."""
    program = shutil.which("versitygw") or str(_CACHE / "bin" / "versitygw")
    if not Path(program).exists():
        pytest.skip("versitygw is not there, neither on PATH nor in MODELYARD_TEST_CLUSTER_CACHE/bin")
    folder = tmp_path_factory.mktemp("s3")
    (folder / "mlflow").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keys = {"ROOT_ACCESS_KEY": "yard", "ROOT_SECRET_KEY": "geheimgeheim"}
    process = subprocess.Popen(
        [program, "--port", f"127.0.0.1:{port}", "posix", str(folder)],
        env={**os.environ, **keys},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not _listens(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    yield (
        folder / "mlflow",
        {
            "AWS_ACCESS_KEY_ID": "yard",
            "AWS_SECRET_ACCESS_KEY": "geheimgeheim",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "S3_VERIFY_SSL": "0",
            "S3_MAX_ATTEMPTS": "1",
        },
    )
    process.terminate()
    process.wait(timeout=10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def fetch(buckets: tuple[Path, dict[str, str]]) -> Fetch:
    """Runs the initializer as KServe does."""

    def run(source: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "modelyard_kserve.cluster.initializer", source, str(folder)],
            env={**os.environ, **buckets[1], **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_a_model_arrives_byte_by_byte(
    fetch: Fetch, buckets: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    model = buckets[0] / "1" / "models" / "m-1" / "artifacts"
    (model / "code" / "deep").mkdir(parents=True)
    (model / "MLmodel").write_text("flavors: {}\n")
    (model / "code" / "deep" / "__init__.py").touch()  # an empty file is part of the model, too
    (model / "code" / "deep" / "late.py").write_text("LIMIT = 15\n")
    done = fetch("s3://mlflow/1/models/m-1/artifacts", tmp_path / "models")
    assert done.returncode == 0, done.stderr
    assert model_digest(tmp_path / "models") == model_digest(model)


def test_a_model_that_is_not_there_is_one_sentence_and_hopeless(fetch: Fetch, tmp_path: Path) -> None:
    done = fetch("s3://mlflow/nothing", tmp_path / "models")
    assert done.returncode == termination.HOPELESS
    assert done.stdout.splitlines()[-1].startswith("initializer: s3://mlflow/nothing can't be fetched: ")


def test_a_wrong_key_is_hopeless(fetch: Fetch, tmp_path: Path) -> None:
    done = fetch("s3://mlflow/nothing", tmp_path / "models", AWS_SECRET_ACCESS_KEY="falsch")
    assert done.returncode == termination.HOPELESS, done.stdout


def test_a_server_that_does_not_answer_may_come_back(fetch: Fetch, tmp_path: Path) -> None:
    done = fetch("s3://mlflow/nothing", tmp_path / "models", AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "s3://mlflow/nothing can't be fetched" in done.stdout
