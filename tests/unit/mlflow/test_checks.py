"""What the doctor says about the local store, without importing MLflow."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard_mlflow.checks import store_is_sound


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with an empty folder for the store; its name has what URLs treat specially."""
    root = tmp_path / "späte Flüge 100% #1?x"
    (root / ".modelyard" / "mlflow").mkdir(parents=True)
    return root


@pytest.fixture
def file(root: Path) -> Path:
    return root / ".modelyard" / "mlflow" / "mlflow.db"


def filled(file: Path, rows: int) -> None:
    """A database with a table `runs`, large enough to be damaged in the middle."""
    store = sqlite3.connect(file)
    store.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY, note TEXT)")
    store.executemany("INSERT INTO runs (note) VALUES (?)", [("x" * 500,)] * rows)
    store.commit()
    store.close()


@pytest.mark.parametrize("given", [True, False])
def test_no_project_and_no_store_are_well(root: Path, given: bool) -> None:
    check = store_is_sound(root if given else None)
    assert (check.status, check.message) == ("ok", "no local store yet")


def test_a_sound_store_says_how_many_runs_it_holds(root: Path, file: Path) -> None:
    filled(file, 3)
    check = store_is_sound(root)
    assert (check.status, check.message) == ("ok", "3 runs in mlflow.db")


def test_a_store_that_was_never_finished_is_no_failure(root: Path, file: Path) -> None:
    file.write_bytes(b"")
    assert store_is_sound(root).status == "ok"


@pytest.mark.parametrize("damage", ["text", "cut", "zeros"])
def test_a_damaged_store_is_a_failure_that_names_file_and_way_out(
    root: Path, file: Path, damage: str
) -> None:
    filled(file, 200)
    content = file.read_bytes()
    bad = {
        "text": b"not a database at all, but a note" * 50,
        "cut": content[: len(content) // 2],
        "zeros": content[:8192] + bytes(32768) + content[8192 + 32768 :],
    }[damage]
    file.write_bytes(bad)
    check = store_is_sound(root)
    assert check.status == "failed"
    assert str(file) in check.message
    assert ".recover" in check.hint
    assert file.read_bytes() == bad
    assert sorted(file.parent.iterdir()) == [file], "looking must leave nothing behind"


def test_looking_imports_no_mlflow(root: Path, file: Path) -> None:
    filled(file, 1)
    code = (
        "import sys; from pathlib import Path; from modelyard_mlflow.checks import store_is_sound;"
        "print(store_is_sound(Path(sys.argv[1])).message, 'mlflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "1 runs in mlflow.db False"
