"""DVC's content-addressed objects on disk: where they lie, what they hold, whether it is true.

DVC hands out damaged bytes of its cache without a word (a read-only object is never hashed again),
so everything that leaves or enters through us is read and compared here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from modelyard.digests import manifest_digest
from modelyard.errors import CorruptStateError


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a version: its path inside the data set (empty for a single file) and its MD5."""

    path: str
    oid: str


@dataclass(frozen=True, slots=True)
class Content:
    """What a version holds: SHA-256 of its manifest, bytes, and number of files."""

    digest: str
    size: int
    files: int


class Damaged(Exception):
    """An object holds other bytes than its name says."""

    def __init__(self, path: Path, entry: Entry) -> None:
        super().__init__(str(path))
        self.path = path
        self.entry = entry


def object_path(store: Path, oid: str) -> Path:
    """Where the object lies below `files/md5`.

    Example:
        >>> object_path(Path("cache"), "d41d8cd98f00b204e9800998ecf8427e").as_posix()
        'cache/d4/1d8cd98f00b204e9800998ecf8427e'
    """
    return store / oid[:2] / oid[2:]


def entries(version: str, store: Path) -> list[Entry] | None:
    """The files of a version; None if the store lacks the listing of the folder.

    Raises:
        Damaged: the listing is not the one that was stored.
        CorruptStateError: `data-corrupt`: a file of it would land outside its folder.
    """
    if not version.endswith(".dir"):
        return [Entry("", version)]
    path = object_path(store, version)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() != version.removesuffix(".dir"):
        raise Damaged(path, Entry("", version))
    listed = [Entry(file["relpath"], file["md5"]) for file in json.loads(raw)]
    for entry in listed:
        # DVC would follow a listing out of the folder; whoever wrote such a one means no good.
        inside = PurePosixPath(entry.path)
        if inside.is_absolute() or ".." in inside.parts:
            raise CorruptStateError(
                "data-corrupt", f"{path} lists '{entry.path}', which lies outside of its folder"
            )
    return listed


def needed(version: str, listed: Iterable[Entry]) -> set[str]:
    """The names of all objects of a version, the folder's listing included."""
    return {version, *(entry.oid for entry in listed)}


def absent(store: Path, oids: Iterable[str]) -> set[str]:
    """Those objects that the store lacks."""
    return {oid for oid in oids if not object_path(store, oid).is_file()}


def sizes(store: Path, oids: Iterable[str]) -> Iterator[int]:
    """Bytes of each of those objects that the store has."""
    for oid in oids:
        path = object_path(store, oid)
        if path.is_file():
            yield path.stat().st_size


def total_size(store: Path, listed: Sequence[Entry]) -> int | None:
    """Bytes of the version's files in the store; None if one is missing. Reads no contents."""
    try:
        return sum(object_path(store, entry.oid).stat().st_size for entry in listed)
    except OSError:
        return None


def damaged(store: Path, listed: Iterable[Entry]) -> Iterator[Damaged]:
    """The objects that are there and hold other bytes than their name says."""
    for entry in {entry.oid: entry for entry in listed}.values():
        path = object_path(store, entry.oid)
        if path.is_file() and _read(path)[0] != entry.oid.removesuffix(".dir"):
            yield Damaged(path, entry)


def content(store: Path, listed: Sequence[Entry]) -> Content:
    """Read all objects of a version once: check each MD5, and make the SHA-256 manifest.

    Raises:
        Damaged: an object holds other bytes.
        FileNotFoundError: an object is missing.
    """
    known: dict[str, tuple[str, int]] = {}
    for entry in listed:
        if entry.oid not in known:
            path = object_path(store, entry.oid)
            md5, sha256, size = _read(path)
            if md5 != entry.oid:
                raise Damaged(path, entry)
            known[entry.oid] = sha256, size
    manifest = _manifest((entry.path, *known[entry.oid]) for entry in listed)
    return Content(manifest_digest(manifest), sum(file["size"] for file in manifest), len(manifest))


def differing(path: Path, listed: Sequence[Entry]) -> Iterator[str]:
    """The files of the working tree that don't hold what the version says, by path inside it."""
    for entry in listed:
        file = path / entry.path if entry.path else path
        if not file.is_file() or _read(file)[0] != entry.oid:
            yield entry.path


def _manifest(files: Iterable[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """The same shape as `modelyard.digests.manifest`, so that the digests are equal."""
    made = [{"path": path, "size": size, "sha256": sha256} for path, sha256, size in files]
    return sorted(made, key=lambda file: str(file["path"]))


def _read(path: Path) -> tuple[str, str, int]:
    """MD5, SHA-256 and size of a file, in one pass."""
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            md5.update(piece)
            sha256.update(piece)
            size += len(piece)
    return md5.hexdigest(), sha256.hexdigest(), size
