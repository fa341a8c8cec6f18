"""A real sandbox, booted once from a bundle on a machine that reaches no registry of images.

`tests/cluster/prepare` makes the bundle; where it could not, these tests are skipped with its reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelyard.kube import Cluster

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CACHE = Path(os.environ.get("MODELYARD_TEST_CLUSTER_CACHE") or "/var/cache/modelyard-cluster")
BUNDLE = CACHE / "stack.bundle"
NAME = "ci"
#: No package of Grafana exists anywhere, so no image of it can be made here.
WITHOUT = ("--without", "grafana")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Booting takes longer than what other tests may take."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))


@dataclass
class Box:
    """The sandbox of these tests.

    Attributes:
        home: its folders for state and cache.
        seconds: how long steps took that later tests compare with.
    """

    home: Path
    name: str = NAME
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """For commands."""
        return {
            **os.environ,
            "PATH": f"{CACHE / 'bin'}:{os.environ['PATH']}",
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CACHE_HOME": str(self.home / "cache"),
        }

    @property
    def folder(self) -> Path:
        return self.home / "state" / "modelyard" / "sandboxes" / self.name

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        return found

    @property
    def secrets(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.folder / "secrets.json").read_text())
        return found

    @property
    def node(self) -> str:
        return f"modelyard-{self.name}-control-plane"

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.folder / "kubeconfig")

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.state['ports'][port]}"

    def run(
        self, *args: str, status: int | None = 0, timeout: float = 600, before: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """`modelyard sandbox ARGS`; fails with what it said when it ends with another status."""
        command = [*before, sys.executable, "-m", "modelyard", "sandbox", *args, "--name", self.name]
        began = time.monotonic()
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )
        self.seconds[args[0]] = time.monotonic() - began
        assert status is None or done.returncode == status, f"{args}: {done.stdout}\n{done.stderr}"
        return done

    def json(self, *args: str, status: int | None = 0) -> Any:
        """What the command prints with --json."""
        return json.loads(self.run(*args, "--json", status=status).stdout)

    def up(self, *args: str, status: int | None = 0) -> dict[str, Any]:
        """`up`; its result event."""
        done = self.run("up", "--json", *args, status=status)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        found: dict[str, Any] = next(event for event in reversed(events) if event["type"] == "result")
        return found

    def s3(self) -> Any:
        """A client of its S3 server."""
        import boto3

        env = self.json("env")
        return boto3.client(
            "s3",
            endpoint_url=env["AWS_ENDPOINT_URL"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
        )

    def kubectl(self, *args: str) -> str:
        env = {**self.env, "KUBECONFIG": str(self.folder / "kubeconfig")}
        return subprocess.run(
            ["kubectl", *args], env=env, capture_output=True, text=True, timeout=120, check=True
        ).stdout

    def on_node(self, *command: str) -> str:
        return subprocess.run(
            ["docker", "exec", self.node, *command], capture_output=True, text=True, timeout=120, check=True
        ).stdout

    def note(self, name: str) -> None:
        """Something that must outlive what comes: a run in MLflow with a file in S3."""
        self._python(
            f"import mlflow; mlflow.set_experiment('{name}')\n"
            "with mlflow.start_run(): mlflow.log_text('kept', 'kept.txt')"
        )

    def noted(self, name: str) -> str:
        """What `note` put there: 'kept'."""
        said = self._python(
            f"import mlflow; e = mlflow.get_experiment_by_name('{name}')\n"
            "run = mlflow.search_runs([e.experiment_id], output_format='list')[0]\n"
            "print('text:', mlflow.artifacts.load_text(f'{run.info.artifact_uri}/kept.txt'))"
        )
        return said.rpartition("text: ")[2].strip()

    def _python(self, code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**self.env, **self.json("env")},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def writes(self) -> list[str]:
        """What people and tools changed in the cluster, as its audit log tells."""
        text = self.on_node("cat", "/var/log/kubernetes/audit.log")
        events = [json.loads(line) for line in text.splitlines()]
        # A dry run goes all the way and stores nothing.
        return [
            f"{e['verb']} {e['requestURI']}"
            for e in events
            if "dryRun=All" not in e["requestURI"] and "selfsubject" not in e["requestURI"]
        ]


def eventually(ask: Callable[[], Any], what: str, seconds: float = 90) -> Any:
    """The first answer that is not nothing; fails when none comes in time."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)
    return answer


@pytest.fixture(scope="package")
def bundle() -> Path:
    """The bundle; without one these tests are skipped."""
    reason = CACHE / "reason"
    if reason.exists():
        pytest.skip(f"no cluster on this machine: {reason.read_text().strip()}")
    if not BUNDLE.exists():
        pytest.skip("there is no bundle to boot from: run tests/cluster/prepare")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker engine answers: run tests/cluster/prepare")
    return BUNDLE


@pytest.fixture(scope="package")
def box(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """The sandbox, booted with the full stack in a network namespace without any route."""
    box = Box(tmp_path_factory.mktemp("home"))
    _remove(box)
    box.run("up", "--dry-run", "--bundle", str(bundle), "--offline", *WITHOUT)  # chooses the ports
    ports = [str(port) for port in box.state["ports"].values()]
    cut_off = (sys.executable, str(HERE / "no_network.py"), *ports, "--")
    try:
        box.run("up", "--bundle", str(bundle), "--offline", *WITHOUT, before=cut_off)
        box.seconds["first up"] = box.seconds["up"]
        yield box
    finally:
        box.run("down", "--purge", "--yes", status=None)
        _remove(box)


def _remove(box: Box) -> None:
    """What an earlier run left that was cut off."""
    subprocess.run(["docker", "rm", "-f", "-v", box.node], capture_output=True, check=False)


@pytest.fixture(scope="package")
def measured() -> Iterator[list[dict[str, Any]]]:
    """Rows for `build/bench.json`, written at the end beside those that are there."""
    rows: list[dict[str, Any]] = []
    yield rows
    if not rows:
        return
    file = ROOT / "build" / "bench.json"
    known = json.loads(file.read_text()) if file.exists() else []
    kept = [row for row in known if row["id"] not in {new["id"] for new in rows}]
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps([*kept, *rows], indent=2))
    for row in rows:
        print(f"\n{row['id']}: {row['what']}: {row['ours']:.2f} / {row['peer']} = {row['ratio']:.2f}", end="")
