"""What an InferenceService on a cluster says, as records; and why it is stuck."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelyard.kube.explain import is_hopeless, waits_for
from modelyard.records import Endpoint, Revision
from modelyard_kserve.cluster.explaining import conditions_of, reason_of, since_of
from modelyard_kserve.cluster.manifests import identity_of
from modelyard_kserve.cluster.observing import Seen, condition, is_true, number_of
from modelyard_kserve.cluster.termination import HOPELESS
from modelyard_kserve.documents import dotted
from modelyard_kserve.effects import on_clusters

#: Older ones can't get traffic any more, except the one that was rolled out last.
_KEPT = 10
#: Containers that KServe and Knative add.
SIDECARS = ("agent", "queue-proxy")


def endpoint_of(seen: Seen, url: str | None, target: str, message: str = "") -> Endpoint:
    """The record of an InferenceService.

    Args:
        seen: the InferenceService.
        url: where it answers, if it does.
        target: the target's name.
        message: what else there is to say.
    """
    revisions = revisions_of(seen)
    effects = on_clusters(("spec", "predictor"), seen.service["spec"]["predictor"], seen.mode)
    said = [trouble(seen), message, *(f"{dotted(one.place)} {one.message}" for one in effects)]
    return Endpoint(
        name=seen.name,
        url=url,
        ready=url is not None and answers(seen) and any(r.ready and r.traffic for r in revisions),
        storage_uri=identity_of(seen.service["metadata"]).storage_uri,
        revisions=revisions,
        created=_time(seen.service),
        message="; ".join(filter(None, said)),
        target=target,
        conditions=conditions_of(seen.service),
    )


def revisions_of(seen: Seen) -> tuple[Revision, ...]:
    """The records of its revisions, newest first."""
    shares = shares_of(seen)
    kept = [r for n, r in enumerate(seen.revisions) if n < _KEPT or shares.get(r["metadata"]["name"])]
    return tuple(_revision(seen, found, shares.get(found["metadata"]["name"], 0)) for found in kept)


def shares_of(seen: Seen) -> dict[str, int]:
    """Percent of traffic by revision name."""
    if seen.mode == "Knative":
        shares: dict[str, int] = {}
        for part in _predictor_status(seen).get("traffic") or ():
            name = part.get("revisionName", "")
            shares[name] = shares.get(name, 0) + int(part.get("percent") or 0)
        return shares
    # A Service of Kubernetes asks every ready pod equally often.
    ready = {r["metadata"]["name"]: int(r["status"].get("readyReplicas") or 0) for r in seen.revisions}
    total = sum(ready.values())
    return {name: round(100 * count / total) for name, count in ready.items() if count}


def rolled_out(seen: Seen) -> set[str]:
    """The revisions that got all traffic last, and before that: those that a canary may share with."""
    status = _predictor_status(seen)
    named = (status.get("latestRolledoutRevision"), status.get("previousRolledoutRevision"))
    return {str(name) for name in named if name}


def answers(seen: Seen) -> bool:
    """Whether requests find their way to some revision."""
    if seen.mode == "Knative":
        return is_true(seen.service, "RoutesReady") or is_true(seen.service, "PredictorRouteReady")
    return bool(shares_of(seen))


def is_ready(seen: Seen, revision: Mapping[str, Any]) -> bool:
    """Whether a revision can answer (in Knative mode also one that sleeps)."""
    if seen.mode == "Knative":
        return is_true(revision, "Ready")
    return bool((revision.get("status") or {}).get("readyReplicas"))


def why_not_ready(seen: Seen, revision: Mapping[str, Any]) -> str:
    """What a revision waits for, in one sentence; empty: it is ready, or sleeps."""
    if is_ready(seen, revision):
        return ""
    said = [text for pod in seen.pods_of(revision) if (text := waits_for(_model_alone(pod)))]
    if said:
        return said[-1]
    ready = condition(revision, "Ready")
    return " ".join(str(ready.get("message") or ready.get("reason") or "").split())[:400]


def has_ended(seen: Seen, revision: Mapping[str, Any]) -> bool:
    """Whether a program of ours said that trying again will not help."""
    return not is_ready(seen, revision) and any(_said_hopeless(pod) for pod in seen.pods_of(revision))


def seems_hopeless(seen: Seen, revision: Mapping[str, Any] | None) -> bool:
    """Whether waiting alone will probably not help."""
    if revision is None:
        return bool(trouble(seen))
    if is_ready(seen, revision):
        return False
    pods = seen.pods_of(revision)
    return condition(revision, "Ready").get("status") == "False" or any(is_hopeless(pod) for pod in pods)


def trouble(seen: Seen) -> str:
    """What KServe itself complains about: no runtime for the model, a change that it could not make."""
    status = seen.service.get("status") or {}
    model = status.get("modelStatus") or {}
    if model.get("transitionStatus") == "InvalidSpec":
        failure = model.get("lastFailureInfo") or {}
        return " ".join(str(failure.get("message") or failure.get("reason") or "KServe refuses it").split())
    ready = condition(seen.service, "PredictorReady")
    if ready.get("reason") == "ReconcileFailed":
        return " ".join(str(ready.get("message") or "KServe can't deploy it").split())[:400]
    return ""


def _revision(seen: Seen, found: Mapping[str, Any], share: int) -> Revision:
    identity = identity_of(
        found["metadata"] if seen.mode == "Knative" else found["spec"]["template"]["metadata"]
    )
    ready = is_ready(seen, found)
    asleep = seen.mode == "Standard" and not found["spec"].get("replicas")
    failed = not asleep and (has_ended(seen, found) or seems_hopeless(seen, found))
    return Revision(
        name=found["metadata"]["name"],
        number=number_of(found),
        model=identity.model or seen.name,
        version=identity.version,
        storage_uri=identity.storage_uri,
        traffic=share,
        ready=ready,
        created=_time(found),
        failed=failed,
        message="" if asleep else why_not_ready(seen, found),
        reason=reason_of(found, failed=failed),
        since=since_of(found),
        trust=identity.trust,
    )


def _model_alone(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pod without the containers that only wait for the model's."""
    status = pod.get("status", {})
    own = [c for c in status.get("containerStatuses") or () if c["name"] not in SIDECARS]
    return {**pod, "status": {**status, "containerStatuses": own}} if own else pod


def _said_hopeless(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status", {})
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = container.get("state") or {}
        ended = state.get("terminated") or (
            (container.get("lastState") or {}).get("terminated") if "waiting" in state else None
        )
        if ended and ended.get("exitCode") == HOPELESS:
            return True
    return False


def _predictor_status(seen: Seen) -> Mapping[str, Any]:
    components = (seen.service.get("status") or {}).get("components") or {}
    found: Mapping[str, Any] = components.get("predictor") or {}
    return found


def _time(found: Mapping[str, Any]) -> datetime:
    # Python 3.10 does not read the Z.
    return datetime.fromisoformat(found["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
