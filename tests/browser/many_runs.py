"""A project with any number of runs, made in seconds: a real one, and copies of its rows in the database."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from pathlib import Path

import modelyard

_TABLES = ("params", "tags", "latest_metrics", "metrics")


def make_runs(project: Path, count: int) -> None:
    """Fill a project that has none.

    Args:
        project: the project's folder.
        count: how many; their names are `trial-0` and up, the last is the newest.
    """
    yard = modelyard.open(project)
    with yard.run("trial-0", params={"depth": 3, "lr": 0.1}) as run:
        for step in range(5):
            run.log({"auc": 0.5 + step / 10, "loss": 1 / (step + 1)}, step=step)
    (database,) = (project / ".modelyard" / "mlflow").glob("*.db")
    with contextlib.closing(sqlite3.connect(database)) as store, store:
        for number in range(1, count):
            _copy(store, run.id, uuid.uuid4().hex, number)


def _copy(store: sqlite3.Connection, source: str, target: str, number: int) -> None:
    seconds = 1000 * number
    new = {
        "run_uuid": "?",
        "name": "?",
        "start_time": f"start_time + {seconds}",
        "end_time": f"end_time + {seconds}",
    }
    _insert(store, "runs", new, [target, f"trial-{number}", source])
    for table in _TABLES:
        _insert(store, table, {"run_uuid": "?"}, [target, source])
    named = (f"trial-{number}", target)
    store.execute("UPDATE tags SET value = ? WHERE run_uuid = ? AND key = 'mlflow.runName'", named)
    better = (0.5 + number % 1000 / 2000, target)
    store.execute("UPDATE latest_metrics SET value = ? WHERE run_uuid = ? AND key = 'auc'", better)


def _insert(store: sqlite3.Connection, table: str, new: dict[str, str], values: list[str]) -> None:
    columns = [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
    chosen = ", ".join(new.get(column, f'"{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    store.execute(f"INSERT INTO {table} ({names}) SELECT {chosen} FROM {table} WHERE run_uuid = ?", values)
