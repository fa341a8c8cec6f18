"""Trackers that are broken in one way each, and the test that must catch it."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from modelyard.records import Code, DataUse, LoggedModel, Metric, Run, RunContext, RunStatus, now
from modelyard.stages import StageContext
from modelyard.testing import ConstantModel, MemoryTracker, TrackSuite, memory


class Suite(TrackSuite):
    broken: type[MemoryTracker]

    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        return replace(next(iter(memory.modelyard_trackers())), factory=cls.broken)

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> ConstantModel:
        return ConstantModel(0.25)


class LosesLastMetric(MemoryTracker):
    def log(self, run_id: str, *, metrics: Sequence[Metric] = (), **rest: Any) -> None:
        super().log(run_id, metrics=metrics[:-1], **rest)


class OldestFirst(MemoryTracker):
    def runs(self, *, name: str | None = None, limit: int = 50) -> list[Run]:
        return super().runs(name=name, limit=10_000)[::-1][:limit]


class LimitKeepsOldest(MemoryTracker):
    def runs(self, *, name: str | None = None, limit: int = 50) -> list[Run]:
        return super().runs(name=name, limit=10_000)[-limit:]


class TakesChangedParameters(MemoryTracker):
    def log(self, run_id: str, *, params: Mapping[str, object] | None = None, **rest: Any) -> None:
        run = self.get(run_id)
        self._write(replace(run, params={**run.params, **{k: str(v) for k, v in (params or {}).items()}}))
        super().log(run_id, **rest)


class DropsNan(MemoryTracker):
    def log(self, run_id: str, *, metrics: Sequence[Metric] = (), **rest: Any) -> None:
        super().log(run_id, metrics=[m for m in metrics if math.isfinite(m.value)], **rest)


class ForgetsTheContext(MemoryTracker):
    def start(self, name: str, context: RunContext, **rest: Any) -> Run:
        return super().start(name, replace(context, code=Code()), **rest)


class EndsTwice(MemoryTracker):
    def finish(self, run_id: str, status: RunStatus = "finished", *, at: datetime | None = None) -> None:
        self._write(replace(self.get(run_id), status=status, ended=now()))


class RaisesKeyError(MemoryTracker):
    def get(self, run_id: str) -> Run:
        if run_id not in self._ids():
            raise KeyError(run_id)
        return super().get(run_id)


class KeepsOneRole(MemoryTracker):
    def log(self, run_id: str, *, data: Sequence[DataUse] = (), **rest: Any) -> None:
        known = {use.ref for use in self.get(run_id).data}
        super().log(run_id, data=[use for use in data if use.ref not in known], **rest)


class KeepsRunsInItself(MemoryTracker):
    """What one instance does the other can't see."""

    def __init__(self, context: StageContext) -> None:
        super().__init__(replace(context, state=context.state / uuid.uuid4().hex))


class LosesParallelWrites(MemoryTracker):
    def __init__(self, context: StageContext) -> None:
        super().__init__(context)
        self._lock = context.state / f"{uuid.uuid4().hex}.lock"


class MatchesNamesLikeSql(MemoryTracker):
    def runs(self, *, name: str | None = None, limit: int = 50) -> list[Run]:
        return [run for run in super().runs(limit=10_000) if name is None or run.name.startswith(name)][
            :limit
        ]


class KnowsLastValuesAlone(MemoryTracker):
    def metrics(self, run_id: str) -> list[Metric]:
        return [Metric(name=name, value=value) for name, value in self.get(run_id).metrics.items()]


class RunsEverythingNow(MemoryTracker):
    def start(self, name: str, context: RunContext, **rest: Any) -> Run:
        return super().start(name, context, **{**rest, "at": None})


class ForgetsTheFirstTags(MemoryTracker):
    def start(self, name: str, context: RunContext, **rest: Any) -> Run:
        return super().start(name, context, **{**rest, "tags": None})


class RewritesModels(MemoryTracker):
    def add_model(self, run_id: str | None, folder: Path) -> LoggedModel:
        logged = super().add_model(run_id, folder)
        return replace(logged, digest="0" * 64)


class FlattensFolders(MemoryTracker):
    def log_file(self, run_id: str, path: Path, *, folder: str = "") -> None:
        super().log_file(run_id, path)


class HandsOutFilesAlone(MemoryTracker):
    def artifact(self, run_id: str, path: str) -> Path:
        return self.files(run_id) / path


CAUGHT_BY = {
    LosesLastMetric: "test_the_last_value_of_a_metric_counts",
    OldestFirst: "test_the_newest_runs_come_first",
    LimitKeepsOldest: "test_the_limit_keeps_the_newest",
    TakesChangedParameters: "test_a_changed_parameter_is_refused",
    DropsNan: "test_nan_and_infinity_are_kept[nan]",
    ForgetsTheContext: "test_the_context_is_stored_at_once",
    EndsTwice: "test_ending_a_run_twice_changes_nothing",
    RaisesKeyError: "test_an_unknown_run_is_not_found",
    KeepsOneRole: "test_data_keeps_its_role_and_all_its_fields",
    KeepsRunsInItself: "test_two_instances_see_each_other",
    LosesParallelWrites: "test_logging_into_one_run_at_once_loses_nothing",
    KnowsLastValuesAlone: "test_every_value_of_a_metric_is_there",
    RunsEverythingNow: "test_a_copied_run_keeps_when_it_ran",
    ForgetsTheFirstTags: "test_tags_can_be_there_from_the_start",
    RewritesModels: "test_a_model_folder_is_stored_as_it_is",
    FlattensFolders: "test_stored_files_come_back",
    HandsOutFilesAlone: "test_what_a_run_logged_is_had_by_its_name",
    MatchesNamesLikeSql: "test_a_name_may_hold_any_character[kanji]",
}
for provider in CAUGHT_BY:
    globals()[f"Test{provider.__name__}"] = type(f"Test{provider.__name__}", (Suite,), {"broken": provider})
