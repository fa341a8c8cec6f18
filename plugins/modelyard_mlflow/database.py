"""The local sqlite file: made whole or not at all, upgraded after a backup, and moved with its project."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modelyard.errors import CorruptStateError, EnvironmentFault
from modelyard.state import read_json, write_json

FILE = "mlflow.db"
#: The columns in which MLflow keeps absolute artifact paths; all others are relative to these.
_PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
    ("trace_tags", "value"),
)
_BUSY_SECONDS = 20.0


def prepare(file: Path) -> None:
    """See that the file has the tables of the installed MLflow. The caller holds the store's lock.

    MLflow's migrations are not transactions: one that is killed leaves tables that the next attempt
    trips over. So they run on a file beside it, which takes its place when they are done.

    Raises:
        CorruptStateError: `state-corrupt`: it is no sound sqlite file; it is left as it is.
        EnvironmentFault: `mlflow-store`: a newer MLflow made it; it is left as it is.
    """
    found = _schema(file)
    newer_of = _revisions()
    known = found is not None and (found.revision in newer_of or found.revision in newer_of.values())
    if found is not None and known and found.revision not in newer_of.values():
        return
    if found is None or found.empty:
        if file.exists():  # plain MLflow was killed while it made the file: there is nothing in it
            file.replace(file.with_name(f"{FILE}.unfinished"))
        _migrate(file, None)
        return
    if not known:
        raise EnvironmentFault(
            "mlflow-store",
            f"{file} was written by a newer MLflow (schema {found.revision}); it was left as it is",
            "pip install --upgrade mlflow",
        )
    _copy(file, file.with_name(f"{FILE}.before-upgrade"))
    _migrate(file, file)


def follow_a_moved_folder(file: Path, here: str) -> None:
    """MLflow stores absolute paths: after the project's folder moved, models could not be loaded and
    new runs would be written to the old place. The paths are rewritten, after a backup."""
    note = file.with_name("location.json")
    before = (read_json(note) or {}).get("artifacts") or _artifacts_in(file)
    if before is not None and before != here:
        _rewrite(file, before, here)
    if before != here or not note.exists():
        write_json(note, {"artifacts": here})


def address(file: Path) -> str:
    """The tracking URI, quoted where it must be: SQLAlchemy 2.1 reads `%` and `?` in a path as its own, and
    MLflow takes a quoted path for one that it has to make."""
    from sqlalchemy import URL

    if not set("%?#") & set(str(file)):
        return f"sqlite:///{file}"
    return URL.create("sqlite", database=str(file)).render_as_string()


def connect(file: Path, *, timeout: float = _BUSY_SECONDS, mode: str = "rw") -> Any:
    """A connection to a file that exists, closed at the end of the `with` block."""
    uri = f"file:{quote(str(file.absolute()))}?mode={mode}"
    return contextlib.closing(sqlite3.connect(uri, uri=True, timeout=timeout))


def damaged(file: Path, why: object) -> CorruptStateError:
    """What to say about a file that sqlite can't read."""
    return CorruptStateError(
        "state-corrupt",
        f"{file} is damaged ({why}); it was left as it is",
        f"copy it somewhere safe, then bring back a backup or try: sqlite3 '{file}' .recover",
    )


@dataclass(frozen=True)
class _Schema:
    revision: str
    #: MLflow makes the experiment 0 right after its tables: without any there is nothing to lose.
    empty: bool


def _schema(file: Path) -> _Schema | None:
    if not file.exists():
        return None
    try:
        with connect(file) as store:
            tables = _tables(store)
            if "experiments" not in tables:
                return _Schema("", empty=True)
            empty = store.execute("SELECT count(*) FROM experiments").fetchone() == (0,)
            if "alembic_version" not in tables:
                return _Schema("", empty)
            row = store.execute("SELECT version_num FROM alembic_version").fetchone()
            return _Schema(str(row[0]) if row else "", empty)
    except sqlite3.OperationalError:
        raise  # locked, or rights: nothing is wrong with the file
    except sqlite3.DatabaseError as fault:
        raise damaged(file, fault) from None


def _tables(store: Any) -> set[str]:
    return {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _revisions() -> Mapping[str, str]:
    """Each migration that the installed MLflow knows, with the one before it, read without importing it."""
    found = importlib.util.find_spec("mlflow")
    if found is None or found.origin is None:
        return {}
    known = {}
    for script in Path(found.origin).parent.glob("store/db_migrations/versions/*.py"):
        text = script.read_text(encoding="utf-8")
        revision = re.search(r"^revision(?:: \w+)? = [\"'](\w+)", text, re.MULTILINE)
        before = re.search(r"^down_revision(?:: [\w| ]+)? = [\"'](\w+)", text, re.MULTILINE)
        if revision:
            known[revision.group(1)] = before.group(1) if before else ""
    return known


def _migrate(file: Path, old: Path | None) -> None:
    import sqlalchemy
    from mlflow.store.db import utils

    part = file.with_name(f"{FILE}.new")
    part.with_name(f"{part.name}-journal").unlink(missing_ok=True)
    part.unlink(missing_ok=True)
    try:
        if old is not None:
            _copy(old, part)
        engine = sqlalchemy.create_engine(address(part))
        try:
            (utils._initialize_tables if old is None else utils._upgrade_db)(engine)
        finally:
            engine.dispose()
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(file)


def _copy(source: Path, target: Path) -> None:
    """sqlite's own copy, which waits for writers and takes what a killed one left in the journal."""
    target.unlink(missing_ok=True)
    with connect(source) as old, connect(target, mode="rwc") as new:
        old.backup(new)


def _artifacts_in(file: Path) -> str | None:
    with connect(file) as store:
        row = store.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
    return str(row[0]).removesuffix("/0") if row and row[0] else None


def _rewrite(file: Path, before: str, here: str) -> None:
    with connect(file) as store:
        tables = _tables(store)
        columns = [(table, column) for table, column in _PATH_COLUMNS if table in tables]
        match = (len(before) + 1, f"{before}/")
        if not any(
            store.execute(f"SELECT 1 FROM {t} WHERE substr({c}, 1, ?) = ? LIMIT 1", match).fetchone()
            for t, c in columns
        ):
            return  # killed between the two steps: the file is right, the note was not yet
        _copy(file, file.with_name(f"{FILE}.before-move"))
        with store:
            for table, column in columns:
                store.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (here, len(before) + 1, *match),
                )
