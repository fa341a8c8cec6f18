"""Wait for an InferenceService until it is as it was applied, or say why it will not be.

Time-outs count lack of progress, not time: as long as pods come, fetch, start or change their state, a
slow cluster may take as long as it needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.errors import ConflictError, EnvironmentFault
from modelyard.kube import ApiFault, Cluster
from modelyard.kube.explain import evidence, warnings
from modelyard_kserve.cluster import status
from modelyard_kserve.cluster.manifests import Identity, identity_of
from modelyard_kserve.cluster.observing import Seen, is_true

_LOOK_EVERY = 0.5
#: Seconds in which what looks hopeless may still recover: registries and webhooks come up late, and KServe's
#: status may still be about what was applied before.
_GRACE = 20.0


@dataclass(frozen=True)
class Wanted:
    """What was applied: which revision, and the share that it shall have once others can share."""

    identity: Identity
    canary: int | None


def until_settled(
    look: Callable[[], Seen | None], wanted: Wanted, *, cluster: Cluster, name: str, patience: float
) -> None:
    """Wait until the wanted revision is ready and has its share.

    Args:
        look: gives the InferenceService as it is now, None if it is gone.
        wanted: what was applied.
        cluster: is asked for events and log lines when it fails.
        name: the InferenceService's.
        patience: seconds without any progress after which waiting ends.

    Raises:
        EnvironmentFault: `revision-failed`, with the reason, and which revision still answers.
        ConflictError: `endpoint-changed`: somebody else applied another one, or deleted it.
    """
    last, moved = "", time.monotonic()
    hopeless_since: float | None = None
    while True:
        try:
            seen = look()
        except ApiFault as fault:  # an API server that is busy, or being replaced
            if not fault.passes or time.monotonic() - moved > patience:
                raise
            time.sleep(_LOOK_EVERY)
            continue
        if seen is None or not _is_about(seen.service, wanted):
            raise _changed(name, seen)
        if is_settled(seen, wanted):
            return
        now = time.monotonic()
        if (state := _state(seen)) != last:
            last, moved = state, now
        revision = newest(seen, wanted)
        hopeless_since = (hopeless_since or now) if status.seems_hopeless(seen, revision) else None
        ended = revision is not None and status.has_ended(seen, revision)
        if ended or (hopeless_since is not None and now - hopeless_since > _GRACE):
            raise _failed(cluster, seen, revision, wanted, "")
        if now - moved > patience:
            raise _failed(cluster, seen, revision, wanted, f"nothing has changed for {patience:.0f} s: ")
        time.sleep(_LOOK_EVERY)


def is_settled(seen: Seen, wanted: Wanted) -> bool:
    """Whether the wanted revision is ready and has its share of traffic."""
    revision = newest(seen, wanted)
    if revision is None or not status.is_ready(seen, revision) or not is_true(seen.service, "Ready"):
        return False
    share = status.shares_of(seen).get(revision["metadata"]["name"], 0)
    return share == _expected(seen, revision, wanted.canary)


def newest(seen: Seen, wanted: Wanted) -> Mapping[str, Any] | None:
    """The revision that was made last, if it is the wanted one; None: it has not been made yet."""
    if not seen.revisions:
        return None
    found = seen.revisions[0]
    metadata = found["metadata"] if seen.mode == "Knative" else found["spec"]["template"]["metadata"]
    return found if _same(identity_of(metadata), wanted.identity) else None


def partners(seen: Seen) -> list[str]:
    """The names of the revisions that can share traffic with the newest."""
    able = status.rolled_out(seen)
    return [
        str(r["metadata"]["name"])
        for r in seen.revisions[1:]
        if r["metadata"]["name"] in able and status.is_ready(seen, r)
    ]


def _expected(seen: Seen, revision: Mapping[str, Any], canary: int | None) -> int:
    """KServe gives the first revision everything, whatever its canary says."""
    alone = not partners(seen) and revision is seen.revisions[0]
    return 100 if canary is None or seen.mode == "Standard" or alone else canary


def _is_about(service: Mapping[str, Any], wanted: Wanted) -> bool:
    return _same(identity_of(service["metadata"]), wanted.identity)


def _same(one: Identity, other: Identity) -> bool:
    return (one.spec, one.generation) == (other.spec, other.generation)


def _state(seen: Seen) -> str:
    """Changes with every progress; a container that restarts is none."""
    return repr(
        [
            [(c["type"], c["status"]) for c in (seen.service.get("status") or {}).get("conditions") or ()],
            [(r["metadata"]["name"], status.is_ready(seen, r)) for r in seen.revisions],
            status.shares_of(seen),
            sorted(_pod_state(pod) for pod in seen.pods),
        ]
    )


def _pod_state(pod: Mapping[str, Any]) -> tuple[str, str, str]:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    said = ",".join(f"{c['type']}={c['status']}" for c in conditions)
    return pod["metadata"]["name"], (pod.get("status") or {}).get("phase", ""), said


def _changed(name: str, seen: Seen | None) -> ConflictError:
    now = None if seen is None else identity_of(seen.service["metadata"])
    by = "deleted" if now is None else f"changed to {now.model}/{now.version}"
    return ConflictError(
        "endpoint-changed",
        f"'{name}' was {by} by another command before it was ready",
        "modelyard endpoints list",
    )


def _failed(
    cluster: Cluster, seen: Seen, revision: Mapping[str, Any] | None, wanted: Wanted, prefix: str
) -> EnvironmentFault:
    model = f"{wanted.identity.model}/{wanted.identity.version}"
    if revision is None:
        what = f"a revision of {seen.name} with {model}"
        said = warnings(cluster, seen.service["metadata"]["namespace"], seen.name)[-1:]
        why = status.trouble(seen) or "; ".join(["KServe has not made it", *said])
    else:
        what = f"revision {revision['metadata']['name']} with {model}"
        why = status.why_not_ready(seen, revision) or _traffic(seen)
    old = [r for r in status.revisions_of(seen) if r.ready and r.traffic]
    still = f"; {old[0].name} with {old[0].model}/{old[0].version} still answers" if old else ""
    pods = seen.pods_of(revision) if revision is not None else ()
    return EnvironmentFault(
        "revision-failed",
        f"{what}: {prefix}{why}{still}",
        f"modelyard endpoints logs {seen.name}",
        details={"endpoint": seen.name, "evidence": evidence(cluster, pods)[-40:]},
    )


def _traffic(seen: Seen) -> str:
    """What a ready revision lacks: its route."""
    for condition in (seen.service.get("status") or {}).get("conditions") or ():
        if condition["status"] != "True" and condition.get("severity") != "Info":
            said = " ".join(str(condition.get("message") or condition.get("reason") or "").split())
            return f"it waits for {condition['type']}{': ' + said if said else ''}"
    return "it waits for its share of traffic"
