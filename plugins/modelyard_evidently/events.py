"""KServe's CloudEvents out of the wire: two per call, paired by id, exploded into rows."""

from __future__ import annotations

import json
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from modelyard_evidently.values import folder_name

REQUEST, RESPONSE = (
    "org.kubeflow.serving.inference.request",
    "org.kubeflow.serving.inference.response",
)
_ANNOTATION = "modelyard.dev/"
#: Calls of which one half never came are forgotten: after so many seconds, or when there are too many.
_PATIENCE = 300.0
_MOST_HALVES = 50_000
_MOST_DONE = 50_000
#: Bodies of halves: where only requests are logged, each waits for an answer that never comes.
_MOST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One half of a call. `time` is the event's own time; a replay may say its own by `X-Event-Time`."""

    id: str
    kind: str
    time: datetime
    received: datetime
    endpoint: str
    model: str
    version: str
    revision: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Row:
    """One instance of a call with its answer. `received` is the collector's clock."""

    prediction_id: str
    row: int
    time: datetime
    received: datetime
    endpoint: str
    model: str
    version: str
    revision: str
    features: Mapping[str, Any]
    prediction: Any
    score: float | None


#: The columns of a model in the order of its signature, or () if they are not known.
Columns = Callable[[str, str], Sequence[str]]


def event_of(headers: Mapping[str, str], body: bytes) -> Event:
    """A binary-mode CloudEvent.

    Raises:
        ValueError: it is not one of KServe's, or its names can't be stored.
    """
    kind = headers.get("ce-type", "")
    if kind not in (REQUEST, RESPONSE) or not headers.get("ce-id"):
        raise ValueError(f"ce-type '{kind}' with ce-id '{headers.get('ce-id', '')}' is no inference event")
    metadata = _mapping(headers.get("ce-metadata"))
    annotations = _mapping(headers.get("ce-annotations"))
    named = {key.lower(): _first(value) for key, value in metadata.items()}
    received = datetime.now(timezone.utc)
    event = Event(
        # On a cluster the caller got the id of the gateway, and the logger made up one of its own.
        id=str(named.get("x-request-id") or headers["ce-id"]),
        kind=kind,
        time=_time(named.get("x-event-time")) or _time(headers.get("ce-time")) or received,
        received=received,
        endpoint=headers.get("ce-inferenceservicename", "unknown"),
        model=str(annotations.get(f"{_ANNOTATION}model", "unknown")),
        version=str(annotations.get(f"{_ANNOTATION}version", "0")),
        revision=str(annotations.get(f"{_ANNOTATION}revision", headers.get("ce-endpoint", ""))),
        body=body,
    )
    for name in (event.endpoint, event.model, event.version):
        folder_name(name)
    return event


