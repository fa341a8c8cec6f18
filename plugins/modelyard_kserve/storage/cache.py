"""Models that were fetched, by the digest of their files: `models/DIGEST/` in the provider's folder.

Beside them lie notes of what was found at which address (`KEY.json`), locks, and folders that are being
filled (`KEY.*.part`). A folder gets its name as a digest when it is whole, by one rename; whoever is killed
before leaves a part, which nobody takes for a model and the next fetch removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from modelyard.digests import model_digest
from modelyard.errors import CorruptStateError
from modelyard.records import now
from modelyard.state import locked, os_errors, read_json, sync_folder, write_json
from modelyard_kserve.storage.uris import key_of, shown

#: Seconds for which a model is kept that no revision uses: commands that are about to use it have the time.
_GRACE = 3600.0
#: Seconds that a command waits for another one that fetches from the same address.
_PATIENCE = 6 * 3600.0


@dataclass(frozen=True)
class Known:
    """What was found at an address the last time.

    Attributes:
        version: what the place called it then, e.g. an ETag; None: the place does not say.
        fetched: when, as ISO 8601.
    """

    uri: str
    digest: str
    version: str | None
    fetched: str


class Cache:
    """The fetched models of a project.

    Args:
        folder: it lies in; made with the first model.
        used: the digests of what revisions use now; None: that can't be known, so nothing is removed.
    """

    def __init__(self, folder: Path, used: Callable[[], Collection[str] | None]) -> None:
        self._folder, self._used = folder, used

    def locked(self, uri: str, *, timeout: float = _PATIENCE) -> AbstractContextManager[None]:
        """Nobody else fetches from the address meanwhile; the system frees it if we die.

        Raises:
            ConflictError: `locked`: somebody did, all the time.
        """
        return locked(self._lock(key_of(uri)), timeout=timeout, doing=f"fetching {shown(uri)}")

    def known(self, uri: str) -> Known | None:
        """What was found at the address, if its files are still here, each byte of them."""
        found = _read(self._note(key_of(uri)))
        if found is None or not (entry := self.path(found.digest)).is_dir():
            return None
        self._touch(entry)
        return found if model_digest(entry) == found.digest else None

    def path(self, digest: str) -> Path:
        """Where the files with the digest lie."""
        return self._folder / digest

    @contextlib.contextmanager
    def part(self, uri: str) -> Iterator[Path]:
        """A new folder to fetch into, for who holds the lock; gone after the block, unless it was kept."""
        self._sweep(key_of(uri))
        part = self._folder / f"{key_of(uri)}.{secrets.token_hex(4)}.part"
        with os_errors(part):
            part.mkdir(parents=True)
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def keep(self, uri: str, files: Path, version: str | None) -> Known:
        """Make a model of the files, which are whole now."""
        for folder in list(files.rglob("__pycache__")):
            # It is no part of a model's digest, so nobody would see another one in its place.
            shutil.rmtree(folder, ignore_errors=True)
        digest = model_digest(files)
        entry = self.path(digest)
        with os_errors(entry), locked(self._lock("keep"), doing="keeping a fetched model"):
            if entry.is_dir() and model_digest(entry) != digest:
                # Somebody changed it. What has loaded it does not look again.
                entry.replace(entry.with_name(f"{digest}.{secrets.token_hex(4)}.part"))
            _flush(files)
            try:
                files.replace(entry)
            except OSError as fault:
                if fault.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            self._touch(entry)
            sync_folder(self._folder)
        found = Known(shown(uri), digest, version, now().isoformat())
        write_json(self._note(key_of(uri)), asdict(found))
        return found

    @staticmethod
    def _touch(entry: Path) -> None:
        """Somebody is about to use it."""
        with contextlib.suppress(OSError):
            os.utime(entry)

    def _sweep(self, ours: str) -> None:
        """Remove what killed commands left, and models that no revision uses."""
        with contextlib.suppress(OSError):
            for part in self._folder.glob("*.part"):
                with self._if_free(part.name.partition(".")[0], ours) as free:
                    if free:
                        shutil.rmtree(part, ignore_errors=True)
            used = self._used()
            if used is None:
                return
            for entry in self._folder.iterdir():
                idle = time.time() - entry.stat().st_mtime
                if entry.is_dir() and not entry.suffix and entry.name not in used and idle > _GRACE:
                    shutil.rmtree(entry, ignore_errors=True)
            for note in self._folder.glob("*.json"):
                found = _read(note)
                if found is None or not self.path(found.digest).is_dir():
                    note.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _if_free(self, key: str, ours: str) -> Iterator[bool]:
        import filelock

        if key == ours:
            yield True
            return
        lock = filelock.FileLock(self._lock(key), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _lock(self, key: str) -> Path:
        return self._folder / f"{key}.lock"

    def _note(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def _read(note: Path) -> Known | None:
    """A note; None for one that is damaged, or not there."""
    try:
        found = Known(**read_json(note))
    except (CorruptStateError, TypeError):
        return None
    return found if found.digest and all(isinstance(v, str) for v in (found.digest, found.fetched)) else None


def _flush(folder: Path) -> None:
    """Have the disk hold every byte before the name says so."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
