"""Distances, thresholds and quality, beside SciPy's and scikit-learn's on the same data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.stages import Reference
from modelyard_evidently import calibration, scoring
from modelyard_evidently.profile import build
from modelyard_evidently.quality import quality, task_of

FLOOR = 0.1


def profiled(features: pd.DataFrame, **more: Any) -> dict[str, dict[str, Any]]:
    """The columns of a profile, by name."""
    made = build(Reference(features=features, **more), floor=FLOOR)
    return {column["name"]: column for column in made["columns"]}


@pytest.fixture(scope="module")
def reference() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "temp": random.normal(15, 8, 4000),
            "delay": random.exponential(20, 4000),
            "carrier": random.choice(["UA", "B6", "ÄÖ"], 4000, p=[0.5, 0.3, 0.2]),
        }
    )


@pytest.fixture(scope="module")
def columns(reference: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return profiled(reference)


@pytest.mark.parametrize("moved", [0.0, 1.0, 9.0])
@pytest.mark.parametrize("name", ["temp", "delay"])
def test_numbers_are_scored_as_scipy_does(
    reference: pd.DataFrame, columns: dict[str, dict[str, Any]], name: str, moved: float
) -> None:
    from scipy.stats import wasserstein_distance

    window = reference[name].sample(900, random_state=1).to_numpy() * (1 + moved / 20) + moved
    exact = wasserstein_distance(reference[name], window) / reference[name].std()
    assert scoring.score(columns[name], window) == pytest.approx(exact, rel=0.02, abs=0.003)


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (0.1, 0.1, 0.8), (1.0, 0.0, 0.0)])
def test_categories_are_scored_as_scipy_does(
    reference: pd.DataFrame, columns: dict[str, dict[str, Any]], shares: tuple[float, ...]
) -> None:
    from scipy.spatial.distance import jensenshannon

    words = ["UA", "B6", "ÄÖ"]
    window = np.random.default_rng(2).choice(words, 700, p=shares)
    both = [[np.mean(np.asarray(values) == word) for word in words] for values in (reference.carrier, window)]
    exact = jensenshannon(*both, base=2)
    assert scoring.score(columns["carrier"], window) == pytest.approx(exact, abs=1e-9)


def test_a_value_nobody_has_seen_is_as_far_away_as_can_be(columns: dict[str, dict[str, Any]]) -> None:
    assert scoring.score(columns["carrier"], ["XX"] * 10) == pytest.approx(1.0)


@pytest.mark.parametrize("values", [[], [None, np.nan], ["word"], [np.inf]], ids=str)
def test_numbers_that_are_none_are_said(columns: dict[str, dict[str, Any]], values: list[Any]) -> None:
    with pytest.raises(ValueError, match="no finite number"):
        scoring.score(columns["temp"], values)


@pytest.mark.parametrize(("known", "rows"), [(1000, 300), (4000, 1000)])
def test_one_column_in_a_hundred_drifts_by_chance(known: int, rows: int) -> None:
    """Over several references: each is a sample too, and may be an unlucky one."""
    random = np.random.default_rng(0)

    def draw(count: int) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "temp": random.normal(15, 8, count),
                "delay": random.lognormal(0, 1, count),
                "carrier": random.choice(["UA", "B6", "ÄÖ"], count, p=[0.5, 0.3, 0.2]),
                "airport": random.choice([f"A{n}" for n in range(40)], count),
            }
        )

    alarms = trials = 0
    for _ in range(30):
        columns = profiled(draw(known))
        for _ in range(10):
            window = draw(rows)
            trials += len(columns)
            alarms += sum(
                scoring.score(column, window[name]) > calibration.threshold(column, "day", rows)
                for name, column in columns.items()
            )
    assert alarms / trials <= 0.015, f"{alarms} of {trials}"


def test_a_prediction_that_exploded_is_a_large_error_and_still_a_number() -> None:
    found = quality([1.0, 2.0, 3.5], [1.0, 1e300, -1e300])
    assert all(np.isfinite(value) for value in found.values())
    assert found["rmse"] > found["mae"] > 1e50


@pytest.mark.parametrize(("size", "equal"), [(20, False), (500, True)], ids=["few rows", "ties"])
def test_the_calibration_error_is_that_of_ten_bins_of_equal_size(size: int, equal: bool) -> None:
    random = np.random.default_rng(7)
    chance = np.sort(random.choice([0.1, 0.4, 0.8], size) if equal else random.uniform(0, 1, size))
    truth = (random.uniform(0, 1, size) < chance / 2).astype(int)
    # Equal predictions can't be told apart: with three of them there are three bins.
    bins = [chance == value for value in np.unique(chance)] if equal else np.split(np.arange(size), 10)
    by_hand = sum(abs((chance[b] - truth[b]).sum()) for b in bins) / size
    assert quality(truth, chance)["calibration_error"] == pytest.approx(by_hand)


def test_a_shift_of_half_a_deviation_is_always_found(columns: dict[str, dict[str, Any]]) -> None:
    random = np.random.default_rng(4)
    for _ in range(50):
        moved = random.normal(15 + 4, 8, 400)
        assert scoring.score(columns["temp"], moved) > calibration.threshold(columns["temp"], "day", 400)


def test_a_window_of_more_rows_has_a_lower_threshold(columns: dict[str, dict[str, Any]]) -> None:
    free = build(
        Reference(features=pd.DataFrame({"temp": np.random.default_rng(0).normal(0, 1, 3000)})), floor=1e-6
    )
    limits = [
        calibration.threshold(free["columns"][0], "day", rows) for rows in (100, 300, 1000, 3000, 10_000)
    ]
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] < limits[0] / 2
    assert calibration.threshold(columns["temp"], "day", 10**7) >= FLOOR


def test_weather_that_lasts_raises_the_threshold_of_short_windows_only() -> None:
    """Each day has its own temperature: a day is no sample of the year, a month nearly is."""
    random = np.random.default_rng(5)
    days = np.repeat(np.arange(120), 100)
    temp = random.normal(0, 3, 120)[days] + random.normal(0, 1, len(days))
    times = pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(days, unit="D")
    column = profiled(pd.DataFrame({"temp": temp}), times=times)["temp"]
    by_unit = {unit: calibration.threshold(column, unit, 1000) for unit in ("day", "week", "month")}
    assert by_unit["day"] > 1.5 * by_unit["week"] > 1.5 * by_unit["month"]


def test_probabilities_are_judged_as_scikit_learn_does() -> None:
    from sklearn.metrics import brier_score_loss, roc_auc_score

    random = np.random.default_rng(6)
    chance = np.round(random.uniform(0, 1, 500), 1)  # with ties
    truth = (random.uniform(0, 1, 500) < chance**1.5).astype(int)
    found = quality(truth, chance)
    assert found["auc"] == pytest.approx(roc_auc_score(truth, chance), abs=1e-12)
    assert found["brier"] == pytest.approx(brier_score_loss(truth, chance), abs=1e-12)
    assert found["accuracy"] == pytest.approx(((chance > 0.5) == truth).mean())
    assert found["calibration_gap"] == pytest.approx(chance.mean() - truth.mean())
    assert found["rows"] == 500


def test_what_was_served_counts_not_a_threshold_of_ours() -> None:
    assert quality([1, 1, 0, 0], [0.3, 0.4, 0.2, 0.1], decisions=[1, 1, 0, 0])["accuracy"] == 1.0


def test_regression_and_classes_have_their_own_metrics() -> None:
    assert quality([1.0, 2.5, 4.0], [2.0, 2.5, 2.0]) == {
        "rows": 3.0,
        "mae": pytest.approx(1.0),
        "rmse": pytest.approx(np.sqrt(5 / 3)),
    }
    assert quality(["rot", "weiß", "rosé"], ["rot", "weiß", "rot"]) == {
        "rows": 3.0,
        "accuracy": pytest.approx(2 / 3),
    }


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [(None, [1]), ([1], None), ([None], [0.5]), ([np.nan, np.nan], [0.2, 0.3]), ([], [])],
    ids=str,
)
def test_where_nothing_is_known_nothing_is_said(labels: Any, predictions: Any) -> None:
    assert quality(labels, predictions) == {}


def test_one_class_alone_has_no_auc_and_is_no_error() -> None:
    found = quality([1, 1, 1], [0.7, 0.8, 0.9])
    assert "auc" not in found
    assert found["calibration_error"] == pytest.approx(0.2)


def test_the_task_is_that_of_labels_and_answers() -> None:
    assert task_of([0, 1, 1], [0.1, 0.5, 1.0]) == "binary"
    assert task_of([0, 1, 1], [-3.0, 0.5, 7.0]) == "regression"
    assert task_of([True, False], [0.3, 0.2]) == "binary"
    assert task_of(["a", "b"], ["a", "a"]) == "classes"


def test_an_empty_or_constant_column_costs_no_other(reference: pd.DataFrame) -> None:
    table = reference.assign(empty=None, constant=7.0)
    columns = profiled(table)
    assert "missing" in columns["empty"]["error"]
    assert scoring.score(columns["constant"], [7.0] * 50) == 0
    assert scoring.score(columns["constant"], [8.0] * 50) > calibration.threshold(
        columns["constant"], "day", 400
    )
    assert columns["temp"]["thresholds"]