class Pairing:
    """Puts the halves of calls together, in whatever order they come; duplicates count once.

    An id is the caller's: two endpoints may have been asked with the same one.
    Halves whose other half does not come in time are forgotten and counted in `unpaired`. `share` is the
    part of the usual room that they may take.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.share = 1.0
        self._halves: OrderedDict[tuple[str, str], tuple[float, Event]] = OrderedDict()
        self._done: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._bytes = 0
        self.unpaired = 0
        self.duplicates = 0

    @property
    def waiting(self) -> int:
        """Calls of which one half is here."""
        return len(self._halves)

    def add(self, event: Event) -> tuple[Event, Event] | None:
        """The whole call (request, response), once its second half is there."""
        self._forget()
        key = (event.endpoint, event.id)
        _, half = self._halves.get(key, (0.0, None))
        if key in self._done or (half is not None and half.kind == event.kind):
            self.duplicates += 1
            return None
        if half is None:
            self._halves[key] = (self._clock(), event)
            self._bytes += len(event.body)
            return None
        del self._halves[key]
        self._bytes -= len(half.body)
        self._done[key] = None
        if len(self._done) > _MOST_DONE:
            self._done.popitem(last=False)
        return (half, event) if half.kind == REQUEST else (event, half)

    def _forget(self) -> None:
        now = self._clock()
        while self._halves:
            began, oldest = next(iter(self._halves.values()))
            most, most_bytes = _MOST_HALVES * self.share, _MOST_BYTES * self.share
            room = len(self._halves) <= most and self._bytes <= most_bytes
            if room and now - began <= _PATIENCE:
                return
            self._halves.popitem(last=False)
            self._bytes -= len(oldest.body)
            self.unpaired += 1


def rows_of(request: Event, response: Event, columns: Columns = lambda *_: ()) -> Iterator[Row]:
    """The rows of a call, V1 or V2.

    Args:
        columns: the model's columns; rows that are bare lists get their names from it.

    Raises:
        ValueError: the bodies are not inference JSON, or their lengths differ.
    """
    asked, answered = _json(request.body), _json(response.body)
    names = columns(response.model, response.version)
    by_v1 = "instances" in asked or not _are_tensors(asked.get("inputs"))
    answers = answered["predictions"] if "predictions" in answered else _v2_answers(answered)
    features = _v1_features(asked, names, answers) if by_v1 else _v2_features(asked, names)
    if not isinstance(answers, list) or len(features) != len(answers):
        raise ValueError(f"{len(features)} rows were asked, another number was answered")
    for number, (values, answer) in enumerate(zip(features, answers)):
        prediction, score = decision_of(answer)
        yield Row(
            prediction_id=request.id,
            row=number,
            time=request.time,
            received=response.received,
            endpoint=request.endpoint,
            model=response.model,
            version=response.version,
            revision=response.revision,
            features=values,
            prediction=prediction,
            score=score,
        )


def decision_of(answer: Any) -> tuple[Any, float | None]:
    """What was served, and the probability of the second of two classes.

    A list of several numbers holds class probabilities; a list of one is a number in a box.

    Example:
        >>> decision_of([0.2, 0.8]), decision_of([3.4]), decision_of("late")
        ((1, 0.8), (3.4, None), ('late', None))
    """
    while isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, list) and answer and all(isinstance(p, (int, float)) for p in answer):
        return answer.index(max(answer)), float(answer[-1]) if len(answer) == 2 else None
    return answer, None


def _are_tensors(inputs: Any) -> bool:
    """Whether they are V2's; V1's may be called `inputs`, too."""
    some = isinstance(inputs, list) and bool(inputs)
    return not some or all(isinstance(one, dict) and {"shape", "data"} <= one.keys() for one in inputs)


def _v1_features(body: Mapping[str, Any], names: Sequence[str], answers: Any) -> list[dict[str, Any]]:
    instances = body["instances"] if "instances" in body else body.get("inputs")
    if not isinstance(instances, list):
        raise ValueError("instances is no list")
    spread = _spread(instances)
    if isinstance(answers, list) and spread is not None and len(spread) == len(answers):
        return spread
    return [i if isinstance(i, dict) else _named(i if isinstance(i, list) else [i], names) for i in instances]


def _spread(instances: list[Any]) -> list[dict[str, Any]] | None:
    """The rows of objects of lists, each of which may be many; None: they are no such objects."""
    made: list[dict[str, Any]] = []
    for one in instances:
        if not isinstance(one, dict) or not one or not all(isinstance(v, list) for v in one.values()):
            return None
        made += [dict(zip(one, values)) for values in zip(*one.values())]
    return made


def _v2_features(body: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise ValueError("there are neither instances nor inputs")
    columns: dict[str, list[Any]] = {}
    for tensor in inputs:
        rows = _tensor_rows(tensor)
        if len(inputs) == 1 and rows and isinstance(rows[0], list) and len(rows[0]) > 1:
            return [_named(row, names) for row in rows]
        columns[str(tensor["name"])] = [row[0] if isinstance(row, list) and row else row for row in rows]
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError("the inputs have different numbers of rows")
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


def _named(values: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Values by the signature's names; by their place where the signature does not fit."""
    chosen = names if len(names) == len(values) else [str(n) for n in range(len(values))]
    return dict(zip(chosen, values))


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


def _first(value: Any) -> Any:
    """Go writes header values as lists."""
    return value[0] if isinstance(value, list) and value else value


def _time(said: Any) -> datetime | None:
    # Go writes nanoseconds and Z; Python 3.10 reads neither.
    text = re.sub(r"(\.\d{1,6})\d*", lambda part: part.group(1).ljust(7, "0"), str(said or "").strip())
    try:
        when = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    # Beyond these years the arithmetic of windows overflows.
    return when.astimezone(timezone.utc) if 1970 <= when.year <= 2200 else None
