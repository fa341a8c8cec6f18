"""Which sections of the panel count as changed after something happened to the project's files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jupyter_server")

from modelyard_jupyter import stamps
from modelyard_jupyter.folders import Folders
from modelyard_jupyter.stamps import Stamps

NOTHING: set[str] = set()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "modelyard.toml").write_text('name = "p"\n')
    for name in ("mlflow/artifacts/1/run", "dvc", "ledger", "kserve/endpoints"):
        (tmp_path / ".modelyard" / name).mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "flights.parquet.dvc").write_text("outs: []\n")
    return tmp_path


@contextmanager
def changes(looker: Stamps, expected: set[str]) -> Iterator[None]:
    before = looker.now()
    yield
    after = looker.now()
    assert {name for name in after if after[name] != before[name]} == expected


def write(file: Path, text: str = "more") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        stream.write(text)


def test_each_file_belongs_to_the_sections_that_show_it(root: Path) -> None:
    looker = Stamps(root, "local")
    for file, sections in {
        "mlflow/mlflow.db": {"overview", "runs", "models"},
        "ledger/late.jsonl": {"overview", "models", "serving"},
        "kserve/endpoints/late/state.json": {"overview", "models", "serving", "drift"},
        "services/monitor.json": {"overview", "serving"},
        "services/monitor.lock": NOTHING,
        "logs/monitor.log": NOTHING,
    }.items():
        with changes(looker, sections):
            write(root / ".modelyard" / file)
    with changes(looker, set(looker.now())):
        write(root / "modelyard.toml")
    with changes(looker, NOTHING):
        write(root / "train.py")


def test_artifacts_of_runs_are_not_looked_at(root: Path) -> None:
    """They are thousands of folders; who writes one writes into the database, too."""
    with changes(Stamps(root, "local"), NOTHING):
        write(root / ".modelyard/mlflow/artifacts/1/run/model.pkl")


def test_data_files_are_known_and_new_ones_are_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looker = Stamps(root, "local")
    with changes(looker, {"data", "overview"}):
        write(root / "data/flights.parquet.dvc")
    with changes(looker, {"data", "overview"}):  # as `data add` does
        write(root / "data/new.parquet.dvc")
        write(root / ".modelyard/dvc/dvcfiles.json")
    with changes(looker, NOTHING):  # DVC's own command: nobody tells
        write(root / "data/other.parquet.dvc")
    monkeypatch.setattr(stamps, "_ELSEWHERE", 0.0)
    with changes(looker, {"data", "overview"}):
        write(root / "data/third.parquet.dvc")


def test_environments_and_data_are_not_searched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (".venv/lib", "node_modules/one", "data/flights.parquet"):
        write(root / folder / "inner.dvc")
    visited: list[str] = []
    scan = os.scandir

    def watched(folder: Path) -> Any:
        visited.append(Path(folder).relative_to(root).as_posix())
        return scan(folder)

    monkeypatch.setattr(os, "scandir", watched)
    looker = Stamps(root, "local")
    looker.now()
    assert [folder for folder in visited if not folder.startswith(".modelyard")] == [".", "data"]


def test_a_folder_is_listed_again_only_when_something_came_or_went(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = Folders()
    long_ago = 1_000_000_000
    os.utime(root / "data", ns=(long_ago, long_ago))
    assert folders.inside(root / "data") == ([], ["flights.parquet.dvc"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", None)  # not asked
        assert folders.inside(root / "data") == ([], ["flights.parquet.dvc"])
    write(root / "data/new.dvc")
    assert folders.inside(root / "data") == ([], ["flights.parquet.dvc", "new.dvc"])
    # just written: what comes within the same step of the clock must not be missed
    write(root / "data/next.dvc")
    now = (root / "data").stat().st_mtime_ns
    folders.inside(root / "data")
    write(root / "data/last.dvc")
    os.utime(root / "data", ns=(now, now))
    assert "last.dvc" in folders.inside(root / "data")[1]


def test_what_is_elsewhere_counts_as_changed_from_time_to_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps.time, "time", lambda: 1000.0)
    looker = Stamps(root, "sandbox")
    before = looker.now()
    assert looker.now() == before
    monkeypatch.setattr(stamps.time, "time", lambda: 1015.0)
    assert all(looker.now()[name] != before[name] for name in before)
