"""What goes wrong with data: damage, lost remotes, locks, kills, disks. Real DVC, real processes."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.digests import manifest, manifest_digest
from modelyard.errors import (
    ConfigError,
    ConflictError,
    CorruptStateError,
    EnvironmentFault,
    NotFoundError,
)

PLACES = ["data/flights.csv", "data/täglich es"]


def stored(store: Path, ref: Any, project: Path) -> tuple[Path, str]:
    """An object of the version below a cache or remote, and the file that it stands for."""
    oid, inner = ref.version, ""
    if oid.endswith(".dir"):
        listing = json.loads((store / "files" / "md5" / oid[:2] / oid[2:]).read_text())
        oid, inner = listing[1]["md5"], "/" + listing[1]["relpath"]
    return store / "files" / "md5" / oid[:2] / oid[2:], ref.path + inner


def tamper(path: Path) -> None:
    """Other bytes of the same size, under the rights that DVC takes for a proof of good health."""
    size = path.stat().st_size
    path.chmod(0o644)
    path.write_bytes(b"x" * size)
    path.chmod(0o444)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("place", PLACES)
def test_a_tampered_object_in_the_remote_is_named_and_not_handed_out(
    store: Any, project: Path, tmp_path: Path, place: str
) -> None:
    ref = store.add(project / place)
    store.push()
    bad, inner = stored(tmp_path / "remote", ref, project)
    tamper(bad)
    remove(project / place)
    shutil.rmtree(project / ".dvc" / "cache")
    for _ in range(2):
        with pytest.raises(CorruptStateError) as caught:
            store.pull()
        assert caught.value.code == "data-corrupt"
        assert inner in caught.value.message
        assert not (project / place).exists()
    assert bad.exists()


@pytest.mark.parametrize("place", PLACES)
def test_a_tampered_object_in_the_cache_is_named_then_fetched_anew(
    store: Any, project: Path, place: str
) -> None:
    ref = store.add(project / place)
    store.push()
    bad, inner = stored(project / ".dvc" / "cache", ref, project)
    tamper(bad)
    remove(project / place)
    with pytest.raises(CorruptStateError) as caught:
        store.pull()
    assert caught.value.code == "data-corrupt"
    assert inner in caught.value.message
    assert not (project / place).exists()
    assert store.pull() == [store.get(ref.name)]
    assert manifest_digest(manifest(project / place)) == ref.digest


def test_one_tampered_data_set_keeps_the_others_from_being_handed_out_half(store: Any, project: Path) -> None:
    refs = [store.add(project / place) for place in PLACES]
    tamper(stored(project / ".dvc" / "cache", refs[1], project)[0])
    for place in PLACES:
        remove(project / place)
    with pytest.raises(CorruptStateError):
        store.pull()
    assert not any((project / place).exists() for place in PLACES)


def test_a_torn_listing_of_a_folder_is_damage(store: Any, project: Path) -> None:
    ref = store.add(project / "data" / "täglich es")
    store.push()
    listing = project / ".dvc" / "cache" / "files" / "md5" / ref.version[:2] / ref.version[2:]
    listing.chmod(0o644)
    listing.write_text("[{")
    with pytest.raises(CorruptStateError) as caught:
        store.pull()
    assert caught.value.code == "data-corrupt"
    assert store.pull()[0].digest == ref.digest


def test_bytes_that_share_the_md5_but_not_the_sha256_are_refused(
    store: Any, project: Path, tmp_path: Path, open_store: Callable[..., Any]
) -> None:
    ref = store.add(project / "data" / "flights.csv")
    file = project / "data" / "flights.csv.dvc"
    file.write_text(file.read_text().replace(ref.digest, "f" * 64))
    remove(project / "data" / "flights.csv")
    with pytest.raises(CorruptStateError) as caught:
        open_store(project, state=tmp_path / "state").pull()
    assert caught.value.code == "data-corrupt"
    assert not (project / "data" / "flights.csv").exists()


def test_add_heals_a_damaged_cache_and_never_touches_the_good_file(store: Any, project: Path) -> None:
    path = project / "data" / "flights.csv"
    ref = store.add(path)
    tamper(stored(project / ".dvc" / "cache", ref, project)[0])
    shutil.rmtree(project / ".modelyard")
    (project / ".modelyard" / "dvc").mkdir(parents=True)
    path.write_text(path.read_text())
    assert store.add(path).digest == ref.digest
    assert path.read_text() == "dep,arr\n1,2\n"
    assert store.push()[0].published


def test_push_of_a_damaged_cache_publishes_nothing(store: Any, project: Path) -> None:
    ref = store.add(project / "data" / "flights.csv")
    tamper(stored(project / ".dvc" / "cache", ref, project)[0])
    with pytest.raises(CorruptStateError) as caught:
        store.push()
    assert caught.value.code == "data-corrupt"
    assert not store.get("flights").published


def test_a_remote_that_vanished_is_unreachable_and_not_made_again(
    store: Any, project: Path, tmp_path: Path
) -> None:
    store.add(project / "data" / "flights.csv")
    store.push()
    shutil.rmtree(tmp_path / "remote")
    shutil.rmtree(project / ".dvc" / "cache")
    assert not store.get("flights").published
    for ask in (store.push, store.pull):
        with pytest.raises(EnvironmentFault) as caught:
            ask()
        assert caught.value.code == "remote-unreachable"
    assert not (tmp_path / "remote").exists()


def test_a_remote_behind_a_url_that_nobody_answers_is_unreachable(store: Any, project: Path) -> None:
    store.add(project / "data" / "flights.csv")
    store.set_remote("http://127.0.0.1:9/data")
    with pytest.raises(EnvironmentFault) as caught:
        store.push()
    assert caught.value.code == "remote-unreachable"
    remove(project / "data" / "flights.csv")
    shutil.rmtree(project / ".dvc" / "cache")
    with pytest.raises(EnvironmentFault) as caught:
        store.pull()
    assert caught.value.code == "remote-unreachable"


@pytest.mark.parametrize("place", PLACES)
def test_a_remote_without_the_data_says_so(store: Any, project: Path, place: str) -> None:
    store.add(project / place)
    remove(project / place)
    shutil.rmtree(project / ".dvc" / "cache")
    with pytest.raises(NotFoundError) as caught:
        store.pull()
    assert caught.value.code == "data-not-in-remote"
    with pytest.raises(NotFoundError) as caught:
        store.push()
    assert caught.value.code == "data-not-in-cache"


def test_without_remote_and_cache_a_pull_says_how_to_name_a_remote(
    project: Path, open_store: Callable[..., Any]
) -> None:
    store = open_store(project)
    store.add(project / "data" / "flights.csv")
    remove(project / "data" / "flights.csv")
    assert len(store.pull()) == 1
    remove(project / "data" / "flights.csv")
    shutil.rmtree(project / ".dvc" / "cache")
    with pytest.raises(ConfigError) as caught:
        store.pull()
    assert caught.value.code == "no-remote"


@pytest.mark.parametrize("torn", ['{"write": {"/x": {"pi', "", "null", '{"read": 1}'])
def test_a_torn_rwlock_is_removed_when_nobody_is_at_work(store: Any, project: Path, torn: str) -> None:
    store.add(project / "data" / "flights.csv")
    (project / ".dvc" / "tmp" / "rwlock").write_text(torn)
    (project / "data" / "flights.csv").write_text("new")
    assert store.add(project / "data" / "flights.csv").size == 3


def test_a_torn_rwlock_is_explained_while_its_process_lives(
    store: Any, project: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    store.add(project / "data" / "flights.csv")
    rwlock = project / ".dvc" / "tmp" / "rwlock"
    rwlock.write_text(f'{{"write": {{"/x": {{"pid": {sleeper.pid}, "cm')
    (project / "data" / "flights.csv").write_text("new")
    with pytest.raises(ConflictError) as caught:
        store.add(project / "data" / "flights.csv")
    assert caught.value.code == "locked"
    assert str(rwlock) in caught.value.hint
    assert rwlock.exists()


def test_a_lock_of_another_dvc_process_is_waited_for_and_then_explained(
    project: Path, open_store: Callable[..., Any]
) -> None:
    store = open_store(project, lock_timeout=0.1)
    store.add(project / "data" / "flights.csv")
    (project / "data" / "flights.csv").write_text("new")
    with open(project / ".dvc" / "tmp" / "lock", "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f" {os.getpid()}\n")
        file.flush()
        assert store.status()[0].state == "modified"
        with pytest.raises(ConflictError) as caught:
            store.add(project / "data" / "flights.csv")
    assert caught.value.code == "locked"
    assert str(os.getpid()) in caught.value.message
    assert store.add(project / "data" / "flights.csv").size == 3


def test_a_half_written_dvc_file_is_explained_and_healed_by_add(store: Any, project: Path) -> None:
    ref = store.add(project / "data" / "flights.csv")
    file = project / "data" / "flights.csv.dvc"
    for torn in ("", "outs:\n- md5: 1\n  pa", "<<<<<<< HEAD\nouts:\n=======\n"):
        file.write_text(torn)
        with pytest.raises(CorruptStateError) as caught:
            store.refs()
        assert caught.value.code == "data-file-invalid"
        assert str(file) in caught.value.message
        assert store.add(project / "data" / "flights.csv") == ref


def test_damaged_memory_costs_time_and_nothing_else(store: Any, project: Path) -> None:
    refs = [store.add(project / place) for place in PLACES]
    store.push()
    for file in (project / ".modelyard" / "dvc").rglob("*.json"):
        file.write_text("{torn")
    assert [(ref.digest, ref.published) for ref in store.refs()] == [(ref.digest, False) for ref in refs]
    assert [status.state for status in store.status()] == ["unchanged", "unchanged"]
    assert all(ref.published for ref in store.push())


def test_a_broken_dvc_config_is_explained(store: Any, project: Path) -> None:
    store.add(project / "data" / "flights.csv")
    (project / ".dvc" / "config").write_text("[core\n")
    for ask in (store.refs, store.push, lambda: store.add(project / "data" / "flights.csv")):
        with pytest.raises(ConfigError) as caught:
            ask()
        assert caught.value.code == "dvc-config-invalid"


_WORKER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from modelyard_dvc.provider import DvcStore
root = Path(sys.argv[1])
state = root / ".modelyard" / "dvc"
state.mkdir(parents=True, exist_ok=True)
store = DvcStore(SimpleNamespace(root=root, state=state, settings=None, target=None))
import dvc.repo.add, dvc.repo.push, dvc.repo.checkout, dvc_data.index.push
print("ready", flush=True)
what = sys.argv[2]
if what == "add":
    store.add(root / "big")
else:
    getattr(store, what)()
print("done", flush=True)
"""


