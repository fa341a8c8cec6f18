"""How many replicas a model gets, by what was asked of it."""

from __future__ import annotations

import math

import pytest

from modelyard_kserve.local.scaling import Demand, Scaling

MANY = Scaling(most=8, target=10)  # a replica shall have 7 requests under way


def after(seconds: int, load: float, demand: Demand | None = None, began: float = 0.0) -> Demand:
    """What was asked once a second for so long."""
    demand = demand or Demand(began)
    for second in range(1, seconds + 1):
        demand.note(began + second, load, 60.0)
        if load:
            demand.used = began + second
    return demand


@pytest.mark.parametrize(("load", "size"), [(0, 1), (7, 1), (7.1, 2), (21, 3), (1000, 8)])
def test_replicas_follow_the_average_of_the_window(load: float, size: int) -> None:
    assert after(70, load).size(70.0, running=1, scaling=MANY) == size


def test_a_burst_is_answered_within_a_tenth_of_the_window_and_nothing_is_taken_away_meanwhile() -> None:
    demand = after(300, 0.0)
    assert demand.size(300.0, running=1, scaling=MANY) == 1
    after(6, 42.0, demand, began=300.0)
    assert demand.size(306.0, running=1, scaling=MANY) == 6
    after(50, 0.0, demand, began=306.0)
    assert demand.size(356.0, running=6, scaling=MANY) == 6, "the burst is a minute ago at most"
    after(70, 0.0, demand, began=356.0)
    assert demand.size(426.0, running=6, scaling=MANY) == 1


def test_a_controller_that_was_just_started_takes_nothing_away() -> None:
    demand = Demand(now=1000.0)
    demand.note(1001.0, 0.0, 60.0)
    assert demand.size(1001.0, running=4, scaling=MANY) == 4
    assert demand.size(1061.0, running=4, scaling=MANY) == 1


@pytest.mark.parametrize("least", [0, 1, 3])
def test_the_least_stays_whatever_is_asked(least: int) -> None:
    scaling = Scaling(least=least, most=max(least, 1))
    demand = after(100, 0.0)
    assert demand.size(59.0, running=least, scaling=scaling) == max(least, 1)
    assert demand.size(61.0, running=least, scaling=scaling) == least
    after(1, 1.0, demand, began=100.0)
    assert demand.size(102.0, running=least, scaling=scaling) == max(least, 1)


def test_what_nobody_ever_asked_sleeps_on() -> None:
    assert Demand(-math.inf).size(5.0, running=0, scaling=Scaling(least=0)) == 0


@pytest.mark.parametrize(("metric", "aim"), [("concurrency", 70), ("rps", 140), ("cpu", 80), ("memory", 80)])
def test_what_one_replica_shall_have_to_do(metric: str, aim: float) -> None:
    from modelyard_kserve.local.scaling import TARGETS

    assert Scaling(metric=metric, target=TARGETS[metric]).aim == pytest.approx(aim)
