"""Archives of images, read without unpacking them: OCI layouts in a tar, and what `docker save` writes."""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

from modelyard.state import os_errors
from modelyard_sandbox.errors import ImageFault
from modelyard_sandbox.oci import (
    CHUNK,
    CONFIG,
    INDEXES,
    LARGEST_DOCUMENT,
    LAYER,
    MANIFEST,
    MANIFESTS,
    NAME,
    Blob,
    Image,
    canonical,
    damaged,
    digest_of,
    document,
    entries_of,
    is_digest,
    mapping,
    normal,
    parse_blob,
    parse_json,
    platform_of,
    read_image,
)

_REF_NAME = "org.opencontainers.image.ref.name"


class Archive:
    """An archive of images: an OCI layout in a tar, or what `docker save` writes.

    Args:
        path: the file, not compressed.
        platform: of the images that are wanted where there is a choice.

    Raises:
        ImageFault: `archive-unreadable`: it is no such archive; `archive-damaged`.
        EnvironmentFault: it can't be read.
    """

    kind: Literal["archive"] = "archive"

    def __init__(self, path: Path, platform: str = "linux/amd64") -> None:
        self.path, self._platform = path, platform
        self.members = tar_members(path)
        self._at: dict[str, tuple[int, int]] = {}
        #: Names of images that it holds for other platforms only, and which.
        self.others: dict[str, str] = {}
        self.images: dict[str, Image] = {}
        if "index.json" in self.members:
            self._read_layout()
        elif "manifest.json" in self.members:
            self._read_docker()
        else:
            raise unreadable(path, "it has neither index.json nor manifest.json")

    @property
    def label(self) -> str:
        """See `Source.label`."""
        return str(self.path)

    def blob(self, blob: Blob) -> BinaryIO:
        """See `Source.blob`."""
        place = self._at.get(blob.digest) or self._member(blob.path)
        if place is None:
            raise damaged(self, f"it lacks the blob {blob.digest[:19]}…")
        return section(self.path, *place)

    # -- OCI layout -------------------------------------------------------------------------

    def _read_layout(self) -> None:
        index = parse_json(self, self._small("index.json"))
        tags = self._docker_names()
        for entry in entries_of(self, index):
            for name in self._names(entry, tags):
                self._add(name, parse_blob(self, entry))

    def _names(self, entry: Mapping[str, Any], tags: Mapping[str, list[str]]) -> list[str]:
        notes = mapping(entry.get("annotations"))
        full = notes.get(NAME) or notes.get(_REF_NAME) or ""
        if isinstance(full, str) and ("/" in full or ":" in full):
            return [normal(full)]
        # Only a tag, as some tools write it: the rest is in manifest.json.
        return tags.get(str(entry.get("digest")), [])

    def _docker_names(self) -> dict[str, list[str]]:
        """Manifest digest -> names, for layouts that keep their names in Docker's own manifest.json."""
        if "manifest.json" not in self.members:
            return {}
        by_config = {str(e.get("Config")): _names_in(e.get("RepoTags")) for e in self._docker_entries()}
        found: dict[str, list[str]] = {}
        for entry in entries_of(self, parse_json(self, self._small("index.json"))):
            blob = parse_blob(self, entry)
            if blob.media_type in MANIFESTS and self._has(blob):
                config = parse_blob(self, parse_json(self, document(self, blob)).get("config"))
                found[blob.digest] = by_config.get(config.path, [])
        return found

    def _add(self, name: str, blob: Blob) -> None:
        content = document(self, blob)
        if blob.media_type in MANIFESTS:
            self._keep(read_image(self, name, content, blob.media_type))
            return
        if blob.media_type not in INDEXES:
            raise damaged(self, f"{name} is '{blob.media_type}', which is no image")
        offered = [
            (platform_of(mapping(entry.get("platform"))), parse_blob(self, entry))
            for entry in entries_of(self, parse_json(self, content))
        ]
        # An engine saves the index whole, but of the images only those that it has.
        for platform, entry in offered:
            if platform == self._platform and entry.media_type in MANIFESTS and self._has(entry):
                self._add(name, entry)
                return
        self.others.setdefault(name, ", ".join(sorted({platform for platform, _ in offered})) or "nothing")

    def _keep(self, image: Image) -> None:
        if image.platform == self._platform:
            self.images[image.name] = image
            self.others.pop(image.name, None)
        elif image.name not in self.images:
            self.others[image.name] = image.platform

    def _has(self, blob: Blob) -> bool:
        return self._member(blob.path) is not None

    # -- what `docker save` wrote before it wrote OCI layouts ---------------------------------

    def _docker_entries(self) -> list[dict[str, Any]]:
        try:
            found = json.loads(self._small("manifest.json"))
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise damaged(self, "its manifest.json is no list")
        return found

    def _read_docker(self) -> None:
        for entry in self._docker_entries():
            name = str(entry.get("Config"))
            content = self._small(name)
            about = parse_json(self, content)
            config = Blob(digest_of(content), len(content), CONFIG)
            self._at[config.digest] = self.members[name.removeprefix("./")]
            layers = self._docker_layers(entry, mapping(about.get("rootfs")).get("diff_ids"))
            manifest = canonical(
                {
                    "schemaVersion": 2,
                    "mediaType": MANIFEST,
                    "config": config.descriptor(),
                    "layers": [layer.descriptor() for layer in layers],
                }
            )
            for tag in _names_in(entry.get("RepoTags")):
                self._keep(Image(tag, manifest, MANIFEST, platform_of(about), config, layers))

    def _docker_layers(self, entry: Mapping[str, Any], diffs: object) -> tuple[Blob, ...]:
        files = entry.get("Layers")
        if not isinstance(files, list) or not isinstance(diffs, list) or len(files) != len(diffs):
            raise damaged(self, f"the layers of {entry.get('RepoTags')} do not fit its configuration")
        return tuple(self._docker_layer(str(file), diff) for file, diff in zip(files, diffs))

    def _docker_layer(self, name: str, diff: object) -> Blob:
        place = self._member(name)
        if place is None or not is_digest(diff):
            raise damaged(self, f"it lacks the layer {name[:60]}")
        digest = str(diff)
        with section(self.path, *place) as file:
            packed = file.read(2) == b"\x1f\x8b"
        if packed:  # its hash is written nowhere: the configuration has that of what is inside
            with section(self.path, *place) as file:
                digest = _hash(file)
        self._at[digest] = place
        return Blob(digest, place[1], LAYER + "+gzip" if packed else LAYER)

    # -- the tar ----------------------------------------------------------------------------

    def _member(self, name: str) -> tuple[int, int] | None:
        return self.members.get(name.removeprefix("./"))

    def _small(self, name: str) -> bytes:
        place = self._member(name)
        if place is None:
            raise damaged(self, f"it lacks {name[:100]}")
        if place[1] > LARGEST_DOCUMENT:
            raise damaged(self, f"its {name[:100]} has {place[1]} bytes")
        with section(self.path, *place) as file:
            return file.read()


