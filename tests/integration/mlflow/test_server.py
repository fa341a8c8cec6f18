"""With `tracking_uri` set to a server, everything goes through it, and its password is never shown."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from modelyard.digests import model_digest
from modelyard.errors import EnvironmentFault, NotFoundError
from modelyard.records import DataUse, Metric
from modelyard.testing.models import ROWS, fitted_model
from modelyard.testing.track import CONTEXT, LINEAGE, data_ref

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow

SECRET = "hush-hush"
EXAMPLE = pd.DataFrame(list(ROWS))


@dataclass(frozen=True)
class Server:
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def with_password(self) -> str:
        return f"http://someone:{SECRET}@127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def server(shared: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """MLflow's server on loopback, as the sandbox runs it, over a store that is there already."""
    folder = tmp_path_factory.mktemp("server")
    shared.tracker.runs()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "modelyard_mlflow.server", "--workers", "1", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--backend-store-uri", shared.uri]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = Server(port, process)
    try:
        wait_until_healthy(started, log)
        yield started
    finally:
        stop(process)


def wait_until_healthy(server: Server, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert server.process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def stop(process: subprocess.Popen[bytes]) -> None:
    """The server and its worker, which have a session of their own."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=20)


@pytest.fixture(scope="module")
def remote(server: Server, open_project: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A project on that server; its experiment is not there yet."""
    root = tmp_path_factory.mktemp("project") / "späte Flüge"
    return open_project(root, tracking_uri=server.with_password, experiment="über den server")


def test_the_server_is_one_process(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    assert "uvicorn" in process.cmdline()
    assert process.children(recursive=True) == []


def test_a_run_with_everything_goes_through_the_server(remote: Any, shared: Any, tmp_path: Path) -> None:
    run = remote.tracker.start("remote", CONTEXT)
    metrics = [Metric(name=f"m{number}", value=float(number)) for number in range(1200)]
    remote.tracker.log(
        run.id,
        params={"depth": 6},
        metrics=[*metrics, Metric(name="loss", value=float("nan")), Metric(name="big", value=float("inf"))],
        tags={"team": "flüge"},
        data=[DataUse(role="train", ref=data_ref())],
    )
    (tmp_path / "note ä.txt").write_text("kept")
    remote.tracker.log_file(run.id, tmp_path / "note ä.txt", folder="plots")
    remote.tracker.finish(run.id)
    found = remote.tracker.get(run.id)
    assert (found.status, found.params, found.tags) == ("finished", {"depth": "6"}, {"team": "flüge"})
    assert len(found.metrics) == 1202
    assert found.metrics["big"] == float("inf")
    assert found.data == (DataUse(role="train", ref=data_ref()),)
    assert shared.tracker.get(run.id).params == {"depth": "6"}, "the server's own store must hold it"
    assert [listed.id for listed in remote.tracker.runs(name="remote")] == [run.id]
    assert not list(remote.root.rglob("note*")), "files belong on the server"
    assert not (remote.context.state / "mlflow.db").exists()


def test_a_model_is_registered_and_fetched_through_the_server(
    remote: Any, server: Server, open_project: Callable[..., Any], tmp_path: Path
) -> None:
    run = remote.tracker.start("with a model", CONTEXT)
    files = {"lineage.json": LINEAGE}
    logged = remote.tracker.log_model(run.id, fitted_model(0.25), example=EXAMPLE, files=files)
    version = remote.registry.register("remote.model", logged)
    remote.registry.set_alias("remote.model", "production", "1")
    colleague = open_project(
        tmp_path / "other machine", tracking_uri=server.url, experiment="über den server"
    )
    (seen,) = colleague.registry.versions("remote.model")
    assert (seen.digest, seen.aliases, seen.signature) == (version.digest, ("production",), True)
    folder = colleague.registry.fetch(seen)
    assert model_digest(folder) == logged.digest
    assert list(mlflow.pyfunc.load_model(str(folder)).predict(EXAMPLE)) == [0.25] * 3
    assert colleague.registry.fetch(seen) == folder, "what was fetched once is not fetched again"
    assert colleague.tracker.get(run.id).models == (logged.uri,)


def test_moving_files_draws_nothing_where_nobody_looks(
    remote: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    run = remote.tracker.start("with a model", CONTEXT)
    version = remote.registry.register("unseen", remote.tracker.log_model(run.id, fitted_model(0.25)))
    remote.registry.fetch(version)
    assert capfd.readouterr().err == ""


def test_a_killed_download_is_begun_again(remote: Any, server: Server) -> None:
    run = remote.tracker.start("with a model", CONTEXT)
    version = remote.registry.register("again", remote.tracker.log_model(run.id, fitted_model(0.75)))
    folder = remote.registry.fetch(version)
    half = folder.rename(folder.with_name(f"{folder.name}.part"))
    (half / "MLmodel").unlink()
    (half / "left over.txt").write_text("of another version")
    assert model_digest(remote.registry.fetch(version)) == version.digest


def test_plain_mlflow_loads_it_from_the_server(remote: Any, server: Server) -> None:
    run = remote.tracker.start("with a model", CONTEXT)
    remote.registry.register("plain", remote.tracker.log_model(run.id, fitted_model(0.5)))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.url)
    try:
        assert list(mlflow.pyfunc.load_model("models:/plain/1").predict(EXAMPLE)) == [0.5] * 3
    finally:
        mlflow.set_tracking_uri(before)


def test_what_is_not_there_is_said_as_with_a_local_store(remote: Any) -> None:
    for code, call in (
        ("run-not-found", lambda: remote.tracker.get("0" * 32)),
        ("run-not-found", lambda: remote.tracker.log("0" * 32, params={"a": 1})),
        ("model-not-found", lambda: remote.registry.versions("nothing")),
        ("logged-model-not-found", lambda: remote.tracker.logged_model("models:/m-" + "0" * 32)),
    ):
        with pytest.raises(NotFoundError) as error:
            call()
        assert error.value.code == code
    assert remote.registry.alias("nothing", "production") is None


def test_the_password_is_in_no_record_and_no_file(remote: Any) -> None:
    run = remote.tracker.start("secret", CONTEXT)
    logged = remote.tracker.log_model(run.id, fitted_model(0.5))
    version = remote.registry.register("secret", logged)
    folder = remote.registry.fetch(version)
    records = [remote.tracker.get(run.id), logged, version, *remote.registry.versions("secret")]
    assert SECRET not in "".join(str(record.to_dict()) for record in records) + str(folder)
    for file in remote.root.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


def test_a_server_that_is_down_is_said_at_once_without_the_password(
    tmp_path: Path, open_project: Callable[..., Any]
) -> None:
    with socket.socket() as taken:  # bound, but nothing listens: connections are refused
        taken.bind(("127.0.0.1", 0))
        uri = f"http://someone:{SECRET}@127.0.0.1:{taken.getsockname()[1]}"
        project = open_project(tmp_path, tracking_uri=uri)
        began = time.monotonic()
        for call in (
            project.tracker.runs,
            lambda: project.registry.alias("late", "production"),
            lambda: project.tracker.start("x", CONTEXT),
        ):
            with pytest.raises(EnvironmentFault, match="can't be reached") as error:
                call()
            assert error.value.code == "mlflow-store"
            assert "tracking_uri" in error.value.hint
            assert SECRET not in f"{error.value.to_dict()} {error.value.__cause__!r}"
        assert time.monotonic() - began < 60, "MLflow's own retries take minutes"


def test_a_server_that_went_away_is_no_missing_model_and_no_missing_alias(
    remote: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of this module: it ends the server."""
    run = remote.tracker.start("before", CONTEXT)
    remote.registry.register("late", remote.tracker.log_model(run.id, fitted_model(0.5)))
    remote.registry.set_alias("late", "production", "1")
    stop(server.process)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    for call in (
        lambda: remote.registry.alias("late", "production"),
        lambda: remote.registry.get("late", "1"),
        lambda: remote.tracker.get(run.id),
        lambda: remote.tracker.log(run.id, params={"a": 1}),
    ):
        with pytest.raises(EnvironmentFault) as error:
            call()
        assert error.value.code == "mlflow-store"
        assert SECRET not in f"{error.value.to_dict()} {error.value.__cause__!r}"
        assert "\n" not in error.value.message
