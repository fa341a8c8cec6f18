"""Where images and files of others come from: a bundle, or registries and release pages.

What stands in for which image is remembered with the sandbox, so that a bundle that is not at hand any
more (a stick that was pulled out) is missed only when something has to be loaded from it.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from modelyard.components import Manifest, Release
from modelyard.digests import digest_of
from modelyard.errors import NotFoundError
from modelyard.state import read_json, write_json
from modelyard_sandbox import images, releases
from modelyard_sandbox.bundle import Bundle
from modelyard_sandbox.engine import Engine
from modelyard_sandbox.errors import ImageFault
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.lock import Lock, LockedImage, missing_from
from modelyard_sandbox.node import Node
from modelyard_sandbox.oci import Source
from modelyard_sandbox.order import Stopped
from modelyard_sandbox.progress import Progress
from modelyard_sandbox.readiness import WORKLOADS
from modelyard_sandbox.registry import Registries
from modelyard_sandbox.store import Store

#: Annotation of pods: which images they run.
IMAGES = "modelyard.dev/images"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where images may be taken from.

    Attributes:
        bundle: a bundle file; None: registries.
        offline: never reach for the network.
        registries: how they are reached.
    """

    bundle: Path | None = None
    offline: bool = False
    registries: Registries = field(default_factory=Registries)


