"""The stage `monitoring`: prediction log, windows, alerts and the report of an endpoint."""

from __future__ import annotations

import http.client
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.errors import EnvironmentFault, NotFoundError
from modelyard.records import Alert, Endpoint, Prediction, Promotion, Window, now
from modelyard.stages import Label, Reference, ResolvedModel, ServiceSpec, StageContext
from modelyard.state import locked, read_json, write_bytes, write_json
from modelyard_evidently import exporter, log, rules
from modelyard_evidently import profile as profiles
from modelyard_evidently.config import EvidentlySettings
from modelyard_evidently.values import folder_name

if TYPE_CHECKING:
    from modelyard_evidently.windows import Span

_SERVICE = "monitor"
_PROFILE = "profile.json"
_MOST_MARKS = 200


class EvidentlyMonitor:
    """See `modelyard.stages.Monitor`; the promises are written there."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._settings: EvidentlySettings = context.settings or EvidentlySettings()
        self._state = context.state

    # -- what models and endpoints tell us ------------------------------------------------------

    def profile(self, reference: Reference) -> Mapping[str, Any]:
        """See `Monitor.profile`."""
        return profiles.build(reference, floor=self._settings.drift_floor)

    def watch(self, endpoint: Endpoint, models: Sequence[ResolvedModel]) -> None:
        """See `Monitor.watch`."""
        served = []
        for model in models:
            name, version = model.version.name, model.version.version
            served.append({"model": name, "version": version})
            file = model.path / _PROFILE
            if file.is_file():
                write_bytes(profiles.file_of(self._state, name, version), file.read_bytes())
                kinds = profiles.kinds(self._profile(name, version))
                log.set_kinds(self._state, endpoint.name, name, version, kinds)
        write_json(self._endpoint_file(endpoint.name), {"serves": served})

    def mark_promotion(self, promotion: Promotion) -> None:
        """Remember a promotion for the exporter."""
        labels = {"model": promotion.model, "alias": promotion.alias, "version": promotion.to_version}
        self._mark("promotion", labels)

    def mark_deployment(self, endpoint: Endpoint) -> None:
        """Remember what an endpoint serves now for the exporter."""
        for revision in endpoint.revisions:
            if revision.traffic:
                labels = {"endpoint": endpoint.name, "model": revision.model, "version": revision.version}
                self._mark("deployment", labels)

    # -- the prediction log ---------------------------------------------------------------------

    def event_sink(self) -> str | None:
        """See `Monitor.event_sink`."""
        service = self._context.services.start(self._spec())
        return f"{service.url}/"

    def find(self, prediction_id: str) -> Prediction:
        """See `Monitor.find`."""
        self._flush()
        for endpoint in log.endpoints(self._state):
            reader = log.Reader(self._state, endpoint)
            found = log.read_again(partial(reader.find, prediction_id))
            if found is not None:
                return Prediction(
                    id=prediction_id,
                    time=_utc(found["time"]),
                    endpoint=endpoint,
                    revision=found["revision"],
                    model=found["model"],
                    version=found["version"],
                    rows=found["n_rows"],
                )
        raise NotFoundError(
            "prediction-not-found",
            f"no prediction '{prediction_id}' is in the log",
            "its InferenceService needs spec.predictor.logger",
        )

    def add_labels(self, endpoint: str, labels: Iterable[Label]) -> int:
        """See `Monitor.add_labels`."""
        return log.add_labels(self._state, endpoint, labels)

    # -- windows --------------------------------------------------------------------------------

    def windows(self, endpoint: str, *, until: datetime | None = None, limit: int = 50) -> list[Window]:
        """See `Monitor.windows`."""
        self._flush()
        with locked(
            self._state / "windows" / folder_name(endpoint) / "scoring.lock", timeout=300, doing="scoring"
        ):
            found = list(self._closed(endpoint, until or now()))
        self._write_metrics()
        return sorted(found, key=lambda w: (w.start, w.version), reverse=True)[:limit]

    def alerts(self, endpoint: str) -> list[Alert]:
        """See `Monitor.alerts`."""
        counts = self._flush()
        said = self._samples()
        if counts is not None:
            said.append((exporter.LAST_LOSS, {}, float(counts["last_loss"])))
        return rules.firing(said, endpoint, now().timestamp())

    def rules(self) -> str:
        """See `Monitor.rules`."""
        return rules.text()

    def metrics(self) -> str:
        """See `Monitor.metrics`."""
        return exporter.text(self._samples())

    def report(self, endpoint: str, out: Path, *, version: str | None = None) -> Path:
        """See `Monitor.report`."""
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

    def services(self) -> Sequence[ServiceSpec]:
        """See `Monitor.services`."""
        return [self._spec()]

    # -- the steps ------------------------------------------------------------------------------

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
        return exporter.samples(finished, self._marks(), self._last_success())

    def _finished(self, window: Window) -> exporter.Finished:
        columns = (self._profile(window.model, window.version) or {}).get("columns", ())
        missing = {column["name"]: float(column["missing_ratio"]) for column in columns}
        return exporter.Finished(window, self._settings.min_rows, missing)

    def _write_metrics(self) -> None:
        write_json(self._state / "last_success.json", {"time": now().timestamp()})
        write_bytes(self._state / exporter.METRICS_FILE, self.metrics().encode())

    def _last_success(self) -> float | None:
        said = read_json(self._state / "last_success.json")
        return None if said is None else float(said["time"])

    def _served(self, endpoint: str) -> set[tuple[str, str]]:
        """The versions behind the endpoint now; the series of others are dropped."""
        known = read_json(self._endpoint_file(endpoint)) or {"serves": []}
        return {(item["model"], item["version"]) for item in known["serves"]}

    def _mark(self, name: str, labels: Mapping[str, Any]) -> None:
        file = self._state / "marks.json"
        with locked(self._state / "marks.lock", doing="marking"):
            kept = [
                m
                for m in self._marks()
                if {k: v for k, v in m.items() if k != "time"} != {"name": name, **labels}
            ]
            write_json(file, [*kept, {"name": name, **labels, "time": now().timestamp()}][-_MOST_MARKS:])

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

    def _flush(self) -> dict[str, Any] | None:
        """Have the collector write what it took; its counts. One that does not run has nothing."""
        service = self._context.services.get(_SERVICE)
        if service is None or service.status != "running" or service.port is None:
            return None
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
        try:
            connection.request("POST", "/flush")
            counts: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as fault:
            raise EnvironmentFault(
                "monitor-unreachable", f"the monitor does not answer: {fault}", "modelyard logs monitor"
            ) from None
        finally:
            connection.close()
        return counts

    def _spec(self) -> ServiceSpec:
        argv = [sys.executable, "-m", "modelyard_evidently.collector"]
        argv += ["--state", str(self._state), "--port", "{port}"]
        return ServiceSpec(name=_SERVICE, argv=tuple(argv), health="/healthz")


def _utc(time: datetime) -> datetime:
    return time.astimezone(timezone.utc) if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity: what could not be measured is absent."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items() if not isinstance(v, float) or math.isfinite(v)}
    return [_finite(item) for item in value] if isinstance(value, list) else value
