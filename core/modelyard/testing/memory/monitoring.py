"""The reference monitor: a log in a file, windows computed from all of it, drift by mean shift."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from modelyard import state
from modelyard.errors import NotFoundError
from modelyard.records import Alert, Endpoint, Prediction, Window, now
from modelyard.stages import Label, Reference, ResolvedModel, ServiceSpec, StageContext
from modelyard.testing.contexts import answer
from modelyard.testing.memory import listeners, scores
from modelyard.testing.memory.predictions import Logged, answered_of

RULES = """\
groups:
  - name: modelyard
    rules:
      - alert: InputDrift
        expr: modelyard_column_drifted == 1
        labels:
          severity: warning
        annotations:
          summary: a column has drifted from the reference
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class MemoryMonitorSettings(BaseModel):
    """`[providers.memory]`"""

    model_config = ConfigDict(extra="forbid")
    window_hours: int = Field(24, description="The length of a window.")
    minimum_rows: int = Field(50, description="Windows with fewer rows raise no alarm.")


class MemoryMonitor:
    """Keeps events in `log.jsonl`, labels in `labels.jsonl`, profiles in `watched.json`."""

    def __init__(self, context: StageContext) -> None:
        self._log = context.state / "log.jsonl"
        self._labels = context.state / "labels.jsonl"
        self._watched = context.state / "watched.json"
        self._settings = context.settings or MemoryMonitorSettings()

    def profile(self, reference: Reference) -> Mapping[str, Any]:
        """See `Monitor.profile`."""
        return scores.profile(reference)

    def watch(self, endpoint: Endpoint, models: Sequence[ResolvedModel]) -> None:
        """See `Monitor.watch`."""
        with state.locked(self._watched.with_suffix(".lock")):
            watched = state.read_json(self._watched) or {}
            for model in models:
                profile = state.read_json(model.path / "profile.json")
                watched.setdefault(endpoint.name, {})[model.version.ref] = profile
            state.write_json(self._watched, watched)

    def event_sink(self) -> str | None:
        """See `Monitor.event_sink`."""
        return f"{listeners.listen(self._log, self._take)}/"

    def find(self, prediction_id: str) -> Prediction:
        """See `Monitor.find`."""
        for logged in self._answered():
            if logged.prediction.id == prediction_id:
                return logged.prediction
        raise NotFoundError("prediction-not-found", f"no prediction '{prediction_id}' in the log")

    def add_labels(self, endpoint: str, labels: Iterable[Label]) -> int:
        """See `Monitor.add_labels`."""
        stored = 0
        with state.locked(self._labels.with_suffix(".lock")):
            for label in labels:
                line = json.dumps([endpoint, label.prediction_id, label.row, label.value])
                state.append_line(self._labels, line.encode())
                stored += 1
        return stored

    def windows(self, endpoint: str, *, until: datetime | None = None, limit: int = 50) -> list[Window]:
        """See `Monitor.windows`."""
        length = timedelta(hours=self._settings.window_hours)
        groups: dict[tuple[datetime, str, str], list[Logged]] = {}
        for logged in self._answered():
            prediction = logged.prediction
            if prediction.endpoint == endpoint:
                start = _EPOCH + (prediction.time - _EPOCH) // length * length
                groups.setdefault((start, prediction.model, prediction.version), []).append(logged)
        closed = [key for key in groups if key[0] + length <= (until or now())]
        newest = sorted(closed, key=lambda key: (key[0], key[1], int(key[2])), reverse=True)[:limit]
        labels = self._labels_of(endpoint)
        return [self._window(endpoint, *key, length, groups[key], labels) for key in newest]

    def alerts(self, endpoint: str) -> list[Alert]:
        """See `Monitor.alerts`."""
        return [
            Alert(
                name="InputDrift",
                severity="warning",
                summary=f"'{column}' of {endpoint} has drifted since {window.start.isoformat()}",
                labels={"endpoint": endpoint, "version": window.version, "column": column},
                evaluator="modelyard",
            )
            for window in self.windows(endpoint, limit=1)
            if window.enough
            for column in window.drifted
        ]

    def rules(self) -> str:
        """See `Monitor.rules`."""
        return RULES

    def metrics(self) -> str:
        """See `Monitor.metrics`."""
        endpoints = sorted({logged.prediction.endpoint for logged in self._answered()})
        newest = [window for endpoint in endpoints for window in self.windows(endpoint, limit=1)]
        return scores.exposition(newest)

    def report(self, endpoint: str, out: Path, *, version: str | None = None) -> Path:
        """See `Monitor.report`."""
        found = [w for w in self.windows(endpoint) if version in (None, w.version)]
        if not found:
            raise NotFoundError("window-not-found", f"no closed window of '{endpoint}'")
        rows = "".join(
            f"<tr><td>{html.escape(c.column)}<td>{c.score}<td>{html.escape(c.error or '')}"
            for c in found[0].columns
        )
        title = html.escape(f"{endpoint}, version {found[0].version}")
        page = f"<!doctype html><html><title>{title}</title><h1>{title}</h1><table>{rows}</table></html>"
        state.write_bytes(out, page.encode())
        return out

    def services(self) -> Sequence[ServiceSpec]:
        """See `Monitor.services`: threads need no processes."""
        return ()

    def labels_of(self, endpoint: str) -> Iterable[tuple[tuple[str, int], Any]]:
        """All labels of an endpoint in the order of their arrival, by prediction id and row."""
        for at, prediction_id, row, value in _lines(self._labels):
            if at == endpoint:
                yield (prediction_id, row), value

    def _labels_of(self, endpoint: str) -> dict[tuple[str, int], Any]:
        return dict(self.labels_of(endpoint))  # the last one of a row wins

    def _take(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            line = json.dumps([headers, json.loads(body)]).encode()
        except ValueError:
            return answer(request, 400, b'{"error": "the body is not JSON"}')
        with state.locked(self._log.with_suffix(".lock")):
            state.append_line(self._log, line)
        return answer(request, 202, b"{}")

    def _answered(self) -> list[Logged]:
        return answered_of(_lines(self._log))

    def _window(
        self,
        endpoint: str,
        start: datetime,
        model: str,
        version: str,
        length: timedelta,
        logged: Sequence[Logged],
        labels: Mapping[tuple[str, int], Any],
    ) -> Window:
        watched = (state.read_json(self._watched) or {}).get(endpoint, {})
        profile = watched.get(f"{model}/{version}") or {"columns": {}, "quality": {}}
        rows = [row for each in logged for row in each.rows]
        outcomes = [
            (prediction, labels[each.prediction.id, number])
            for each in logged
            for number, prediction in enumerate(each.predictions)
            if (each.prediction.id, number) in labels
        ]
        return Window(
            endpoint=endpoint,
            model=model,
            version=version,
            start=start,
            end=start + length,
            rows=len(rows),
            labelled=len(outcomes),
            enough=len(rows) >= self._settings.minimum_rows,
            columns=tuple(self.column_scores(profile, rows)),
            quality=scores.quality(outcomes) if outcomes else {},
            quality_reference=profile["quality"],
        )

    def column_scores(self, profile: Mapping[str, Any], rows: Sequence[Any]) -> list[Any]:
        """One `ColumnScore` per column of the profile; a column that can't be scored says why."""
        names = list(profile["columns"])
        tables = [row if isinstance(row, Mapping) else dict(zip(names, row)) for row in rows]
        return [scores.column_score(name, profile["columns"][name], tables) for name in names]


def _lines(file: Path) -> Iterable[Any]:
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)
