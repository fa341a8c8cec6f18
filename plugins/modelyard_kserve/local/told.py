"""What commands read: the desired state and what its controller says of it, as records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from modelyard.records import Condition, Endpoint, Replica, Revision
from modelyard_kserve.local.desired import Desired, Wanted

#: What a graph follows instead of a model's address.
_GRAPH = "its graph"


def endpoint_of(
    wanted: Desired, told: Mapping[str, Any], url: str | None, token_file: Path | None
) -> Endpoint:
    """The record of an endpoint.

    Args:
        token_file: holds the token, where it asks for one.
        wanted: as commands want it.
        told: what its controller says.
        url: where it answers; None: its processes do not run, and what they said is over.
    """
    seen = told["revisions"] if url else {}
    ready = {r.number: bool(seen.get(str(r.number), {}).get("ready")) for r in wanted.everything}
    split = wanted.split(ready)
    stopped = () if url else ("not running: modelyard up",)
    return Endpoint(
        name=wanted.name,
        url=url,
        ready=url is not None and any(ready[number] for number in split),
        storage_uri=wanted.storage_uri or wanted.newest.command or (_GRAPH if wanted.newest.graph else ""),
        revisions=tuple(
            _revision(r, seen.get(str(r.number), {}), split.get(r.number, 0))
            for r in reversed(wanted.everything)
        ),
        created=datetime.fromisoformat(wanted.created),
        message="; ".join([*stopped, *wanted.notes]),
        conditions=_conditions(told, url is not None),
        token_file=token_file if wanted.guarded else None,
    )


def replicas_of(endpoint: Endpoint, told: Mapping[str, Any]) -> tuple[Replica, ...]:
    """The processes behind its revisions, and those that are to be started."""
    seen = told["revisions"] if endpoint.url else {}
    return tuple(
        Replica(
            name=str(one["pid"] or "-") + (f" ({kind})" if kind != "predictor" else ""),
            revision=revision.name,
            ready=one["ready"],
            waits_for="" if one["ready"] else one["message"],
            since=revision.since if one["ready"] == revision.ready else None,
            restarts=int(state.get("restarts") or 0),
        )
        for revision in endpoint.revisions
        for state in (seen.get(str(revision.number), {}),)
        for kind, part in (state.get("parts") or {"predictor": state}).items()
        for one in part.get("each") or ()
    )


def _revision(wanted: Wanted, state: Mapping[str, Any], share: int) -> Revision:
    since = state.get("since")
    return Revision(
        name=wanted.name,
        number=wanted.number,
        model=wanted.model,
        version=wanted.version,
        storage_uri=wanted.storage_uri or wanted.command or (_GRAPH if wanted.graph else ""),
        traffic=share,
        ready=bool(state.get("ready")),
        created=datetime.fromisoformat(wanted.created),
        failed=bool(state.get("failed")),
        message=state.get("message", ""),
        reason=state.get("reason", ""),
        since=datetime.fromisoformat(since) if since else None,
        trust=wanted.trusted_by,
    )


def _conditions(told: Mapping[str, Any], running: bool) -> tuple[Condition, ...]:
    """What the controller wrote; while it does not run nobody knows."""
    found = tuple(Condition.from_dict(one) for one in told.get("conditions") or ())
    if running:
        return found
    return tuple(
        Condition(type=one.type, status="Unknown", reason="NotRunning", message="its processes do not run")
        for one in found
    )
