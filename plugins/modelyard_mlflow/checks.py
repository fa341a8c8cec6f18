"""The doctor's look at the store, without importing MLflow."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from modelyard.records import Check


def store_is_sound(root: Path | None) -> Check:
    """Open the sqlite file read-only and ask it for its own opinion."""
    file = (root or Path()) / ".modelyard" / "mlflow" / "mlflow.db"
    if root is None or not file.exists():
        return Check(name="mlflow", status="ok", message="no local store yet")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=2)) as store:
            said = store.execute("PRAGMA quick_check(1)").fetchone()[0]
            (runs,) = store.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as fault:
        hint = f"copy {file} somewhere safe, then: sqlite3 '{file}' .recover"
        return Check(name="mlflow", status="failed", message=f"{file}: {fault}", hint=hint)
    if said != "ok":
        return Check(
            name="mlflow", status="failed", message=f"{file}: {said}", hint=f"sqlite3 '{file}' .recover"
        )
    return Check(name="mlflow", status="ok", message=f"{runs} runs in {file.name}")