def killed(root: Path, what: str, after: float) -> bool:
    """Do it in another process, killed with SIGKILL after so many seconds; False if it got done."""
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(root), what], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert worker.stdout
    assert worker.stdout.readline() == b"ready\n"
    try:
        worker.wait(after)
    except subprocess.TimeoutExpired:
        worker.send_signal(signal.SIGKILL)
    out, err = worker.communicate()
    assert worker.returncode in (0, -signal.SIGKILL), err.decode()
    return b"done" not in out


@pytest.mark.slow
def test_killed_add_push_and_pull_are_done_by_the_same_command(
    project: Path, open_store: Callable[..., Any], tmp_path: Path
) -> None:
    chance = random.Random(3)
    big = project / "big"
    big.mkdir()
    for number in range(60):
        (big / f"{number}.bin").write_bytes(chance.randbytes(1 << 18))
    expected = manifest_digest(manifest(big))
    store = open_store(project)
    store.set_remote(str(tmp_path / "remote"))
    kills = {"add": 0, "push": 0, "pull": 0}
    for what in kills:
        for after in (
            0.01,
            0.03,
            chance.uniform(0.03, 0.2),
            chance.uniform(0.1, 0.6),
        ):  # the first always hits
            if what == "pull":
                shutil.rmtree(big, ignore_errors=True)
                shutil.rmtree(project / ".dvc" / "cache", ignore_errors=True)
            kills[what] += killed(project, what, after)
        ref = store.add(big) if what == "add" else getattr(store, what)()[0]
        assert ref.digest == expected
        assert store.status()[0].state == "unchanged"
    assert ref.published
    assert manifest_digest(manifest(big)) == expected
    assert all(count > 0 for count in kills.values()), kills


