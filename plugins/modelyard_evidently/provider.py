"""The stage `monitoring`: prediction log, windows, alerts and the report of an endpoint."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modelyard.errors import EnvironmentFault, NotFoundError
from modelyard.records import Alert, Endpoint, Prediction, Promotion, Window, now
from modelyard.stages import Label, Reference, ResolvedModel, ServiceSpec, StageContext
from modelyard.state import locked, read_json, write_bytes, write_json
from modelyard_evidently import exporter, log, rules
from modelyard_evidently.config import EvidentlySettings

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
        from modelyard_evidently.profile import build

        return build(reference, floor=self._settings.drift_floor, min_rows=self._settings.min_rows)

    def watch(self, endpoint: Endpoint, models: Sequence[ResolvedModel]) -> None:
        """See `Monitor.watch`."""
        served = []
        for model in models:
            name, version = model.version.name, model.version.version
            served.append({"model": name, "version": version})
            file = model.path / _PROFILE
            if file.is_file():
                write_bytes(self._profile_file(name, version), file.read_bytes())
                columns = (self._profile(name, version) or {})["columns"]
                kinds = {c["name"]: c["kind"] for c in columns if c["name"] != "prediction"}
                log.set_kinds(self._state, endpoint.name, kinds)
        write_json(self._state / "endpoints" / f"{quote(endpoint.name, safe='')}.json", {"serves": served})

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
            found = log.Reader(self._state, endpoint).find(prediction_id)
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
        with locked(self._state / f"windows-{quote(endpoint, safe='')}.lock", timeout=300, doing="scoring"):
            found = list(self._closed(endpoint, until or now()))
        self._write_metrics()
        return sorted(found, key=lambda w: (w.start, w.version), reverse=True)[:limit]

    def alerts(self, endpoint: str) -> list[Alert]:
        """See `Monitor.alerts`."""
        return rules.firing(self._samples(), endpoint)

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
        window = max(stored, key=lambda w: (w.start, w.version))
        profile = self._profile(window.model, window.version)
        if profile is None:
            raise NotFoundError(
                "profile-not-found",
                f"{window.model}/{window.version} was stored without a reference profile",
                "log it with run.log_model(model, reference=modelyard.Reference(...))",
            )
        reader = log.Reader(self._state, endpoint)
        frame = reader.frame(window.model, window.version, window.start, window.end)
        return write(profile, frame, out, self._state / "work")

    def services(self) -> Sequence[ServiceSpec]:
        """See `Monitor.services`."""
        return [self._spec()]

    # -- the steps ------------------------------------------------------------------------------

    def _closed(self, endpoint: str, until: datetime) -> Iterator[Window]:
        from modelyard_evidently.windows import end_of, scored

        reader = log.Reader(self._state, endpoint)
        unit = self._settings.window
        newest = reader.newest()
        horizon = max(until, _utc(newest)) if newest is not None else until
        for span in reader.spans(unit):
            start = _utc(span["start"])
            end = end_of(start, unit)
            if end > horizon:
                continue
            file = self._window_file(endpoint, span["model"], span["version"], start)
            known = read_json(file)
            seen = [unit, span["n_rows"], span["labelled"], span["newest_label"]]
            if known is None or known["seen"] != seen:
                frame = reader.frame(span["model"], span["version"], start, end)
                profile = self._profile(span["model"], span["version"])
                window = scored(
                    endpoint,
                    span["model"],
                    span["version"],
                    start,
                    end,
                    frame,
                    profile,
                    self._settings.min_rows,
                )
                known = {"seen": seen, "window": _finite(window.to_dict())}
                write_json(file, known)
            yield Window.from_dict(known["window"])

    def _stored(self, endpoint: str) -> list[Window]:
        folder = self._state / "windows" / quote(endpoint, safe="")
        stored = [read_json(file) for file in sorted(folder.glob("*.json"))]
        return [Window.from_dict(s["window"]) for s in stored if s["seen"][0] == self._settings.window]

    def _samples(self) -> exporter.Samples:
        newest: dict[tuple[str, str, str], Window] = {}
        for endpoint in log.endpoints(self._state):
            served = self._served(endpoint)
            for window in sorted(self._stored(endpoint), key=lambda w: w.start):
                if not served or (window.model, window.version) in served:
                    newest[endpoint, window.model, window.version] = window
        return exporter.samples(newest.values(), self._marks(), self._last_success())

    def _write_metrics(self) -> None:
        write_json(self._state / "last_success.json", {"time": now().timestamp()})
        write_bytes(self._state / exporter.METRICS_FILE, self.metrics().encode())

    def _last_success(self) -> float:
        return float((read_json(self._state / "last_success.json") or {"time": 0})["time"])

    def _served(self, endpoint: str) -> set[tuple[str, str]]:
        """The versions behind the endpoint now; the series of others are dropped."""
        known = read_json(self._state / "endpoints" / f"{quote(endpoint, safe='')}.json") or {"serves": []}
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
        profile: dict[str, Any] | None = read_json(self._profile_file(model, version))
        return profile

    def _profile_file(self, model: str, version: str) -> Path:
        return self._state / "profiles" / quote(model, safe="") / f"{quote(version, safe='')}.json"

    def _window_file(self, endpoint: str, model: str, version: str, start: datetime) -> Path:
        name = f"{quote(model, safe='')}-{quote(version, safe='')}-{start:%Y%m%dT%H}.json"
        return self._state / "windows" / quote(endpoint, safe="") / name

    def _flush(self) -> None:
        """Have the collector write what it took; one that does not run has nothing."""
        service = self._context.services.get(_SERVICE)
        if service is None or service.status != "running" or service.port is None:
            return
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
        try:
            connection.request("POST", "/flush")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException) as fault:
            raise EnvironmentFault(
                "monitor-unreachable", f"the monitor does not answer: {fault}", "modelyard logs monitor"
            ) from None
        finally:
            connection.close()

    def _spec(self) -> ServiceSpec:
        argv = [sys.executable, "-m", "modelyard_evidently.collector"]
        argv += ["--state", str(self._state), "--port", "{port}"]
        return ServiceSpec(name=_SERVICE, argv=tuple(argv), health="/healthz")


def _utc(time: datetime) -> datetime:
    return time.astimezone(timezone.utc) if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _finite(value: Any) -> Any:
    """JSON has no NaN: what could not be measured is absent."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items() if not (isinstance(v, float) and v != v)}
    return [_finite(item) for item in value] if isinstance(value, list) else value
