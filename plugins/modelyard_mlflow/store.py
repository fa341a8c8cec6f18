"""Opening MLflow's stores: quietly, at an absolute address, and initialised by one process only."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.errors import EnvironmentFault, ModelyardError, UsageError
from modelyard.stages import StageContext
from modelyard.state import locked, os_errors, read_json, write_json
from modelyard_mlflow.config import MlflowSettings

#: The columns in which MLflow keeps absolute artifact paths; all others are relative to these.
_PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


@dataclass(frozen=True)
class Stores:
    """MLflow's own store objects, which cost a third of what its fluent API costs per call."""

    uri: str
    tracking: Any
    registry: Any
    experiment_id: str


def open_stores(context: StageContext) -> Stores:
    """The stores that the settings name, initialised, with the project's experiment.

    Raises:
        EnvironmentFault: `mlflow-store`: MLflow refuses the database (newer, damaged, unreachable).
    """
    settings: MlflowSettings = context.settings or MlflowSettings()
    local = context.state / "mlflow.db"
    uri = settings.tracking_uri or f"sqlite:///{local}"
    name = settings.experiment or context.project
    if settings.tracking_uri is None:
        with os_errors(context.state):
            context.state.mkdir(parents=True, exist_ok=True)
        # MLflow's migrations kill each other when two processes open a new file at once.
        with locked(context.state / "store.lock", timeout=180, doing="preparing MLflow's database"):
            _follow_a_moved_folder(context.state)
            return _open(uri, (context.state / "artifacts").as_uri(), name)
    return _open(uri, None, name)


def _open(uri: str, artifacts: str | None, experiment: str) -> Stores:
    with mlflow_errors("open", uri), quiet():
        from mlflow.tracking._model_registry.utils import _get_store as registry_store
        from mlflow.tracking._tracking_service.utils import _get_store as tracking_store

        tracking = tracking_store(uri, artifacts)
        return Stores(uri, tracking, registry_store(uri, uri), _experiment_id(tracking, experiment))


def _experiment_id(store: Any, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = store.get_experiment_by_name(name)
    if found is None:
        try:
            return str(store.create_experiment(name, None, []))
        except MlflowException:  # on a server another client may have been faster
            found = store.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise UsageError(
            "experiment-deleted",
            f"the experiment '{name}' was deleted in MLflow",
            f'restore it, or name another in modelyard.toml: [providers.mlflow] experiment = "{name}-2"',
        )
    return str(found.experiment_id)


def _follow_a_moved_folder(state: Path) -> None:
    """MLflow stores absolute paths: after the project's folder moved, models could not be loaded and
    new runs would be written to the old place. The paths are rewritten, after a backup."""
    note, store = state / "location.json", state / "mlflow.db"
    here = (state / "artifacts").as_uri()
    before = (read_json(note) or {}).get("artifacts")
    if before is not None and before != here and store.exists():
        shutil.copy2(store, state / "mlflow.db.before-move")
        with contextlib.closing(sqlite3.connect(store)) as connection, connection:
            for table, column in _PATH_COLUMNS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (here, len(before) + 1, len(before), before),
                )
    if before != here:
        write_json(note, {"artifacts": here})


@contextlib.contextmanager
def mlflow_errors(doing: str, what: str) -> Iterator[None]:
    """Turn what MLflow and its database raise into one sentence."""
    try:
        yield
    except ModelyardError:
        raise
    except Exception as fault:
        said = " ".join(str(fault).split())
        if "no space left" in said or "disk is full" in said:
            raise EnvironmentFault("disk-full", f"no space left for {what}", "free some space") from fault
        if "readonly database" in said or "Permission denied" in said:
            raise EnvironmentFault(
                "read-only", f"{what} can't be written: {said[:200]}", "check its rights"
            ) from fault
        raise EnvironmentFault(
            "mlflow-store", f"MLflow could not {doing} {what}: {said[:400]}", "modelyard doctor"
        ) from fault


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Import and call MLflow without telemetry, log lines and warnings reaching the user."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # MLflow sets its own level while it is imported, so ours must come after.
        import mlflow.utils.logging_utils

        mlflow.utils.logging_utils.disable_logging()
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            mlflow.utils.logging_utils.enable_logging()
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
