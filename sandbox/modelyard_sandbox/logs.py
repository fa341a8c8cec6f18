"""Logs of all pods of a component, merged by the time at which the lines were written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelyard.components import Component
from modelyard.errors import NotFoundError
from modelyard.kube import Cluster
from modelyard.records import Record
from modelyard_sandbox.applier import Applier
from modelyard_sandbox.readiness import WORKLOADS, Watcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Record):
    """A line that a container wrote. `time` is the container runtime's, RFC 3339."""

    time: str
    pod: str
    text: str


def merged(
    cluster: Cluster,
    component: str,
    everything: Mapping[str, Component],
    *,
    lines: int,
    previous: bool = False,
) -> list[Line]:
    """The last lines of every container of a component, oldest first.

    Raises:
        NotFoundError: `component-absent`, with those that are there.
    """
    inventories = Applier(cluster).inventories()
    if component not in inventories:
        known = "is not part of this sandbox" if component in everything else "is no component"
        raise NotFoundError(
            "component-absent", f"'{component}' {known}", f"there are: {', '.join(sorted(inventories))}"
        )
    snapshot = Watcher(cluster, 0, "").snapshot()
    refs = [line.ref for line in inventories[component]["objects"] if line.ref.kind in WORKLOADS]
    found: list[Line] = []
    for pod in (pod for ref in refs for pod in snapshot.pods_of(ref)):
        metadata = pod["metadata"]
        for container in (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]):
            written = cluster.logs(
                metadata["namespace"],
                metadata["name"],
                container["name"],
                lines=lines,
                previous=previous,
                times=True,
            )
            for line in written:
                time, _, text = line.partition(" ")
                found.append(Line(time=time, pod=metadata["name"], text=text))
    return sorted(found, key=lambda line: line.time)
