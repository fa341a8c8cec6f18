"""What the provider remembers between commands, so that nothing is read or hashed twice.

All of it can be made again from the data: a damaged file here is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelyard.errors import CorruptStateError, EnvironmentFault
from modelyard.state import os_errors, read_json, write_json
from modelyard_dvc.objects import Content

# A file changed within the clock tick in which we looked at it has the same stamp as before. We
# therefore remember only what was last changed longer ago than any kernel's tick.
_TICK = 0.1
_HALF_COPIED = re.compile(r"\.[A-Za-z0-9_-]{22}\.tmp")


class Memory:
    """Files below `StageContext.state`; the caller holds the lock where it writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def content(self, version: str) -> Content | None:
        """What the version holds, if it was ever read on this machine."""
        found = _read(self._folder / "contents" / f"{version}.json")
        try:
            return Content(**found) if found else None
        except TypeError:
            return None

    def remember_content(self, version: str, content: Content) -> None:
        """Versions never change, so this stays true for ever."""
        values = {"digest": content.digest, "size": content.size, "files": content.files}
        write_json(self._folder / "contents" / f"{version}.json", values)

    def is_published(self, url: str, version: str) -> bool:
        """True once the remote was seen to hold all of the version."""
        return version in (_read(self._folder / "published.json") or {}).get(url, ())

    def remember_published(self, url: str, version: str, held: bool) -> None:
        """Note what a check of the remote found."""
        known = _read(self._folder / "published.json") or {}
        versions = set(known.get(url, ()))
        if held == (version in versions):
            return
        known[url] = sorted(versions | {version} if held else versions - {version})
        write_json(self._folder / "published.json", known)

    def is_unchanged(self, place: str, version: str, fingerprint: str | None) -> bool:
        """True when the working tree looks exactly as it did when it held that version."""
        seen = (_read(self._folder / "seen.json") or {}).get(place)
        return fingerprint is not None and seen == [version, fingerprint]

    def remember_seen(self, place: str, version: str, fingerprint: str | None) -> None:
        """The working tree holds the version, and looks like this."""
        seen = _read(self._folder / "seen.json") or {}
        if fingerprint is not None and seen.get(place) != [version, fingerprint]:
            seen[place] = [version, fingerprint]
            write_json(self._folder / "seen.json", seen)

    def parsed(self) -> dict[str, Any]:
        """The `.dvc` files as they were parsed last."""
        return _read(self._folder / "dvcfiles.json") or {}

    def remember_parsed(self, parsed: dict[str, Any]) -> None:
        """Keep them, unless one was written in this very moment, or the disk takes nothing: this
        is done while reading, and reading must work on a full disk too."""
        if any(time.time_ns() - entry["stamp"][1] < _TICK * 1e9 for entry in parsed.values()):
            return
        with contextlib.suppress(EnvironmentFault):
            write_json(self._folder / "dvcfiles.json", parsed)

    @contextlib.contextmanager
    def writing(self, place: str) -> Iterator[None]:
        """Note that DVC writes there, until it has done so: see `sweep`."""
        note = self._folder / "writing.json"
        write_json(note, place)
        yield
        with os_errors(note):
            note.unlink(missing_ok=True)

    def sweep(self, root: Path) -> None:
        """Remove the half-copied files that a killed checkout left in the working tree. DVC would take
        them for data of ours that a pull must not touch."""
        place = _read(self._folder / "writing.json")
        if not place:
            return
        whole = root / place
        for folder, _, names in os.walk(whole if whole.is_dir() else whole.parent):
            for name in filter(_HALF_COPIED.fullmatch, names):
                with os_errors(whole):
                    Path(folder, name).unlink(missing_ok=True)
            if not whole.is_dir():
                break

    def set_aside(self, path: Path) -> Path:
        """Move a damaged file away, keeping it for whoever wants to look at it."""
        target = self._folder / "damaged" / f"{path.parent.name}{path.name}-{time.time_ns()}"
        with os_errors(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
        return target


def stamp(file: Path) -> list[int]:
    """What changes when the file does: inode, the time of its last change, size."""
    now = file.stat()
    return [now.st_ino, now.st_ctime_ns, now.st_mtime_ns, now.st_size]


def fingerprint(path: Path) -> str | None:
    """SHA-256 over the stamps of a file or of all files in a folder; None when it can't be relied on
    (something was changed just now, or is not a plain file). Reads no contents."""
    whole = hashlib.sha256()
    newest = 0
    now = time.time_ns()
    for file in _walk(path):
        try:
            found = os.lstat(file)
        except OSError:
            return None
        newest = max(newest, found.st_ctime_ns)
        parts = (file, found.st_mode, found.st_ino, found.st_ctime_ns, found.st_mtime_ns, found.st_size)
        whole.update(repr(parts).encode("utf-8", "surrogateescape"))
    return whole.hexdigest() if newest and now - newest > _TICK * 1e9 else None


def _walk(path: Path) -> Iterator[str]:
    yield str(path)
    if path.is_symlink() or not path.is_dir():
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted((*folders, *names)):
            yield f"{folder}{os.sep}{name}"


def _read(file: Path) -> Any:
    try:
        return read_json(file)
    except CorruptStateError:
        return None
