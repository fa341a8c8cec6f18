"""Drift: per endpoint and model version, its windows and columns."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.errors import ModelyardError
from modelyard.records import ColumnScore, Window
from modelyard.yard import Yard
from modelyard_jupyter.api import AlertLine, DriftCell, DriftList, DriftRow, DriftWindow


def rows(yard: Yard, _: Mapping[str, Any]) -> DriftList:
    """Everything that is watched."""
    found = []
    for endpoint in yard.endpoints.list():
        by_version: dict[tuple[str, str], list[Window]] = {}
        for window in reversed(yard.monitor.windows(endpoint.name)):
            by_version.setdefault((window.model, window.version), []).append(window)
        alerts = _alerts(yard, endpoint.name)
        found += [_row(endpoint.name, *who, windows, alerts) for who, windows in by_version.items()]
    return DriftList(rows=tuple(found))


def report(yard: Yard, query: Mapping[str, Any]) -> bytes:
    """The report's page, made anew."""
    with tempfile.TemporaryDirectory(prefix="modelyard-report-") as folder:
        out = Path(folder) / "report.html"
        return yard.monitor.report(query["endpoint"], out, version=query.get("version") or None).read_bytes()


def _row(
    endpoint: str, model: str, version: str, windows: list[Window], alerts: tuple[AlertLine, ...]
) -> DriftRow:
    columns = tuple(dict.fromkeys(score.column for window in windows for score in window.columns))
    return DriftRow(
        endpoint=endpoint,
        model=model,
        version=version,
        columns=columns,
        windows=tuple(_window(window, columns) for window in windows),
        alerts=alerts,
    )


def _window(window: Window, columns: tuple[str, ...]) -> DriftWindow:
    scores = {score.column: score for score in window.columns}
    scored = [score for score in window.columns if score.score is not None]
    return DriftWindow(
        start=window.start,
        end=window.end,
        rows=window.rows,
        labelled=window.labelled,
        enough=window.enough,
        share=sum(score.drifted for score in scored) / len(scored) if scored else 0.0,
        cells=tuple(_cell(scores.get(column)) for column in columns),
        quality=dict(window.quality),
        quality_reference=dict(window.quality_reference),
    )


def _cell(score: ColumnScore | None) -> DriftCell | None:
    if score is None:
        return None
    return DriftCell(
        score=score.score,
        threshold=score.threshold,
        drifted=score.drifted,
        missing_ratio=score.missing_ratio,
        error=score.error,
    )


def _alerts(yard: Yard, endpoint: str) -> tuple[AlertLine, ...]:
    try:
        alerts = yard.monitor.alerts(endpoint)
    except ModelyardError:
        return ()
    return tuple(
        AlertLine(name=a.name, severity=a.severity, summary=a.summary, endpoint=endpoint) for a in alerts
    )
