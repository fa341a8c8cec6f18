"""Manifests that other projects publish: downloaded once from a pinned address, and checked each time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.error
from collections.abc import Callable
from pathlib import Path

from modelyard.components import Manifest, Release
from modelyard.state import os_errors, write_bytes
from modelyard_sandbox.errors import ImageFault
from modelyard_sandbox.folder import cache_folder
from modelyard_sandbox.registry import Registries

#: More than any release that we use.
_LARGEST = 50_000_000


def fetch(
    release: Release,
    registries: Registries,
    *,
    offline: bool,
    bundled: Callable[[str], bytes | None] | None = None,
) -> bytes:
    """The file's content, from the bundle, the cache, a folder that `MODELYARD_SANDBOX_MANIFESTS` names, or
    its address.

    Raises:
        ImageFault: `manifest-missing` (offline, and nowhere to be found), `manifest-unreachable`, or
            `manifest-changed`: it is not the file with that checksum.
    """
    for found in (_local(release), bundled(release.name) if bundled else None):
        if found is not None:
            return _checked(release, found)
    if offline:
        raise ImageFault(
            "manifest-missing",
            f"{release.name} is neither in the bundle nor in {cache_folder() / 'manifests'}",
            "run once without --offline, or make the bundle anew: modelyard sandbox bundle create",
        )
    content = _checked(release, _downloaded(release, registries))
    write_bytes(cache_folder() / "manifests" / release.name, content)
    return content


def documents(release: Release, content: bytes) -> list[Manifest]:
    """The file's documents, fresh. KServe's definitions take five seconds to read as YAML, so they are kept
    as JSON under their checksum."""
    file = cache_folder() / "parsed" / f"{release.sha256}.json"
    try:
        kept: list[Manifest] = json.loads(file.read_bytes())
        return kept
    except (OSError, ValueError):
        pass
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    parts = [part for part in re.split(rb"^---\s*$", content, flags=re.M) if not _left_out(release, part)]
    found = [manifest for part in parts for manifest in yaml.load_all(part, loader) if manifest]
    write_bytes(file, json.dumps(found).encode())
    return found


def _left_out(release: Release, part: bytes) -> bool:
    kind = re.search(rb"^kind: (\S+)", part, re.M)
    return kind is not None and kind[1].decode() in release.without


def _local(release: Release) -> bytes | None:
    folders = [cache_folder() / "manifests"]
    if named := os.environ.get("MODELYARD_SANDBOX_MANIFESTS"):
        folders.insert(0, Path(named))
    for folder in folders:
        file = folder / release.name
        if file.is_file():
            with os_errors(file):
                content = file.read_bytes()
            # A damaged file in the cache is fetched again; one that somebody put there is said.
            if hashlib.sha256(content).hexdigest() == release.sha256 or folder is not folders[-1]:
                return content
    return None


def _checked(release: Release, content: bytes) -> bytes:
    actual = hashlib.sha256(content).hexdigest()
    if actual != release.sha256:
        raise ImageFault(
            "manifest-changed",
            f"{release.name} is not the pinned file: its SHA-256 is {actual[:9]}…, not {release.sha256[:9]}…",
            f"compare it with {release.url}",
        )
    return content


def _downloaded(release: Release, registries: Registries) -> bytes:
    try:
        with registries.opener.open(release.url, timeout=30) as answer:
            content: bytes = answer.read(_LARGEST)
            return content
    except (urllib.error.URLError, OSError) as fault:
        raise ImageFault(
            "manifest-unreachable",
            f"{release.name} can't be downloaded from {release.url}: {getattr(fault, 'reason', fault)}",
            "check the network or the proxy, or use a bundle: modelyard sandbox up --bundle FILE",
        ) from None
