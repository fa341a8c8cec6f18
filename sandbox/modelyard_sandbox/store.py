"""Images that were pulled: a folder of blobs, named by their hashes, shared by all sandboxes."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

from modelyard.state import locked, os_errors, read_json, write_bytes, write_json
from modelyard_sandbox.errors import ImageFault, Unsupported
from modelyard_sandbox.folder import cache_folder
from modelyard_sandbox.lock import LockedImage
from modelyard_sandbox.oci import (
    CHUNK,
    INDEXES,
    MANIFESTS,
    Blob,
    Image,
    Moved,
    damaged,
    digest_of,
    document,
    entries_of,
    mapping,
    parse_blob,
    parse_json,
    platform_of,
    read_image,
)
from modelyard_sandbox.registry import Registries, Repository, Unreachable, unreachable

T = TypeVar("T")
R = TypeVar("R")

#: Tries in a row that bring nothing, and seconds between them, which double.
_TRIES, _PAUSE = 4, 0.5
#: More connections are no faster at registries, which limit each client as a whole.
_AT_ONCE = 4


@dataclass(frozen=True)
class _Missing:
    """A blob to fetch, and from where."""

    blob: Blob
    repository: Repository


@dataclass(frozen=True)
class _Found:
    """An image at its registry, and the digest of what its tag names."""

    image: Image
    pinned: str
    repository: Repository


class Store:
    """What was pulled, as a source of images. Files appear under their names when they are whole; one
    that was cut off is gone on with.

    Args:
        platform: of the images.
        registries: how to reach them.
        folder: where the blobs lie.
    """

    kind: Literal["store"] = "store"
    others: Mapping[str, str] = {}

    def __init__(
        self, platform: str, registries: Registries | None = None, folder: Path | None = None
    ) -> None:
        self._platform = platform
        self._registries = registries or Registries()
        self._folder = folder or cache_folder() / "images"
        self.images: dict[str, Image] = {}

    @property
    def label(self) -> str:
        """See `Source.label`."""
        return str(self._folder)

    def blob(self, blob: Blob) -> BinaryIO:
        """See `Source.blob`."""
        file = self._folder / blob.path
        if not file.exists():
            raise damaged(self, f"it lacks the blob {blob.digest[:19]}…")
        with os_errors(file):
            return open(file, "rb")

    def pull(
        self, wanted: Iterable[LockedImage], moved: Moved | None = None, *, offline: bool = False
    ) -> None:
        """Fetch what is missing; afterwards `images` has them all.

        Args:
            wanted: the images.
            moved: gets bytes done and in all; it is called from several threads, one after the other.
            offline: never ask a registry.

        Raises:
            ImageFault: `image-missing-offline`, `image-not-found`, `image-denied`, `rate-limited`,
                `untrusted-certificate`, `registry-unreachable`, or `image-mismatch`: the registry has
                something else under a pinned digest.
            Unsupported: `image-platform`.
            EnvironmentFault: `disk-full`.
        """
        with locked(self._folder / "pull.lock", timeout=3600, doing="pulling images"):
            unknown = []
            for entry in wanted:
                if known := self._known(entry):
                    self.images[entry.reference] = known
                else:
                    unknown.append(entry)
            if unknown and offline:
                raise ImageFault(
                    "image-missing-offline",
                    f"{unknown[0].reference} was never pulled on this machine",
                    "run once without --offline, or use a bundle: modelyard sandbox up --bundle FILE",
                )
            count = _Count(moved)
            found = _at_once(self._resolve, unknown, count)
            missing = {b.digest: _Missing(b, one.repository) for one in found for b in one.image.layers}
            for one in missing.values():
                count.expect(one.blob)
            # The largest first: the last one alone would leave the others idle.
            ordered = sorted(missing.values(), key=lambda one: -one.blob.size)
            _at_once(lambda one: self._fetch(one, count), ordered, count)
            if found:
                self._note(found)

    # -- what is there ----------------------------------------------------------------------

    def _known(self, entry: LockedImage) -> Image | None:
        """The image, if all of it is here."""
        note = mapping(mapping(read_json(self._notes)).get(self._key(entry.reference)))
        if not note or (entry.digest and note.get("pinned") != entry.digest):
            return None
        try:
            manifest = parse_blob(self, note.get("manifest"))
            image = read_image(self, entry.reference, document(self, manifest), manifest.media_type)
        except ImageFault:
            return None
        return image if all(self._has(blob) for blob in image.blobs) else None

    def _note(self, found: Iterable[_Found]) -> None:
        known = dict(mapping(read_json(self._notes)))
        for one in found:
            note = {"pinned": one.pinned, "manifest": one.image.blobs[0].descriptor()}
            known[self._key(one.image.name)] = note
            self.images[one.image.name] = one.image
        write_json(self._notes, known)

    @property
    def _notes(self) -> Path:
        return self._folder / "images.json"

    def _key(self, reference: str) -> str:
        return f"{reference} {self._platform}"

    def _has(self, blob: Blob) -> bool:
        try:
            return (self._folder / blob.path).stat().st_size == blob.size
        except OSError:
            return False

    # -- fetching ---------------------------------------------------------------------------

    def _resolve(self, entry: LockedImage) -> _Found:
        """The image for this platform; its manifest and configuration are in the folder afterwards."""
        if self._platform not in entry.platforms:
            raise self._unsupported(entry.reference, ", ".join(entry.platforms))
        repository = self._registries.repository(entry.reference)
        content, media = repository.manifest(entry.digest or entry.reference.rpartition(":")[2])
        pinned = digest_of(content)
        _require_digest(entry.reference, entry.digest or pinned, content)
        if media in INDEXES:
            chosen = self._choose(entry.reference, content)
            content, media = repository.manifest(chosen.digest)
            _require_digest(entry.reference, chosen.digest, content)
        if media not in MANIFESTS:
            raise ImageFault(
                "image-mismatch",
                f"{entry.reference} is '{media}' at {repository.host}, which is no image",
                "check the image's name, and that no login page of a network answers instead",
            )
        config = parse_blob(self, parse_json(self, content).get("config"))
        if not self._has(config):
            about = repository.config(config.digest)
            _require_digest(entry.reference, config.digest, about)
            write_bytes(self._folder / config.path, about)
        write_bytes(self._folder / "blobs" / digest_of(content).replace(":", "/"), content)
        image = read_image(self, entry.reference, content, media)
        if image.platform != self._platform:
            raise self._unsupported(entry.reference, image.platform)
        return _Found(image, pinned, repository)

    def _choose(self, reference: str, index: bytes) -> Blob:
        offered = {
            platform_of(mapping(entry.get("platform"))): parse_blob(self, entry)
            for entry in reversed(entries_of(self, parse_json(self, index)))
        }
        if self._platform not in offered:
            raise self._unsupported(reference, ", ".join(sorted(offered)))
        return offered[self._platform]

    def _unsupported(self, reference: str, platforms: str) -> Unsupported:
        return Unsupported(
            "image-platform",
            f"{reference} is published for {platforms}, not for {self._platform}",
            "leave its component out: --without COMPONENT",
        )

    def _fetch(self, missing: _Missing, count: _Count) -> None:
        """Fetch a blob; what an earlier try left is gone on with."""
        blob, file = missing.blob, self._folder / missing.blob.path
        if self._has(blob):
            count.at(blob, blob.size)
            return
        part = file.with_name(file.name + ".part")
        with os_errors(part):
            part.parent.mkdir(parents=True, exist_ok=True)
        in_vain = 0
        while True:
            before = _size(part)
            try:
                actual = _fetch_rest(part, missing, count)
            except Unreachable:
                in_vain = in_vain + 1 if _size(part) <= before else 0
                if in_vain == _TRIES or count.stop.wait(_PAUSE * 2**in_vain):
                    raise
                continue
            if actual == blob.digest:
                break
            with os_errors(part):
                part.unlink()
            if not before:
                raise ImageFault(
                    "image-mismatch",
                    f"{missing.repository.host}/{missing.repository.name} gives other bytes for the blob "
                    f"{blob.digest[:19]}…",
                    "run this again; if it stays so, the registry or the mirror is broken",
                )
            # Not the registry's fault, maybe: a crash of this machine may have damaged what was there.
        with os_errors(file):
            part.replace(file)


class _Count:
    """How much of what was fetched, by all threads; and whether they are to stop."""

    def __init__(self, moved: Moved | None) -> None:
        self._moved = moved
        self._sizes: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._lock = threading.Lock()
        self.stop = threading.Event()

    def expect(self, blob: Blob) -> None:
        """It will be fetched."""
        with self._lock:
            self._sizes[blob.digest] = blob.size

    def at(self, blob: Blob, done: int) -> None:
        """So many bytes of it are here."""
        with self._lock:
            self._done[blob.digest] = done
            if self._moved:
                self._moved(sum(self._done.values()), sum(self._sizes.values()))


class _Stop(Exception):
    """Another thread failed, or somebody interrupted."""


def _at_once(work: Callable[[T], R], items: Iterable[T], count: _Count) -> list[R]:
    """The results for all items, in their order; the first fault ends the others' work, too."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = [pool.submit(work, item) for item in items]
        try:
            ended, _ = wait(running, return_when=FIRST_EXCEPTION)
            for future in ended:
                future.result()
            return [future.result() for future in running]
        except BaseException:
            count.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch_rest(part: Path, missing: _Missing, count: _Count) -> str:
    """Fetch what the file lacks, and return the digest of all of it."""
    blob, repository = missing.blob, missing.repository
    hashed, have = hashlib.sha256(), 0
    with os_errors(part), open(part, "ab+") as file:
        file.seek(0)
        while chunk := file.read(CHUNK):
            hashed.update(chunk)
            have += len(chunk)
        if have < blob.size:
            answer, start = repository.blob(blob.digest, have)
            with answer:
                if start != have:
                    hashed, have = hashlib.sha256(), 0
                    file.truncate(0)
                while have < blob.size:
                    if count.stop.is_set():
                        raise _Stop
                    chunk = repository.read(answer, min(CHUNK, blob.size - have))
                    if not chunk:
                        raise unreachable(repository.host, ConnectionError("the connection ended early"))
                    file.write(chunk)
                    file.flush()
                    hashed.update(chunk)
                    have += len(chunk)
                    count.at(blob, have)
            os.fsync(file.fileno())
    return "sha256:" + hashed.hexdigest()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _require_digest(reference: str, digest: str, content: bytes) -> None:
    if digest_of(content) != digest:
        raise ImageFault(
            "image-mismatch",
            f"the registry has something else for {reference} than {digest[:19]}…",
            "if it stays so, the registry or the mirror is broken",
        )
