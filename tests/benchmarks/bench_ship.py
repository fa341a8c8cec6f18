"""P10d: what `modelyard ship` costs, against a plain S3 copy of the same bytes.

Both are commands of their own, in turns, to the same S3 server (versitygw); ours also speaks to an MLflow
server with a password. Whole size (1 GB, 20 versions) with MODELYARD_BENCH_FULL=1; by default less, and
then only reported, because what a ship costs at its start is the same for any size.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FULL = os.environ.get("MODELYARD_BENCH_FULL") == "1"
FILES, FILE_SIZE, VERSIONS, ROUNDS = (64, 1 << 24, 20, 3) if FULL else (16, 1 << 23, 4, 1)
GOAL = 1.3 if FULL else None
KEY, SECRET, PASSWORD = "modelyard", "only for benchmarks", "only-for-benchmarks"

PEER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3

url, place, *folders = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
files = [(Path(folder), file) for folder in folders for file in Path(folder).rglob("*") if file.is_file()]


def copy(item):
    folder, file = item
    s3.upload_file(str(file), "dvc", f"{place}/{folder.name}/{file.relative_to(folder).as_posix()}")


with ThreadPoolExecutor(8) as pool:
    list(pool.map(copy, files))
"""

PLUGIN = """
import json
from pathlib import Path

import modelyard
from modelyard.targets import Address, Target, TargetOffer

SERVICES = json.loads(Path(__file__).with_name("services.json").read_text())


@modelyard.hookimpl
def modelyard_targets():
    find = lambda service: Address(**SERVICES[service])
    yield TargetOffer(name="bench", summary="for benchmarks", connect=lambda: Target("bench", find=find))
"""


def measure() -> list[dict[str, Any]]:
    """Rows for the table of `run.py`; none where a server is missing."""
    program = shutil.which("versitygw")
    if program is None:
        print("skipped, because versitygw is not on PATH", end=" ", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
        work = Path(folder)
        project, models = _project(work / "project")
        with _gateway(program, work / "s3") as url:
            ours, peer, again = [], [], 0.0
            for number in range(ROUNDS):
                place = f"round-{number}"
                peer.append(_timed(_peer(url, place, project / "data", models), project))
                with _mlflow(work / place, url) as server:
                    _say_where(project, url, server, place)
                    ours.append(_timed(_ship(project), project))
                    again = _timed(_ship(project), project)[0]
                shutil.rmtree(project / ".modelyard" / "targets")
                for bucket in ("dvc", "mlflow"):
                    shutil.rmtree(work / "s3" / bucket)
                    (work / "s3" / bucket).mkdir()
    return [
        # On a small machine MLflow's server, for which the plain copy has no use, takes the wall time.
        {**_row("wall s", [t[0] for t in ours], [t[0] for t in peer]), "goal": None},
        _row("CPU s", [t[1] for t in ours], [t[1] for t in peer]),
        {**_row("seconds of a second ship", [again], [again]), "peer": None, "ratio": None, "goal": None},
    ]


def _row(what: str, ours: list[float], peer: list[float]) -> dict[str, Any]:
    mine, theirs = statistics.median(ours), statistics.median(peer)
    return {
        "id": "P10d",
        "what": f"ship {FILES * FILE_SIZE >> 20} MB and {VERSIONS} versions / plain S3 copy, {what}",
        "ours": round(mine, 3),
        "peer": round(theirs, 3),
        "ratio": round(mine / theirs, 3),
        "goal": GOAL,
        "command": "MODELYARD_BENCH_FULL=1 make bench ARGS=ship",
    }


def _project(root: Path) -> tuple[Path, Path]:
    """A project with data and registered models; and a folder with the models' files."""
    import pandas as pd
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    import modelyard

    root.mkdir()
    subprocess.run(["git", "-C", str(root), "init", "-q"], check=True)
    yard = modelyard.init(root, name="bench")
    (root / "modelyardfile.py").write_text(PLUGIN)
    (root / "services.json").write_text("{}")
    for number in range(FILES):
        file = root / "data" / "parts" / f"part-{number:03}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(FILE_SIZE))
    data = yard.data.add(root / "data" / "parts")
    features, labels = load_iris(return_X_y=True, as_frame=True)
    for number in range(VERSIONS):
        model = RandomForestClassifier(20, random_state=number).fit(features, labels)
        with yard.run("bench", params={f"p{n}": n for n in range(10)}) as run:
            run.use(data)
            for step in range(10):
                run.log({f"m{n}": n / (step + 1) for n in range(5)}, step=step)
            version = run.log_model(model, name="bench", example=pd.DataFrame(features[:5]))
        shutil.copytree(yard.models.path(version), root.with_name("models") / version.version)
    yard.promote(version, to="production", reason="best")
    return root, root.with_name("models")


def _ship(project: Path) -> list[str]:
    return [sys.executable, "-m", "modelyard", "--project", str(project), "ship", "--to", "bench"]


def _peer(url: str, place: str, *folders: Path) -> list[str]:
    return [sys.executable, "-c", PEER, url, place, *map(str, folders)]


def _timed(argv: list[str], cwd: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command that must succeed."""
    env = {**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    began = time.monotonic()
    with open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen(argv, cwd=cwd, env=env, stdout=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)[:200]} ended with status {process.returncode}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime


def _say_where(project: Path, s3: str, mlflow: str, place: str) -> None:
    services = {
        "mlflow": {"url": mlflow, "user": "admin", "password": PASSWORD, "storage": "s3://mlflow"},
        "s3": {"url": s3, "user": KEY, "password": SECRET, "storage": f"s3://dvc/{place}"},
    }
    (project / "services.json").write_text(json.dumps(services))


@contextmanager
def _gateway(program: str, folder: Path) -> Iterator[str]:
    for bucket in ("dvc", "mlflow"):
        (folder / bucket).mkdir(parents=True)
    port = _free_port()
    env = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET, "VGW_HEALTH": "/health"}
    command = [program, "--quiet", "--port", f"127.0.0.1:{port}", "posix", str(folder)]
    with _running(command, folder, env, f"http://127.0.0.1:{port}") as url:
        yield url


@contextmanager
def _mlflow(folder: Path, s3: str) -> Iterator[str]:
    folder.mkdir()
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder / 'auth.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n"
    )
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--app-name", "basic-auth", "--artifacts-destination", "s3://mlflow"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    env = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "benchmarks",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_S3_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with _running(command, folder, env, f"http://127.0.0.1:{port}") as url:
        yield url


@contextmanager
def _running(command: list[str], cwd: Path, env: dict[str, str], url: str) -> Iterator[str]:
    """A server, from when it is healthy until the block ends."""
    with (cwd.with_name(f"{cwd.name}.log")).open("wb") as log:
        process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **env}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=2).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} did not start") from None
                time.sleep(0.1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
