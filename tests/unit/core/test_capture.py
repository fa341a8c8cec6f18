"""What a run remembers of code, environment and person."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from modelyard.capture import _repository, code, environment, without_credentials


def git(folder: Path, *arguments: str) -> str:
    options = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *options, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "train.py").write_text("print(1)\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_clean_commit_is_named(repository: Path) -> None:
    found = code(repository)
    assert found.commit == git(repository, "rev-parse", "HEAD")
    assert (found.branch, found.dirty, found.diff_sha256) == ("main", False, None)


def test_changed_and_new_files_make_it_dirty_and_are_identified(repository: Path) -> None:
    (repository / "train.py").write_text("print(2)\n")
    changed = code(repository)
    (repository / "new.py").write_text("a")
    with_new = code(repository)
    (repository / "new.py").write_text("b")
    assert changed.dirty
    assert len({changed.diff_sha256, with_new.diff_sha256, code(repository).diff_sha256}) == 3


def test_what_was_not_committed_is_named(repository: Path) -> None:
    (repository / "train.py").write_text("print(2)\n")
    (repository / "neue Datei ä.txt").write_text("a")
    (repository / "old.py").write_text("a longer file, so that git sees it move\n")
    git(repository, "add", "old.py")
    git(repository, "commit", "-qm", "second", "old.py")
    git(repository, "mv", "old.py", "new name.py")
    found = code(repository)
    assert set(found.changed) == {"train.py", "neue Datei ä.txt", "new name.py"}
    assert found.state.endswith("not committed")


def test_new_files_count_in_a_project_below_the_top_of_its_repository(repository: Path) -> None:
    project = repository / "projekt ü"
    project.mkdir()
    (project / "ä.py").write_text("a")
    first = code(project)
    (project / "ä.py").write_text("b")
    assert first.changed == ("ä.py",)
    assert code(project).diff_sha256 != first.diff_sha256


def test_outside_git_there_is_no_commit(tmp_path: Path) -> None:
    assert code(tmp_path).commit is None


def test_without_git_there_is_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert code(repository).commit is None


def test_before_the_first_commit_there_is_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert code(tmp_path).commit is None


def test_credentials_never_reach_a_record(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://ada:secret@example.org/repo.git")
    _repository.cache_clear()
    assert code(repository).repository == "https://example.org/repo.git"
    assert without_credentials("git@example.org:repo.git") == "git@example.org:repo.git"


def test_the_environment_is_the_same_twice() -> None:
    assert environment() == environment()
