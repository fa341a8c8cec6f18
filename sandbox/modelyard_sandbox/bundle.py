"""One file that a sandbox boots from without a network: images, node image, manifests and a lock of its own.

A bundle is a tar, not compressed, because the layers in it are:

    bundle.json         format, platform, the lock, size and SHA-256 of every other member, its own checksum
    manifests/NAME      release files of other projects
    blobs/sha256/HEX    manifests, configurations and layers, each once

`bundle_writing.create` makes one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelyard_sandbox.archive import members_of, section
from modelyard_sandbox.errors import ImageFault, Unsupported
from modelyard_sandbox.lock import BundleLock, Digest, Platform, Size, StandIn, first_fault
from modelyard_sandbox.oci import (
    CHUNK,
    LARGEST_DOCUMENT,
    Blob,
    Image,
    Moved,
    canonical,
    damaged,
    digest_of,
    document,
    parse_json,
    read_image,
)

#: Of the format that is written and read here.
FORMAT = 1
INDEX_NAME = "bundle.json"
#: What members may be called.
MEMBER = re.compile(r"manifests/[A-Za-z0-9][A-Za-z0-9._-]{0,120}|blobs/sha256/[0-9a-f]{64}")


class Member(BaseModel):
    """A file in the bundle.

    Attributes:
        size: bytes.
        sha256: `sha256:` and 64 hexadecimal digits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    size: Size
    sha256: Digest


