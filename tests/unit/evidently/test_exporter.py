"""The exposition is what Prometheus' own client reads back."""

from __future__ import annotations

import math
from datetime import datetime, timezone

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelyard.records import ColumnScore, Window
from modelyard_evidently import exporter

START = datetime(2013, 4, 1, tzinfo=timezone.utc)
NASTY = 'a"b\\c\n{d}, ä=1'


def finished() -> exporter.Finished:
    scores = (
        ColumnScore(column=NASTY, method="wasserstein", score=0.5, threshold=0.2, drifted=True),
        ColumnScore(column="bad", method="none", score=None, threshold=0.0, drifted=False, error="words"),
    )
    window = Window(
        endpoint="e",
        model=NASTY,
        version="1",
        start=START,
        end=START.replace(day=2),
        rows=400,
        labelled=100,
        columns=scores,
        quality={"auc": 0.7, "rows": 100.0},
        quality_reference={"auc": 0.8, "rows": 900.0},
    )
    return exporter.Finished(window, 300, {NASTY: 0.1})


def read(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        assert family.type in ("gauge", "counter"), family.name
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_what_goes_in_comes_out() -> None:
    marks = [{"name": "promotion", "model": NASTY, "alias": "production", "version": "1", "time": 5.0}]
    samples = exporter.samples([finished()], marks, 7.0)
    found = read(exporter.text(samples))
    assert sum(map(len, found.values())) == len(samples), "every sample has a metric with a HELP line"
    ((labels, score),) = found["modelyard_feature_drift_score"]
    assert (labels["feature"], labels["model"], score) == (NASTY, NASTY, 0.5)
    assert {who["feature"]: v for who, v in found["modelyard_feature_errors"]} == {NASTY: 0.0, "bad": 1.0}
    assert [v for _, v in found["modelyard_quality"]] == [0.7]
    assert found["modelyard_labels_matched_ratio"][0][1] == 0.25
    assert found["modelyard_window_end_timestamp_seconds"][0][1] == START.replace(day=2).timestamp()
    assert found["modelyard_promotion_timestamp_seconds"][0][1] == 5.0


@pytest.mark.parametrize("value", [0.1, 1e-300, 12345678.9, math.inf, -math.inf, math.nan])
def test_numbers_are_exact(value: float) -> None:
    ((_, found),) = read(exporter.text([("modelyard_window_rows", {}, value)]))["modelyard_window_rows"]
    assert found == value or (math.isnan(found) and math.isnan(value))


def test_counters_count() -> None:
    found = read(exporter.counters([exporter.Counted({"stored": 3, "dropped": 0}, 9.5)]))
    assert {who["outcome"]: v for who, v in found["modelyard_log_events_total"]} == {
        "stored": 3.0,
        "dropped": 0.0,
    }
    assert found[exporter.LAST_LOSS] == [({}, 9.5)]


def test_nothing_is_no_text() -> None:
    assert exporter.text([]) == ""
