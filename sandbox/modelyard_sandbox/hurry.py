"""Help for pods that wait for their next try after the node was started."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

from modelyard.kube import ApiFault, Cluster, Ref
from modelyard.kube.explain import backs_off
from modelyard_sandbox.readiness import WORKLOADS, Watcher


class Hurry:
    """Makes pods anew that wait for their next try: all begin at once when a node starts, and who comes
    before what it needs fails, and waits ten seconds and more. Once per workload: what fails again has
    another reason, which its restarts must tell. Several threads may call it.

    Args:
        cluster: the cluster.
        watcher: looks at its pods.
        inventories: what the sandbox applied, by component.
    """

    def __init__(self, cluster: Cluster, watcher: Watcher, inventories: Mapping[str, Any]) -> None:
        self._cluster, self._watcher = cluster, watcher
        applied = [line.ref for found in inventories.values() for line in found["objects"]]
        self._lock = threading.Lock()
        self._left: set[Ref] = {ref for ref in applied if ref.kind in WORKLOADS}

    def __call__(self) -> None:
        """Look, and help once."""
        if not self._left:
            return
        snapshot = self._watcher.snapshot()
        with self._lock:
            waiting = {
                ref: pods
                for ref in self._left
                if (pods := [pod for pod in snapshot.pods_of(ref) if backs_off(pod)])
            }
            self._left -= waiting.keys()
        for pods in waiting.values():
            for pod in pods:
                metadata = pod["metadata"]
                with contextlib.suppress(ApiFault):  # then it waits for its turn
                    self._cluster.delete(Ref("v1", "Pod", metadata["namespace"], metadata["name"]))
