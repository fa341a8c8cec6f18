"""Projects on real MLflow. Making a database takes MLflow three seconds, so most tests get a copy of one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modelyard.stages import StageContext
from modelyard.testing.contexts import make_context

if TYPE_CHECKING:
    from modelyard_mlflow.registry import MlflowRegistry
    from modelyard_mlflow.tracker import MlflowTracker


@dataclass(frozen=True)
class Project:
    """A project folder with its tracker and registry."""

    context: StageContext
    tracker: MlflowTracker
    registry: MlflowRegistry

    @property
    def root(self) -> Path:
        return self.context.root

    @property
    def database(self) -> Path:
        return self.context.state / "mlflow.db"

    @property
    def uri(self) -> str:
        from modelyard_mlflow.database import address

        return address(self.database)


@pytest.fixture(scope="package")
def open_project() -> Callable[..., Project]:
    """Opens the folder as a project, with `[providers.mlflow]` settings as keywords."""

    def opened(root: Path, **settings: Any) -> Project:
        from modelyard_mlflow.config import MlflowSettings
        from modelyard_mlflow.registry import MlflowRegistry
        from modelyard_mlflow.tracker import MlflowTracker

        context = make_context(root, provider="mlflow", settings=MlflowSettings(**settings))
        return Project(context, MlflowTracker(context), MlflowRegistry(context))

    return opened


@pytest.fixture(scope="package")
def empty_store(
    open_project: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], None]:
    """Gives a folder a store in which nothing was logged yet."""
    template = open_project(tmp_path_factory.mktemp("template"))
    assert template.tracker.runs() == []

    def give(root: Path) -> None:
        shutil.copytree(template.root, root)

    return give


@pytest.fixture(scope="module")
def shared(
    open_project: Callable[..., Project],
    empty_store: Callable[[Path], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Project:
    """One project for the tests of a module that only add to it."""
    root = tmp_path_factory.mktemp("module") / "späte Flüge"
    empty_store(root)
    return open_project(root)


@pytest.fixture
def project(
    open_project: Callable[..., Project], empty_store: Callable[[Path], None], tmp_path: Path
) -> Project:
    """A project of the test's own, in a folder whose name has what URLs treat specially."""
    root = tmp_path / "späte Flüge 100% #1?"
    empty_store(root)
    return open_project(root)


@pytest.fixture(scope="package")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a Python script in another process, in a folder, with arguments."""

    def run(script: str | Path, *arguments: object, cwd: Path, **env: str) -> Any:
        command = [sys.executable, *_as_arguments(script), *map(str, arguments)]
        return subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="package")
def start_python() -> Callable[..., subprocess.Popen[str]]:
    """Starts a Python script in another process; the caller waits for it or kills it."""

    def start(script: str | Path, *arguments: object, cwd: Path) -> subprocess.Popen[str]:
        command = [sys.executable, *_as_arguments(script), *map(str, arguments)]
        return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


def _as_arguments(script: str | Path) -> list[str]:
    return [str(script)] if isinstance(script, Path) else ["-c", script]
