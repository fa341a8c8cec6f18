"""The data store on real DVC: add, status, push, pull, names, remotes."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.digests import manifest, manifest_digest
from modelyard.errors import (
    ConfigError,
    ConflictError,
    MissingRequirementError,
    NotFoundError,
    UsageError,
)
from modelyard.stages import DataStore


def test_the_provider_is_a_data_store(store: Any) -> None:
    assert isinstance(store, DataStore)


@pytest.mark.parametrize("place", ["data/flights.csv", "data/täglich es"])
def test_an_added_file_or_folder_becomes_a_version(store: Any, project: Path, place: str) -> None:
    ref = store.add(project / place)
    files = manifest(project / place)
    assert (ref.scheme, ref.path, ref.name) == ("dvc", place, Path(place).stem)
    assert ref.digest == manifest_digest(files)
    assert (ref.files, ref.size) == (len(files), sum(file["size"] for file in files))
    assert len(ref.version) <= 36
    assert ref.version.endswith(".dir") == (project / place).is_dir()
    assert (ref.remote, ref.published) == (None, False)
    assert (project / f"{place}.dvc").exists()


def test_unchanged_bytes_give_the_same_version_and_changed_ones_another(store: Any, project: Path) -> None:
    path = project / "data" / "flights.csv"
    first = store.add(path)
    assert store.add(path) == first
    path.write_text("dep,arr\n1,2\n")
    assert store.add(path) == first
    path.write_text("dep,arr\n3,4\n")
    second = store.add(path)
    assert second.version != first.version
    assert second.digest != first.digest


def test_status_tells_unchanged_modified_and_missing(store: Any, project: Path) -> None:
    for place in ("data/flights.csv", "data/täglich es"):
        store.add(project / place)
    assert [status.state for status in store.status()] == ["unchanged", "unchanged"]
    (project / "data" / "täglich es" / "day 3.csv").write_text("dep\n3\n")
    (project / "data" / "flights.csv").unlink()
    assert [status.state for status in store.status()] == ["missing", "modified"]
    (project / "data" / "täglich es" / "day 3.csv").unlink()
    (project / "data" / "flights.csv").write_text("dep,arr\n1,2\n")
    assert [status.state for status in store.status()] == ["unchanged", "unchanged"]


def test_a_change_that_keeps_size_and_mtime_is_found(store: Any, project: Path) -> None:
    path = project / "data" / "flights.csv"
    store.add(path)
    before = path.stat()
    path.write_text("dep,arr\n9,9\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [status.state for status in store.status()] in (["modified"], ["unchanged"])
    # DVC's own memory goes by mtime, inode and size, and is fooled; new bytes in a new file are not.
    path.unlink()
    path.write_text("dep,arr\n9,9\n")
    assert [status.state for status in store.status()] == ["modified"]


def test_push_and_pull_in_a_fresh_clone_bring_the_same_bytes(
    store: Any, project: Path, git: Callable[..., str], open_store: Callable[..., Any], tmp_path: Path
) -> None:
    added = [store.add(project / place) for place in ("data/flights.csv", "data/täglich es")]
    pushed = store.push()
    assert all(ref.published and ref.remote == str(tmp_path / "remote") for ref in pushed)
    git(project, "add", "-A")
    git(project, "commit", "-qm", "data")
    clone = tmp_path / "klon"
    git(tmp_path, "clone", "-q", str(project), str(clone))
    other = open_store(clone)
    assert [ref.digest for ref in other.refs()] == [ref.digest for ref in added]
    assert [ref.published for ref in other.refs()] == [False, False]
    assert [status.state for status in other.status()] == ["missing", "missing"]
    assert other.pull() == pushed
    for ref in added:
        assert manifest_digest(manifest(clone / ref.path)) == ref.digest
    assert [status.state for status in other.status()] == ["unchanged", "unchanged"]


def test_push_in_a_fresh_clone_finds_that_all_is_there(
    store: Any, project: Path, git: Callable[..., str], open_store: Callable[..., Any], tmp_path: Path
) -> None:
    store.add(project / "data" / "täglich es")
    store.push()
    git(project, "commit", "-qm", "data")
    git(tmp_path, "clone", "-q", str(project), str(tmp_path / "klon"))
    assert [ref.published for ref in open_store(tmp_path / "klon").push()] == [True]


def test_published_is_false_again_when_the_remote_lost_an_object(
    store: Any, project: Path, tmp_path: Path
) -> None:
    store.add(project / "data" / "täglich es")
    assert store.push()[0].published
    some = next(path for path in (tmp_path / "remote").rglob("*") if path.is_file())
    some.unlink()
    ref = store.get("täglich es")
    assert (ref.published, ref.remote) == (False, None)
    assert store.push(["täglich es"])[0].published
    assert some.exists()


def test_push_repairs_an_object_that_lay_damaged_in_the_remote(
    store: Any, project: Path, tmp_path: Path, open_store: Callable[..., Any]
) -> None:
    ref = store.add(project / "data" / "flights.csv")
    store.push()
    stored = tmp_path / "remote" / "files" / "md5" / ref.version[:2] / ref.version[2:]
    stored.chmod(0o644)
    stored.write_text("x" * ref.size)
    stored.chmod(0o444)
    shutil.rmtree(project / ".modelyard")
    assert open_store(project).push()[0].published
    assert stored.read_text() == "dep,arr\n1,2\n"


def test_git_gets_the_small_files_and_never_the_data(
    store: Any, project: Path, git: Callable[..., str]
) -> None:
    store.add(project / "data" / "flights.csv")
    git(project, "add", "-A")
    files = set(git(project, "-c", "core.quotePath=false", "ls-files").splitlines())
    assert {"data/flights.csv.dvc", ".dvc/config", "data/.gitignore", ".dvcignore"} <= files
    assert "data/flights.csv" not in files


def test_autostage_can_be_switched_off(
    project: Path, open_store: Callable[..., Any], git: Callable[..., str]
) -> None:
    open_store(project, autostage=False).add(project / "data" / "flights.csv")
    assert git(project, "ls-files") == ""


def test_a_busy_git_index_does_not_stop_an_add(store: Any, project: Path, git: Callable[..., str]) -> None:
    (project / ".git" / "index.lock").touch()
    assert store.add(project / "data" / "flights.csv").name == "flights"
    (project / ".git" / "index.lock").unlink()


def test_the_first_use_outside_git_needs_no_git(tmp_path: Path, open_store: Callable[..., Any]) -> None:
    path = tmp_path / "p" / "a b.csv"
    path.parent.mkdir()
    path.write_text("1")
    assert open_store(tmp_path / "p").add(path).name == "a b"
    assert "no_scm" in (tmp_path / "p" / ".dvc" / "config").read_text()


def test_a_project_in_a_subfolder_of_a_git_repository_gets_its_own_dvc(
    tmp_path: Path, git: Callable[..., str], open_store: Callable[..., Any]
) -> None:
    git(tmp_path, "init", "-q")
    root = tmp_path / "team" / "project"
    root.mkdir(parents=True)
    (root / "a.csv").write_text("1")
    ref = open_store(root).add(root / "a.csv")
    assert (root / ".dvc" / "config").exists()
    assert ref.path == "a.csv"
    assert "team/project/a.csv.dvc" in git(tmp_path, "ls-files")


def test_a_dvc_repository_of_the_team_above_the_project_is_used(
    tmp_path: Path, git: Callable[..., str], open_store: Callable[..., Any]
) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "other.csv").write_text("1")
    open_store(tmp_path, state=tmp_path / "state").add(tmp_path / "other.csv")
    root = tmp_path / "project"
    root.mkdir()
    (root / "a.csv").write_text("2")
    store = open_store(root)
    assert store.add(root / "a.csv").path == "a.csv"
    assert not (root / ".dvc").exists()
    assert [ref.name for ref in store.refs()] == ["a"]
    store.set_remote("store")
    assert store.push()[0].published


def test_a_custom_name_is_kept_and_found(store: Any, project: Path, open_store: Callable[..., Any]) -> None:
    store.add(project / "data" / "flights.csv", name="Flüge 2013")
    assert store.add(project / "data" / "flights.csv").name == "Flüge 2013"
    again = open_store(project)
    assert again.get("Flüge 2013").path == "data/flights.csv"
    assert again.get("data/flights.csv").name == "Flüge 2013"
    (project / "data" / "flights.csv").write_text("new")
    assert store.add(project / "data" / "flights.csv").name == "Flüge 2013"
    assert store.add(project / "data" / "flights.csv", name="other").name == "other"


def test_a_name_that_is_taken_is_refused(store: Any, project: Path) -> None:
    store.add(project / "data" / "flights.csv")
    (project / "flights.parquet").write_text("x")
    with pytest.raises(ConflictError) as caught:
        store.add(project / "flights.parquet")
    assert caught.value.code == "data-name-taken"
    assert "data/flights.csv" in caught.value.message
    assert not (project / "flights.parquet.dvc").exists()
    assert store.add(project / "flights.parquet", name="more").name == "more"


@pytest.mark.parametrize("name", ["a/b", " ", "x" * 201, "a\nb"])
def test_a_bad_name_is_refused(store: Any, project: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        store.add(project / "data" / "flights.csv", name=name)
    assert caught.value.code == "data-name-invalid"


def test_an_unknown_name_lists_those_that_exist(store: Any, project: Path) -> None:
    store.add(project / "data" / "flights.csv")
    for ask in (lambda: store.get("fligths"), lambda: store.push(["x"]), lambda: store.pull(["x"])):
        with pytest.raises(NotFoundError) as caught:
            ask()
        assert caught.value.code == "data-not-found"
        assert caught.value.details["names"] == ["flights"]


def test_what_is_not_there_or_outside_or_not_data_is_refused(
    store: Any, project: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside.csv").write_text("1")
    (project / "link.csv").symlink_to(tmp_path / "outside.csv")
    (project / "broken.csv").symlink_to(project / "nothing")
    cases = {
        project / "nothing.csv": "data-not-found",
        project / "broken.csv": "data-not-found",
        tmp_path / "outside.csv": "data-outside-project",
        project / "link.csv": "data-outside-project",
        project: "data-not-addable",
        project / ".git": "data-not-addable",
    }
    os.mkfifo(project / "pipe")
    cases[project / "pipe"] = "data-not-addable"
    for path, code in cases.items():
        with pytest.raises((NotFoundError, UsageError)) as caught:
            store.add(path)
        assert caught.value.code == code, path


def test_links_that_leave_a_folder_are_refused(store: Any, project: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder = project / "data" / "täglich es"
    for target in (tmp_path / "elsewhere", tmp_path / "nothing", project / "data"):
        (folder / "link").symlink_to(target)
        with pytest.raises(UsageError) as caught:
            store.add(folder)
        assert caught.value.code == "data-symlink"
        (folder / "link").unlink()
    (folder / "link").symlink_to(project / "data" / "flights.csv")
    assert store.add(folder).digest == manifest_digest(manifest(folder))


def test_data_that_git_tracks_is_explained(store: Any, project: Path, git: Callable[..., str]) -> None:
    git(project, "add", "data/flights.csv")
    with pytest.raises(ConflictError) as caught:
        store.add(project / "data" / "flights.csv")
    assert caught.value.code == "data-in-git"
    assert "git rm" in caught.value.hint


def test_a_gitignore_that_hides_the_dvc_file_is_explained(store: Any, project: Path) -> None:
    (project / ".gitignore").write_text("data/\n")
    with pytest.raises(ConfigError) as caught:
        store.add(project / "data" / "flights.csv")
    assert caught.value.code == "data-file-ignored"


def test_a_file_inside_a_tracked_folder_is_explained(store: Any, project: Path) -> None:
    store.add(project / "data" / "täglich es")
    with pytest.raises(ConflictError) as caught:
        store.add(project / "data")
    assert caught.value.code == "data-overlaps"


def test_files_that_dvcignore_names_are_no_data(store: Any, project: Path) -> None:
    folder = project / "data" / "täglich es"
    before = store.add(folder)
    (project / ".dvcignore").write_text("*.log\n")
    (folder / "x.log").write_text("noise")
    assert store.status()[0].state == "unchanged"
    assert store.add(folder) == before


def test_an_empty_file_is_data(store: Any, project: Path) -> None:
    (project / "empty.csv").touch()
    ref = store.add(project / "empty.csv")
    assert (ref.size, ref.files) == (0, 1)
    assert store.push()[0].published


def test_pull_without_anything_lost_changes_nothing(store: Any, project: Path) -> None:
    ref = store.add(project / "data" / "flights.csv")
    before = (project / "data" / "flights.csv").stat().st_mtime_ns
    assert store.pull() == [ref]
    assert (project / "data" / "flights.csv").stat().st_mtime_ns == before


def test_pull_never_overwrites_a_change_that_was_not_added(store: Any, project: Path) -> None:
    path = project / "data" / "flights.csv"
    store.add(path)
    path.write_text("my work")
    with pytest.raises(ConflictError) as caught:
        store.pull()
    assert caught.value.code == "data-modified"
    assert path.read_text() == "my work"


def test_pull_switches_to_the_version_that_git_checked_out(
    store: Any, project: Path, git: Callable[..., str]
) -> None:
    path = project / "data" / "flights.csv"
    first = store.add(path)
    git(project, "commit", "-qm", "one")
    path.write_text("dep,arr\n3,4\n")
    store.add(path)
    git(project, "checkout", "-q", "HEAD", "--", "data/flights.csv.dvc")
    assert store.status()[0].state == "modified"
    assert store.pull() == [first]
    assert path.read_text() == "dep,arr\n1,2\n"


def test_a_plain_dvc_add_is_seen_with_a_digest(store: Any, project: Path) -> None:
    store.add(project / "data" / "flights.csv", name="mine")
    (project / "data" / "flights.csv").write_text("other")
    dvc(project, "add", "data/flights.csv", "data/täglich es")
    by_path = {ref.path: ref for ref in store.refs()}
    assert by_path["data/flights.csv"].name == "mine"
    for ref in by_path.values():
        assert ref.digest == manifest_digest(manifest(project / ref.path))


def test_a_plain_dvc_user_can_work_with_what_we_wrote(store: Any, project: Path) -> None:
    store.add(project / "data" / "flights.csv")
    dvc(project, "push")
    assert [ref.published for ref in store.push()] == [True]
    shutil.rmtree(project / ".dvc" / "cache")
    (project / "data" / "flights.csv").unlink()
    dvc(project, "pull")
    assert "up to date" in dvc(project, "status")
    assert "analytics=false" in dvc(project, "config", "--list")
    assert "verify=true" in dvc(project, "config", "--list")


def test_without_a_remote_push_says_how_to_name_one(project: Path, open_store: Callable[..., Any]) -> None:
    store = open_store(project)
    store.add(project / "data" / "flights.csv")
    assert store.remote() is None
    with pytest.raises(ConfigError) as caught:
        store.push()
    assert caught.value.code == "no-remote"


def test_the_remote_in_the_settings_wins_and_reaches_dvc(
    project: Path, open_store: Callable[..., Any], tmp_path: Path
) -> None:
    store = open_store(project, remote="../lager ö")
    assert store.remote() == str(tmp_path / "lager ö")
    store.add(project / "data" / "flights.csv")
    assert store.push()[0].remote == str(tmp_path / "lager ö")
    assert "lager ö" in dvc(project, "remote", "list")
    with pytest.raises(UsageError) as caught:
        store.set_remote("elsewhere")
    assert caught.value.code == "remote-in-settings"


def test_a_remote_inside_the_project_moves_with_it(store: Any, project: Path, tmp_path: Path) -> None:
    store.set_remote("store")
    assert store.remote() == str(project / "store")
    assert "url = ../store" in (project / ".dvc" / "config").read_text()


def test_bad_remotes_are_refused_with_what_would_be_right(store: Any, project: Path) -> None:
    before = (project / ".dvc" / "config").read_text()
    cases: dict[str, tuple[type[Exception], str]] = {
        "": (UsageError, "remote-invalid"),
        "ftp://host/x": (UsageError, "remote-invalid"),
        "data/flights.csv": (UsageError, "remote-invalid"),
        "gdrive://folder": (MissingRequirementError, "missing-extra"),
    }
    for url, (kind, code) in cases.items():
        with pytest.raises(kind) as caught:
            store.set_remote(url)
        assert caught.value.code == code  # type: ignore[attr-defined]
    assert (project / ".dvc" / "config").read_text() == before


def test_a_password_in_the_url_stays_out_of_git_and_of_sight(
    store: Any, project: Path, git: Callable[..., str]
) -> None:
    store.add(project / "data" / "flights.csv")
    store.set_remote("https://ann:gehe%40im@host.example/x")
    assert store.remote() == "https://host.example/x"
    local = project / ".dvc" / "config.local"
    assert "password = gehe@im" in local.read_text()
    assert local.stat().st_mode & 0o077 == 0
    git(project, "add", "-A")
    assert "gehe" not in git(project, "diff", "--cached")
    assert "config.local" not in git(project, "ls-files")
    store.set_remote("https://host.example/y")
    assert "gehe" not in local.read_text()


def test_two_threads_and_two_stores_work_at_once(
    project: Path, open_store: Callable[..., Any], tmp_path: Path
) -> None:
    stores = [open_store(project), open_store(project)]
    stores[0].set_remote(str(tmp_path / "remote"))
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            path = project / f"file {number}.csv"
            path.write_text(str(number))
            stores[number % 2].add(path)
            stores[number % 2].push([f"file {number}"])
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len([ref for ref in stores[0].refs() if ref.published]) == 4


def test_nothing_is_printed_not_even_on_a_terminal(project: Path, tmp_path: Path) -> None:
    program = f"""
