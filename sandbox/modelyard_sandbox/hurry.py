"""Help for a cluster whose node was just started: what waits for nothing need not wait.

Controllers that held office when the node stopped are gone, but their leases say for 15 to 60 seconds that
they are not, and until then nobody updates where Services lead. And all pods begin at once: who comes before
what it needs fails, and waits ten seconds and more for its next try.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

from modelyard.kube import ApiFault, Cluster, Ref
from modelyard.kube.explain import backs_off
from modelyard_sandbox.readiness import WORKLOADS, Watcher

_LEASES = "coordination.k8s.io/v1"


def end_old_leases(cluster: Cluster, booted: str) -> None:
    """Remove the leases of those who held them before the node was started: others take over at once.

    Args:
        cluster: the cluster; it has this one node.
        booted: when the node was started, RFC 3339 in UTC.
    """
    for lease in cluster.find(_LEASES, "Lease"):
        metadata, renewed = lease["metadata"], lease["spec"].get("renewTime") or ""
        # Nodes renew theirs under the same name; and a lease of this start belongs to somebody who lives.
        if metadata["namespace"] == "kube-node-lease" or not renewed or renewed[:19] >= booted[:19]:
            continue
        with contextlib.suppress(ApiFault):  # then it runs out
            cluster.delete(Ref(_LEASES, "Lease", metadata["namespace"], metadata["name"]))


class Hurry:
    """Makes pods anew that wait for their next try. Once per workload: what fails again has another reason,
    which its restarts must tell. Several threads may call it.

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
