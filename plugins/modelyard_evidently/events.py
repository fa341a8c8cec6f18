"""KServe's CloudEvents out of the wire: two per call, paired by id, exploded into rows."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

REQUEST, RESPONSE = (
    "org.kubeflow.serving.inference.request",
    "org.kubeflow.serving.inference.response",
)
_ANNOTATION = "modelyard.dev/"
#: Calls of which one half never came are forgotten, oldest first.
_MOST_HALVES = 50_000


@dataclass(frozen=True)
class Event:
    """One half of a call. `time` is the event's own time; a replay may say its own by `X-Event-Time`."""

    id: str
    kind: str
    time: datetime
    endpoint: str
    model: str
    version: str
    revision: str
    body: bytes


@dataclass(frozen=True)
class Row:
    """One instance of a call with its answer."""

    prediction_id: str
    row: int
    time: datetime
    endpoint: str
    model: str
    version: str
    revision: str
    features: Mapping[str, Any]
    prediction: Any
    score: float | None


def event_of(headers: Mapping[str, str], body: bytes) -> Event:
    """A binary-mode CloudEvent.

    Raises:
        ValueError: it is not one of KServe's.
    """
    kind = headers.get("ce-type", "")
    if kind not in (REQUEST, RESPONSE) or not headers.get("ce-id"):
        raise ValueError(f"ce-type '{kind}' with ce-id '{headers.get('ce-id', '')}' is no inference event")
    metadata = _mapping(headers.get("ce-metadata"))
    annotations = _mapping(headers.get("ce-annotations"))
    said = {key.lower(): value for key, value in metadata.items()}.get("x-event-time")
    said = said[0] if isinstance(said, list) else said  # Go writes header values as lists
    return Event(
        id=headers["ce-id"],
        kind=kind,
        time=_time(said or headers.get("ce-time")),
        endpoint=headers.get("ce-inferenceservicename", "unknown"),
        model=str(annotations.get(f"{_ANNOTATION}model", "unknown")),
        version=str(annotations.get(f"{_ANNOTATION}version", "0")),
        revision=str(annotations.get(f"{_ANNOTATION}revision", headers.get("ce-endpoint", ""))),
        body=body,
    )


class Pairing:
    """Puts the halves of calls together, in whatever order they come; duplicates count once."""

    def __init__(self) -> None:
        self._halves: OrderedDict[str, dict[str, Event]] = OrderedDict()
        self._done: OrderedDict[str, None] = OrderedDict()
        self.forgotten = 0

    def add(self, event: Event) -> tuple[Event, Event] | None:
        """The whole call, once its second half is there."""
        if event.id in self._done:
            return None
        halves = self._halves.setdefault(event.id, {})
        halves[event.kind] = event
        if len(halves) < 2:
            if len(self._halves) > _MOST_HALVES:
                self._halves.popitem(last=False)
                self.forgotten += 1
            return None
        del self._halves[event.id]
        self._done[event.id] = None
        if len(self._done) > _MOST_HALVES:
            self._done.popitem(last=False)
        return halves[REQUEST], halves[RESPONSE]


def rows_of(request: Event, response: Event) -> Iterator[Row]:
    """The rows of a call, V1 or V2.

    Raises:
        ValueError: the bodies are not inference JSON, or their lengths differ.
    """
    asked, answered = _json(request.body), _json(response.body)
    features = _v1_features(asked) if "instances" in asked else _v2_features(asked)
    answers = answered["predictions"] if "predictions" in answered else _v2_answers(answered)
    if len(features) != len(answers):
        raise ValueError(f"{len(features)} rows were asked, {len(answers)} answered")
    for number, (values, answer) in enumerate(zip(features, answers)):
        prediction, score = _decision(answer)
        yield Row(
            prediction_id=request.id,
            row=number,
            time=request.time,
            endpoint=request.endpoint,
            model=response.model,
            version=response.version,
            revision=response.revision,
            features=values,
            prediction=prediction,
            score=score,
        )


def _v1_features(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        instance if isinstance(instance, dict) else {str(n): v for n, v in enumerate(_listed(instance))}
        for instance in body["instances"]
    ]


def _v2_features(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise ValueError("there are neither instances nor inputs")
    columns: dict[str, list[Any]] = {}
    for tensor in inputs:
        rows = _tensor_rows(tensor)
        if len(inputs) == 1 and rows and isinstance(rows[0], list) and len(rows[0]) > 1:
            return [{str(n): value for n, value in enumerate(row)} for row in rows]
        columns[tensor["name"]] = [row[0] if isinstance(row, list) else row for row in rows]
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def _v2_answers(body: Mapping[str, Any]) -> list[Any]:
    outputs = body.get("outputs")
    if not isinstance(outputs, list) or not outputs:
        raise ValueError("there are neither predictions nor outputs")
    return _tensor_rows(outputs[0])


def _tensor_rows(tensor: Mapping[str, Any]) -> list[Any]:
    data, shape = tensor["data"], tensor["shape"]
    if len(shape) == 1 or (data and isinstance(data[0], list)):
        return list(data)
    width = math.prod(shape[1:])
    return [data[start : start + width] for start in range(0, len(data), width or 1)]


def _decision(answer: Any) -> tuple[Any, float | None]:
    """What was served, and the probability of the second of two classes."""
    if isinstance(answer, list) and answer and all(isinstance(p, (int, float)) for p in answer):
        return answer.index(max(answer)), float(answer[-1]) if len(answer) == 2 else None
    return answer, None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _json(body: bytes) -> dict[str, Any]:
    import orjson

    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise ValueError(f"the body is not JSON: {fault}") from None
    if not isinstance(value, dict):
        raise ValueError("the body is not an object")
    return value


def _mapping(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _time(text: str | None) -> datetime:
    try:
        when = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return datetime.now(timezone.utc)
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)
