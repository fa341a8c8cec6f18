"""Metrics of a run, drawn while it trains."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import traitlets

from modelyard import html
from modelyard.active import ActiveRun
from modelyard.errors import ModelyardError, UsageError
from modelyard.records import Metric, Run
from modelyard.yard import Yard
from modelyard_jupyter.widgets.base import Readable, aligned, finite, script, style

#: Points that are drawn, and kept, of a curve: more can't be seen.
_DRAWN, _KEPT = 200, 4000
_TITLES = ("metric", "last", "step", "curve")
_BARS = "▁▂▃▄▅▆▇█"


class LiveMetrics(Readable):
    """The curves of a run. One that runs here is drawn as it logs, one that runs elsewhere every two seconds.

    Args:
        run: the run that is under way here, or a run, or its id.
        yard: its project; an active run knows it.
        metrics: only these; default: all.

    Raises:
        UsageError: `project-not-named`: a run or an id without its project.
        NotFoundError: `run-not-found`.

    Example:
        with yard.run("late-flights") as run:
            display(LiveMetrics(run))
            for epoch in range(20):
                run.log({"loss": train()}, step=epoch)
    """

    _esm = script("live_metrics")
    _css = style("live_metrics")
    run = traitlets.Unicode().tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)
    curves: traitlets.List[Any] = traitlets.List().tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)

    def __init__(
        self, run: ActiveRun | Run | str, yard: Yard | None = None, *, metrics: Sequence[str] = ()
    ) -> None:
        self._ended = threading.Event()
        active = run if isinstance(run, ActiveRun) else None
        project = active.yard if active else yard
        if project is None:
            raise UsageError(
                "project-not-named",
                "a run that is not under way here needs its project",
                "LiveMetrics(run, yard)",
            )
        self._yard, self._active, self._only = project, active, frozenset(metrics)
        self._values: dict[str, dict[int, float]] = {}
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._changed = False
        self._shown: list[str] = []
        record = active.record if active else project.runs.get(run.id if isinstance(run, Run) else str(run))
        super().__init__(
            run=record.id, title=f"{record.name} {record.id[:8]}", status=html.marked(record.status)
        )
        if active:
            active.listen(self._hear)
        self._look(record)
        self._draw()
        if record.status == "running":
            threading.Thread(target=self._follow, name=f"metrics of {record.id}", daemon=True).start()

    def stop(self) -> None:
        """Draw nothing more."""
        self._ended.set()

    def close(self) -> None:
        """Take the widget away."""
        self.stop()
        super().close()

    # -- where values come from -------------------------------------------------------------

    def _hear(self, metrics: Sequence[Metric]) -> None:
        """What the run logs; with nothing it says that it has ended, and then all of it is stored."""
        if metrics or self._active is None:
            self._take(metrics)
            return
        try:
            self._look(self._active.record)
        except ModelyardError as fault:
            self.problem = fault.message
            self._end(self._active.record)

    def _follow(self) -> None:
        """Until the run has ended; a store that does not answer is asked again."""
        while not self._ended.wait(0.5 if self._active else 2.0):
            try:
                if self._active is None:
                    self._look(self._yard.tracker.get(self.run))
                self._draw()
            except ModelyardError as fault:
                self.problem = fault.message

    def _look(self, record: Run) -> None:
        """Everything that is stored."""
        self._take(self._yard.tracker.metrics(record.id))
        if record.status != "running":
            self._end(record)

    def _take(self, metrics: Sequence[Metric]) -> None:
        with self._lock:
            for metric in metrics:
                if not self._only or metric.name in self._only:
                    values = self._values.setdefault(metric.name, {})
                    values[metric.step] = metric.value
                    if len(values) > _KEPT:
                        self._values[metric.name] = _thinned(values, _KEPT // 2)
            self._changed = self._changed or bool(metrics)

    def _end(self, record: Run) -> None:
        self._ended.set()
        self.status = html.marked(record.status)
        self._draw()
        self._show_again()

    def _draw(self) -> None:
        """Send what changed, at most twice a second however much is logged."""
        with self._sending:  # the thread, and whoever ends the run
            with self._lock:
                if not self._changed:
                    return
                self._changed = False
                curves = [_curve(name, values) for name, values in sorted(self._values.items())]
            with self.hold_sync():
                self.curves, self.problem = curves, ""

    # -- how it looks without JavaScript ----------------------------------------------------

    def _ipython_display_(self) -> None:
        """Shown under an id, so that a notebook keeps the last values and not those of the beginning."""
        from IPython.display import display

        data, metadata = self._repr_mimebundle_()
        handle: Any = display(data, raw=True, metadata=metadata, display_id=True)  # type: ignore[no-untyped-call]
        self._shown.append(handle.display_id)

    def _show_again(self) -> None:
        if not self._shown or self.comm is None:
            return
        from IPython.display import update_display

        data, metadata = self._repr_mimebundle_()
        for display_id in self._shown:
            update_display(data, raw=True, metadata=metadata, display_id=display_id)  # type: ignore[no-untyped-call]

    def _rows(self) -> list[list[str]]:
        return [
            [
                curve["name"],
                html.number(_known(curve["last"])),
                str(curve["points"][-1][0]),
                _bars([y for _, y in curve["points"]]),
            ]
            for curve in self.curves
        ]

    def _text(self) -> str:
        said = f"metrics of run {self.title}, {self.status}"
        if not self.curves:
            return f"{said}: nothing logged yet"
        return f"{said}\n{aligned(_TITLES, self._rows())}"

    def _html(self) -> str:
        said = f"metrics of run {self.title}, {self.status}"
        if not self.curves:
            return f"<p>{html.escaped(said)}: nothing logged yet</p>"
        rows = [[html.escaped(cell) for cell in row] for row in self._rows()]
        return html.table(_TITLES, rows, caption=said)


def _curve(name: str, values: dict[int, float]) -> dict[str, Any]:
    points = [[step, finite(value)] for step, value in _thinned(values, _DRAWN).items()]
    return {"name": name, "points": points, "last": points[-1][1]}


def _thinned(values: dict[int, float], most: int) -> dict[int, float]:
    """By rising steps, the first and the last among them."""
    steps = sorted(values)
    if len(steps) > most:
        steps = [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]
    return {step: values[step] for step in steps}


def _known(value: float | None) -> float:
    return float("nan") if value is None else value


def _bars(values: Sequence[float | None]) -> str:
    """A curve in at most 20 characters; a gap where there is no number."""
    places = min(20, len(values))
    chosen = [values[round(place * (len(values) - 1) / max(places - 1, 1))] for place in range(places)]
    numbers = [value for value in chosen if value is not None]
    if not numbers:
        return ""
    low, span = min(numbers), (max(numbers) - min(numbers)) or 1.0
    return "".join(" " if v is None else _BARS[round((v - low) / span * (len(_BARS) - 1))] for v in chosen)
