"""The prediction log as the reference monitor reads it: pairs of request and response events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelyard.records import Prediction
from modelyard.testing.memory.inference import rows_of


@dataclass(frozen=True)
class Logged:
    """An answered request: what was asked, row by row, and what was predicted."""

    prediction: Prediction
    rows: list[Any]
    predictions: list[Any]


def answered_of(events: Iterable[tuple[Mapping[str, str], Any]]) -> list[Logged]:
    """The answered requests among events; an event that comes twice counts once."""
    requests: dict[str, tuple[Mapping[str, str], Any]] = {}
    responses: dict[str, Any] = {}
    for headers, body in events:
        if headers["ce-type"].endswith(".request"):
            requests.setdefault(headers["ce-id"], (headers, body))
        else:
            responses.setdefault(headers["ce-id"], body)
    return [_logged(*requests[key], responses[key]) for key in requests if key in responses]


def _logged(headers: Mapping[str, str], asked: Any, answered: Any) -> Logged:
    annotations = json.loads(headers.get("ce-annotations") or "{}")
    rows = asked["instances"] if "instances" in asked else rows_of(asked["inputs"])
    predictions = answered["predictions"] if "predictions" in answered else answered["outputs"][0]["data"]
    return Logged(
        prediction=Prediction(
            id=headers["ce-id"],
            time=event_time(headers),
            endpoint=headers["ce-inferenceservicename"],
            revision=annotations.get("modelyard.dev/revision", ""),
            model=annotations.get("modelyard.dev/model", ""),
            version=annotations.get("modelyard.dev/version", "0"),
            rows=len(rows),
        ),
        rows=rows,
        predictions=predictions,
    )


def event_time(headers: Mapping[str, str]) -> datetime:
    """When it happened: the caller's `X-Event-Time`, else when the server saw it."""
    metadata = json.loads(headers.get("ce-metadata") or "{}")
    named = {name.lower(): value for name, value in metadata.items()}.get("x-event-time")
    return datetime.fromisoformat((named or headers["ce-time"]).replace("Z", "+00:00"))
