"""The cache of fetched models: whole entries, one fetch at a time, nothing that is used is removed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelyard.digests import model_digest
from modelyard.errors import EnvironmentFault
from modelyard_kserve.storage import cache as caches
from modelyard_kserve.storage.cache import Cache

URI = "https://host/late.zip"


def fill(cache: Cache, uri: str = URI, content: str = "eins", version: str | None = "v1") -> str:
    with cache.locked(uri), cache.part(uri) as part:
        (part / "files" / "code").mkdir(parents=True)
        (part / "files" / "MLmodel").write_text(content)
        (part / "files" / "code" / "leer").touch()
        return cache.keep(uri, part / "files", version).digest


def parts(folder: Path) -> list[Path]:
    return list(folder.glob("*.part"))


def test_an_entry_is_named_by_its_files(tmp_path: Path) -> None:
    cache = Cache(tmp_path, lambda: ())
    digest = fill(cache)
    assert model_digest(cache.path(digest)) == digest
    known = cache.known(URI)
    assert known is not None
    assert (known.digest, known.version, known.uri) == (digest, "v1", URI)
    assert parts(tmp_path) == []
    assert fill(cache, "https://other/late.zip") == digest, "the same files are the same entry"
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


@pytest.mark.parametrize("how", ["changed", "lost", "more", "gone"])
def test_an_entry_that_somebody_changed_is_not_known_and_is_made_again(how: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path, lambda: ())
    entry = cache.path(digest := fill(cache))
    if how == "changed":
        (entry / "MLmodel").write_text("zwei")
    elif how == "more":
        (entry / "evil.py").write_text("x")
    elif how == "lost":
        (entry / "code" / "leer").unlink()
    else:
        entry.rename(tmp_path / "elsewhere")
    assert cache.known(URI) is None
    assert fill(cache) == digest
    assert model_digest(cache.path(digest)) == digest


@pytest.mark.parametrize("content", ["", "{", "[]", '{"digest": 3}', '{"uri": 1, "digest": "x"}', "null"])
def test_a_damaged_note_means_nothing_is_known(content: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path, lambda: ())
    fill(cache)
    (note,) = tmp_path.glob("*.json")
    note.write_text(content)
    assert cache.known(URI) is None
    fill(cache)
    assert cache.known(URI) is not None


HANGS = """
import sys, time
from pathlib import Path
from modelyard_kserve.storage.cache import Cache
cache = Cache(Path(sys.argv[1]), lambda: ())
with cache.locked(sys.argv[2]), cache.part(sys.argv[2]) as part:
    (part / "files").mkdir()
    (part / "files" / "MLmodel").write_text("halb")
    print("there", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("next_uri", [URI, "https://host/another.zip"])
def test_what_a_killed_fetch_leaves_is_never_used_and_removed_by_the_next(
    next_uri: str, tmp_path: Path
) -> None:
    process = subprocess.Popen([sys.executable, "-c", HANGS, str(tmp_path), URI], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    cache = Cache(tmp_path, lambda: ())
    assert len(parts(tmp_path)) == 1
    assert cache.known(URI) is None
    fill(cache, next_uri)
    assert parts(tmp_path) == []


def test_a_fetch_that_is_under_way_is_not_taken_for_a_killed_one(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HANGS, str(tmp_path), URI], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"there\n"
        fill(Cache(tmp_path, lambda: ()), "https://host/another.zip")
        assert len(parts(tmp_path)) == 1
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def test_a_failed_fetch_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path, lambda: ())
    with contextlib.suppress(KeyboardInterrupt), cache.locked(URI), cache.part(URI) as part:
        (part / "files").mkdir()
        raise KeyboardInterrupt
    assert parts(tmp_path) == []
    assert cache.known(URI) is None


def aged(cache: Cache, digest: str) -> None:
    long_ago = time.time() - 2 * caches._GRACE
    os.utime(cache.path(digest), (long_ago, long_ago))


def test_what_no_revision_uses_goes_after_an_hour_and_nothing_else(tmp_path: Path) -> None:
    used: set[str] = set()
    cache = Cache(tmp_path, lambda: used)
    digests = {name: fill(cache, f"https://host/{name}", name) for name in ("used", "old", "new", "touched")}
    used.add(digests["used"])
    for name in ("used", "old", "touched"):
        aged(cache, digests[name])
    assert cache.known("https://host/touched") is not None
    fill(cache)
    left = {name for name, digest in digests.items() if cache.path(digest).is_dir()}
    assert left == {"used", "new", "touched"}
    assert cache.known("https://host/old") is None
    assert cache.known("https://host/used") is not None
    assert len(list(tmp_path.glob("*.json"))) == 4, "its note went, too"


def test_byte_code_is_not_kept(tmp_path: Path) -> None:
    """No digest speaks of it: another one could be put in its place."""
    cache = Cache(tmp_path, lambda: ())
    with cache.locked(URI), cache.part(URI) as part:
        (part / "files" / "code" / "__pycache__").mkdir(parents=True)
        (part / "files" / "code" / "__pycache__" / "late.pyc").write_text("evil")
        (part / "files" / "MLmodel").write_text("eins")
        entry = cache.path(cache.keep(URI, part / "files", None).digest)
    assert [path.name for path in entry.rglob("*") if path.is_file()] == ["MLmodel"]


def test_nothing_is_removed_as_long_as_nobody_knows_what_is_used(tmp_path: Path) -> None:
    cache = Cache(tmp_path, lambda: None)
    digest = fill(cache, "https://host/old", "old")
    aged(cache, digest)
    fill(cache)
    assert cache.path(digest).is_dir()


def test_a_full_disk_is_one_sentence(small_disk: Path) -> None:
    cache = Cache(small_disk / "models", lambda: ())
    (small_disk / "models").mkdir()
    handle = os.open(small_disk / "filler", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(handle, bytes(4096)):
            pass
    os.close(handle)
    with pytest.raises(EnvironmentFault) as caught:
        fill(cache, content="")
    assert caught.value.code == "disk-full"
    (small_disk / "filler").unlink()
    assert cache.known(URI) is None
    fill(cache)
    assert cache.known(URI) is not None


def test_a_cache_that_can_not_be_written_is_one_sentence(read_only_folder: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        fill(Cache(read_only_folder / "models", lambda: ()))
    assert caught.value.code == "read-only"


TAKES_TURNS = """
import sys, time
from pathlib import Path
from modelyard_kserve.storage.cache import Cache
folder, uri, log = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
cache = Cache(folder, lambda: ())
with cache.locked(uri):
    if cache.known(uri) is None:
        with cache.part(uri) as part:
            with log.open("a") as file:
                file.write("fetched\\n")
            time.sleep(0.3)
            (part / "files").mkdir()
            (part / "files" / "MLmodel").write_text("eins")
            cache.keep(uri, part / "files", None)
assert cache.known(uri) is not None
"""


def test_two_at_once_fetch_once(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "models"), URI, str(tmp_path / "log")]
    running = [subprocess.Popen([sys.executable, "-c", TAKES_TURNS, *arguments]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "fetched\n"
