"""Conditions, pods and events of an InferenceService on a cluster, as the records that local ones have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from modelyard.errors import ModelyardError
from modelyard.kube import Cluster
from modelyard.kube.explain import evidence, waits_for
from modelyard.records import Condition, Endpoint, Event, Explanation, Replica
from modelyard_kserve.cluster.observing import Seen, condition, is_true
from modelyard_kserve.trust import advice

#: Events that are told, and pods that are asked for theirs.
_EVENTS, _PODS = 50, 6
#: Lines of the log that go with a failed revision.
_LAST_LINES = 15


def explanation(cluster: Cluster, seen: Seen, endpoint: Endpoint) -> Explanation:
    """Everything that helps to see why it is not as it should be, as far as the token may read it."""
    events, unknown = _events(cluster, seen)
    failed = {revision.name for revision in endpoint.revisions if revision.failed}
    return Explanation(
        endpoint=endpoint,
        replicas=tuple(replicas_of(seen)),
        events=tuple(events),
        logs={
            found["metadata"]["name"]: tuple(evidence(cluster, seen.pods_of(found)[-1:])[-_LAST_LINES:])
            for found in seen.revisions
            if found["metadata"]["name"] in failed
        },
        unknown=unknown,
        advice=advice(" ".join(one.message for one in endpoint.revisions[:1] if one.failed)),
    )


def conditions_of(service: Mapping[str, Any]) -> tuple[Condition, ...]:
    """What KServe says, `Ready` first."""
    found = [
        Condition(
            type=one["type"],
            status=one["status"] if one["status"] in ("True", "False") else "Unknown",
            reason=one.get("reason") or "",
            message=_line(one.get("message")),
            since=time_of(one.get("lastTransitionTime")),
        )
        for one in (service.get("status") or {}).get("conditions") or ()
    ]
    return tuple(sorted(found, key=lambda one: (one.type != "Ready", one.type)))


def reason_of(found: Mapping[str, Any], *, failed: bool) -> str:
    """One word for what a Knative Revision does; a ReplicaSet has none but of its pods."""
    if condition(found, "Active").get("reason") == "NoTraffic":
        return "NoTraffic"
    ready = condition(found, "Ready")
    if ready.get("status") == "True":
        return ""
    return str(ready.get("reason") or ("RevisionFailed" if failed else ""))


def since_of(found: Mapping[str, Any]) -> datetime | None:
    """Since when a revision is what it is."""
    return time_of(condition(found, "Ready").get("lastTransitionTime"))


def replicas_of(seen: Seen) -> Iterator[Replica]:
    """Its pods, those of the newest revision first."""
    for revision in seen.revisions:
        for pod in seen.pods_of(revision):
            ready = condition(pod, "Ready")
            started = (pod.get("status") or {}).get("startTime")
            statuses = (pod.get("status") or {}).get("containerStatuses") or ()
            yield Replica(
                name=pod["metadata"]["name"],
                revision=revision["metadata"]["name"],
                ready=is_true(pod, "Ready"),
                waits_for=waits_for(pod),
                since=time_of(ready.get("lastTransitionTime") or started),
                restarts=sum(int(status.get("restartCount") or 0) for status in statuses),
            )


def _events(cluster: Cluster, seen: Seen) -> tuple[list[Event], str]:
    """The last events of the InferenceService, its newest revisions and pods; and why there are none."""
    pods = [pod for revision in seen.revisions[:2] for pod in seen.pods_of(revision)]
    named = [seen.service, *seen.revisions[:2], *pods[:_PODS]]
    namespace = seen.service["metadata"].get("namespace") or ""
    found: list[dict[str, Any]] = []
    try:
        for one in named:
            fields = f"involvedObject.name={one['metadata']['name']}"
            found += cluster.find("v1", "Event", namespace=namespace, fields=fields)
    except ModelyardError as fault:
        return [], f"events can't be read: {fault.message}"
    return events_of(found), ""


def events_of(found: Iterable[Mapping[str, Any]]) -> list[Event]:
    """The last of Kubernetes' events, oldest first."""
    made = {_key(one): _event(one) for one in found}
    return sorted((one for one in made.values() if one is not None), key=lambda one: one.time)[-_EVENTS:]


def _key(found: Mapping[str, Any]) -> str:
    metadata = found.get("metadata") or {}
    return str(metadata.get("uid") or metadata.get("name") or id(found))


def _event(found: Mapping[str, Any]) -> Event | None:
    series = found.get("series") or {}
    last = time_of(series.get("lastObservedTime") or found.get("lastTimestamp") or found.get("eventTime"))
    if last is None:
        return None
    about = (found.get("involvedObject") or {}).get("name", "")
    return Event(
        time=last,
        type="Warning" if found.get("type") == "Warning" else "Normal",
        reason=str(found.get("reason") or ""),
        message=f"{about}: {_line(found.get('message'))}",
        count=int(series.get("count") or found.get("count") or 1),
        first=time_of(found.get("firstTimestamp") or found.get("eventTime")) or last,
    )


def time_of(text: str | None) -> datetime | None:
    """A time as Kubernetes writes it."""
    if not text:
        return None
    # Python 3.10 does not read the Z.
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)


def _line(text: str | None) -> str:
    return " ".join((text or "").split())[:500]
