"""A table of runs to search, sort and choose from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import traitlets

from modelyard import html
from modelyard.records import Run
from modelyard.yard import Yard
from modelyard_jupyter.widgets.base import Readable, aligned, finite, script, style


class RunTable(Readable):
    """Runs with their parameters and metrics.

    `selected` holds the ids of the rows that were chosen; observe it as any trait, set it to choose.

    Args:
        runs: the project, or what `yard.runs.list()` gave.
        columns: names of parameters and metrics; default: those in which the runs differ.
        limit: how many runs of a project, the newest.

    Example:
        table = RunTable(yard.runs.list(name="late-flights"))
        yard.runs.compare(table.selected)
    """

    _esm = script("run_table")
    _css = style("run_table")
    rows: traitlets.List[Any] = traitlets.List().tag(sync=True)
    columns: traitlets.List[Any] = traitlets.List().tag(sync=True)
    selected = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self, runs: Yard | Sequence[Run], *, columns: Sequence[str] | None = None, limit: int = 500
    ) -> None:
        self._runs = runs.runs.list(limit=limit) if isinstance(runs, Yard) else list(runs)
        shown = _columns(self._runs, columns)
        super().__init__(columns=shown, rows=[_row(run, shown) for run in self._runs])

    @traitlets.validate("selected")
    def _known(self, proposal: Any) -> list[str]:
        """Ids of runs that are here, each once, in the order of the table."""
        wanted = set(proposal["value"])
        return [run.id for run in self._runs if run.id in wanted]

    def to_frame(self) -> Any:
        """The selected runs, or all if none is, as a pandas DataFrame: a row per run, by id."""
        import pandas

        chosen = set(self.selected)
        runs = [run for run in self._runs if not chosen or run.id in chosen]
        rows = [_plain(run) for run in runs]
        return pandas.DataFrame(rows, index=pandas.Index([run.id for run in runs], name="run"))

    def _text(self) -> str:
        if not self._runs:
            return "no runs"
        titles = ["run", "name", "status", "started (UTC)", *(column["title"] for column in self.columns)]
        rows = [
            [run.id[:8], run.name, run.status, _minute(run.started), *map(_cell, row["values"])]
            for run, row in zip(self._runs[:50], self.rows)
        ]
        more = f"\n{len(self._runs) - 50} more" if len(self._runs) > 50 else ""
        return aligned(titles, rows) + more

    def _html(self) -> str:
        return html.records(self._runs, title="runs") if self._runs else "<p>no runs</p>"


def _columns(runs: Sequence[Run], wanted: Sequence[str] | None) -> list[dict[str, str]]:
    """Metrics first, then parameters, as `{kind, name, title}`."""
    found = []
    for kind in ("metrics", "params"):
        names = dict.fromkeys(name for run in runs for name in getattr(run, kind))
        for name in names:
            values = {str(getattr(run, kind).get(name)) for run in runs}
            if name in wanted if wanted is not None else kind == "metrics" or len(values) > 1:
                found.append({"kind": kind, "name": name, "title": name})
    return found


def _row(run: Run, columns: Sequence[dict[str, str]]) -> dict[str, Any]:
    values = [getattr(run, column["kind"]).get(column["name"]) for column in columns]
    return {
        "id": run.id,
        "name": run.name,
        "status": html.marked(run.status),
        "started": _minute(run.started),
        "user": run.user,
        "values": [finite(value) if isinstance(value, float) else value for value in values],
    }


def _cell(value: str | float | None) -> str:
    return "" if value is None else html.number(value) if isinstance(value, float) else value


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"


def _plain(run: Run) -> dict[str, Any]:
    """Names that a parameter and a metric share, or a field has, are told apart by what they are."""
    fields = {"name": run.name, "status": run.status, "started": run.started, "user": run.user}
    params = {f"param.{name}" if name in fields else name: value for name, value in run.params.items()}
    metrics = {
        f"metric.{name}" if name in fields or name in params else name: value
        for name, value in run.metrics.items()
    }
    return {**fields, **params, **metrics}
