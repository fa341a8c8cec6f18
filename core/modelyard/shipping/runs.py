"""Copies of runs: made once, found again, completed if they were not whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.digests import model_digest
from modelyard.errors import NotFoundError
from modelyard.records import DataRef, DataUse, LoggedModel, Metric, ModelVersion, Run, RunContext
from modelyard.shipping.known import MARK, Known

if TYPE_CHECKING:
    from modelyard.stages import Tracker
    from modelyard.yard import Yard

_SEARCHED = 10_000


class Runs:
    """The runs behind what is shipped, here and there."""

    def __init__(self, source: Yard, target: Yard, known: Known) -> None:
        self._source, self._target, self._map = source.tracker, target, known
        self._seen: dict[str, Run | None] = {}
        #: The map was lost, and something was shipped before: look for copies that it does not know.
        self.search = False
        #: How a version of data is called there.
        self.data: Callable[[DataRef], DataRef] = lambda ref: ref

    @cached_property
    def _there(self) -> Tracker:
        return self._target.tracker

    def of(self, versions: Sequence[ModelVersion]) -> dict[str, Run]:
        """The runs behind versions, by id; those that were deleted are left out."""
        for run_id in {version.run_id for version in versions} - self._seen.keys():
            if run_id:
                self._seen[run_id] = self._get(run_id)
        wanted = ((version.run_id or "", self._seen.get(version.run_id or "")) for version in versions)
        return {run_id: run for run_id, run in wanted if run is not None}

    def unfinished(self, without: Iterable[str | None]) -> list[Run]:
        """Those whose copy is not whole, though nothing else is to be copied of them."""
        left = sorted(set(self._map.unfinished) - set(without))
        return [run for run in map(self._get, left) if run is not None]

    def with_model(self, run: Run | None, folder: Path, version: ModelVersion) -> LoggedModel:
        """Copy the run, if it is not there, and a model of it."""
        if run is None:
            return self._there.add_model(None, folder)
        there = self.copy(run, end=False)
        digest = version.digest or model_digest(folder)
        model = self._model_of(there, digest) or self._there.add_model(there.id, folder)
        self._end(run, there)
        return model

    def copy(self, run: Run, *, end: bool = True) -> Run:
        """The run there, with everything that it logged; models apart."""
        there = self._found(run)
        known = there is not None
        if there is None:
            self._map.begin_run(run.id)
            context = RunContext(user=run.user, code=run.code, environment=run.environment)
            tags = {**run.tags, MARK: run.id}
            there = self._there.start(run.name, context, tags=tags, at=run.started)
        self._map.note_run(run.id, there.id)
        uses = [DataUse(role=use.role, ref=self.data(use.ref)) for use in run.data]
        metrics = self._source.metrics(run.id)
        if known:
            metrics = _without(metrics, self._there.metrics(there.id))
            uses = [use for use in uses if use not in there.data]
        self._there.log(there.id, params=run.params, metrics=metrics, data=uses)
        self._copy_files(run, there)
        if end:
            self._end(run, there)
        return there

    def _end(self, run: Run, there: Run) -> None:
        if run.status != "running":
            self._there.finish(there.id, run.status, at=run.ended)
            self._map.note_run(run.id, there.id, whole=True)

    def _copy_files(self, run: Run, there: Run) -> None:
        stored = self._source.files(run.id)
        for file in sorted(file for file in stored.rglob("*") if file.is_file()):
            parent = file.parent.relative_to(stored).as_posix()
            self._there.log_file(there.id, file, folder="" if parent == "." else parent)

    def _model_of(self, there: Run, digest: str) -> LoggedModel | None:
        """A model that a killed ship stored with the run already, or an earlier version of the same."""
        current = self._there.get(there.id) if there.models else there
        for uri in current.models:
            model = self._there.logged_model(uri)
            if model.digest == digest:
                return model
        return None

    def _found(self, run: Run) -> Run | None:
        """The copy that is there."""
        noted = self._map.runs.get(run.id)
        if noted is not None:
            try:
                return self._there.get(noted)
            except NotFoundError:  # it was deleted there, or the target was made anew
                return None
        if not self._map.was_begun(run.id) and not (self.search and self._map.fresh):
            return None
        alike = self._there.runs(name=run.name, limit=_SEARCHED)
        return next((there for there in alike if there.tags.get(MARK) == run.id), None)

    def _get(self, run_id: str) -> Run | None:
        try:
            return self._source.get(run_id)
        except NotFoundError:
            return None


def _without(metrics: Sequence[Metric], known: Sequence[Metric]) -> list[Metric]:
    """The values that are not known yet; a tool may keep the time otherwise."""
    seen = Counter((metric.name, metric.step, repr(metric.value)) for metric in known)
    left = []
    for metric in metrics:
        key = (metric.name, metric.step, repr(metric.value))
        if seen[key]:
            seen[key] -= 1
        else:
            left.append(metric)
    return left
