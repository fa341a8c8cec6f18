"""Whoever listens to runs is told of each, and stops none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from modelyard.records import Metric
from modelyard.yard import Yard

LISTENER = """
import modelyard

@modelyard.hookimpl
def modelyard_after_run_start(run):
    run.tag({"room": "7"})
    if run.record.name == "haunted":
        raise RuntimeError("the listener is gone")

@modelyard.hookimpl
def modelyard_after_run(yard, run):
    with (yard.root / "told.txt").open("a") as file:
        file.write(f"{run.name} {run.status} {dict(run.metrics)}\\n")
"""


@pytest.fixture
def yard(modelyard_project: Yard) -> Yard:
    with (modelyard_project.root / "modelyardfile.py").open("a") as file:
        file.write(LISTENER)
    return modelyard_project


def told(yard: Yard) -> list[str]:
    return (yard.root / "told.txt").read_text().splitlines()


def test_listeners_hear_how_a_run_ended_and_what_it_logged(yard: Yard) -> None:
    with yard.run("good") as run:
        run.log({"auc": 0.5}, step=2)
        run.log({"auc": 0.7}, step=1)
    with pytest.raises(ZeroDivisionError), yard.run("bad"):
        _ = 1 / 0
    assert told(yard) == ["good finished {'auc': 0.5}", "bad failed {}"]
    assert {run.tags["room"] for run in yard.runs.list()} == {"7"}


def test_a_listener_that_fails_is_named_and_the_run_goes_on(
    yard: Yard, capsys: pytest.CaptureFixture[str]
) -> None:
    with yard.run("haunted"):
        pass
    assert "modelyard_after_run_start failed: RuntimeError: the listener is gone" in capsys.readouterr().err
    assert told(yard) == ["haunted finished {}"]


def test_the_record_of_a_run_under_way_is_what_is_stored_in_the_end(yard: Yard) -> None:
    with yard.run("flights", params={"depth": 6}) as run:
        run.log({"auc": 0.5, "loss": math.inf})
        run.log_params({"seed": 1})
        run.tag({"why": "test"})
        known = run.record
        assert known.status == "running"
    stored = yard.runs.get(run.id)
    for field in ("params", "metrics", "tags", "data", "models", "code"):
        assert getattr(known, field) == getattr(stored, field)
    assert repr(run) == f"<run {run.id[:8]} 'flights', finished>"
    assert "✓ finished" in run._repr_html_()


def test_listeners_of_one_run_hear_every_metric_and_then_the_end(yard: Yard) -> None:
    heard: list[list[tuple[str, int]]] = []

    def listen(metrics: Sequence[Metric]) -> None:
        heard.append([(metric.name, metric.step) for metric in metrics])

    with yard.run("flights") as run:
        run.listen(listen)
        run.log({"auc": 0.5, "loss": 1.0}, step=3)
    assert heard == [[("auc", 3), ("loss", 3)], []]
