"""Endpoints: what answers, how the traffic is split, and a request to try."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from modelyard.errors import ModelyardError
from modelyard.records import Condition, Endpoint, Event, RequestStats, Revision
from modelyard.yard import Yard
from modelyard_jupyter.answers.models import inputs_of
from modelyard_jupyter.answers.moves import move_of
from modelyard_jupyter.api import (
    ConditionRow,
    EndpointDetails,
    EndpointList,
    EndpointRow,
    EventRow,
    LogLines,
    RevisionRow,
    TrafficWish,
    TryAnswer,
    TryWish,
)

#: As many events are shown.
_EVENTS = 20
_EXAMPLES: dict[str, Any] = {"string": "", "boolean": False, "datetime": "2026-01-01T00:00:00"}


def rows(yard: Yard, _: Mapping[str, Any]) -> EndpointList:
    """Every endpoint."""
    return EndpointList(rows=tuple(_row(yard, endpoint) for endpoint in yard.endpoints.list()))


def details(yard: Yard, query: Mapping[str, Any]) -> EndpointDetails:
    """One endpoint, with what happened to it and a request to begin with."""
    told = yard.endpoints.explain(query["endpoint"])
    endpoint = told.endpoint
    inputs: tuple[tuple[str, str], ...] = ()
    moves: tuple[Any, ...] = ()
    serving = next((revision for revision in endpoint.revisions if revision.traffic), None)
    if serving is not None and serving.storage_uri.startswith("models:/"):
        try:
            inputs = inputs_of(yard, yard.models.get(f"{serving.model}/{serving.version}"))
            moves = tuple(move_of(move) for move in reversed(yard.promotions_of(serving.model)))
        except ModelyardError:
            pass  # the section Models says why
    example = {name: _EXAMPLES.get(kind, 0) for name, kind in inputs}
    return EndpointDetails(
        row=_row(yard, endpoint),
        conditions=tuple(_condition(one) for one in endpoint.conditions),
        events=tuple(_event(one) for one in reversed(told.events[-_EVENTS:])),
        advice=told.advice,
        inputs=inputs,
        example=(example,) if example else ([],),
        history=moves,
    )


def log(yard: Yard, query: Mapping[str, Any]) -> LogLines:
    """The end of its log."""
    return LogLines(lines=tuple(yard.endpoints.logs(query["endpoint"], lines=200)))


def traffic(yard: Yard, query: Mapping[str, Any]) -> EndpointRow:
    """Another share for the newest revision."""
    wish = TrafficWish.model_validate(query["wish"])
    return _row(yard, yard.endpoints.traffic(query["endpoint"], wish.canary))


def try_request(yard: Yard, query: Mapping[str, Any]) -> TryAnswer:
    """Ask the endpoint about rows. It is a request like any other, and stands in the prediction log."""
    wish = TryWish.model_validate(query["wish"])
    began = time.perf_counter()
    answer = yard.endpoints.get(query["endpoint"]).predict(list(wish.instances))
    return TryAnswer(
        id=answer.id,
        predictions=answer.predictions,
        model=answer.model,
        version=answer.version,
        revision=answer.revision,
        milliseconds=(time.perf_counter() - began) * 1000,
    )


def _condition(one: Condition) -> ConditionRow:
    return ConditionRow(
        type=one.type, status=one.status, reason=one.reason, message=one.message, since=one.since
    )


def _event(one: Event) -> EventRow:
    return EventRow(time=one.time, type=one.type, reason=one.reason, message=one.message, count=one.count)


def _row(yard: Yard, endpoint: Endpoint) -> EndpointRow:
    counted = _counted(yard, endpoint)
    revisions = [_revision(revision, counted.get(revision.name)) for revision in endpoint.revisions]
    return EndpointRow(
        name=endpoint.name,
        ready=endpoint.ready,
        reason="" if endpoint.ready else endpoint.reason,
        target=endpoint.target,
        storage_uri=endpoint.storage_uri,
        revisions=tuple(revisions),
        canary=endpoint.revisions[0].traffic if len(endpoint.revisions) > 1 else None,
    )


def _counted(yard: Yard, endpoint: Endpoint) -> dict[str, RequestStats]:
    """What each revision answered; nothing where that can't be known: the endpoint is worth showing."""
    try:
        return {one.revision: one for one in yard.endpoints.statistics(endpoint.name)}
    except ModelyardError:
        return {}


def _revision(revision: Revision, counted: RequestStats | None) -> RevisionRow:
    return RevisionRow(
        name=revision.name,
        model=revision.model,
        version=revision.version,
        traffic=revision.traffic,
        ready=revision.ready,
        failed=revision.failed,
        message=revision.message,
        requests=counted and counted.requests,
        errors=counted and counted.errors,
        p95_ms=counted.p95 * 1000 if counted and counted.p95 is not None else None,
    )
