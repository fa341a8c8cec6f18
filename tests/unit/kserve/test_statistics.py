"""What a model server counts, as Prometheus reads it."""

from __future__ import annotations

import re
import socket

import pytest

from modelyard_kserve.counted import asked, quantile, summed
from modelyard_kserve.local.statistics import Answering, Statistics


def of(revision: str) -> Answering:
    return Answering("late", "3", revision)


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r'[a-z_]+(\{([a-z_]+="([^"\\]|\\.)*",?)+\})? [0-9.]+', line), line
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_nothing_was_asked_yet() -> None:
    assert samples(Statistics().text("late", {})) == {"modelyard_requests_in_flight": 0}


def test_answers_are_counted_by_revision_and_status() -> None:
    counted = Statistics()
    for status in (200, 200, 400):
        counted.note(of("late-00001"), status, 0.004)
    counted.note(of("late-00002"), 200, 0.004)
    seen = samples(counted.text("late", {}))
    assert seen['modelyard_requests_total{revision="late-00001",code="200"}'] == 2
    assert seen['modelyard_requests_total{revision="late-00001",code="400"}'] == 1
    assert seen['modelyard_requests_total{revision="late-00002",code="200"}'] == 1


def test_durations_are_a_cumulative_histogram() -> None:
    counted = Statistics()
    for seconds in (0.0005, 0.001, 0.03, 99.0):
        counted.note(of("r"), 200, seconds)
    seen = samples(counted.text("late", {}))
    name = "modelyard_request_duration_seconds"
    buckets = [value for key, value in seen.items() if key.startswith(f"{name}_bucket")]
    assert buckets == sorted(buckets)
    assert seen[f'{name}_bucket{{revision="r",le="0.001"}}'] == 2, "a bound belongs to its bucket"
    assert seen[f'{name}_bucket{{revision="r",le="0.05"}}'] == 3
    assert seen[f'{name}_bucket{{revision="r",le="10.0"}}'] == 3
    assert seen[f'{name}_bucket{{revision="r",le="+Inf"}}'] == seen[f'{name}_count{{revision="r"}}'] == 4
    assert seen[f'{name}_sum{{revision="r"}}'] == 99.0315


def test_the_rows_of_a_request_are_counted_and_the_model_is_named() -> None:
    counted = Statistics()
    for rows in (1, 2, 100, 20_000, None):
        counted.note(Answering('la"te', "3", "r"), 200, 0.01, rows)
    seen = samples(counted.text("late", {}))
    name = "modelyard_request_rows"
    assert seen[f'{name}_bucket{{revision="r",le="1"}}'] == 1
    assert seen[f'{name}_bucket{{revision="r",le="100"}}'] == 3
    assert seen[f'{name}_bucket{{revision="r",le="+Inf"}}'] == seen[f'{name}_count{{revision="r"}}'] == 4
    assert seen[f'{name}_sum{{revision="r"}}'] == 20_103
    assert seen['modelyard_revision_info{revision="r",model="la\\"te",version="3"}'] == 1


def test_calls_of_the_model_are_counted_where_requests_are_gathered() -> None:
    counted = Statistics()
    for batch in (None, None, 3):
        counted.note(of("r"), 200, 0.01, 1, batch)
    seen = samples(counted.text("late", {}))
    assert seen['modelyard_request_rows_count{revision="r"}'] == 3
    assert seen['modelyard_batch_rows_count{revision="r"}'] == 1
    assert seen['modelyard_batch_rows_sum{revision="r"}'] == 3


def test_a_request_is_under_way_until_it_ends_well_or_not() -> None:
    counted = Statistics()
    try:
        with counted.in_flight:
            assert samples(counted.text("late", {}))["modelyard_requests_in_flight"] == 1
            raise ValueError("the model broke")
    except ValueError:
        pass
    assert samples(counted.text("late", {}))["modelyard_requests_in_flight"] == 0


def test_events_are_counted_by_outcome_and_every_family_has_a_type() -> None:
    text = Statistics().text("late", {"stored": 3, "dropped": 1})
    seen = samples(text)
    assert seen['modelyard_payload_events_total{endpoint="late",outcome="stored"}'] == 3
    assert seen['modelyard_payload_events_total{endpoint="late",outcome="dropped"}'] == 1
    assert text.count("# TYPE ") == text.count("# HELP ") == 7
    assert text.endswith("\n")


def test_what_several_processes_counted_is_one_answer() -> None:
    one, other = Statistics(), Statistics()
    for seconds in (0.004, 0.004, 0.004):
        one.note(of("late-00001"), 200, seconds)
    other.note(of("late-00001"), 500, 0.04)
    other.note(of("late-00001"), 404, 0.04)
    other.note(of("late-00002"), 200, 0.2)
    first, second = summed([one.text("late", {}), other.text("late", {})])
    assert (first.revision, first.requests, first.refused, first.errors) == ("late-00001", 5, 1, 1)
    assert 0.0025 < (first.p50 or 0) <= 0.005
    assert 0.025 < (first.p95 or 0) <= 0.05
    assert (second.revision, second.requests, second.errors) == ("late-00002", 1, 0)
    assert summed([Statistics().text("late", {})]) == []


def test_quantiles_lie_where_prometheus_says() -> None:
    inf = float("inf")
    assert quantile(0.95, {}) is None
    assert quantile(0.95, {1.0: 0, inf: 0}) is None
    assert quantile(0.5, {1.0: 2, 2.0: 4, inf: 4}) == 1.0
    assert quantile(0.75, {1.0: 2, 2.0: 4, inf: 4}) == 1.5
    assert quantile(0.95, {1.0: 0, 2.0: 1, inf: 100}) == 2.0, "nothing is known above the last bound"


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", b"no HTTP at all\r\n\r\n"]
)
def test_a_process_that_does_not_say_is_a_fault(said: bytes) -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(said)
        there.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match=r"no HTTP|answered 500"):
            asked(lambda: here)
