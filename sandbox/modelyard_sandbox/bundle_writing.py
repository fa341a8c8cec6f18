"""Making a bundle: from archives, from the Docker engine, from what was pulled, in any mixture."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from modelyard import __version__
from modelyard.errors import ConfigError, ConflictError, UsageError
from modelyard.state import os_errors, sync_folder
from modelyard_sandbox.bundle import FORMAT, INDEX_NAME, MEMBER, Bundle, Index, Member
from modelyard_sandbox.errors import ImageFault
from modelyard_sandbox.lock import LONGEST_NAME, BundleLock, StandIn, reference
from modelyard_sandbox.oci import (
    CONFIG,
    END,
    LAYER,
    MANIFEST,
    Blob,
    Image,
    Moved,
    Source,
    canonical,
    chunks,
    find,
    header,
    padding,
)

_PLAIN_LAYERS = (LAYER, "application/vnd.docker.image.rootfs.diff.tar")


def create(
    out: Path,
    *,
    references: Iterable[str],
    node: str | None,
    sources: Sequence[Source],
    platform: str,
    stand_ins: Mapping[str, str] | None = None,
    manifests: Mapping[str, bytes] | None = None,
    moved: Moved | None = None,
) -> Bundle:
    """Make a bundle; it appears under its name only when it is whole.

    Layers that are not compressed are: reading 1.7 GB of them into a node takes 20 s, their compressed
    0.5 GB 7 s.

    Args:
        out: the file; an existing one is replaced.
        references: the upstream images that it is to hold, in full.
        node: the one of them that is kind's node image; None: the bundle brings none.
        sources: what holds images; the first that has one gives it.
        platform: of the images, e.g. `linux/amd64`.
        stand_ins: upstream reference -> name in a source, where it is another.
        manifests: the content of release files, by name.
        moved: gets bytes done and in all.

    Returns:
        The bundle, opened.

    Raises:
        ImageFault: `bundle-missing-image`, naming every reference without an image; `archive-damaged`,
            `store-damaged`.
        Unsupported: `image-platform`.
        ConflictError: `bundle-busy`: another command writes the same file.
        UsageError: `image-name`, `release-name`.
        EnvironmentFault: `disk-full`, `read-only`; no file is left behind.
    """
    names = {name: reference((stand_ins or {}).get(name, name)) for name in references}
    chosen = _choose(names, sources)
    for name in manifests or ():
        if not MEMBER.fullmatch(f"manifests/{name}"):
            raise UsageError("release-name", f"'{name}' can't be the name of a file in a bundle")
    part = out.with_name(out.name + ".part")
    with os_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with _alone(part) as file:
            try:
                _Writing(file, chosen, node, manifests or {}, platform, moved).run()
                file.flush()
                os.fsync(file.fileno())
                part.replace(out)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        sync_folder(out.parent)
    return Bundle(out)


def read_stand_ins(path: Path) -> dict[str, str]:
    """Which image of an archive stands in for which upstream one, from a file.

    Args:
        path: TOML or JSON, one line each: `"docker.io/library/postgres:17" = "my/postgres:1"`.

    Raises:
        ConfigError: `stand-ins-invalid`.
        UsageError: `image-name`.
        EnvironmentFault: it can't be read.
    """
    with os_errors(path):
        content = path.read_text(encoding="utf-8", errors="replace")
    try:
        found = json.loads(content) if path.suffix == ".json" else _toml(content)
    except ValueError as fault:
        raise ConfigError(
            "stand-ins-invalid", f"{path} is not readable: {fault}", "correct the file"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise ConfigError(
            "stand-ins-invalid",
            f"{path} must name one image for each upstream one",
            'write lines like: "docker.io/library/postgres:17" = "my/postgres:1"',
        )
    return {reference(upstream): reference(name) for upstream, name in found.items()}


def _toml(content: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]
    found: dict[str, Any] = tomllib.loads(content)
    return found


def _choose(names: Mapping[str, str], sources: Sequence[Source]) -> dict[str, tuple[Image, Source]]:
    holders = {upstream: _holder(name, sources) for upstream, name in names.items()}
    missing = [upstream for upstream, source in holders.items() if source is None]
    if missing:
        one = missing[0]
        raise ImageFault(
            "bundle-missing-image",
            f"nothing stands in for {', '.join(missing)}",
            f"name what does (--from ARCHIVE, --stand-in {one}=NAME), or leave it out: --without-image {one}",
            details={"missing": missing},
        )
    return {name: (find(source, names[name]), source) for name, source in holders.items() if source}


def _holder(name: str, sources: Sequence[Source]) -> Source | None:
    """The first source that has the image, else the first that has it for another platform."""
    having = [source for source in sources if name in source.images]
    return next(iter(having or [source for source in sources if name in source.others]), None)


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[BinaryIO]:
    """The file, empty, for us alone."""
    while True:
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConflictError(
                    "bundle-busy", f"another command writes {part}", "wait for it to end, then run this again"
                ) from None
            # Whoever held it until now may have finished meanwhile: then this is the finished bundle.
            if _is_at(part, file):
                file.truncate(0)
                yield file
                return


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


class _Writing:
    """One bundle being written.

    The index comes first but is known last: room is kept for it, and what it does not need is blanks.
    """

    def __init__(
        self,
        file: BinaryIO,
        chosen: Mapping[str, tuple[Image, Source]],
        node: str | None,
        manifests: Mapping[str, bytes],
        platform: str,
        moved: Moved | None,
    ) -> None:
        self._file, self._chosen, self._node = file, chosen, node
        self._manifests, self._platform, self._moved = manifests, platform, moved
        self._members: dict[str, Member] = {}
        self._packed: dict[str, Blob] = {}
        large = {blob for image, _ in chosen.values() for blob in (image.config, *image.layers)}
        self._total, self._done = sum(blob.size for blob in large), 0
        # A member needs less than 256 bytes, a stand-in 512 and twice what names may have.
        members = len(large) + len(chosen) + len(manifests)
        self._room = 4096 + 256 * members + (512 + 2 * LONGEST_NAME) * len(chosen)

    def run(self) -> None:
        """Write all of it."""
        self._file.write(header(INDEX_NAME, self._room) + bytes(self._room) + padding(self._room))
        for name, content in self._manifests.items():
            self._copy(f"manifests/{name}", len(content), [content])
        images = {upstream: self._image(*held) for upstream, held in self._chosen.items()}
        self._file.write(END)
        index = self._index(images)
        if len(index) > self._room:
            raise AssertionError(f"the index needs {len(index)} bytes, not {self._room}")
        self._file.seek(512)
        self._file.write(index.ljust(self._room))

    def _index(self, images: Mapping[str, Image]) -> bytes:
        stand_ins = {upstream: _stand_in(upstream, image) for upstream, image in images.items()}
        node = stand_ins.pop(self._node) if self._node else None
        return Index(
            format=FORMAT,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            modelyard=__version__,
            platform=self._platform,
            lock=BundleLock(node=node, listed=tuple(stand_ins.values())),
            members=self._members,
        ).content()

    def _image(self, image: Image, source: Source) -> Image:
        """Write the image's blobs, and return it as it is in the bundle."""
        layers = tuple(self._layer(layer, source) for layer in image.layers)
        self._blob(image.config, source)
        if layers != image.layers:
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": replace(image.config, media_type=CONFIG).descriptor(),
                "layers": [layer.descriptor() for layer in layers],
            }
            image = replace(image, manifest=canonical(manifest), media_type=MANIFEST, layers=layers)
        self._copy(image.blobs[0].path, len(image.manifest), [image.manifest])
        return image

    def _layer(self, layer: Blob, source: Source) -> Blob:
        if layer.media_type not in _PLAIN_LAYERS:
            return self._blob(layer, source)
        if layer.digest not in self._packed:
            self._packed[layer.digest] = self._pack(layer, source)
        return self._packed[layer.digest]

    def _blob(self, blob: Blob, source: Source) -> Blob:
        self._copy(blob.path, blob.size, self._counted(chunks(source, blob)))
        return blob

    def _pack(self, layer: Blob, source: Source) -> Blob:
        """Compress a layer; its hash, which names it, and its size are put before it when they are known."""
        start = self._file.tell()
        self._file.write(bytes(512))
        # Level 1: the next ones take three times as long for a tenth less. 31: with gzip's header.
        packer, hashed = zlib.compressobj(1, zlib.DEFLATED, 31), hashlib.sha256()
        for chunk in self._counted(chunks(source, layer)):
            packed = packer.compress(chunk)
            hashed.update(packed)
            self._file.write(packed)
        packed = packer.flush()
        hashed.update(packed)
        self._file.write(packed)
        size = self._file.tell() - start - 512
        blob = Blob("sha256:" + hashed.hexdigest(), size, LAYER + "+gzip")
        self._file.seek(start)
        if blob.path in self._members:
            self._file.truncate()
            return blob
        self._file.write(header(blob.path, size))
        self._file.seek(0, os.SEEK_END)
        self._file.write(padding(size))
        self._members[blob.path] = Member(size=size, sha256=blob.digest)
        return blob

    def _copy(self, name: str, size: int, content: Iterable[bytes]) -> None:
        if name in self._members:
            return
        hashed = hashlib.sha256()
        self._file.write(header(name, size))
        for chunk in content:
            hashed.update(chunk)
            self._file.write(chunk)
        self._file.write(padding(size))
        self._members[name] = Member(size=size, sha256="sha256:" + hashed.hexdigest())

    def _counted(self, content: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in content:
            yield chunk
            self._done += len(chunk)
            if self._moved:
                self._moved(self._done, self._total)


def _stand_in(upstream: str, image: Image) -> StandIn:
    return StandIn(
        reference=upstream,
        name=image.name,
        digest=image.digest,
        media_type=image.media_type,
        config_digest=image.config.digest,
        platform=image.platform,
        size=image.size,
    )
