"""What the worker knows to say: one module per section, one function per question."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

import modelyard
from modelyard.errors import (
    ConflictError,
    EnvironmentFault,
    GateError,
    MissingRequirementError,
    ModelyardError,
    NotFoundError,
    UsageError,
)
from modelyard.stages import StageName
from modelyard.yard import Yard
from modelyard_jupyter.answers import data, drift, models, overview, runs, serving
from modelyard_jupyter.api import Problem

#: What an answer may be: a message, something JSON-able, or a page.
Said = BaseModel | Mapping[str, Any] | bytes
#: Question -> section, the stage whose provider answers it, and the function that does.
_TABLE: dict[str, tuple[str, StageName | None, Callable[[Yard, Mapping[str, Any]], Said]]] = {
    "overview": ("overview", None, overview.overview),
    "doctor": ("overview", None, overview.doctor),
    "runs": ("runs", "track", runs.page),
    "run": ("runs", "track", runs.details),
    "curves": ("runs", "track", runs.curves),
    "run-log": ("runs", "track", runs.log),
    "compare": ("runs", "track", runs.compare),
    "register": ("models", "registry", models.register),
    "data": ("data", "data", data.rows),
    "push": ("data", "data", data.push),
    "pull": ("data", "data", data.pull),
    "job": ("jobs", "data", data.job),
    "models": ("models", "registry", models.tree),
    "version": ("models", "registry", models.details),
    "history": ("models", "registry", models.history),
    "promotion": ("models", "registry", models.promotion),
    "promote": ("models", "registry", models.promote),
    "rollback-plan": ("models", "registry", models.rollback_plan),
    "rollback": ("models", "registry", models.rollback),
    "endpoints": ("serving", "serving", serving.rows),
    "endpoint": ("serving", "serving", serving.details),
    "endpoint-log": ("serving", "serving", serving.log),
    "traffic": ("serving", "serving", serving.traffic),
    "try": ("try", "serving", serving.try_request),
    "drift": ("drift", "monitoring", drift.rows),
    "report": ("drift", "monitoring", drift.report),
}
#: Changes whose answers are known.
_REMEMBERED = 200
_STATUS: tuple[tuple[type[ModelyardError], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (GateError, 422),
    (MissingRequirementError, 501),
    (EnvironmentFault, 502),
)


class Answers:
    """Answers about one project.

    Args:
        root: its folder.
        target: the name of the target on which its stages run.
    """

    def __init__(self, root: Path, target: str) -> None:
        self._root, self._target = root, target
        self._yard: Yard | None = None
        self._done: dict[str, tuple[int, bytes]] = {}

    def section_of(self, what: str) -> str:
        """The section that a question belongs to."""
        return _TABLE[what][0] if what in _TABLE else ""

    def answer(self, what: str, arguments: bytes) -> tuple[int, bytes]:
        """HTTP's status and the body; whatever goes wrong is a `Problem`. A change that comes again with the
        same key is not made again: it gets the first answer."""
        given = json.loads(arguments)
        key = given.get("key")
        if key and key in self._done:
            return self._done[key]
        status, body = self._answer(what, given)
        if key and status < 500:
            self._done[key] = (status, body)
            while len(self._done) > _REMEMBERED:
                self._done.pop(next(iter(self._done)))
        return status, body

    def _answer(self, what: str, given: Mapping[str, Any]) -> tuple[int, bytes]:
        stage: StageName | None = None
        try:
            if what not in _TABLE:
                raise NotFoundError("question-unknown", f"there is no question '{what}'")
            _, stage, function = _TABLE[what]
            return 200, _encoded(function(self._opened(), given))
        except ValidationError as fault:
            return 400, _encoded(_invalid(fault))
        except ModelyardError as fault:
            status = next((status for kind, status in _STATUS if isinstance(fault, kind)), 400)
            return status, _encoded(self._problem(fault, stage))
        except Exception as fault:
            traceback.print_exc()
            said = f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"
            hint = "a bug: .modelyard/jupyter/worker.log has the details"
            return 500, _encoded(self._problem(UsageError("unexpected", said, hint), stage))

    def _opened(self) -> Yard:
        if self._yard is None:
            self._yard = modelyard.open(self._root, target=self._target)
        return self._yard

    def _problem(self, fault: ModelyardError, stage: StageName | None) -> Problem:
        plugin = getattr(self._yard.settings.stages, stage) if self._yard and stage else None
        # Through JSON: details may hold paths and times.
        details = json.loads(json.dumps(fault.details, default=str))
        return Problem(
            code=fault.code, message=fault.message, hint=fault.hint, plugin=plugin, details=details
        )


def _encoded(said: Said) -> bytes:
    if isinstance(said, bytes):
        return said
    if isinstance(said, BaseModel):
        return said.model_dump_json().encode()
    return json.dumps(said, default=_plain).encode()


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def _invalid(fault: ValidationError) -> Problem:
    first = fault.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the request"
    return Problem(code="request-invalid", message=f"{where}: {first['msg']}")
