"""`sandbox start`: take up a stopped sandbox as it is; nothing is applied."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from modelyard.components import Component
from modelyard_sandbox.applier import Applier
from modelyard_sandbox.engine import Engine
from modelyard_sandbox.errors import ClusterFailed, ComponentFailed
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.health import verify
from modelyard_sandbox.hurry import Hurry, end_old_leases
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
    booted = node.booted()
    end_old_leases(cluster, booted)
    watcher = Watcher(cluster, patience, booted)
    inventories = Applier(cluster).inventories()
    hurry = Hurry(cluster, watcher, inventories)
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
