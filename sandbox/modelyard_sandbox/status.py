"""What there is of a sandbox, read from Docker and the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from modelyard.components import Component
from modelyard.errors import ModelyardError
from modelyard.kube import Cluster
from modelyard.kube.explain import is_hopeless, waits_for
from modelyard.records import Record
from modelyard_sandbox.applier import Applied, Applier
from modelyard_sandbox.engine import Engine
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.node import Node, NodeState
from modelyard_sandbox.readiness import WORKLOADS, Snapshot, Watcher

ComponentState = Literal["installing", "ready", "degraded", "failed"]
Overall = Literal["absent", "stopped", "starting", "ready", "degraded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStatus(Record):
    """One component now.

    Attributes:
        state: `ready`; `installing`: its pods start; `degraded`: some do not run; `failed`: waiting alone
            will not help.
        reason: what it waits for.
        memory: bytes that its pods use, without what the kernel would give back; None if unknown.
        restarts: of its containers.
        url: the page or address on 127.0.0.1.
    """

    name: str
    version: str
    state: ComponentState
    reason: str = ""
    memory: int | None = None
    restarts: int = 0
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxStatus(Record):
    """A sandbox now.

    Attributes:
        state: the worst of node and components.
        profile: what it was made as.
        memory: bytes that the node uses in all, with Kubernetes itself; None if it does not run.
        disk_free: bytes that are free for the node; None if unknown.
    """

    name: str
    state: Overall
    node: NodeState
    profile: str = ""
    kubernetes: str = ""
    memory: int | None = None
    disk_free: int | None = None
    components: tuple[ComponentStatus, ...] = ()
    message: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)


def look(folder: SandboxFolder, everything: Mapping[str, Component], engine: Engine) -> SandboxStatus:
    """The sandbox as it is. Reads only.

    Raises:
        EngineUnavailable: Docker does not answer.
    """
    known = folder.state()
    base = {"name": folder.name, "profile": known.get("profile", ""), "ports": known.get("ports") or {}}
    place = Node(folder, engine)
    node = place.state() if folder.exists else "absent"
    if node in ("absent", "half-made", "foreign"):
        said = {
            "absent": "",
            "half-made": "a start was cut off: run `modelyard sandbox up` again",
            "foreign": f"a kind cluster {folder.cluster_name} that this sandbox did not make is in the way",
        }
        return SandboxStatus(**base, state="absent", node=node, message=said[node])
    if node == "stopped":
        return SandboxStatus(**base, state="stopped", node=node, message="its node is stopped; data is kept")
    cluster = Cluster(folder.kubeconfig)
    try:
        snapshot = Watcher(cluster, 0, place.booted()).snapshot()
        inventories = Applier(cluster).inventories()
        usage = _usage(cluster, folder.node_name)
        version = cluster.version()
    except ModelyardError as fault:
        return SandboxStatus(**base, state="starting", node=node, message=fault.message)
    parts = tuple(
        _component(name, found, everything.get(name), snapshot, usage, base["ports"])
        for name, found in sorted(inventories.items(), key=lambda item: _place(item[0], everything))
    )
    missing = [name for name in known.get("components") or () if name not in inventories]
    worst = all(part.state == "ready" for part in parts) and not missing
    return SandboxStatus(
        **base,
        state="ready" if worst else "degraded",
        node=node,
        kubernetes=version,
        memory=usage.get("node"),
        disk_free=usage.get("disk_free"),
        components=parts,
        message=f"not installed yet: {', '.join(missing)}; run `modelyard sandbox up`" if missing else "",
    )


def _component(
    name: str,
    inventory: Mapping[str, Any],
    offer: Component | None,
    snapshot: Snapshot,
    usage: Mapping[str, int],
    ports: Mapping[str, int],
) -> ComponentStatus:
    applied: Iterable[Applied] = inventory["objects"]
    workloads = [line.ref for line in applied if line.ref.kind in WORKLOADS]
    pods = [pod for ref in workloads for pod in snapshot.pods_of(ref)]
    waiting = [said for ref in workloads if (said := snapshot.waits_for(ref))]
    memory = [usage[key] for pod in pods if (key := _key(pod)) in usage]
    state: ComponentState = "ready"
    if waiting:
        hopeless = any(is_hopeless(pod) for pod in pods)
        state = (
            "failed" if hopeless else "degraded" if any(not waits_for(pod) for pod in pods) else "installing"
        )
    return ComponentStatus(
        name=name,
        version=inventory["version"],
        state=state,
        reason="; ".join(waiting)[:300],
        memory=sum(memory) if memory else None,
        restarts=sum(_restarts(pod) for pod in pods),
        url=_url(offer, ports),
    )


def _usage(cluster: Cluster, node: str) -> dict[str, int]:
    """Memory by pod (`namespace/name`) and of the `node`, and `disk_free`, as the kubelet measures them."""
    try:
        summary = cluster.request("GET", f"/api/v1/nodes/{node}/proxy/stats/summary")
    except ModelyardError:
        return {}
    found = {
        f"{pod['podRef']['namespace']}/{pod['podRef']['name']}": int(pod["memory"]["workingSetBytes"])
        for pod in summary.get("pods", [])
        if "workingSetBytes" in pod.get("memory", {})
    }
    found["node"] = int(summary["node"].get("memory", {}).get("workingSetBytes", 0))
    found["disk_free"] = int(summary["node"].get("fs", {}).get("availableBytes", 0))
    return found


def _key(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _restarts(pod: Mapping[str, Any]) -> int:
    return sum(status.get("restartCount", 0) for status in pod["status"].get("containerStatuses") or [])


def _url(offer: Component | None, ports: Mapping[str, int]) -> str | None:
    if offer is None or not offer.ports or offer.ports[0].name not in ports:
        return None
    return f"http://127.0.0.1:{ports[offer.ports[0].name]}{offer.ports[0].page or ''}"


def _place(name: str, everything: Mapping[str, Component]) -> int:
    return list(everything).index(name) if name in everything else len(everything)
