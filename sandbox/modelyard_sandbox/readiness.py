"""Wait for workloads: one look at the whole cluster serves everybody who waits.

Time-outs count lack of progress, not time: as long as pods come, pull, start or change their state, a
slow machine may take as long as it needs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelyard.errors import ModelyardError
from modelyard.kube import Cluster, Ref
from modelyard.kube.explain import evidence, is_hopeless, runs, waits_for
from modelyard_sandbox.applier import COMPONENT
from modelyard_sandbox.errors import ComponentFailed, NoProgress

_KINDS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("v1", "Pod"),
)
WORKLOADS = frozenset(kind for _, kind in _KINDS[:4])
_LOOK_EVERY = 0.5
#: Seconds in which a pod that looks hopeless may still recover: registries and webhooks come up late.
_GRACE = 20.0


@dataclass
class Snapshot:
    """The workloads and pods of a cluster at one moment.

    Attributes:
        taken: by the monotonic clock.
        booted: when the node was started, RFC 3339: what the cluster says of containers that are older is
            left from before, and not true any more.
        objects: workloads by kind, namespace and name.
        pods: all pods.
    """

    taken: float = 0.0
    booted: str = ""
    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)

    def has(self, ref: Ref) -> bool:
        """Whether the cluster has this workload."""
        return (ref.kind, ref.namespace, ref.name) in self.objects

    def pods_of(self, ref: Ref) -> list[dict[str, Any]]:
        """The pods that a workload's selector takes, newest template first where it says."""
        workload = self.objects.get((ref.kind, ref.namespace, ref.name))
        labels = ((workload or {}).get("spec", {}).get("selector") or {}).get("matchLabels") or {}
        return [
            pod
            for pod in self.pods
            if labels
            and pod["metadata"]["namespace"] == ref.namespace
            and labels.items() <= (pod["metadata"].get("labels") or {}).items()
        ]

    def waits_for(self, ref: Ref) -> str:
        """What a workload waits for; empty if it is available as its newest spec says."""
        found = self.objects.get((ref.kind, ref.namespace, ref.name))
        if found is None:
            return f"{ref}"
        if found.get("spec", {}).get("replicas") == 0:
            return f"{ref.name}: somebody scaled it to 0"
        pods = self.pods_of(ref)
        if any(self._is_stale(pod) for pod in pods):
            return f"{ref.name}: its containers to start again"
        if _is_available(found):
            return ""
        said = [text for pod in pods if (text := waits_for(pod))]
        return f"{ref.name}: {said[-1]}" if said else f"{ref.name}: its pods"

    def _is_stale(self, pod: Mapping[str, Any]) -> bool:
        """Whether a container runs, as it is said, since before the node was started."""
        states = [status.get("state") or {} for status in pod["status"].get("containerStatuses") or []]
        started = [state["running"].get("startedAt", "") for state in states if "running" in state]
        return any(len(time) > 0 and time[:19] < self.booted[:19] for time in started)


