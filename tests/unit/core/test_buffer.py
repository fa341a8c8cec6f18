"""What a run logs is gathered, written within a second, and lost by nobody but kill -9."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from modelyard.buffer import LogBuffer
from modelyard.errors import UsageError
from modelyard.records import Metric, now


class Writes:
    """A tracker that notes each write; it refuses what `fault` says."""

    def __init__(self) -> None:
        self.log_calls: list[dict[str, Any]] = []
        self.fault: Exception | None = None

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, object],
        metrics: Sequence[Metric],
        tags: Mapping[str, str],
    ) -> None:
        if self.fault is not None:
            raise self.fault
        self.log_calls.append({"run": run_id, "params": params, "metrics": list(metrics), "tags": tags})


@pytest.fixture
def writes() -> Writes:
    return Writes()


@pytest.fixture
def buffer(writes: Writes) -> LogBuffer:
    return LogBuffer(writes, "r1")  # type: ignore[arg-type]


def metric(value: float, step: int = 0) -> Metric:
    return Metric(name="auc", value=value, step=step, time=now())


def eventually(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def test_a_hundred_calls_are_one_write_in_their_order(writes: Writes, buffer: LogBuffer) -> None:
    buffer.add(params={"depth": 3}, tags={"note": "x"})
    for step in range(100):
        buffer.add(metrics=[metric(step / 100, step)])
    buffer.flush()
    (call,) = writes.log_calls
    assert (call["run"], call["params"], call["tags"]) == ("r1", {"depth": 3}, {"note": "x"})
    assert [m.step for m in call["metrics"]] == list(range(100))


def test_what_is_logged_is_written_without_further_calls(writes: Writes, buffer: LogBuffer) -> None:
    buffer.add(metrics=[metric(0.5)])
    eventually(lambda: len(writes.log_calls) == 1)


def test_much_at_once_does_not_wait(writes: Writes, buffer: LogBuffer) -> None:
    buffer.add(metrics=[metric(0.5, step) for step in range(1000)])
    assert len(writes.log_calls) == 1


def test_nothing_is_written_when_there_is_nothing(writes: Writes, buffer: LogBuffer) -> None:
    buffer.flush()
    assert writes.log_calls == []


def test_a_changed_parameter_reaches_the_tracker_as_two_writes(writes: Writes, buffer: LogBuffer) -> None:
    buffer.add(params={"depth": 3})
    buffer.add(params={"depth": 3})
    buffer.add(params={"depth": 4})
    buffer.flush()
    assert [call["params"] for call in writes.log_calls] == [{"depth": 3}, {"depth": 4}]


def test_a_refusal_in_the_background_is_raised_at_the_next_call(writes: Writes, buffer: LogBuffer) -> None:
    writes.fault = UsageError("param-changed", "depth was 3")
    buffer.add(params={"depth": 4})
    eventually(lambda: buffer._fault is not None)
    with pytest.raises(UsageError, match="depth was 3"):
        buffer.add(metrics=[metric(1.0)])
    writes.fault = None
    buffer.add(metrics=[metric(1.0)])
    buffer.flush()
    assert len(writes.log_calls) == 1, "said once, it does not stop what comes later"
