"""Small images, and archives of them as engines and tools write them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OCI = "application/vnd.oci.image"


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def layer(text: str) -> bytes:
    """A layer with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("hello.txt")
        member.size = len(text.encode())
        tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


@dataclass
class Made:
    """An image that was made, with its blobs."""

    name: str
    plain: list[bytes]
    architecture: str = "amd64"
    packed: bool = True

    @property
    def config(self) -> bytes:
        about = {
            "architecture": self.architecture,
            "os": "linux",
            "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(one) for one in self.plain]},
        }
        return json.dumps(about).encode()

    @property
    def layers(self) -> list[bytes]:
        return [gzip.compress(one, 1, mtime=0) for one in self.plain] if self.packed else self.plain

    @property
    def manifest(self) -> bytes:
        kind = f"{OCI}.layer.v1.tar" + ("+gzip" if self.packed else "")
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{OCI}.manifest.v1+json",
                "config": described(self.config, f"{OCI}.config.v1+json"),
                "layers": [described(one, kind) for one in self.layers],
            }
        ).encode()

    @property
    def blobs(self) -> dict[str, bytes]:
        return {sha256(one): one for one in (self.manifest, self.config, *self.layers)}


def described(content: bytes, media: str) -> dict[str, Any]:
    return {"mediaType": media, "digest": sha256(content), "size": len(content)}


def tar_of(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


class Kit:
    """Makes images and archives."""

    def image(self, name: str, *texts: str, architecture: str = "amd64", packed: bool = True) -> Made:
        return Made(name, [layer(text) for text in texts or (name,)], architecture, packed)

    def oci(self, path: Path, *images: Made, without: str = "") -> Path:
        """As `docker save` of engines with containerd's store, skopeo and our own tools write it."""
        entries = []
        for made in images:
            entry = described(made.manifest, f"{OCI}.manifest.v1+json")
            entries.append({**entry, "annotations": {"io.containerd.image.name": made.name}})
        blobs = {digest: content for made in images for digest, content in made.blobs.items()}
        blobs.pop(without, None)
        return self.layout(path, {"manifests": entries}, blobs)

    def layout(self, path: Path, index: dict[str, Any], blobs: dict[str, bytes], **more: bytes) -> Path:
        members = {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": json.dumps({"schemaVersion": 2, **index}).encode(),
            **{name.replace("_", "."): content for name, content in more.items()},
        }
        members |= {"blobs/" + digest.replace(":", "/"): content for digest, content in blobs.items()}
        return tar_of(path, members)

    def docker(self, path: Path, *images: Made) -> Path:
        """As `docker save` before version 25 writes it: folders of layers, a shared one as a link."""
        members: dict[str, bytes] = {}
        links: dict[str, str] = {}
        entries, first = [], {}
        for count, made in enumerate(images):
            files = []
            for place, content in enumerate(made.layers):
                name = f"{count}{place}/layer.tar"
                files.append(name)
                if content in first:
                    links[name] = f"../{first[content]}"
                else:
                    members[name] = content
                    first[content] = name
            config = sha256(made.config)[7:] + ".json"
            members[config] = made.config
            entries.append({"Config": config, "RepoTags": [made.name], "Layers": files})
        members["manifest.json"] = json.dumps(entries).encode()
        return tar_of(path, members, links)


@pytest.fixture
def kit() -> Kit:
    return Kit()