class Watcher:
    """Looks at a cluster for all components that are being waited for.

    Args:
        cluster: the cluster.
        patience: seconds without any progress after which waiting ends.
        booted: when the node was started, RFC 3339 in UTC.
    """

    def __init__(self, cluster: Cluster, patience: float, booted: str) -> None:
        self._cluster, self._patience, self._booted = cluster, patience, booted
        self._lock = threading.Lock()
        self._snapshot = Snapshot()
        self._moved = time.monotonic()
        self._last: Any = None

    def snapshot(self) -> Snapshot:
        """A look that is at most half a second old."""
        with self._lock:
            if time.monotonic() - self._snapshot.taken < _LOOK_EVERY:
                return self._snapshot
            fresh = Snapshot(booted=self._booted)
            for api_version, kind in _KINDS:
                for found in self._cluster.find(api_version, kind):
                    if kind == "Pod":
                        fresh.pods.append(found)
                    else:
                        metadata = found["metadata"]
                        fresh.objects[kind, metadata["namespace"], metadata["name"]] = found
            fresh.taken = time.monotonic()
            self._note_progress(fresh)
            self._snapshot = fresh
            return fresh

    def workloads_of(self, component: str) -> list[Ref]:
        """The workloads that carry a component's label."""
        api_version = {kind: version for version, kind in _KINDS}
        return [
            Ref(api_version[kind], kind, namespace, name)
            for (kind, namespace, name), found in self.snapshot().objects.items()
            if (found["metadata"].get("labels") or {}).get(COMPONENT) == component
        ]

    def note(self) -> None:
        """Something else moved: bytes, objects. What was seen before it says nothing any more."""
        with self._lock:
            self._snapshot = Snapshot()
        self._moved = time.monotonic()

    def wait(
        self,
        what: str,
        refs: Iterable[Ref],
        say: Callable[[str], None],
    ) -> None:
        """Until all workloads are available.

        Args:
            what: the component, for messages.
            refs: the objects that it consists of.
            say: gets what is being waited for; what it raises ends the waiting.

        Raises:
            ComponentFailed: `component-failed`: waiting alone will not help; with events and log lines.
            NoProgress: `no-progress`: nothing changed for as long as `patience`.
        """
        workloads = [ref for ref in refs if ref.kind in WORKLOADS]
        hopeless_since: float | None = None
        while True:
            snapshot = self.snapshot()
            waiting = {ref: said for ref in workloads if (said := snapshot.waits_for(ref))}
            if not waiting:
                return
            say("; ".join(waiting.values())[:300])
            pods = [pod for ref in waiting for pod in snapshot.pods_of(ref)]
            if any(is_hopeless(pod) for pod in pods):
                hopeless_since = hopeless_since or time.monotonic()
            elif any(runs(pod) for pod in pods):  # between two tries it looks better than it is
                hopeless_since = None
            if hopeless_since and time.monotonic() - hopeless_since > _GRACE:
                raise self._failed(what, waiting, pods)
            self.require_progress(what, lambda w=waiting, p=pods: self._failed(what, w, p))  # type: ignore[misc]
            time.sleep(_LOOK_EVERY)

    def require_progress(self, what: str, fault: Callable[[], ModelyardError]) -> None:
        """Raise when nothing has moved for too long."""
        if time.monotonic() - self._moved > self._patience:
            found = fault()
            raise NoProgress(
                "no-progress",
                f"{what}: nothing has changed for {self._patience:.0f} s: {found.message}",
                found.hint,
                details=found.details,
            )

    def _failed(self, what: str, waiting: Mapping[Ref, str], pods: list[dict[str, Any]]) -> ComponentFailed:
        said = evidence(self._cluster, pods)
        last = f" ({said[-1][:300]})" if said else ""
        return ComponentFailed(
            "component-failed",
            f"{what} does not start: {'; '.join(waiting.values())[:400]}{last}",
            f"modelyard sandbox logs {what}",
            details={"component": what, "evidence": said[-40:]},
        )

    def _note_progress(self, fresh: Snapshot) -> None:
        """Any change of a pod's or workload's state is progress; a container that restarts is not."""
        now = [
            (key, found.get("status", {}).get("readyReplicas"), found["metadata"].get("generation"))
            for key, found in fresh.objects.items()
        ]
        pods = [
            (
                pod["metadata"]["uid"],
                pod["status"].get("phase"),
                [(c["type"], c["status"]) for c in pod["status"].get("conditions") or []],
            )
            for pod in fresh.pods
        ]
        state = repr((sorted(now, key=repr), sorted(pods, key=repr)))
        if state != self._last:
            self._last, self._moved = state, time.monotonic()


def _is_available(found: Mapping[str, Any]) -> bool:
    status, spec = found.get("status") or {}, found.get("spec") or {}
    if "backoffLimit" in spec:  # a Job
        return any(c["type"] == "Complete" and c["status"] == "True" for c in status.get("conditions") or [])
    if status.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
        return False
    if "desiredNumberScheduled" in status:
        return bool(status["desiredNumberScheduled"] == status.get("numberReady", 0))
    wanted = spec.get("replicas", 1)
    updated = status.get("updatedReplicas", 0)
    ready = status.get("readyReplicas", 0)
    return bool(updated >= wanted and ready >= wanted and status.get("replicas", 0) == wanted)
