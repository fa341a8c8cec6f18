"""Which images the stack runs (the lock), and what stands in for them in a bundle (the bundle's own lock)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from modelyard.errors import UsageError
from modelyard_sandbox.errors import ImageFault
from modelyard_sandbox.oci import normal

#: Characters in the name of an image.
LONGEST_NAME = 400
#: `host/repository:tag`; a tag, because a digest does not survive that another image stands in for it.
_REFERENCE = re.compile(
    r"[a-z0-9.-]{1,200}(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
)


def reference(name: str) -> str:
    """The name that somebody wrote, in full.

    >>> reference("postgres:17")
    'docker.io/library/postgres:17'

    Raises:
        UsageError: `image-name`: it is no `repository:tag`.
    """
    found = normal(name)
    if not _REFERENCE.fullmatch(found) or len(found) > LONGEST_NAME:
        raise UsageError(
            "image-name", f"'{name}' does not name an image", "write it as repository:tag, without a digest"
        )
    return found


def _full(name: str) -> str:
    try:
        full = reference(name)
    except UsageError as fault:
        raise ValueError(f"{fault.message}: {fault.hint}") from None
    if full != name:
        raise ValueError(f"'{name}' must be written in full: {full}")
    return name


Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Reference = Annotated[str, Field(min_length=1), AfterValidator(_full)]
Platform = Annotated[str, Field(pattern=r"^[a-z0-9]+/[a-z0-9]+$")]
Size = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class LockedImage(_Record):
    """An image that the stack runs.

    Attributes:
        reference: `repository:tag`, in full.
        digest: of what the tag names (the index, where there are several platforms); None: nobody has
            read it yet. What the tag names when it is pulled for the first time is remembered with the
            pulled images, and stays so on this machine.
        platforms: for which it is published.
        size: bytes to download, None: unknown.
        build: it is ours and is built on this machine, never pulled.
        source: where the digest was read; required with one.
    """

    reference: Reference
    digest: Digest | None = None
    platforms: Annotated[tuple[Platform, ...], Field(strict=False, min_length=1)]
    size: Size | None = None
    build: bool = False
    source: str | None = None

    @model_validator(mode="after")
    def _digest_has_a_source(self) -> LockedImage:
        if self.digest and not self.source:
            raise ValueError("a digest needs the source where it was read")
        return self


class Lock(_Record):
    """Every image that the stack may run.

    Attributes:
        version: of this format.
        node: kind's node image.
        listed: the other images.
    """

    version: Literal[1]
    node: LockedImage
    listed: Annotated[tuple[LockedImage, ...], Field(alias="images", strict=False)]

    @classmethod
    def load(cls) -> Lock:
        """The lock that belongs to this version."""
        return cls.model_validate_json((files("modelyard_sandbox") / "images.lock.json").read_bytes())

    @model_validator(mode="after")
    def _named_once(self) -> Lock:
        names = [image.reference for image in self.listed]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is listed twice")
        return self

    @cached_property
    def images(self) -> Mapping[str, LockedImage]:
        """The images by their references; without the node's."""
        return {image.reference: image for image in self.listed}

    def entry(self, name: str, platform: str) -> LockedImage:
        """What is known of an image, kind's node image among them.

        Args:
            name: its upstream reference. The images of other people's components are in no lock: what
                their tags name is taken.
            platform: of this machine, e.g. `linux/amd64`.

        Raises:
            UsageError: `image-name`.
        """
        if name == self.node.reference:
            return self.node
        return self.images.get(name) or LockedImage(reference=reference(name), platforms=(platform,))


class StandIn(_Record):
    """The image that stands in for an upstream one in a bundle.

    Attributes:
        reference: the upstream one.
        name: the image's name in the node.
        digest: of its manifest.
        media_type: of its manifest.
        config_digest: of its configuration; Docker's image id.
        platform: e.g. `linux/amd64`.
        size: bytes of its blobs.
    """

    reference: Reference
    name: Reference
    digest: Digest
    media_type: str
    config_digest: Digest
    platform: Platform
    size: Size


class BundleLock(_Record):
    """What a bundle holds.

    Attributes:
        node: kind's node image, or None.
        listed: the other images.
    """

    node: StandIn | None
    listed: Annotated[tuple[StandIn, ...], Field(alias="images", strict=False)]

    @cached_property
    def images(self) -> Mapping[str, StandIn]:
        """The stand-ins by upstream reference; without the node's."""
        return {image.reference: image for image in self.listed}

    def image(self, reference: str) -> StandIn:
        """What stands in for an upstream reference.

        Raises:
            ImageFault: `bundle-missing-image`.
        """
        if found := self.images.get(reference):
            return found
        raise missing_from("the bundle", reference)


def missing_from(bundle: object, reference: str) -> ImageFault:
    """The fault of a bundle that has nothing in the place of an upstream image."""
    return ImageFault(
        "bundle-missing-image",
        f"{bundle} has nothing that stands in for {reference}",
        "leave its component out (--without), or make the bundle anew: modelyard sandbox bundle create",
    )


def first_fault(fault: ValidationError) -> str:
    """The first thing that is wrong, with the path that leads to it."""
    found: Any = fault.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in found["loc"])
    said = str(found["msg"]).removeprefix("Value error, ")
    return f"{where}: {said}" if where else said