import shutil
from pathlib import Path
from types import SimpleNamespace
from modelyard_dvc.provider import DvcStore
root, state = Path({str(project)!r}), Path({str(tmp_path / "state")!r})
state.mkdir()
store = DvcStore(SimpleNamespace(root=root, state=state, settings=None, target=None))
store.add(root / "data" / "täglich es")
store.set_remote("store")
store.push()
shutil.rmtree(root / "data" / "täglich es")
shutil.rmtree(root / ".dvc" / "cache")
store.pull()
store.status()
"""
    terminal, inner = pty.openpty()
    done = subprocess.run([sys.executable, "-c", program], stdout=inner, stderr=inner, check=False)
    os.write(inner, b"END")
    shown = b""
    while not shown.endswith(b"END"):
        shown += os.read(terminal, 10_000)
    # colorama, which DVC imports, resets the colours at exit: nobody can see that.
    assert shown.replace(b"\x1b[0m", b"") == b"END"
    assert done.returncode == 0
    os.close(inner)
    os.close(terminal)


def test_the_working_directory_does_not_matter(
    store: Any, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert store.add(Path("data/flights.csv")).path == "data/flights.csv"
    monkeypatch.chdir(project / "data")
    assert store.add(Path("täglich es")).path == "data/täglich es"
    assert store.get("täglich es").path == "data/täglich es"
    assert [ref.published for ref in store.push()] == [True, True]
    assert Path.cwd() == project / "data"


def test_reading_imports_no_dvc(store: Any, project: Path) -> None:
    store.add(project / "data" / "flights.csv")
    store.push()
    program = f"""
import sys
from pathlib import Path
from types import SimpleNamespace
from modelyard_dvc.provider import DvcStore
root = Path({str(project)!r})
store = DvcStore(SimpleNamespace(root=root, state=root / ".modelyard" / "dvc", settings=None, target=None))
assert store.get("flights").published and store.remote() and store.add(root / "data" / "flights.csv")
assert [status.state for status in store.status()] == ["unchanged"]
print(sorted(set(sys.modules) & {{"dvc", "dvc_data", "dvc_objects", "pandas"}}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def dvc(root: Path, *arguments: str) -> str:
    """The command that people type."""
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