class Index(BaseModel):
    """What `bundle.json` says.

    Attributes:
        format: of the bundle.
        created: RFC 3339.
        modelyard: the version that made it.
        platform: of its images.
        lock: what stands in for which upstream image.
        members: every other file in the bundle, by name.
        checksum: of all the rest, as canonical JSON.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    format: Annotated[int, Field(ge=1)]
    created: str
    modelyard: str
    platform: Platform
    lock: BundleLock
    members: Mapping[str, Member]
    checksum: str = ""

    def content(self) -> bytes:
        """The bytes of `bundle.json`, with the checksum."""
        plain = self.model_dump(mode="json", by_alias=True, exclude={"checksum"})
        return canonical({**plain, "checksum": digest_of(canonical(plain))})


class Bundle:
    """A bundle file; a source of images.

    Args:
        path: the file. Only headers, manifests and configurations are read; `verify` reads all.

    Raises:
        ImageFault: `bundle-damaged` (cut off, or not what its index says), `bundle-version` (made by a newer
            modelyard).
        EnvironmentFault: it can't be read.
    """

    kind: Literal["bundle"] = "bundle"
    others: Mapping[str, str] = {}

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = self._members()
        self.index = self._read_index()
        self._check_members()
        self.images = self._read_images()

    @property
    def label(self) -> str:
        """See `Source.label`."""
        return str(self.path)

    @property
    def lock(self) -> BundleLock:
        """What stands in for which upstream image."""
        return self.index.lock

    @property
    def platform(self) -> str:
        """Of its images."""
        return self.index.platform

    @property
    def node_image(self) -> str | None:
        """The name of kind's node image, or None if the bundle brings none."""
        return self.lock.node.name if self.lock.node else None

    def blob(self, blob: Blob) -> BinaryIO:
        """See `Source.blob`."""
        place = self._at.get(blob.path)
        if place is None:
            raise damaged(self, f"it lacks the blob {blob.digest[:19]}…")
        return section(self.path, *place)

    def manifest(self, name: str) -> bytes | None:
        """A release file, verified; None: the bundle does not bring it.

        Raises:
            ImageFault: `bundle-damaged`.
        """
        member = self.index.members.get(f"manifests/{name}")
        return self._read(f"manifests/{name}", member) if member else None

    def require(self, references: Iterable[str], platform: str) -> None:
        """Check that it can serve this machine.

        Raises:
            ImageFault: `bundle-missing-image`, with the first upstream reference that it lacks.
            Unsupported: `image-platform`: it was made for another platform.
        """
        if platform != self.platform:
            raise Unsupported(
                "image-platform",
                f"{self.path} was made for {self.platform}; this machine is {platform}",
                "make a bundle on such a machine: modelyard sandbox bundle create",
            )
        for reference in references:
            self.lock.image(reference)

    def verify(self, moved: Moved | None = None) -> None:
        """Read every byte and compare it with the index.

        Raises:
            ImageFault: `bundle-damaged`, with the member's name.
        """
        total, done = sum(member.size for member in self.index.members.values()), 0
        for name, member in self.index.members.items():
            hashed = hashlib.sha256()
            with section(self.path, *self._at[name]) as file:
                while chunk := file.read(CHUNK):
                    hashed.update(chunk)
                    done += len(chunk)
                    if moved:
                        moved(done, total)
            self._compare(name, member, "sha256:" + hashed.hexdigest())

    # -- reading ----------------------------------------------------------------------------

    def _members(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        try:
            for member in members_of(self.path):
                if not member.isreg() or member.issparse() or member.name in found:
                    raise damaged(self, f"its member {member.name[:80]!r} is no plain file, or there twice")
                if (member.name == INDEX_NAME) != (not found) or (
                    found and not MEMBER.fullmatch(member.name)
                ):
                    raise damaged(self, f"it holds {member.name[:80]!r}, which is not of a bundle")
                found[member.name] = (member.offset_data, member.size)
        except ImageFault as fault:
            if fault.code == "archive-unreadable":
                raise damaged(self, fault.message.partition(": ")[2]) from None
            raise
        if not found:
            raise damaged(self, "it is empty")
        return found

    def _read_index(self) -> Index:
        start, size = self._at.pop(INDEX_NAME)
        if size > LARGEST_DOCUMENT:
            raise damaged(self, f"its {INDEX_NAME} has {size} bytes")
        with section(self.path, start, size) as file:
            content = file.read()
        found = parse_json(self, content)
        version = found.get("format")
        if type(version) is int and version > FORMAT:
            raise ImageFault(
                "bundle-version",
                f"{self.path} has format {version}; this version of modelyard reads format {FORMAT}",
                "upgrade modelyard, or make the bundle with this version: modelyard sandbox bundle create",
            )
        plain = {key: value for key, value in found.items() if key != "checksum"}
        if found.get("checksum") != digest_of(canonical(plain)):
            raise damaged(self, f"the checksum of its {INDEX_NAME} is wrong")
        try:
            return Index.model_validate_json(content)
        except ValidationError as fault:
            raise damaged(self, f"{INDEX_NAME}: {first_fault(fault)}") from None

    def _check_members(self) -> None:
        missing = sorted(set(self.index.members) - set(self._at))
        if missing:
            raise damaged(self, f"it lacks {missing[0]}" + _and_more(missing))
        surplus = sorted(set(self._at) - set(self.index.members))
        if surplus:
            raise damaged(self, f"it holds {surplus[0]}, which its index does not name" + _and_more(surplus))
        for name, member in self.index.members.items():
            if self._at[name][1] != member.size:
                raise damaged(self, f"{name} has {self._at[name][1]} bytes, not {member.size}")
            if name.startswith("blobs/") and name[13:] != member.sha256[7:]:
                raise damaged(self, f"{name} has another name than its SHA-256")

    def _read_images(self) -> dict[str, Image]:
        stand_ins = [*self.lock.listed, *([self.lock.node] if self.lock.node else [])]
        return {stand_in.name: self._image(stand_in) for stand_in in stand_ins}

    def _image(self, stand_in: StandIn) -> Image:
        place = self.index.members.get("blobs/" + stand_in.digest.replace(":", "/"))
        size = place.size if place else 0
        content = document(self, Blob(stand_in.digest, size, stand_in.media_type))
        image = read_image(self, stand_in.name, content, stand_in.media_type)
        said = (stand_in.config_digest, stand_in.platform, stand_in.size)
        if (image.config.digest, image.platform, image.size) != said or image.platform != self.platform:
            raise damaged(self, f"{stand_in.name} is not the image that its lock describes")
        for blob in image.blobs:
            if (found := self.index.members.get(blob.path)) is None or found.size != blob.size:
                raise damaged(self, f"{stand_in.name} lacks the blob {blob.digest[:19]}…")
        return image

    def _read(self, name: str, member: Member) -> bytes:
        with section(self.path, *self._at[name]) as file:
            content = file.read()
        self._compare(name, member, digest_of(content))
        return content

    def _compare(self, name: str, member: Member, actual: str) -> None:
        if actual != member.sha256:
            raise damaged(self, f"{name} has the SHA-256 {actual[7:19]}…, not {member.sha256[7:19]}…")


def _and_more(names: list[Any]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""
