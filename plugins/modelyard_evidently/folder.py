"""What a monitor knows, in one folder: log, labels, profiles, windows and marks, and what follows from them.

The local monitor works on its own folder; the monitor of a cluster has one per project. Each call reads
the folder anew, so several processes may work on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.errors import NotFoundError
from modelyard.records import Alert, Endpoint, Prediction, Promotion, Window, now
from modelyard.stages import Label, ResolvedModel
from modelyard.state import locked, os_errors, read_json, write_bytes, write_json
from modelyard_evidently import exporter, log, rules
from modelyard_evidently import profile as profiles
from modelyard_evidently.config import EvidentlySettings
from modelyard_evidently.values import folder_name

if TYPE_CHECKING:
    from modelyard_evidently.windows import Span

_PROFILE = "profile.json"
_MOST_MARKS = 200


@dataclass(frozen=True)
class Served:
    """A model version behind an endpoint; `profile` is the JSON that was stored with it, if there is one."""

    model: str
    version: str
    profile: str | None = None


def served_of(model: ResolvedModel) -> Served:
    """A version with what its folder says about its reference."""
    file = model.path / _PROFILE
    with os_errors(file):
        said = file.read_text(encoding="utf-8") if file.is_file() else None
    return Served(model.version.name, model.version.version, said)


def promotion_mark(promotion: Promotion) -> dict[str, Any]:
    """A promotion as the exporter shows it."""
    return {
        "name": "promotion",
        "model": promotion.model,
        "alias": promotion.alias,
        "version": promotion.to_version,
    }


def deployment_marks(endpoint: Endpoint) -> list[dict[str, Any]]:
    """What an endpoint serves now, as the exporter shows it."""
    return [
        {"name": "deployment", "endpoint": endpoint.name, "model": r.model, "version": r.version}
        for r in endpoint.revisions
        if r.traffic
    ]


class MonitorFolder:
    """The work on one such folder; `modelyard.stages.Monitor` says what is promised.

    Args:
        state: the folder.
        settings: how long windows are, and what they need.
        labels: of every sample, where the exporter speaks for several folders.
    """

    def __init__(
        self, state: Path, settings: EvidentlySettings, *, labels: Mapping[str, str] | None = None
    ) -> None:
        self._state, self._settings, self._labels = state, settings, dict(labels or {})

    # -- what models and endpoints tell us ------------------------------------------------------

    def watch(self, endpoint: str, served: Iterable[Served]) -> None:
        """Take note of the model versions behind an endpoint."""
        listed = list(served)
        for each in listed:
            if each.profile is not None:
                file = profiles.file_of(self._state, each.model, each.version)
                write_bytes(file, each.profile.encode())
                kinds = profiles.kinds(self._profile(each.model, each.version))
                log.set_kinds(self._state, endpoint, each.model, each.version, kinds)
        serves = [{"model": each.model, "version": each.version} for each in listed]
        write_json(self._endpoint_file(endpoint), {"serves": serves})

    def mark(self, marks: Iterable[Mapping[str, Any]]) -> None:
        """Remember promotions and deployments for the exporter; the last of the same counts."""
        with locked(self._state / "marks.lock", doing="marking"):
            kept = self._marks()
            for mark in marks:
                kept = [m for m in kept if {k: v for k, v in m.items() if k != "time"} != mark]
                kept.append({**mark, "time": now().timestamp()})
            write_json(self._state / "marks.json", kept[-_MOST_MARKS:])

    # -- the prediction log ---------------------------------------------------------------------

    def find(self, prediction_id: str) -> Prediction:
        """One prediction in the log.

        Raises:
            NotFoundError: `prediction-not-found`.
        """
        made = []
        for endpoint in log.endpoints(self._state):
            reader = log.Reader(self._state, endpoint)
            found = log.read_again(partial(reader.find, prediction_id))
            if found is not None:
                one = Prediction(
                    id=prediction_id,
                    time=_utc(found["time"]),
                    endpoint=endpoint,
                    revision=found["revision"],
                    model=found["model"],
                    version=found["version"],
                    rows=found["n_rows"],
                )
                made.append(one)
        if made:  # more than one: steps of a graph
            first, *others = sorted(made, key=lambda one: one.time)
            return replace(first, others=tuple(others))
        raise NotFoundError(
            "prediction-not-found",
            f"no prediction '{prediction_id}' is in the log",
            "its InferenceService needs spec.predictor.logger",
        )

    def add_labels(self, endpoint: str, labels: Iterable[Label]) -> int:
        """Store true outcomes; returns how many."""
        return log.add_labels(self._state, endpoint, labels)

    # -- windows --------------------------------------------------------------------------------

    def windows(self, endpoint: str, *, until: datetime | None = None, limit: int = 50) -> list[Window]:
        """Score what is not yet scored, and return the newest first."""
        found = self._scored(endpoint, until or now())
        self._write_metrics()
        return sorted(found, key=lambda w: (w.start, w.version), reverse=True)[:limit]

    def score(self) -> list[str]:
        """Score every endpoint; says of those that could not be scored why. They hinder no other, but the
        monitor does not count as alive until they are looked after."""
        faults = []
        for endpoint in log.endpoints(self._state):
            try:
                self._scored(endpoint, now())
            except Exception as fault:
                faults.append(f"{endpoint}: {fault}")
        self._write_metrics(alive=not faults)
        return faults

    def alerts(self, endpoint: str, *, last_loss: float | None = None) -> list[Alert]:
        """The rules that fire on the newest windows, and on when the collector last lost an event."""
        said = self._samples()
        if last_loss is not None:
            said.append((exporter.LAST_LOSS, {}, last_loss))
        return rules.firing(said, endpoint, now().timestamp())

    def metrics(self) -> str:
        """The finished windows in Prometheus' text format."""
        return exporter.text(self._samples())

    def report(self, endpoint: str, out: Path, *, version: str | None = None) -> Path:
        """Write Evidently's page about the newest window with enough rows.

        Raises:
            NotFoundError: `no-windows`, `profile-not-found`.
        """
        from modelyard_evidently.report import write

        stored = [w for w in self._stored(endpoint) if version in (None, w.version)]
        if not stored:
            raise NotFoundError(
                "no-windows",
                f"'{endpoint}' has no scored window yet",
                f"modelyard monitor windows {endpoint}",
            )
        # A few rows say little: a canary's, say, beside a month of the version that it was to replace.
        window = max(stored, key=lambda w: (w.enough, w.start, w.rows))
        profile = self._profile(window.model, window.version)
        if profile is None:
            raise NotFoundError(
                "profile-not-found",
                f"{window.model}/{window.version} was stored without a reference profile",
                "log it with run.log_model(model, reference=modelyard.Reference(...))",
            )
        reader = log.Reader(self._state, endpoint)
        asked = partial(reader.frame, window.model, window.version, window.start, window.end)
        frame = log.read_again(asked)
        heading = (
            f"{window.model}/{window.version} at {endpoint}, {window.start:%Y-%m-%d %H:%M} to "
            f"{window.end:%Y-%m-%d %H:%M} UTC: {window.rows} rows beside the reference"
        )
        work = self._state / "work"
        return write(profile, frame, self._settings.window, out, heading=heading, work=work)

    # -- the steps ------------------------------------------------------------------------------

    def _scored(self, endpoint: str, until: datetime) -> list[Window]:
        lock = self._state / "windows" / folder_name(endpoint) / "scoring.lock"
        with locked(lock, timeout=300, doing="scoring"):
            return list(self._closed(endpoint, until))

    def _closed(self, endpoint: str, until: datetime) -> Iterator[Window]:
        from modelyard_evidently.windows import Span, scored

        reader = log.Reader(self._state, endpoint)
        unit = self._settings.window
        spans = log.read_again(partial(reader.spans, unit))
        # Replayed traffic is of the past: time has come at least as far as the newest row.
        horizon = max([until, *(_utc(span["newest"]) for span in spans)]) - self._lateness
        for found in spans:
            span = Span(endpoint, found["model"], found["version"], _utc(found["start"]), unit)
            if span.end > horizon:
                continue
            file = self._window_file(span)
            known = read_json(file)
            seen = [found["n_rows"], found["labelled"], found["last_label"]]
            if known is None or known["seen"] != seen:
                frame = log.read_again(partial(reader.frame, span.model, span.version, span.start, span.end))
                profile = self._profile(span.model, span.version)
                window = scored(span, frame, profile, self._settings.min_rows)
                known = {"seen": seen, "window": _finite(window.to_dict())}
                write_json(file, known)
            yield Window.from_dict(known["window"])

    def _stored(self, endpoint: str) -> list[Window]:
        folder = self._state / "windows" / folder_name(endpoint) / self._settings.window
        return [Window.from_dict(read_json(file)["window"]) for file in sorted(folder.glob("*.json"))]

    def _samples(self) -> exporter.Samples:
        newest: dict[tuple[str, str, str], Window] = {}
        for endpoint in log.endpoints(self._state):
            served = self._served(endpoint)
            for window in sorted(self._stored(endpoint), key=lambda w: w.start):
                if not served or (window.model, window.version) in served:
                    newest[endpoint, window.model, window.version] = window
        finished = [self._finished(window) for window in newest.values()]
        found = exporter.samples(finished, self._marks(), self._last_success())
        return [(name, {**self._labels, **labels}, value) for name, labels, value in found]

    def _finished(self, window: Window) -> exporter.Finished:
        columns = (self._profile(window.model, window.version) or {}).get("columns", ())
        missing = {column["name"]: float(column["missing_ratio"]) for column in columns}
        return exporter.Finished(window, self._settings.min_rows, missing)

    def _write_metrics(self, *, alive: bool = True) -> None:
        if alive:
            write_json(self._state / "last_success.json", {"time": now().timestamp()})
        write_bytes(self._state / exporter.METRICS_FILE, self.metrics().encode())

    def _last_success(self) -> float | None:
        said = read_json(self._state / "last_success.json")
        return None if said is None else float(said["time"])

    def _served(self, endpoint: str) -> set[tuple[str, str]]:
        """The versions behind the endpoint now; the series of others are dropped."""
        known = read_json(self._endpoint_file(endpoint)) or {"serves": []}
        return {(item["model"], item["version"]) for item in known["serves"]}

    def _marks(self) -> list[dict[str, Any]]:
        return read_json(self._state / "marks.json") or []

    def _profile(self, model: str, version: str) -> dict[str, Any] | None:
        profile: dict[str, Any] | None = read_json(profiles.file_of(self._state, model, version))
        return profile

    def _endpoint_file(self, endpoint: str) -> Path:
        return self._state / "endpoints" / f"{folder_name(endpoint)}.json"

    def _window_file(self, span: Span) -> Path:
        name = f"{folder_name(span.model)}-{folder_name(span.version)}-{span.start:%Y%m%dT%H}.json"
        return self._state / "windows" / folder_name(span.endpoint) / span.unit / name

    @property
    def _lateness(self) -> timedelta:
        return timedelta(minutes=self._settings.lateness)


def _utc(time: datetime) -> datetime:
    return time.astimezone(timezone.utc) if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity: what could not be measured is absent."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items() if not isinstance(v, float) or math.isfinite(v)}
    return [_finite(item) for item in value] if isinstance(value, list) else value
