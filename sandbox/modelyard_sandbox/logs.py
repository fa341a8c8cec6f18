"""Logs of all pods of a component, merged by the time at which the lines were written."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modelyard.components import Component
from modelyard.errors import ModelyardError, NotFoundError
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
    since: int = 0,
) -> list[Line]:
    """The last lines of every container of a component, oldest first.

    Args:
        cluster: the sandbox's.
        component: its name.
        everything: every component that is offered.
        lines: so many of each container.
        previous: of the containers before their last restart.
        since: seconds; what is older is left out. 0: nothing is.

    Raises:
        NotFoundError: `component-absent`, with those that are there.
    """
    found: list[Line] = []
    for namespace, pod, container in _containers(cluster, component, everything):
        written = cluster.logs(
            namespace, pod, container, lines=lines, previous=previous, times=True, since=since
        )
        for line in written:
            time, _, text = line.partition(" ")
            found.append(Line(time=time, pod=pod, text=text))
    return sorted(found, key=lambda line: line.time)


def followed(
    cluster: Cluster, component: str, everything: Mapping[str, Component]
) -> Iterator[tuple[str, str]]:
    """Pod and line, as they are written, of the pods that there are and of those that come; until the caller
    has enough.

    Raises:
        NotFoundError: `component-absent`.
    """
    written: queue.Queue[tuple[str, str]] = queue.Queue()
    known: set[tuple[str, str, str]] = set()

    def read(place: tuple[str, str, str]) -> None:
        with contextlib.suppress(ModelyardError, OSError):
            for line in cluster.follow(*place):
                written.put((place[1], line))
        known.discard(place)  # it ended; if it starts again, it is read again

    while True:
        for place in set(_containers(cluster, component, everything)) - known:
            known.add(place)
            threading.Thread(target=read, args=(place,), daemon=True).start()
        with contextlib.suppress(queue.Empty):
            while True:
                yield written.get(timeout=2)


def _containers(
    cluster: Cluster, component: str, everything: Mapping[str, Component]
) -> list[tuple[str, str, str]]:
    """Namespace, pod and container of everything that a component runs."""
    inventories = Applier(cluster).inventories()
    if component not in inventories:
        known = "is not part of this sandbox" if component in everything else "is no component"
        raise NotFoundError(
            "component-absent", f"'{component}' {known}", f"there are: {', '.join(sorted(inventories))}"
        )
    snapshot = Watcher(cluster, 0, "").snapshot()
    refs = [line.ref for line in inventories[component]["objects"] if line.ref.kind in WORKLOADS]
    return [
        (pod["metadata"]["namespace"], pod["metadata"]["name"], container["name"])
        for pod in (pod for ref in refs for pod in snapshot.pods_of(ref))
        for container in (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"])
    ]
