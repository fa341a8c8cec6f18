"""Runs: pages of the list, details, curves, comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from modelyard.errors import NotFoundError, UsageError
from modelyard.records import DataUse, Metric, Run
from modelyard.yard import Yard
from modelyard_jupyter import cells
from modelyard_jupyter.answers.known_runs import KnownRuns
from modelyard_jupyter.api import (
    CodeState,
    Comparison,
    Curve,
    Difference,
    LogLines,
    RunDetails,
    RunPage,
    RunQuery,
    RunRow,
)

_POINTS = 200
_COMPARED = 8
_LINES = 500


_known = lru_cache(maxsize=1)(KnownRuns)  # a worker has one yard


def page(yard: Yard, query: Mapping[str, Any]) -> RunPage:
    """Some of the runs, searched and sorted."""
    asked = RunQuery.model_validate(query)
    runs, more = _known(yard).list()
    fitting = [run for run in runs if _fits(run, asked)]
    fitting = _sorted(fitting, asked)
    return RunPage(
        total=len(fitting),
        more=more,
        offset=asked.offset,
        rows=tuple(row_of(run) for run in fitting[asked.offset : asked.offset + asked.limit]),
        metric_names=tuple(sorted({name for run in runs for name in run.metrics})),
        param_names=tuple(sorted({name for run in runs for name in run.params})),
    )


def details(yard: Yard, query: Mapping[str, Any]) -> RunDetails:
    """Everything about one run."""
    run = yard.runs.get(query["run"])
    made = [
        version.ref
        for name in yard.models.names()
        for version in yard.models.versions(name)
        if version.run_id == run.id
    ]
    code = run.code
    return RunDetails(
        row=row_of(run),
        tags={key: value for key, value in run.tags.items() if not key.startswith("mlflow.")},
        code=CodeState(
            commit=code.commit,
            branch=code.branch,
            dirty=code.dirty,
            changed=code.changed,
            entry_point=code.entry_point,
            cell=code.cell,
            source=cells.source_of(yard, run.id) if code.execution_count is not None else None,
        ),
        python=run.environment.python if run.environment else None,
        versions=tuple(made),
        load_code=f'import modelyard\n\nyard = modelyard.open()\nrun = yard.runs.get("{run.id}")\n',
    )


def curves(yard: Yard, query: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics over their steps."""
    run = yard.runs.get(query["run"])
    wanted = {name for name in query.get("names", "").split(",") if name}
    by_name: dict[str, list[Metric]] = {}
    for metric in yard.tracker.metrics(run.id):
        if not wanted or metric.name in wanted:
            by_name.setdefault(metric.name, []).append(metric)
    found = [_curve(run.id, name, values) for name, values in sorted(by_name.items())]
    return {"curves": [curve.model_dump(mode="json") for curve in found]}


def log(yard: Yard, query: Mapping[str, Any]) -> LogLines:
    """The end of what a run printed; nothing where it printed elsewhere, or nothing."""
    try:
        return LogLines(lines=tuple(yard.runs.logs(query["run"], lines=_LINES)))
    except NotFoundError as fault:
        if fault.code != "run-output-missing":
            raise
        return LogLines(lines=())


def compare(yard: Yard, query: Mapping[str, Any]) -> Comparison:
    """Runs side by side, in the order asked for.

    Raises:
        UsageError: `compare-invalid`: fewer than two runs, or too many.
    """
    ids = [id for id in query.get("runs", "").split(",") if id]
    if not 2 <= len(ids) <= _COMPARED:
        raise UsageError("compare-invalid", f"{len(ids)} runs can't be compared: choose 2 to {_COMPARED}")
    runs = yard.runs.compare(ids)
    lines = [
        *_lines("param", [run.params for run in runs]),
        *_lines("metric", [finite(run.metrics) for run in runs]),
        *_lines("data", [{use.role: data_of(use) for use in run.data} for run in runs]),
        *_lines("code", [{"code": run.code.state} for run in runs]),
    ]
    return Comparison(runs=tuple(row_of(run) for run in runs), lines=tuple(lines))


def row_of(run: Run) -> RunRow:
    """A run as the list shows it."""
    return RunRow(
        id=run.id,
        name=run.name,
        status=run.status,
        started=run.started,
        ended=run.ended,
        user=run.user,
        params=dict(run.params),
        metrics=finite(run.metrics),
        data=tuple(f"{use.role} {data_of(use)}" for use in run.data),
        models=run.models,
        notebook=run.code.entry_point if run.code.entry_point.endswith(".ipynb") else None,
        cell=run.code.cell,
    )


def data_of(use: DataUse) -> str:
    """A data version in one word."""
    return f"{use.ref.name}@{use.ref.version[:10]}"


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """JSON knows no NaN and no infinity."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _fits(run: Run, asked: RunQuery) -> bool:
    if asked.status and run.status != asked.status:
        return False
    words = asked.search.casefold().split()
    text = f"{run.name} {run.id} {run.user} {' '.join(f'{k}={v}' for k, v in run.params.items())}".casefold()
    return all(word in text for word in words)


def _sorted(runs: list[Run], asked: RunQuery) -> list[Run]:
    """By what was asked for; runs that lack it come last either way.

    Raises:
        UsageError: `sort-unknown`.
    """
    kind, _, name = asked.sort.partition(":")
    if kind in ("started", "name", "status", "user") and not name:
        known, lacking = runs, []
        key: Any = lambda run: getattr(run, kind)  # noqa: E731
    elif kind in ("metric", "param") and name:
        values = {run.id: getattr(run, f"{kind}s").get(name) for run in runs}
        known = [run for run in runs if _is_there(values[run.id])]
        lacking = [run for run in runs if not _is_there(values[run.id])]
        if kind == "param":
            values = {id: _sortable(value) for id, value in values.items()}
        key = lambda run: values[run.id]  # noqa: E731
    else:
        raise UsageError("sort-unknown", f"runs can't be sorted by '{asked.sort}'")
    return sorted(known, key=key, reverse=asked.descending) + lacking


def _is_there(value: str | float | None) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _sortable(value: Any) -> tuple[int, float, str]:
    """Numbers by size and before words."""
    try:
        return 0, float(value), ""
    except (TypeError, ValueError):
        return 1, 0.0, str(value)


def _curve(run: str, name: str, values: list[Metric]) -> Curve:
    values = sorted(values, key=lambda metric: metric.step)
    if len(values) > _POINTS:
        kept = [round(number * (len(values) - 1) / (_POINTS - 1)) for number in range(_POINTS)]
        values = [values[index] for index in kept]
    points = [metric.value if math.isfinite(metric.value) else None for metric in values]
    return Curve(run=run, name=name, steps=tuple(m.step for m in values), values=tuple(points))


def _lines(kind: Any, by_run: list[Mapping[str, Any]]) -> Iterable[Difference]:
    for name in sorted({name for values in by_run for name in values}):
        values = tuple(found.get(name) for found in by_run)
        yield Difference(kind=kind, name=name, values=values, differs=len(set(values)) > 1)
