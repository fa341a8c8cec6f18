"""Container images: what they consist of, where they come from, and the archives that engines read.

Nothing is unpacked: blobs are streamed from where they lie to where they are needed, and hashed on the
way, so that memory stays constant and a blob that several images share is written once.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol

from modelyard_sandbox.errors import ImageFault, Unsupported

#: Bytes done, bytes in all.
Moved = Callable[[int, int], None]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFESTS = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NAME = "io.containerd.image.name"

CHUNK = 1 << 20
#: What a tar ends with.
END = bytes(1024)
#: Manifests and configurations are read whole; real ones have some kB.
LARGEST_DOCUMENT = 8 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """Content, named by its hash.

    Attributes:
        digest: `sha256:` and 64 hexadecimal digits.
        size: bytes.
        media_type: what it is.
    """

    digest: str
    size: int
    media_type: str

    @property
    def path(self) -> str:
        """Where it lies in an OCI layout."""
        return "blobs/" + self.digest.replace(":", "/")

    def descriptor(self) -> dict[str, Any]:
        """As manifests write it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one platform.

    Attributes:
        name: as containerd knows it, e.g. `docker.io/library/postgres:17`.
        manifest: the bytes of its manifest.
        media_type: of the manifest.
        platform: e.g. `linux/amd64`.
        config: its configuration; the digest is Docker's image id.
        layers: the lowest first.
    """

    name: str
    manifest: bytes
    media_type: str
    platform: str
    config: Blob
    layers: tuple[Blob, ...]

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return digest_of(self.manifest)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Its manifest, configuration and layers, each once."""
        manifest = Blob(self.digest, len(self.manifest), self.media_type)
        return tuple(dict.fromkeys((manifest, self.config, *self.layers)))

    @property
    def size(self) -> int:
        """Bytes of all its blobs."""
        return sum(blob.size for blob in self.blobs)


class Source(Protocol):
    """What holds images: an archive, a bundle, the store of pulled images."""

    @property
    def kind(self) -> Literal["archive", "bundle", "store"]:
        """What it is."""

    @property
    def label(self) -> str:
        """What to call it in a sentence."""

    @property
    def images(self) -> Mapping[str, Image]:
        """Its images for one platform, by name."""

    @property
    def others(self) -> Mapping[str, str]:
        """Images that it holds for other platforms only, by name, and which platforms these are."""

    def blob(self, blob: Blob) -> BinaryIO:
        """The blob's bytes, not yet verified; `chunks` verifies them.

        Raises:
            ImageFault: `archive-damaged`, `bundle-damaged` or `store-damaged`: it is not there.
        """


def damaged(source: Source, what: str) -> ImageFault:
    """The fault of a source that is not as it must be."""
    again = {
        "archive": "make the archive anew",
        "bundle": "copy the file again, or make it anew: modelyard sandbox bundle create",
        "store": f"remove what was pulled, then run this again: rm -r '{source.label}'",
    }
    return ImageFault(f"{source.kind}-damaged", f"{source.label} is damaged: {what}", again[source.kind])


# -- names and digests --------------------------------------------------------------------------


def normal(name: str) -> str:
    """The name as containerd and the kubelet write it.

    >>> normal("postgres:17"), normal("kserve/agent"), normal("ghcr.io/a/b:1")
    ('docker.io/library/postgres:17', 'docker.io/kserve/agent:latest', 'ghcr.io/a/b:1')
    """
    host, slash, rest = name.partition("/")
    if not slash:
        host, rest = "docker.io", f"library/{name}"
    elif not ("." in host or ":" in host or host == "localhost"):
        host, rest = "docker.io", name
    elif host in ("docker.io", "index.docker.io"):
        host, rest = "docker.io", rest if "/" in rest else f"library/{rest}"
    tagged = "@" in rest or ":" in rest.rpartition("/")[2]
    return f"{host}/{rest}" if tagged else f"{host}/{rest}:latest"


def digest_of(content: bytes) -> str:
    """The digest that names these bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def is_digest(text: object) -> bool:
    """Whether it is a SHA-256 digest; nothing else may become a file's name."""
    if not isinstance(text, str) or not text.startswith("sha256:"):
        return False
    hexadecimal = text[7:]
    return len(hexadecimal) == 64 and set(hexadecimal) <= set("0123456789abcdef")


# -- reading ------------------------------------------------------------------------------------


def chunks(source: Source, blob: Blob) -> Iterator[bytes]:
    """The blob's bytes; its size and hash are checked before the last of them is handed out.

    Raises:
        ImageFault: `archive-damaged`, `bundle-damaged` or `store-damaged`.
    """
    hashed, left, chunk = hashlib.sha256(), blob.size, b""
    with source.blob(blob) as file:
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise damaged(source, f"the blob {blob.digest[:19]}… ends {left} bytes early")
            left -= len(chunk)
            hashed.update(chunk)
            if left:
                yield chunk
    if "sha256:" + hashed.hexdigest() != blob.digest:
        raise damaged(source, f"the blob {blob.digest[:19]}… has the SHA-256 {hashed.hexdigest()[:12]}…")
    if chunk:
        yield chunk