@pytest.mark.slow
def test_many_processes_add_and_push_at_once(project: Path, tmp_path: Path, open_store: Any) -> None:
    (project / "big").mkdir()
    (project / "big" / "a").write_text("1")
    workers = [
        subprocess.Popen([sys.executable, "-c", _WORKER, str(project), "add"], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    outputs = [worker.communicate(timeout=100)[0] for worker in workers]
    assert outputs == [b"ready\ndone\n"] * 3
    assert open_store(project).refs()[0].name == "big"


def test_half_copied_files_of_a_killed_pull_are_swept_and_others_are_not(store: Any, project: Path) -> None:
    folder = project / "data" / "täglich es"
    store.add(folder)
    (project / ".modelyard" / "dvc" / "writing.json").write_text(json.dumps("data/täglich es"))
    (folder / ".AAAAAAAAAAAAAAAAAAAAAA.tmp").write_text("half")
    (folder / "day 0.csv").unlink()
    store.pull()
    assert sorted(path.name for path in folder.iterdir()) == ["day 0.csv", "day 1.csv", "day 2.csv"]
    assert not (project / ".modelyard" / "dvc" / "writing.json").exists()


def test_a_half_made_dvc_folder_is_completed(project: Path, open_store: Callable[..., Any]) -> None:
    (project / ".dvc").mkdir()
    store = open_store(project)
    store.add(project / "data" / "flights.csv")
    assert "analytics = false" in (project / ".dvc" / "config").read_text()


@pytest.mark.parametrize("small_disk", ["1m"], indirect=True)
def test_a_full_disk_is_one_sentence_and_nothing_is_lost(
    small_disk: Path, tmp_path: Path, open_store: Callable[..., Any]
) -> None:
    store = open_store(small_disk)
    path = small_disk / "data.bin"
    path.write_bytes(b"1" * 700_000)
    with pytest.raises(EnvironmentFault) as caught:
        store.add(path)
    assert caught.value.code == "disk-full"
    assert path.stat().st_size == 700_000
    path.write_bytes(b"1" * 200_000)
    assert store.add(path).size == 200_000


@pytest.mark.parametrize("small_disk", ["1m"], indirect=True)
def test_a_full_remote_is_one_sentence(
    small_disk: Path, project: Path, open_store: Callable[..., Any]
) -> None:
    store = open_store(project)
    store.set_remote(str(small_disk / "remote"))
    (project / "big.bin").write_bytes(b"1" * 2_000_000)
    store.add(project / "big.bin")
    with pytest.raises(EnvironmentFault) as caught:
        store.push()
    assert caught.value.code == "disk-full"
    assert not store.get("big").published


@pytest.mark.parametrize("small_disk", ["1m"], indirect=True)
def test_a_read_only_project_can_be_read_and_says_what_it_lacks(
    small_disk: Path, tmp_path: Path, open_store: Callable[..., Any]
) -> None:
    store = open_store(small_disk)
    (small_disk / "a.csv").write_text("1")
    time.sleep(0.15)
    ref = store.add(small_disk / "a.csv")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert store.refs() == [ref]
    with pytest.raises(EnvironmentFault) as caught:
        store.add(small_disk / "a.csv", name="b")
    assert caught.value.code == "read-only"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()
