"""The store is made by one process, whole or not at all; killed writers leave nothing half done."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.testing.models import fitted_model
from modelyard.testing.track import CONTEXT

pytest.importorskip("mlflow")

OPEN = """
import sys
from pathlib import Path
from modelyard.testing.contexts import make_context
from modelyard.testing.track import CONTEXT
from modelyard_mlflow.tracker import MlflowTracker
tracker = MlflowTracker(make_context(Path(sys.argv[1]), provider="mlflow"))
"""
TRACK = f"""{OPEN}
run = tracker.start("parallel", CONTEXT)
tracker.log(run.id, params={{"depth": 6}})
tracker.finish(run.id)
"""
PLAIN = """
import sys
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore(f"sqlite:///{sys.argv[1]}/.modelyard/mlflow/mlflow.db", "artifacts")
"""
HALF_A_MODEL = f"""{OPEN}
import time
from modelyard.testing.models import fitted_model
def stuck(*_):
    print("stuck", flush=True)
    time.sleep(100)
MlflowTracker._finalised = stuck
run = tracker.start("killed", CONTEXT)
tracker.log(run.id, params={{"depth": 6}})
tracker.log_model(run.id, fitted_model(0.5))
"""
Starter = Callable[..., subprocess.Popen[str]]


def test_four_processes_at_once_make_one_store_with_all_their_runs(
    tmp_path: Path, start_python: Starter, open_project: Callable[..., Any]
) -> None:
    children = [start_python(TRACK, tmp_path / "p", cwd=tmp_path) for _ in range(4)]
    try:
        said = [child.communicate(timeout=120)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0] * 4, "\n".join(said)
    runs = open_project(tmp_path / "p").tracker.runs(name="parallel")
    assert [(run.status, run.params) for run in runs] == [("finished", {"depth": "6"})] * 4


@pytest.mark.parametrize(("script", "grows"), [(TRACK, "mlflow.db.new"), (PLAIN, "mlflow.db")])
def test_a_killed_first_use_can_be_run_again(
    tmp_path: Path, start_python: Starter, open_project: Callable[..., Any], script: str, grows: str
) -> None:
    project = open_project(tmp_path)
    child = start_python(script, tmp_path, cwd=tmp_path)
    file = project.context.state / grows
    try:
        wait_until(lambda: file.exists() and file.stat().st_size > 200_000, child)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.communicate(timeout=30)
    assert child.returncode == -signal.SIGKILL, "it ended before it could be killed"
    run = project.tracker.start("after the kill", CONTEXT)
    assert [found.id for found in project.tracker.runs()] == [run.id]
    assert not (project.context.state / "mlflow.db.new").exists()


def test_a_killed_log_model_leaves_a_readable_run_and_no_model(project: Any, start_python: Starter) -> None:
    child = start_python(HALF_A_MODEL, project.root, cwd=project.root)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "stuck\n"
    finally:
        child.kill()
        child.communicate(timeout=30)
    (run,) = project.tracker.runs(name="killed")
    assert (run.models, run.params, run.status) == ((), {"depth": "6"}, "running")
    left = list(project.context.state.glob("model-*"))
    assert len(left) == 1, "the killed process should have been in the middle of writing"
    logged = project.tracker.log_model(run.id, fitted_model(0.25))
    assert project.tracker.get(run.id).models == (logged.uri,)
    assert not list(project.context.state.glob("model-*")), "what a killed process left must be cleared away"


def test_a_model_that_was_never_finished_is_not_handed_out(project: Any) -> None:
    from modelyard.errors import NotFoundError

    run = project.tracker.start("pending", CONTEXT)
    entity = project.tracker._created(project.tracker._stores, run.id)
    with pytest.raises(NotFoundError, match="was never finished") as error:
        project.tracker.logged_model(f"models:/{entity.model_id}")
    assert error.value.code == "logged-model-not-found"


def wait_until(reached: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert child.poll() is None, child.communicate()[0]
        assert time.monotonic() < deadline, "the child never came so far"
        time.sleep(0.01)
