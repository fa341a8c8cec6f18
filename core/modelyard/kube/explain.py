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
    for container in _worst(status):
        return _container(container)
    return "its containers" if _containers(status) else "its node"


def _containers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _worst(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The containers to which it is due that a pod is not ready: others wait for one that failed."""
    waiting = [container for container in _containers(status) if _container(container)]
    worst = max(map(_trouble, waiting), default=0)
    return [container for container in waiting if _trouble(container) == worst]


def _trouble(status: Mapping[str, Any]) -> int:
    """How bad it is: 0 it starts, 1 it runs and is not ready, 2 it runs again, 3 it ended or can't start."""
    state = status.get("state") or {}
    if "running" in state:
        return 2 if status.get("restartCount") else 1
    reason = (state.get("waiting") or {}).get("reason")
    return 0 if reason in _STARTING or not state else 3


def _container(status: Mapping[str, Any]) -> str:
    name, state = status["name"], status.get("state") or {}
    waiting, ended = state.get("waiting"), state.get("terminated")
    last = (status.get("lastState") or {}).get("terminated") or {}
    if waiting:
        reason = waiting.get("reason") or "waiting"
        if reason in _STARTING:
            return f"container {name}: starting"
        code = f", exit status {last['exitCode']}" if "exitCode" in last else ""
        # What the program said itself is worth more than that it will be started again.
        message = _one_line(last.get("message") or waiting.get("message"))
        return f"container {name}: {reason}{code}{': ' + message if message else ''}"
    if ended and ended.get("exitCode"):
        why = _one_line(ended.get("message")) or ended.get("reason", "")
        return f"container {name}: ended with status {ended['exitCode']} ({why})"
    if "running" in state and not status.get("ready"):
        restarts, why = status.get("restartCount") or 0, _one_line(last.get("message"))
        again = f" (restarted {restarts} times{': ' + why if why else ''})" if restarts else ""
        return f"container {name}: runs, not ready{again}"
    return ""


def _one_line(text: str | None) -> str:
    """The end of a text: the last lines of a log say why it was the end."""
    line = " ".join((text or "").split())
    return line if len(line) <= 300 else f"...{line[-300:]}"


def runs(pod: Mapping[str, Any]) -> bool:
    """Whether one of its containers runs, ready or not."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return any("running" in (status.get("state") or {}) for status in statuses)


def backs_off(pod: Mapping[str, Any]) -> bool:
    """Whether one of its containers ended with a fault, and waits for its next try."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    waiting = [(status.get("state") or {}).get("waiting") or {} for status in statuses]
    return any(state.get("reason") == "CrashLoopBackOff" for state in waiting)


def is_hopeless(pod: Mapping[str, Any]) -> bool:
    """Whether waiting alone will not help: an image that is not there, a command that can't be run."""
    status = pod.get("status", {})
    for container in _containers(status):
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
        found += warnings(cluster, namespace, name)[-5:]
        found += _last_lines(cluster, pod, lines)
    return found


def warnings(cluster: Cluster, namespace: str, name: str) -> list[str]:
    """The warnings among an object's events, oldest first; none where they can't be read."""
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
    for container in _worst(status):
        crashed = "waiting" in (container.get("state") or {}) and bool(container.get("restartCount"))
        try:
            tail = cluster.logs(namespace, name, container["name"], lines=lines, previous=crashed)
        except ModelyardError:
            continue
        said += [f"{name}/{container['name']}: {line}" for line in tail[-lines:]]
    return said
