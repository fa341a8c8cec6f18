"""How far an endpoint's inputs have moved, window by window and column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import traitlets

from modelyard import html
from modelyard.errors import ModelyardError
from modelyard.records import ColumnScore, Window
from modelyard.yard import Yard
from modelyard_jupyter.widgets.base import Readable, aligned, finite, script, style

#: Windows that the forms without JavaScript show, the newest; the widget has buttons for the others.
_SHOWN = 12


class DriftView(Readable):
    """Drift and quality of one model version behind an endpoint.

    Args:
        yard: the project.
        endpoint: its name.
        version: the version; default: the one that gets most of the traffic.
        limit: how many windows, the newest.

    Raises:
        NotFoundError: `endpoint-not-found`.

    Example:
        DriftView(yard, "late-flights")
    """

    _esm = script("drift_view")
    _css = style("drift_view")
    title = traitlets.Unicode().tag(sync=True)
    columns = traitlets.List(traitlets.Unicode()).tag(sync=True)
    windows: traitlets.List[Any] = traitlets.List().tag(sync=True)

    def __init__(self, yard: Yard, endpoint: str, *, version: str | None = None, limit: int = 48) -> None:
        self._yard, self._endpoint, self._version, self._limit = yard, endpoint, version, limit
        super().__init__()
        self.refresh()

    def refresh(self) -> None:
        """Look again."""
        newest_first = self._yard.monitor.windows(self._endpoint, limit=self._limit)
        versions = list(dict.fromkeys(window.version for window in newest_first))
        version = self._version or self._serving(versions)
        windows = [window for window in reversed(newest_first) if window.version == version]
        columns = list(dict.fromkeys(score.column for window in windows for score in window.columns))
        model = f", {windows[0].model}/{version}" if windows else ""
        others = ", ".join(other for other in versions if other != version)
        with self.hold_sync():
            self.title = f"{self._endpoint}{model}" + (f" (other versions: {others})" if others else "")
            self.columns, self.windows = columns, [_window(window, columns) for window in windows]

    def _serving(self, watched: Sequence[str]) -> str | None:
        """Of the versions with windows the one with most traffic; the newest where the endpoint is gone."""
        try:
            revisions = self._yard.endpoints.get(self._endpoint).revisions
        except ModelyardError:
            revisions = ()
        busiest = sorted(revisions, key=lambda revision: -revision.traffic)
        return next((r.version for r in busiest if r.version in watched), watched[0] if watched else None)

    # -- how it looks without JavaScript ----------------------------------------------------

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """A row per column, then what holds for the whole window; a column per window."""
        shown = self.windows[-_SHOWN:]
        rows = [
            [column, *(_score(window["cells"][place]) for window in shown)]
            for place, column in enumerate(self.columns)
        ]
        rows += [
            ["drifted columns", *(_share(window) for window in shown)],
            ["rows", *(str(window["rows"]) for window in shown)],
            ["labelled", *(str(window["labelled"]) for window in shown)],
        ]
        for name in dict.fromkeys(name for window in shown for name in window["quality"]):
            rows.append([name, *(_number(window["quality"].get(name)) for window in shown)])
            if any(name in window["reference"] for window in shown):
                known = [_number(window["reference"].get(name)) for window in shown]
                rows.append([f"{name} of the reference", *known])
        return ["column", *(window["start"][len("2013-") :] for window in shown)], rows

    def _said(self) -> str:
        if not self.windows:
            return f"drift of {self.title}: no window has closed yet"
        shown = self.windows[-_SHOWN:]
        which = f", the newest {_SHOWN} of {len(self.windows)} windows" if len(self.windows) > _SHOWN else ""
        return f"drift of {self.title}{which}, {shown[0]['start']} to {shown[-1]['end']} UTC"

    def _text(self) -> str:
        return f"{self._said()}\n{aligned(*self._table())}" if self.windows else self._said()

    def _html(self) -> str:
        if not self.windows:
            return f"<p>{html.escaped(self._said())}</p>"
        headers, rows = self._table()
        cells = [[html.escaped(cell) for cell in row] for row in rows]
        return html.table(headers, cells, caption=self._said())


def _window(window: Window, columns: Sequence[str]) -> dict[str, Any]:
    scores = {score.column: score for score in window.columns}
    return {
        "start": f"{window.start:%Y-%m-%d %H:%M}",
        "end": f"{window.end:%Y-%m-%d %H:%M}",
        "rows": window.rows,
        "labelled": window.labelled,
        "enough": window.enough,
        "drifted": len(window.drifted),
        "scored": sum(score.score is not None for score in window.columns),
        "cells": [_cell(scores.get(column)) for column in columns],
        "quality": {name: finite(value) for name, value in sorted(window.quality.items())},
        "reference": {name: finite(value) for name, value in window.quality_reference.items()},
    }


def _cell(score: ColumnScore | None) -> dict[str, Any] | None:
    if score is None:
        return None
    return {
        "score": finite(score.score),
        "threshold": finite(score.threshold),
        "drifted": score.drifted,
        "method": score.method,
        "missing": score.missing_ratio,
        "error": score.error or "",
    }


def _score(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    if cell["score"] is None:
        return "? not scored"
    return ("▲ " if cell["drifted"] else "") + html.number(cell["score"])


def _share(window: dict[str, Any]) -> str:
    if not window["enough"]:
        return "too few rows"
    return f"{'▲' if window['drifted'] else '✓'} {window['drifted']} of {window['scored']}"


def _number(value: float | None) -> str:
    return "" if value is None else html.number(value)
