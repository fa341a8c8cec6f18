"""Why something on a cluster does not become ready: from pods, their containers, events and logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from modelyard.errors import ModelyardError
from modelyard.kube.api import Cluster

#: Reasons that end by themselves on every start; they are no trouble yet.
_STARTING = frozenset({"ContainerCreating", "PodInitializing"})
#: Events that come with every start: a probe that fails before the first success says nothing.
_BENIGN = frozenset({"Unhealthy"})


def waits_for(pod: Mapping[str, Any]) -> str:
    """What a pod waits for, in a few words; empty if it is ready or done.

    Example:
        >>> waits_for({"status": {"phase": "Pending", "conditions": [
        ...     {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient memory."}]}})
        'a node: 0/1 nodes: Insufficient memory.'
    """
    status = pod.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    if status.get("phase") == "Succeeded" or conditions.get("Ready", {}).get("status") == "True":
        return ""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"a node: {' '.join(scheduled.get('message', '').split())[:200]}"
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    for container in containers:
        if said := _container(container):
            return said
    return "its containers" if containers else "its node"


def _container(status: Mapping[str, Any]) -> str:
    name, state = status["name"], status.get("state") or {}
    waiting, ended = state.get("waiting"), state.get("terminated")
    if waiting:
        reason = waiting.get("reason") or "waiting"
        if reason in _STARTING:
            return f"container {name}: starting"
        last = (status.get("lastState") or {}).get("terminated") or {}
        code = f", exit status {last['exitCode']}" if "exitCode" in last else ""
        message = " ".join((waiting.get("message") or "").split())[:200]
        return f"container {name}: {reason}{code}{': ' + message if message else ''}"
    if ended and ended.get("exitCode"):
        return f"container {name}: ended with status {ended['exitCode']} ({ended.get('reason', '')})"
    if "running" in state and not status.get("ready"):
        restarts = status.get("restartCount") or 0
        return f"container {name}: runs, not ready" + (f" (restarted {restarts} times)" if restarts else "")
    return ""


def is_hopeless(pod: Mapping[str, Any]) -> bool:
    """Whether waiting alone will not help: an image that is not there, a command that can't be run."""
    status = pod.get("status", {})
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        reason = ((container.get("state") or {}).get("waiting") or {}).get("reason", "")
        if reason in (
            "ErrImageNeverPull",
            "InvalidImageName",
            "CreateContainerConfigError",
            "RunContainerError",
        ):
            return True
        if reason in ("ImagePullBackOff", "ErrImagePull", "CreateContainerError"):
            return True
        if reason == "CrashLoopBackOff" and (container.get("restartCount") or 0) >= 3:
            return True
    return False


def evidence(cluster: Cluster, pods: Iterable[Mapping[str, Any]], *, lines: int = 15) -> list[str]:
    """The last warnings and log lines of pods that are not ready; whatever can't be read is left out."""
    found: list[str] = []
    for pod in pods:
        if not waits_for(pod):
            continue
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        found += _warnings(cluster, namespace, name)[-5:]
        found += _last_lines(cluster, pod, lines)
    return found


def _warnings(cluster: Cluster, namespace: str, name: str) -> list[str]:
    try:
        fields = f"involvedObject.name={name},type=Warning"
        events = cluster.find("v1", "Event", namespace=namespace, fields=fields)
    except ModelyardError:
        return []
    events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return [
        f"{name}: {event.get('reason')}: {' '.join((event.get('message') or '').split())[:300]}"
        for event in events
        if event.get("reason") not in _BENIGN
    ]


def _last_lines(cluster: Cluster, pod: Mapping[str, Any], lines: int) -> list[str]:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    status = pod.get("status", {})
    said: list[str] = []
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        if container.get("ready") or not _container(container):
            continue
        crashed = "waiting" in (container.get("state") or {}) and bool(container.get("restartCount"))
        try:
            tail = cluster.logs(namespace, name, container["name"], lines=lines, previous=crashed)
        except ModelyardError:
            continue
        said += [f"{name}/{container['name']}: {line}" for line in tail[-lines:]]
    return said
