"""A project with a real DVC store: by hand, so that these tests need no other part of the core."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modelyard.stages import StageContext

if TYPE_CHECKING:
    from modelyard_dvc.provider import DvcStore


@pytest.fixture(autouse=True)
def _own_user_config(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own DVC and git settings, and DVC's caches, stay out of the tests."""
    home = tmp_path_factory.mktemp("home")
    for variable in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR"):
        monkeypatch.setenv(variable, str(home / variable.lower()))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "test@example.org")


@pytest.fixture
def open_store() -> Callable[..., DvcStore]:
    """Opens the store of a folder, with settings as keywords; `state` lies elsewhere if given."""

    def opened(root: Path, *, state: Path | None = None, **settings: Any) -> DvcStore:
        from modelyard_dvc.config import DvcSettings
        from modelyard_dvc.provider import DvcStore

        own = state or root / ".modelyard" / "dvc"
        own.mkdir(parents=True, exist_ok=True)
        if state is None:
            (root / ".modelyard" / ".gitignore").write_text("*\n")
        context = StageContext(
            project="test",
            root=root,
            state=own,
            settings=DvcSettings(**settings),
            services=None,  # type: ignore[arg-type]
            resolve_model=lambda uri: pytest.fail(uri),
            find_model=lambda uri: pytest.fail(uri),
            event_sink=lambda: None,
            address_of=lambda version: pytest.fail(version.ref),
            run_artifact=lambda run, path: pytest.fail(path),
        )
        return DvcStore(context)

    return opened


@pytest.fixture
def git() -> Callable[..., str]:
    """Runs git in a folder."""

    def run(root: Path, *arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return run


@pytest.fixture
def project(tmp_path: Path, git: Callable[..., str]) -> Path:
    """A project in a git repository, in a folder whose name has spaces and non-ASCII letters."""
    root = tmp_path / "späte Flüge"
    (root / "data" / "täglich es").mkdir(parents=True)
    git(root, "init", "-q")
    (root / "data" / "flights.csv").write_text("dep,arr\n1,2\n")
    for day in range(3):
        (root / "data" / "täglich es" / f"day {day}.csv").write_text(f"dep\n{day}\n")
    time.sleep(0.15)  # files changed within a clock tick are never trusted to be unchanged
    return root


@pytest.fixture
def store(project: Path, open_store: Callable[..., DvcStore], tmp_path: Path) -> DvcStore:
    """The store of `project`, with a remote folder beside it."""
    opened = open_store(project)
    opened.set_remote(str(tmp_path / "remote"))
    return opened
