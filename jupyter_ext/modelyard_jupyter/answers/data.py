"""Data sets: where each stands, which runs used it; push and pull."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelyard.errors import ModelyardError
from modelyard.records import Run
from modelyard.yard import Yard
from modelyard_jupyter.answers.jobs import Jobs
from modelyard_jupyter.api import DataList, DataRow, DataWish, Job

#: Runs in which the use of data is looked for, and ids that are named.
_RUNS, _NAMED = 500, 20
_JOBS = Jobs()


def rows(yard: Yard, _: Mapping[str, Any]) -> DataList:
    """Every data set."""
    try:
        runs = yard.runs.list(limit=_RUNS)
    except ModelyardError:
        runs = []  # the section Runs says why
    found = []
    for status in yard.data.status():
        ref = status.ref
        used = [run.id for run in runs if _used(run, ref.path, ref.version)]
        found.append(
            DataRow(
                name=ref.name,
                path=ref.path,
                version=ref.version,
                size=ref.size,
                files=ref.files,
                state=status.state,
                published=ref.published,
                remote=ref.remote,
                used_by=tuple(used[:_NAMED]),
            )
        )
    return DataList(rows=tuple(found), remote=yard.data.remote())


def push(yard: Yard, query: Mapping[str, Any]) -> Job:
    """Copy to the remote what it lacks."""
    return _start(yard, query, "push", yard.data.push)


def pull(yard: Yard, query: Mapping[str, Any]) -> Job:
    """Bring the current versions here."""
    return _start(yard, query, "pull", yard.data.pull)


def job(_: Yard, query: Mapping[str, Any]) -> Job:
    """How far one of them is."""
    return _JOBS.get(query["job"])


def _start(yard: Yard, query: Mapping[str, Any], what: str, move: Callable[[Sequence[str]], object]) -> Job:
    wish = DataWish.model_validate(query["wish"])
    names = wish.names or tuple(ref.name for ref in yard.data.list())
    return _JOBS.start(what, names, lambda name: move([name]))


def _used(run: Run, path: str, version: str) -> bool:
    return any((use.ref.path, use.ref.version) == (path, version) for use in run.data)
