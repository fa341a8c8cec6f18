"""The queue of the prediction log: bounded, and nothing is lost without being counted."""

from __future__ import annotations

import asyncio

import pytest

from modelyard_kserve.local import payload_log
from modelyard_kserve.local.messages import Request
from modelyard_kserve.local.payload_log import PayloadLog

SOURCE = {"service": "s", "namespace": "n", "component": "predictor"}
SOURCE |= {"model": "m", "version": "1", "revision": "s-00001"}


def note(log: PayloadLog, number: int, body: bytes = b"{}") -> None:
    log.note(Request("POST", "/", b"", {}, body), f"frage-{number}", SOURCE, body, body)


def test_the_oldest_events_are_dropped_and_counted_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(payload_log, "_MOST_EVENTS", 10)
    log = PayloadLog("http://127.0.0.1:9/", "all", ())
    for number in range(20):
        note(log, number)
    assert log.counts == {"stored": 0, "dropped": 30}
    assert [headers["ce-id"] for headers, *_ in log._queue][::2] == [f"frage-{n}" for n in range(15, 20)]
    assert log.left_behind() == {"stored": 0, "dropped": 40}


def test_the_bytes_of_waiting_events_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_log, "_MOST_BYTES", 1000)
    log = PayloadLog("http://127.0.0.1:9/", "response", ())
    for number in range(20):
        note(log, number, b"x" * 300)
    assert log.counts["dropped"] == 17
    assert sum(len(body) for _, body, _ in log._queue) == 900


def test_without_a_sink_every_event_is_counted_as_dropped_at_once() -> None:
    async def dropped() -> dict[str, int]:
        log = PayloadLog(None, "all", (), {"stored": 5, "dropped": 1})
        task = asyncio.create_task(log.run())
        for number in range(3):
            note(log, number)
        await log.drained(5)
        task.cancel()
        return log.left_behind()

    assert asyncio.run(dropped()) == {"stored": 5, "dropped": 7}
