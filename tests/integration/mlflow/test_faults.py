"""Damaged, foreign, read-only and full: one sentence with a code, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import CorruptStateError, EnvironmentFault, ModelyardError
from modelyard.testing.models import fitted_model
from modelyard.testing.track import CONTEXT
from modelyard_mlflow import database

pytest.importorskip("mlflow")


def one_sentence(error: ModelyardError) -> str:
    """The message, after looking whether people can read it."""
    for word in ("Traceback", "[SQL", "\n", "sqlalche.me"):
        assert word not in error.message
    assert len(error.message) < 600
    assert error.hint
    return error.message


# -- another version of MLflow --------------------------------------------------------------


def test_the_store_of_a_newer_mlflow_is_left_untouched(project: Any) -> None:
    with database.connect(project.database) as store, store:
        store.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = project.database.read_bytes()
    for call in (project.tracker.runs, project.registry.models):
        with pytest.raises(EnvironmentFault, match="was written by a newer MLflow") as error:
            call()
        assert error.value.code == "mlflow-store"
        assert "pip install --upgrade mlflow" in error.value.hint
        one_sentence(error.value)
    assert project.database.read_bytes() == before


def test_the_store_of_an_older_mlflow_is_upgraded_after_a_backup(
    tmp_path: Path, open_project: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = open_project(tmp_path)
    older = older_revision()
    make_store_of(older, project.database)
    with database.connect(project.database) as store, store:
        store.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
            "VALUES (7, 'conformance', ?, 'active')",
            ((project.context.state / "artifacts" / "7").as_uri(),),
        )
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.store.db.utils._upgrade_db", killed)
        with pytest.raises(KeyboardInterrupt):
            project.tracker.runs()
    assert revision(project.database) == older, "an interrupted upgrade must leave the old store"
    project.tracker.start("after the upgrade", CONTEXT)
    assert project.tracker._stores.experiment_id == "7"
    assert revision(project.database) != older
    assert revision(project.context.state / "mlflow.db.before-upgrade") == older


def older_revision() -> str:
    """The schema before the newest that the installed MLflow knows."""
    newer_of = database._revisions()
    (head,) = set(newer_of) - set(newer_of.values())
    return newer_of[head]


def make_store_of(older: str, file: Path) -> None:
    import sqlalchemy
    from alembic import command
    from mlflow.store.db import utils
    from mlflow.store.db.base_sql_model import Base  # noqa: F401
    from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

    engine = sqlalchemy.create_engine(database.address(file))
    InitialBase.metadata.create_all(engine)
    config = utils._get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, older)
    engine.dispose()


def revision(file: Path) -> str:
    with database.connect(file) as store:
        return str(store.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def killed(*_: object) -> None:
    raise KeyboardInterrupt


# -- damage ---------------------------------------------------------------------------------

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda content: b"this was a note of somebody's\n" * 100,
    "half of it": lambda content: content[: len(content) // 2],
    "zeros in it": lambda content: content[:4096] + bytes(65536) + content[4096 + 65536 :],
    "noise in it": lambda content: content[:2048] + os.urandom(len(content) - 2048),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_said_at_once_and_left_untouched(project: Any, damage: str) -> None:
    bad = DAMAGES[damage](project.database.read_bytes())
    project.database.write_bytes(bad)
    for call in (project.tracker.runs, project.registry.models, lambda: project.tracker.start("x", CONTEXT)):
        with pytest.raises(CorruptStateError, match="is damaged") as error:
            call()
        assert error.value.code == "state-corrupt"
        assert ".recover" in error.value.hint
        one_sentence(error.value)
    assert project.database.read_bytes() == bad


def test_an_empty_file_is_no_damage(project: Any) -> None:
    project.database.write_bytes(b"")
    assert project.tracker.runs() == []


def test_a_damaged_registry_does_not_look_like_a_missing_alias(project: Any) -> None:
    """Or a promotion would take it for granted that nothing is in production."""
    run = project.tracker.start("x", CONTEXT)
    project.registry.register("late", project.tracker.log_model(run.id, fitted_model(0.5)))
    project.registry.set_alias("late", "production", "1")
    with database.connect(project.database) as store, store:
        store.execute("ALTER TABLE registered_model_aliases RENAME TO elsewhere")
    for call in (
        lambda: project.registry.alias("late", "production"),
        lambda: project.registry.get("late", "1"),
        lambda: project.registry.versions("late"),
    ):
        with pytest.raises(EnvironmentFault, match="registered_model_aliases") as error:
            call()
        assert error.value.code == "mlflow-store"
        one_sentence(error.value)


# -- disks ----------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MB, so that a store fits and fills it soon."""
    folder = tmp_path / "kleine Platte"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def on_disk(disk: Path, empty_store: Callable[[Path], None], open_project: Callable[..., Any]) -> Any:
    """A project on that disk, with one run."""
    empty_store(disk / "p")
    project = open_project(disk / "p")
    project.tracker.start("before", CONTEXT)
    return project


def test_a_full_disk_loses_nothing_and_works_again_when_there_is_room(on_disk: Any, disk: Path) -> None:
    (run,) = on_disk.tracker.runs()
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    text = "x" * 6000
    for call in (
        lambda: on_disk.tracker.log(run.id, params={f"p{number}": text for number in range(90)}),
        lambda: on_disk.tracker.log_model(run.id, fitted_model(0.5)),
        lambda: on_disk.tracker.log_file(run.id, filler),
    ):
        with pytest.raises(EnvironmentFault) as error:
            call()
        assert error.value.code == "disk-full", error.value.message
        one_sentence(error.value)
    filler.unlink()
    found = on_disk.tracker.get(run.id)
    assert (found.params, found.models, found.status) == ({}, (), "running")
    logged = on_disk.tracker.log_model(run.id, fitted_model(0.5))
    assert on_disk.tracker.get(run.id).models == (logged.uri,)


def test_a_disk_too_small_for_a_store_keeps_no_half_one(
    small_disk: Path, open_project: Callable[..., Any]
) -> None:
    project = open_project(small_disk / "p")
    for _ in range(2):
        with pytest.raises(EnvironmentFault) as error:
            project.tracker.runs()
        assert error.value.code == "disk-full", error.value.message
        one_sentence(error.value)
    assert not list(project.context.state.glob("mlflow.db*"))


def test_a_read_only_disk_is_said_and_left_as_it_is(on_disk: Any, disk: Path) -> None:
    from modelyard_mlflow.tracker import MlflowTracker

    before = on_disk.database.read_bytes()
    (run,) = on_disk.tracker.runs()
    stores = on_disk.tracker._stores
    for store in (stores.tracking, stores.registry):
        store.engine.dispose()  # a disk with a file that is open for writing can't be made read-only
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for call in (
        lambda: on_disk.tracker.start("x", CONTEXT),
        lambda: on_disk.tracker.log(run.id, params={"a": 1}),
        lambda: on_disk.tracker.log_model(run.id, fitted_model(0.5)),
        MlflowTracker(on_disk.context).runs,
    ):
        with pytest.raises(EnvironmentFault) as error:
            call()
        assert error.value.code == "read-only", error.value.message
        one_sentence(error.value)
    assert on_disk.database.read_bytes() == before
