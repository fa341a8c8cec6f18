"""The doctor's look at the store, without importing MLflow."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from modelyard.records import Check
from modelyard_mlflow import database


def store_is_sound(root: Path | None) -> Check:
    """Open the sqlite file read-only and ask it for its own opinion."""
    file = (root or Path()) / ".modelyard" / "mlflow" / database.FILE
    if root is None or not file.exists():
        return Check(name="mlflow", status="ok", message="no local store yet")
    hint = f"copy {file} somewhere safe, then: sqlite3 '{file}' .recover"
    try:
        with database.connect(file, timeout=2, mode="ro") as store:
            said = store.execute("PRAGMA quick_check(1)").fetchone()[0]
            if said != "ok":
                return Check(name="mlflow", status="failed", message=f"{file}: {said}", hint=hint)
            if not store.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone():
                return Check(name="mlflow", status="ok", message="the local store was never finished")
            (runs,) = store.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as fault:
        return Check(name="mlflow", status="failed", message=f"{file}: {fault}", hint=hint)
    return Check(name="mlflow", status="ok", message=f"{runs} runs in {file.name}")
