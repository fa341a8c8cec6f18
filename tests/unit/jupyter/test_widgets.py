"""Widgets without a browser: what they hold, and how they read where no JavaScript runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any, cast

import pytest

from modelyard.errors import NotFoundError, UsageError
from modelyard.records import ColumnScore, Run, Window
from modelyard.yard import Yard

pytest.importorskip("anywidget")

from modelyard_jupyter.widgets import DriftView, LiveMetrics, RunTable

WHEN = datetime(2013, 7, 4, 12, 30, tzinfo=timezone.utc)
EVIL = "<script>alert(1)</script>"


def run(number: int, **fields: Any) -> Run:
    return Run(
        **{
            "id": f"{number:032d}",
            "name": f"run {number}",
            "status": "finished",
            "started": WHEN + timedelta(minutes=number),
            "params": {"depth": str(number), "seed": "1"},
            "metrics": {"auc": number / 10},
            **fields,
        }
    )


def forms(widget: Any) -> dict[str, Any]:
    data, _ = widget._repr_mimebundle_()
    return cast("dict[str, Any]", data)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Windows:
    """As much of a project as a view of drift asks for."""

    def __init__(self, *windows: Window, serving: str | None = None) -> None:
        self.monitor = self.endpoints = self
        self._windows, self._serving = windows, serving

    def get(self, endpoint: str) -> Any:
        if self._serving is None:
            raise NotFoundError("endpoint-not-found", f"there is no endpoint '{endpoint}'")
        revisions = [SimpleNamespace(version=v, traffic=100 * (v == self._serving)) for v in ("3", "2", "1")]
        return SimpleNamespace(revisions=revisions)

    def windows(self, endpoint: str, *, limit: int) -> list[Window]:
        if not self._windows:
            raise NotFoundError("endpoint-not-found", f"there is no endpoint '{endpoint}'")
        return list(reversed(self._windows))[:limit]


def window(number: int, *scores: ColumnScore, **fields: Any) -> Window:
    start = WHEN + timedelta(hours=number)
    return Window(
        **{
            "endpoint": "flights",
            "model": "flights",
            "version": "2",
            "start": start,
            "end": start + timedelta(hours=1),
            "rows": 100,
            "columns": scores,
            **fields,
        }
    )


def score(
    column: str, value: float | None, *, drifted: bool = False, error: str | None = None
) -> ColumnScore:
    return ColumnScore(column=column, method="psi", score=value, threshold=0.2, drifted=drifted, error=error)


def test_a_table_of_runs_shows_what_differs_and_is_text_and_html_too() -> None:
    table = RunTable([run(2), run(1, name=EVIL, metrics={"auc": float("nan")})])
    assert [column["name"] for column in table.columns] == ["auc", "depth"]
    assert table.rows[1]["values"] == [None, "1"]
    shown = forms(table)
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert " ".join(shown["text/plain"].splitlines()[0].split()) == "run name status started (UTC) auc depth"
    assert "&lt;script&gt;" in shown["text/html"]
    assert EVIL not in shown["text/html"]


def test_chosen_rows_become_a_frame_in_the_order_of_the_table() -> None:
    pytest.importorskip("pandas")
    table = RunTable([run(3), run(2), run(1, params={"name": "x", "auc": "y"})])
    seen: list[list[str]] = []
    table.observe(lambda change: seen.append(change["new"]), names="selected")
    table.selected = [run(1).id, "gone", run(3).id]
    assert table.selected == seen[-1] == [run(3).id, run(1).id]
    frame = table.to_frame()
    assert list(frame.index) == [run(3).id, run(1).id]
    columns = ["name", "param.name", "auc", "metric.auc"]
    assert frame.loc[run(1).id, columns].tolist() == ["run 1", "x", "y", 0.1]
    table.selected = []
    assert len(table.to_frame()) == 3


def test_a_project_without_runs_is_said_in_words(modelyard_project: Yard) -> None:
    assert forms(RunTable(modelyard_project))["text/html"] == "<p>no runs</p>"


def test_metrics_are_drawn_while_the_run_is_under_way(modelyard_project: Yard) -> None:
    with modelyard_project.run(EVIL) as active:
        active.log({"loss": 3.0})
        view = LiveMetrics(active)
        for step in range(1, 500):
            active.log({"loss": 3.0 / step, "odd": float("inf")}, step=step)
        until(lambda: len(view.curves) == 2 and view.curves[0]["points"][-1][0] == 499)
        assert view.status == "● running"
        assert len(view.curves[0]["points"]) == 200
    assert view.status == "✓ finished"
    loss, odd = view.curves
    assert (loss["points"][0], loss["points"][-1]) == ([0, 3.0], [499, 3.0 / 499])
    assert odd["last"] is None
    shown = forms(view)
    assert "✓ finished" in shown["text/plain"]
    assert "█" in shown["text/plain"]
    assert EVIL not in shown["text/html"]


def test_a_run_of_another_process_is_followed_to_its_end(modelyard_project: Yard) -> None:
    active = modelyard_project.run("elsewhere")
    view = LiveMetrics(active.id, modelyard_project, metrics=["auc"])
    with active:
        active.log({"auc": 0.5, "loss": 1.0}, step=3)
    until(lambda: view.status == "✓ finished")
    assert [curve["name"] for curve in view.curves] == ["auc"]


def test_a_run_without_its_project_is_refused_in_a_sentence() -> None:
    with pytest.raises(UsageError) as refused:
        LiveMetrics("3f2a")
    assert refused.value.code == "project-not-named"


def test_drift_is_numbers_and_marks_in_every_form() -> None:
    yard = Windows(
        window(0, score("dep", 0.1), version="1"),
        window(1, score("dep", 0.1), score(EVIL, 0.5, drifted=True)),
        window(2, score("dep", None, error="all missing"), enough=False, quality={"auc": 0.6}),
    )
    view = DriftView(cast("Yard", yard), "flights")
    assert (view.title, view.columns) == ("flights, flights/2 (other versions: 1)", ["dep", EVIL])
    assert [w["drifted"] for w in view.windows] == [1, 0]
    shown = forms(view)
    for said in ("▲ 0.5", "? not scored", "▲ 1 of 2", "too few rows"):
        assert said in shown["text/plain"]
        assert said in shown["text/html"]
    assert EVIL not in shown["text/html"]


@pytest.mark.parametrize(("serving", "shown"), [("1", "1"), ("2", "2"), ("3", "2"), (None, "2")])
def test_the_version_that_serves_is_shown_if_it_has_windows(serving: str | None, shown: str) -> None:
    yard = Windows(window(0, version="1"), window(1, version="2"), serving=serving)
    assert DriftView(cast("Yard", yard), "flights").title.startswith(f"flights, flights/{shown} ")


def test_an_unknown_endpoint_is_refused_and_a_quiet_one_said() -> None:
    with pytest.raises(NotFoundError):
        DriftView(cast("Yard", Windows()), "flights")
    view = DriftView(cast("Yard", Windows(window(0))), "flights", version="9")
    assert "no window has closed yet" in forms(view)["text/html"]


@pytest.mark.parametrize("widget", [RunTable, LiveMetrics, DriftView])
def test_scripts_are_small_and_load_nothing_from_elsewhere(widget: Any) -> None:
    sent = widget._esm + widget._css
    assert len(sent) < 20_000
    assert "import " not in widget._esm.replace("export", "")
    assert "innerHTML" not in sent
    for word in ("http://", "https://", "@import", "url("):
        assert word not in sent.replace("http://www.w3.org/2000/svg", "")
