"""Bring one component to where it should be: probe, and if something is missing or different, apply."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from modelyard.components import Component, Manifest, Visit
from modelyard.kube import ref_of
from modelyard_sandbox.applier import Applier
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.health import verify
from modelyard_sandbox.order import Stopped
from modelyard_sandbox.progress import Progress
from modelyard_sandbox.pruning import Pruner
from modelyard_sandbox.readiness import WORKLOADS, Watcher


class Bringing:
    """Brings components up; several threads may use it.

    Args:
        applier: writes to the cluster.
        watcher: looks at the workloads.
        visit: what probes and backups may use.
        progress: where it reports to.
        folder: keeps what was applied.
        stop: set when the others are to end.
        changed: gets the names of the components that had to be changed.
        hurry: called while something is waited for: helps pods that wait for their next try.
    """

    def __init__(
        self,
        applier: Applier,
        watcher: Watcher,
        visit: Visit,
        progress: Progress,
        folder: SandboxFolder,
        stop: threading.Event,
        changed: list[str],
        hurry: Callable[[], None],
    ) -> None:
        self._applier, self._watcher, self._visit = applier, watcher, visit
        self._progress, self._folder, self._stop, self._changed = progress, folder, stop, changed
        self._hurry = hurry

    def bring(
        self, component: Component, manifests: list[Manifest], before: Mapping[str, Any] | None
    ) -> None:
        """Until the component stands as it should, and works.

        Args:
            component: the component; what it requires is ready.
            manifests: everything that it consists of.
            before: its inventory, if it was applied before.

        Raises:
            ComponentFailed, NoProgress: it does not come up.
            ApiFault: the cluster refuses an object.
        """
        name = component.name

        def say(doing: str) -> None:
            if self._stop.is_set():
                raise Stopped()
            self._progress.component(name, "installing", doing)
            self._hurry()

        known = before["objects"] if before else []
        difference = self._applier.difference(name, manifests, known)
        workloads = [ref_of(manifest) for manifest in manifests if manifest["kind"] in WORKLOADS]
        changes = before is None or before["version"] != component.version or bool(difference)
        if changes:
            if before and before["version"] != component.version and component.backup:
                say("a backup before the upgrade")
                self._progress.emit("log", f"backup: {component.backup(self._visit)}", component=name)
            say(f"{len(difference.differing)} objects to apply")
            self._folder.write_applied(name, manifests)
            applied = self._applier.apply(
                name,
                manifests,
                before_webhooks=lambda: self._watcher.wait(name, workloads, say),
                say=say,
            )
            self._pruner(name).prune(difference.gone, ())
            self._applier.record(name, component.version, applied)
            self._watcher.note()
            self._changed.append(name)
        self._watcher.wait(name, workloads, say)
        verify(component, self._visit, self._watcher, say)
        self._progress.component(name, "ready" if changes else "unchanged")

    def _pruner(self, name: str) -> Pruner:
        def say(doing: str) -> None:
            self._progress.component(name, "installing", doing)

        def warn(message: str) -> None:
            self._progress.emit("warning", message, component=name)

        return Pruner(self._visit.cluster, say, warn)
