"""MLflow stores absolute paths; a project that was moved or copied works where it is now."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.digests import manifest
from modelyard.testing.models import fitted_model
from modelyard.testing.track import CONTEXT
from modelyard_mlflow import database

mlflow = pytest.importorskip("mlflow")

ROWS = [[20.5, 3.0]]


@pytest.fixture
def lived_in(project: Any) -> Any:
    """A project with a run, a file, and a registered model in production."""
    run = project.tracker.start("before", CONTEXT)
    note = project.root / "note.txt"
    note.write_text("before")
    project.tracker.log_file(run.id, note)
    logged = project.tracker.log_model(run.id, fitted_model(0.25))
    project.registry.set_alias("late", "production", project.registry.register("late", logged).version)
    return project


def work_in(project: Any) -> None:
    """Something of everything that writes: a new run, a file in an old run, a model, a version."""
    (old,) = project.tracker.runs(name="before")
    new = project.tracker.start("after", CONTEXT)
    note = project.root / "note.txt"
    for run in (old, new):
        project.tracker.log_file(run.id, note, folder="again")
        logged = project.tracker.log_model(run.id, fitted_model(0.5))
        project.registry.register("late", logged)


def answer(uri: str, model: str) -> float:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        return float(mlflow.pyfunc.load_model(model).predict(ROWS)[0])
    finally:
        mlflow.set_tracking_uri(before)


def test_a_moved_project_works_and_writes_to_its_new_place(
    lived_in: Any, tmp_path: Path, open_project: Callable[..., Any]
) -> None:
    old, new = lived_in.root, tmp_path / "neuer Ort äö 50%"
    shutil.move(old, new)
    moved = open_project(new)
    (version,) = moved.registry.versions("late")
    assert new.resolve() in moved.registry.fetch(version).resolve().parents
    assert version.aliases == ("production",)
    work_in(moved)
    assert not old.exists(), "the old place must not be made again"
    assert answer(moved.uri, "models:/late@production") == 0.25
    assert answer(moved.uri, "models:/late/3") == 0.5
    assert len(list(new.rglob("again/note.txt"))) == 2


def test_a_copied_project_never_writes_into_the_original(
    lived_in: Any, tmp_path: Path, open_project: Callable[..., Any]
) -> None:
    before = manifest(lived_in.root)
    shutil.copytree(lived_in.root, tmp_path / "copy")
    copied = open_project(tmp_path / "copy")
    work_in(copied)
    assert manifest(lived_in.root) == before
    assert answer(copied.uri, "models:/late/1") == 0.25
    with database.connect(copied.database) as store:
        dump = "\n".join(store.iterdump())
    assert lived_in.root.as_uri() not in dump, "nothing in the copy may lead to the original"
    assert len(open_project(lived_in.root).registry.versions("late")) == 1


def test_a_store_without_its_note_is_followed_too(
    lived_in: Any, tmp_path: Path, open_project: Callable[..., Any]
) -> None:
    (lived_in.context.state / "location.json").unlink()
    shutil.move(lived_in.root, tmp_path / "new")
    moved = open_project(tmp_path / "new")
    (version,) = moved.registry.versions("late")
    assert moved.registry.fetch(version).is_relative_to(tmp_path / "new")


def test_a_move_that_was_interrupted_is_finished_and_keeps_its_backup(
    lived_in: Any, tmp_path: Path, open_project: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = lived_in.root
    shutil.move(old, tmp_path / "new")
    with monkeypatch.context() as patch:
        patch.setattr(database, "write_json", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_project(tmp_path / "new").tracker.runs()
    moved = open_project(tmp_path / "new")
    (version,) = moved.registry.versions("late")
    assert moved.registry.fetch(version).is_relative_to(tmp_path / "new")
    with database.connect(moved.context.state / "mlflow.db.before-move") as backup:
        (kept,) = backup.execute("SELECT storage_location FROM model_versions").fetchone()
    assert kept.startswith(old.as_uri()), "the backup must hold what was there before the move"


def test_a_link_to_the_project_is_not_another_place(
    lived_in: Any, tmp_path: Path, open_project: Callable[..., Any]
) -> None:
    (tmp_path / "link").symlink_to(lived_in.root)
    linked = open_project(tmp_path / "link")
    assert [version.version for version in linked.registry.versions("late")] == ["1"]
    before = set(lived_in.context.state.glob("mlflow.db.before-move"))
    open_project(lived_in.root).tracker.runs()
    assert set(lived_in.context.state.glob("mlflow.db.before-move")) == before


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