class _Section(io.RawIOBase):
    def __init__(self, path: Path, file: io.FileIO, start: int, size: int) -> None:
        super().__init__()
        self._path, self._file = path, file
        self._start, self._size, self._place = start, size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._place)]
        with os_errors(self._path):
            self._file.seek(self._start + self._place)
            count = self._file.readinto(view)
        self._place += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def section(path: Path, start: int, size: int) -> BinaryIO:
    """A part of a file, as a file with a position of its own.

    Raises:
        EnvironmentFault: the file can't be read.
    """
    with os_errors(path):
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with the section
    return io.BufferedReader(_Section(path, file, start, size), CHUNK)


def tar_members(path: Path) -> dict[str, tuple[int, int]]:
    """Where the files of a tar lie: name -> offset and size. Links within it are followed.

    Raises:
        ImageFault: `archive-unreadable`: it is no tar, or cut off.
        EnvironmentFault: it can't be read.
    """
    found: dict[str, tuple[int, int]] = {}
    links: dict[str, str] = {}
    for member in members_of(path):
        name = member.name.removeprefix("./")
        if member.issym() or member.islnk():
            folder = posixpath.dirname(name) if member.issym() else ""
            links[name] = posixpath.normpath(posixpath.join(folder, member.linkname))
        elif member.isreg() and not member.issparse():
            found[name] = (member.offset_data, member.size)
    # `docker save` before version 25 links a layer that several images share.
    for name, target in links.items():
        if target in found:
            found.setdefault(name, found[target])
    return found


def members_of(path: Path) -> Iterator[tarfile.TarInfo]:
    """The members of a tar; only their headers are read.

    Raises:
        ImageFault: `archive-unreadable`.
        EnvironmentFault: it can't be read.
    """
    with os_errors(path), open(path, "rb") as file:
        end = file.seek(0, io.SEEK_END)
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if member.size < 0:  # it would lead back to itself
                        raise unreadable(path, "it is damaged")
                    if member.offset_data + (member.size if member.isreg() else 0) > end:
                        raise unreadable(path, "it is cut off")
                    yield member
        # The last three are tarfile's answer to numbers in headers that can't be.
        except (tarfile.TarError, ValueError, OverflowError, MemoryError) as fault:
            raise unreadable(path, " ".join(str(fault).split())[:200] or "it is damaged") from None


def unreadable(path: Path, why: str) -> ImageFault:
    """The fault of a file that is no archive of images."""
    return ImageFault(
        "archive-unreadable",
        f"{path} is not an archive of images: {why}",
        "it must be an uncompressed OCI or `docker save` archive; of a compressed one: gunzip FILE",
    )


def _hash(file: BinaryIO) -> str:
    hashed = hashlib.sha256()
    while chunk := file.read(CHUNK):
        hashed.update(chunk)
    return "sha256:" + hashed.hexdigest()


def _names_in(tags: object) -> list[str]:
    return [normal(tag) for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