def document(source: Source, blob: Blob) -> bytes:
    """A manifest or configuration, whole and verified.

    Raises:
        ImageFault: `archive-damaged`, `bundle-damaged` or `store-damaged`.
    """
    if blob.size > LARGEST_DOCUMENT:
        raise damaged(source, f"it holds a manifest or configuration of {blob.size} bytes")
    return b"".join(chunks(source, blob))


def parse_blob(source: Source, found: object) -> Blob:
    """A descriptor, checked.

    Raises:
        ImageFault: as `document`.
    """
    if isinstance(found, dict):
        digest, size, media = found.get("digest"), found.get("size"), found.get("mediaType", "")
        if is_digest(digest) and type(size) is int and size >= 0 and isinstance(media, str):
            return Blob(str(digest), size, media)
    raise damaged(source, f"it names a blob wrongly: {json.dumps(found)[:120]}")


def parse_json(source: Source, content: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ImageFault: as `document`.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise damaged(source, "it holds a document that is no JSON object")
    return found


def read_image(source: Source, name: str, manifest: bytes, media_type: str) -> Image:
    """An image by its manifest; the configuration says the platform.

    Raises:
        ImageFault: as `document`.
    """
    found = parse_json(source, manifest)
    layers = found.get("layers")
    if not isinstance(layers, list):
        raise damaged(source, f"the manifest of {name} names no layers")
    config = parse_blob(source, found.get("config"))
    about = parse_json(source, document(source, config))
    listed = tuple(parse_blob(source, layer) for layer in layers)
    return Image(name, manifest, media_type, platform_of(about), config, listed)


def entries_of(source: Source, index: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The descriptors that an index lists; attestations, which engines put beside images, left out.

    Raises:
        ImageFault: as `document`.
    """
    found = index.get("manifests")
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise damaged(source, "it holds an index that names no manifests")
    return [e for e in found if platform_of(mapping(e.get("platform"))) != "unknown/unknown"]


def platform_of(found: Mapping[str, Any]) -> str:
    """The platform that a configuration or an index's `platform` names.

    >>> platform_of({"os": "linux", "architecture": "arm64", "variant": "v8"})
    'linux/arm64'
    """
    return f"{found.get('os') or 'linux'}/{found.get('architecture') or 'any'}"


def mapping(found: object) -> Mapping[str, Any]:
    """A JSON object; an empty one where something else stands."""
    return found if isinstance(found, dict) else {}


def canonical(found: object) -> bytes:
    """JSON that is the same for the same content, because its hash names it."""
    return json.dumps(found, sort_keys=True, separators=(",", ":")).encode()


def find(source: Source, name: str) -> Image:
    """The image of that name.

    Raises:
        ImageFault: `image-unknown`.
        Unsupported: `image-platform`: it is there for other platforms only.
    """
    if found := source.images.get(name):
        return found
    if name in source.others:
        raise Unsupported(
            "image-platform",
            f"{name} in {source.label} is only for {source.others[name]}",
            "leave its component out: --without COMPONENT",
        )
    there = ", ".join(sorted(source.images)[:20]) or "no image"
    raise ImageFault("image-unknown", f"{source.label} has no image {name}", f"it holds {there}")


# -- writing ------------------------------------------------------------------------------------


def archive(chosen: Iterable[tuple[Image, Source]], moved: Moved | None = None) -> Iterator[bytes]:
    """An archive that `ctr images import` and `docker load` read, with every blob once, piece by piece.

    Args:
        chosen: the images, and what holds them.
        moved: gets bytes done and in all.

    Raises:
        ImageFault: `archive-damaged`, `bundle-damaged` or `store-damaged`; what came until then is no
            archive.
    """
    pairs = list(chosen)
    blobs = {blob.digest: (blob, image, source) for image, source in pairs for blob in image.blobs}
    small = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": canonical(_index(image for image, _ in pairs)),
        "manifest.json": canonical([_docker_entry(image) for image, _ in pairs]),
    }
    for name, content in small.items():
        yield header(name, len(content)) + content + padding(len(content))
    total, done = sum(blob.size for blob, _, _ in blobs.values()), 0
    for blob, image, source in blobs.values():
        yield header(blob.path, blob.size)
        for chunk in [image.manifest] if blob.digest == image.digest else chunks(source, blob):
            yield chunk
            done += len(chunk)
            if moved:
                moved(done, total)
        yield padding(blob.size)
    yield END


def header(name: str, size: int) -> bytes:
    """A tar's header for a file that everybody may read and that is the same in every archive."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """What follows a file in a tar."""
    return bytes(-size % 512)


def _index(images: Iterable[Image]) -> dict[str, Any]:
    entries = [
        {
            "mediaType": image.media_type,
            "digest": image.digest,
            "size": len(image.manifest),
            "annotations": {NAME: image.name},
            "platform": dict(zip(("os", "architecture"), image.platform.split("/"))),
        }
        for image in images
    ]
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}


def _docker_entry(image: Image) -> dict[str, Any]:
    """The image as `docker load` of engines without containerd's store reads it."""
    return {
        "Config": image.config.path,
        "RepoTags": [image.name],
        "Layers": [layer.path for layer in image.layers],
    }
