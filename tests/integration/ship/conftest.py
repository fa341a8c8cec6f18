"""A cluster's services without a cluster: MLflow with a password, on sqlite and S3. And projects to ship."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.served import free_port

import modelyard
from modelyard.targets import Address
from modelyard.testing.models import ROWS, fitted_model
from modelyard.yard import Yard

#: Passwords hold what must be quoted in addresses; no test may find them where they don't belong.
MLFLOW_PASSWORD = "hush/hush pass@word"
S3_SECRET = "s3cret+never/shown="
ACCESS_KEY = "modelyard"

#: A target as a plugin offers one. The file beside it says where the services are.
PLUGIN = """
import json
from pathlib import Path

import modelyard
from modelyard.errors import NotFoundError
from modelyard.targets import Address, Target, TargetOffer


def find(service):
    found = json.loads(Path(__file__).with_name("cluster.json").read_text()).get(service)
    if found is None:
        raise NotFoundError("target-service-unknown", f"the target has no {service}")
    return Address(**found)


@modelyard.hookimpl
def modelyard_targets():
    for name in ("cluster", "second"):
        yield TargetOffer(name=name, summary="for tests", connect=lambda name=name: Target(name, find=find))
"""


@dataclass
class Gateway:
    """An S3 server over a folder, on loopback."""

    program: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.program, "--quiet", "--port", f"127.0.0.1:{self.port}", "posix", str(self.folder)],
            env={**os.environ, "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": S3_SECRET},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, "versitygw ended"
                assert time.monotonic() < deadline, "versitygw does not listen"
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=20)
            self.process = None

    def objects(self, bucket: str) -> dict[str, bytes]:
        """What the bucket holds, by key."""
        root = self.folder / bucket
        files = (file for file in root.rglob("*") if file.is_file() and ".sgwtmp" not in file.parts)
        return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def new_gateway(folder: Path) -> Gateway:
    program = shutil.which("versitygw")
    if program is None:
        pytest.skip("versitygw, the S3 server, is not on PATH")
    for bucket in ("dvc", "mlflow"):
        (folder / bucket).mkdir(parents=True)
    gateway = Gateway(program, folder, free_port())
    gateway.start()
    return gateway


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The S3 server that MLflow's server uses too."""
    started = new_gateway(tmp_path_factory.mktemp("s3"))
    yield started
    started.stop()


@pytest.fixture
def own_gateway(tmp_path: Path) -> Iterator[Gateway]:
    """One for a test that stops it."""
    started = new_gateway(tmp_path / "own s3")
    yield started
    started.stop()


@pytest.fixture(scope="package")
def mlflow_url(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server that wants a password, as a sandbox has it, with sqlite in place of PostgreSQL."""
    pytest.importorskip("mlflow")
    pytest.importorskip("flask_wtf", reason="mlflow[auth] is not installed")
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    (folder / "basic_auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{folder / 'auth.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n"
    )
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--app-name", "basic-auth"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", "s3://mlflow"]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={
                **os.environ,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "for tests",
                "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
                "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
                "MLFLOW_AUTH_ADMIN_PASSWORD": MLFLOW_PASSWORD,
                "MLFLOW_S3_ENDPOINT_URL": gateway.url,
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": S3_SECRET,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        await_healthy(url, process, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=20)


@pytest.fixture(scope="package")
def addresses(mlflow_url: str, gateway: Gateway) -> dict[str, Address]:
    """Where the services of the target are, by name."""
    return {
        "mlflow": Address(url=mlflow_url, user="admin", password=MLFLOW_PASSWORD, storage="s3://mlflow"),
        "s3": Address(url=gateway.url, user=ACCESS_KEY, password=S3_SECRET, storage="s3://dvc"),
    }


def await_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


@dataclass
class Project:
    """A project with a target; its models' names are nobody else's on the server."""

    root: Path
    mlflow_url: str
    gateway: Gateway
    model: str

    @property
    def here(self) -> Yard:
        return modelyard.open(self.root)

    @property
    def there(self) -> Yard:
        return modelyard.open(self.root, target="cluster")

    def say_where(self, **services: dict[str, str] | None) -> None:
        """Write where the target's services are; keywords change what is said of one."""
        mlflow = {"url": self.mlflow_url, "user": "admin", "password": MLFLOW_PASSWORD}
        s3 = {"url": self.gateway.url, "user": ACCESS_KEY, "password": S3_SECRET}
        known: dict[str, Any] = {
            "mlflow": {**mlflow, "storage": "s3://mlflow"},
            "s3": {**s3, "storage": f"s3://dvc/{self.root.parent.name}"},
        }
        for name, values in services.items():
            known[name] = None if values is None else {**known.get(name, {}), **values}
        (self.root / "cluster.json").write_text(json.dumps(known))

    def add_data(self, name: str, content: bytes) -> Any:
        file = self.root / "data" / f"{name}.bin"
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_bytes(content)
        return self.here.data.add(file)

    def train(self, value: float, *, model: str | None = None, use: Any = ()) -> modelyard.ModelVersion:
        """A run with everything that a run can have, and a version of the model from it."""
        import pandas as pd

        yard = self.here
        with yard.run("späte flüge", params={"depth": 6, "wörter": "ein paar"}) as run:
            for ref in use:
                run.use(ref, role="train")
            for step in range(5):
                run.log({"loss": value / (step + 1)}, step=step)
            run.log({"auc": 0.7 + value / 100, "broken": float("nan")})
            run.tag({"team": "flüge & wetter"})
            note = self.root / "notiz ü.txt"
            note.write_text(f"value {value}")
            run.log_file(note)
            run.log_file(note, folder="plots/neu")
            return run.log_model(
                fitted_model(value), name=model or self.model, example=pd.DataFrame(list(ROWS))
            )

    def command(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """The command line in the project, as another process."""
        return subprocess.Popen(
            [sys.executable, "-m", "modelyard", "--project", str(self.root), *arguments],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **env: str) -> tuple[int, str, str]:
        """Status and output of a command."""
        process = self.command(*arguments, **env)
        said, errors = process.communicate(timeout=180)
        return process.returncode, said, errors


@pytest.fixture(scope="package")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with nothing but MLflow's tables, which take three seconds to make."""
    root = tmp_path_factory.mktemp("template") / "project"
    modelyard.init(root, name="template").runs.list()
    return root / ".modelyard" / "mlflow"


@pytest.fixture
def new_project(
    empty_store: Path, tmp_path: Path, mlflow_url: str, gateway: Gateway
) -> Callable[..., Project]:
    """Makes a project in a git repository, in a folder whose name has spaces and umlauts."""

    def make(s3: Gateway = gateway) -> Project:
        mark = uuid.uuid4().hex[:8]
        root = tmp_path / f"s-{mark}" / "späte Flüge"
        root.mkdir(parents=True)
        subprocess.run(["git", "init", "--quiet", str(root)], check=True)
        modelyard.init(root, name=f"flights-{mark}")
        shutil.copytree(empty_store, root / ".modelyard" / "mlflow")
        (root / "modelyardfile.py").write_text(PLUGIN)
        project = Project(root, mlflow_url, s3, f"späte-flüge {mark}")
        project.say_where()
        return project

    return make


@pytest.fixture
def project(new_project: Callable[..., Project]) -> Project:
    """A project in which nothing was done yet."""
    return new_project()
