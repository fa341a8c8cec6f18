"""`sandbox start`: take up a stopped sandbox as it is; nothing is applied."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial

from modelyard.components import Component
from modelyard.kube import ApiFault, Cluster, Ref
from modelyard.kube.explain import backs_off
from modelyard_sandbox.applier import Applier
from modelyard_sandbox.engine import Engine
from modelyard_sandbox.errors import ClusterFailed, ComponentFailed
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.health import verify
from modelyard_sandbox.node import Node
from modelyard_sandbox.progress import Progress
from modelyard_sandbox.readiness import WORKLOADS, Watcher
from modelyard_sandbox.site import SandboxVisit, remembered_site


def resume(
    folder: SandboxFolder, everything: Mapping[str, Component], progress: Progress, *, patience: float
) -> None:
    """Start the node, and wait until every component works again.

    Args:
        folder: the sandbox's folder, held by this process.
        everything: every component that is offered, by name.
        progress: where it reports to.
        patience: seconds without progress after which waiting ends.

    Raises:
        ClusterFailed: `cluster-absent`: there is no node to start.
        ComponentFailed: `component-incomplete`: part of one was never applied, or is gone; or one does not
            come up.
        NoProgress: nothing changes any more.
    """
    node = Node(folder, Engine())
    state = node.state()
    if state not in ("running", "stopped"):
        raise ClusterFailed(
            "cluster-absent", f"the sandbox '{folder.name}' has no node to start", "modelyard sandbox up"
        )
    with progress.phase("cluster", f"the node is {state}"):
        node.start()
        cluster = node.wait_ready(partial(progress.set, "cluster", "running"), patience=patience)
    watcher = Watcher(cluster, patience, node.booted())
    inventories = Applier(cluster).inventories()
    hurry = _Hurry(
        cluster, watcher, [line.ref for found in inventories.values() for line in found["objects"]]
    )
    visit = SandboxVisit(cluster, remembered_site(folder, everything))
    with progress.phase("components", "waiting for pods"):
        for name, found in inventories.items():

            def say(doing: str, name: str = name) -> None:
                progress.component(name, "starting", doing)
                hurry()

            refs = [line.ref for line in found["objects"] if line.ref.kind in WORKLOADS]
            if missing := [ref for ref in refs if not watcher.snapshot().has(ref)]:
                raise ComponentFailed(
                    "component-incomplete",
                    f"{name} lacks its {missing[0]}",
                    "apply what is missing: modelyard sandbox up",
                )
            watcher.wait(name, refs, say)
            if name in everything:
                verify(everything[name], visit, watcher, say)
            progress.component(name, "ready")


class _Hurry:
    """Makes pods anew that wait for their next try: all begin at once when a node starts, and who comes
    before what it needs fails, and waits ten seconds and more. Once per workload: what fails again has
    another reason, which its restarts must tell.

    Args:
        cluster: the cluster.
        watcher: looks at its pods.
        refs: what the sandbox applied.
    """

    def __init__(self, cluster: Cluster, watcher: Watcher, refs: list[Ref]) -> None:
        self._cluster, self._watcher = cluster, watcher
        self._refs = [ref for ref in refs if ref.kind in WORKLOADS]
        self._helped: set[Ref] = set()

    def __call__(self) -> None:
        snapshot = self._watcher.snapshot()
        for ref in self._refs:
            waiting = [pod for pod in snapshot.pods_of(ref) if backs_off(pod)]
            if not waiting or ref in self._helped:
                continue
            self._helped.add(ref)
            for pod in waiting:
                metadata = pod["metadata"]
                with contextlib.suppress(ApiFault):  # then it waits for its turn
                    self._cluster.delete(Ref("v1", "Pod", metadata["namespace"], metadata["name"]))