class Supply:
    """Images and manifests for one sandbox.

    Args:
        folder: the sandbox's folder.
        engine: the Docker engine.
        node: the cluster's node.
        sources: where to take images from.
        stop: set when everything is to end: a stream of gigabytes must not hold back Ctrl-C.
    """

    def __init__(
        self, folder: SandboxFolder, engine: Engine, node: Node, sources: Sources, stop: threading.Event
    ) -> None:
        self._folder, self._engine, self._node, self._sources = folder, engine, node, sources
        self._stop = stop
        self._there: dict[str, str] | None = None
        self._done, self._total = 0, 0

    # -- before anything is changed ----------------------------------------------------------

    def check(self, references: Collection[str]) -> None:
        """Whether these images can be had, as far as that can be said without fetching them.

        Raises:
            ImageFault: `bundle-missing-image`, `bundle-damaged`, `bundle-version`.
            Unsupported: `image-platform`.
            NotFoundError: `bundle-missing`: it is not where it was, and never served this sandbox.
        """
        if self._bundle is not None:
            self._bundle.require(references, self._platform)
            write_json(self._notes, self._names)
        for reference in references:
            self.image(reference)

    # -- for components ----------------------------------------------------------------------

    def image(self, reference: str) -> str:
        """What stands in for an upstream reference.

        Raises:
            ImageFault: `bundle-missing-image`.
        """
        if self._sources.bundle is None:
            return reference
        if found := self._names.get(reference):
            return found
        raise missing_from(self._sources.bundle, reference)

    def release(self, release: Release) -> bytes:
        """The content of a file of another project."""
        bundled = self._bundle.manifest if self._bundle else None
        registries = self._sources.registries
        return releases.fetch(release, registries, offline=self._sources.offline, bundled=bundled)

    # -- into engine and node ----------------------------------------------------------------

    def node_image(self, progress: Progress) -> str:
        """The name of kind's node image, which the engine holds afterwards."""

        def moved(done: int, total: int) -> None:
            self._go_on()
            progress.bytes("cluster", done, total)

        bundle = self._bundle
        if bundle is not None and bundle.node_image:
            images.ensure_node_image(self._engine, bundle, bundle.node_image, moved)
            return bundle.node_image
        wanted = self._lock.node
        if not self._engine.has_image(wanted.reference):
            progress.set("cluster", "running", f"pulling {wanted.reference}")
            self._store.pull([wanted], moved, offline=self._sources.offline)
            images.ensure_node_image(self._engine, self._store, wanted.reference, moved)
        return wanted.reference

    def announce(self, references: Iterable[str]) -> None:
        """Everything that will be asked for, so that progress knows how much there is."""
        if self._bundle is not None:
            stand_ins = self._bundle.lock.images
            self._total = sum(stand_ins[name].size for name in set(references) if name in stand_ins)

    def fetch(self, references: Collection[str], progress: Progress) -> None:
        """Have images on this machine; the node need not be there yet.

        Raises:
            ImageFault, Unsupported: they can't be had.
        """
        if self._sources.bundle is not None:
            return

        def moved(done: int, total: int) -> None:
            self._go_on()
            progress.bytes("images", done, total)

        pulled = [entry for name in references if not (entry := self._locked(name)).build]
        self._store.pull(pulled, moved, offline=self._sources.offline)
        for entry in (self._locked(name) for name in references):
            if entry.build:
                self._build(entry, progress)

    def load(self, references: Collection[str], progress: Progress) -> bool:
        """Have images in the node.

        Returns:
            Whether some were missing.

        Raises:
            ImageFault: they can't be loaded.
        """
        node = self._node.container
        if self._there is None:
            self._there = images.present(node)
        wanted = {name: self.image(name) for name in references}
        built = {name for name in references if self._sources.bundle is None and self._locked(name).build}
        missing = [name for name, here in wanted.items() if not self._is_there(here, name in built)]
        if not missing:
            return False
        for name in (name for name in missing if name in built):
            # Beside the sandbox's own files: /tmp is often too small for it.
            with tempfile.TemporaryDirectory(prefix="image-", dir=self._folder.path) as folder:
                saved = images.from_engine(self._engine, name, Path(folder), self._platform)
                self._into(node, saved, [name], progress)
        self._into(node, self._source(), [wanted[name] for name in missing if name not in built], progress)
        self._there = images.present(node)
        return True

    def _is_there(self, name: str, built: bool) -> bool:
        digest = (self._there or {}).get(name)
        if digest is None or built or (self._bundle is None and self._sources.bundle is not None):
            return digest is not None  # there is nothing to compare it with
        image = self._source().images.get(name)
        return image is not None and image.digest == digest

    def _into(self, node: object, source: Source, names: list[str], progress: Progress) -> None:
        if not names:
            return
        begun = self._done

        def moved(done: int, total: int) -> None:
            self._go_on()
            self._done = begun + done
            progress.bytes("images", self._done, max(self._total, begun + total))

        images.load(node, source, names, moved)

    def _build(self, entry: LockedImage, progress: Progress) -> None:
        from modelyard_sandbox import stack_image

        if self._engine.has_image(entry.reference):
            return
        if self._sources.offline:
            raise ImageFault(
                "image-missing-offline",
                f"{entry.reference} was never built on this machine",
                "run once without --offline, or use a bundle: modelyard sandbox up --bundle FILE",
            )
        ca = self._sources.registries.ca

        def say(line: str) -> None:
            self._go_on()
            progress.set("images", "running", line[:100])

        stack_image.build(self._engine, entry.reference, ca=ca, say=say)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped()

    def stamped(self, manifests: Iterable[Manifest]) -> list[Manifest]:
        """The manifests, their pods marked with the digests of the images that the node has: another image
        under the same name makes pods anew."""
        if self._there is None:
            self._there = images.present(self._node.container)
        return [self._stamped(manifest, self._there) for manifest in manifests]

    @staticmethod
    def _stamped(manifest: Manifest, there: Mapping[str, str]) -> Manifest:
        template = (manifest.get("spec") or {}).get("template") or {}
        if manifest["kind"] not in WORKLOADS or "spec" not in template:
            return manifest
        pod = template["spec"]
        names = {c["image"] for c in (*pod.get("initContainers", ()), *pod["containers"])}
        metadata = template.get("metadata") or {}
        known = sorted(f"{name}@{there.get(name, '')}" for name in names)
        annotations = {**(metadata.get("annotations") or {}), IMAGES: digest_of(known)[:12]}
        template = {**template, "metadata": {**metadata, "annotations": annotations}}
        return {**manifest, "spec": {**manifest["spec"], "template": template}}

    # -- sources -----------------------------------------------------------------------------

    def _source(self) -> Source:
        if self._bundle is not None:
            return self._bundle
        if self._sources.bundle is not None:
            raise _bundle_missing(self._sources.bundle)
        return self._store

    @cached_property
    def _bundle(self) -> Bundle | None:
        path = self._sources.bundle
        if path is None:
            return None
        if path.exists():
            return Bundle(path)
        if not self._notes.exists():
            raise _bundle_missing(path)
        return None

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """Upstream reference -> name in the node, of the bundle that is here, or was."""
        if self._bundle is not None:
            return {name: stand_in.name for name, stand_in in self._bundle.lock.images.items()}
        known: Mapping[str, str] = read_json(self._notes) or {}
        return known

    @property
    def _notes(self) -> Path:
        return self._folder.path / "images.json"

    @cached_property
    def _store(self) -> Store:
        return Store(self._platform, self._sources.registries)

    @cached_property
    def _lock(self) -> Lock:
        return Lock.load()

    @property
    def _platform(self) -> str:
        return f"linux/{self._engine.architecture}"

    def _locked(self, reference: str) -> LockedImage:
        """What the lock says; images of other people's components are in none."""
        return self._lock.entry(reference, self._platform)


def _bundle_missing(path: Path) -> NotFoundError:
    return NotFoundError(
        "bundle-missing",
        f"there is no bundle {path}",
        "name the file again (--bundle FILE), or take images from registries: --no-bundle",
    )
