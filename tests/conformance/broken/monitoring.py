"""Monitors that are broken in one way each, and the test that must catch it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from modelyard.records import Window, now
from modelyard.stages import Label, Reference, StageContext
from modelyard.testing import MemoryMonitor, MonitoringSuite, base, memory
from modelyard.testing.memory.predictions import Logged


class Suite(MonitoringSuite):
    broken: type[MemoryMonitor]

    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        return replace(next(iter(memory.modelyard_monitors())), factory=cls.broken)

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def stopped(cls, context: StageContext) -> Iterator[None]:
        yield
        memory.stop(context.root)

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(base, "PATIENCE", 5.0)


class BadColumnHidesOthers(MemoryMonitor):
    def column_scores(self, profile: Mapping[str, Any], rows: Sequence[Any]) -> list[Any]:
        scored = super().column_scores(profile, rows)
        errors = [column.error for column in scored if column.error]
        return [replace(c, score=None, drifted=False, error=errors[0]) for c in scored] if errors else scored


class CountsLabelsTwice(MemoryMonitor):
    def _window(self, endpoint: str, *rest: Any) -> Window:
        window = super()._window(endpoint, *rest)
        return replace(window, labelled=len(list(self.labels_of(endpoint))))


class FirstLabelWins(MemoryMonitor):
    def labels_of(self, endpoint: str) -> Iterable[tuple[tuple[str, int], Any]]:
        return reversed(list(super().labels_of(endpoint)))


class ShowsOpenWindows(MemoryMonitor):
    def windows(self, endpoint: str, *, until: datetime | None = None, limit: int = 50) -> list[Window]:
        return super().windows(endpoint, until=(until or now()) + timedelta(days=1), limit=limit)


class OldestFirst(MemoryMonitor):
    def windows(self, endpoint: str, *, until: datetime | None = None, limit: int = 50) -> list[Window]:
        return super().windows(endpoint, until=until, limit=limit)[::-1]


class CountsRepeatedEvents(MemoryMonitor):
    def _answered(self) -> list[Logged]:
        found = super()._answered()
        sent = self._log.read_text().splitlines() if self._log.exists() else []
        return [each for each in found for _ in range(sum(each.prediction.id in s for s in sent) // 2)]


class ClockTime(MemoryMonitor):
    """Takes the time of arrival for the time of the event."""

    def _answered(self) -> list[Logged]:
        found = super()._answered()
        return [replace(each, prediction=replace(each.prediction, time=now())) for each in found]


class MixesVersions(MemoryMonitor):
    def _answered(self) -> list[Logged]:
        found = super()._answered()
        return [replace(each, prediction=replace(each.prediction, version="1")) for each in found]


class AlwaysAlarmed(MemoryMonitor):
    def column_scores(self, profile: Mapping[str, Any], rows: Sequence[Any]) -> list[Any]:
        return [replace(column, drifted=True) for column in super().column_scores(profile, rows)]


class RandomProfile(MemoryMonitor):
    def profile(self, reference: Reference) -> Mapping[str, Any]:
        return {**super().profile(reference), "made": now().isoformat()}


class EscapesWrongly(MemoryMonitor):
    def metrics(self) -> str:
        return html.escape(super().metrics())


class LosesLabels(MemoryMonitor):
    def add_labels(self, endpoint: str, labels: Iterable[Label]) -> int:
        return super().add_labels(endpoint, list(labels)[1:])


CAUGHT_BY = {
    BadColumnHidesOthers: "test_a_bad_column_never_hides_the_others[missing]",
    CountsLabelsTwice: "test_the_last_label_of_a_row_wins_and_counts_once",
    FirstLabelWins: "test_the_last_label_of_a_row_wins_and_counts_once",
    ShowsOpenWindows: "test_only_closed_windows_are_listed_and_the_newest_first",
    OldestFirst: "test_only_closed_windows_are_listed_and_the_newest_first",
    CountsRepeatedEvents: "test_an_event_that_comes_twice_counts_once",
    ClockTime: "test_a_prediction_is_found_by_its_id[v1]",
    MixesVersions: "test_each_version_has_windows_of_its_own",
    AlwaysAlarmed: "test_what_is_like_the_reference_does_not_drift",
    RandomProfile: "test_a_profile_is_json_and_always_the_same",
    EscapesWrongly: "test_the_metrics_are_prometheus_text",
    LosesLabels: "test_late_labels_give_quality",
}
for provider in CAUGHT_BY:
    globals()[f"Test{provider.__name__}"] = type(f"Test{provider.__name__}", (Suite,), {"broken": provider})
