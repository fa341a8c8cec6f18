"""The project at a glance. A stage that fails is a light, and takes nothing else along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from modelyard import targets
from modelyard.doctor import examine
from modelyard.errors import ModelyardError
from modelyard.stages import STAGES
from modelyard.yard import Yard
from modelyard_jupyter.answers.moves import move_of
from modelyard_jupyter.api import AlertLine, Overview, PluginLight

T = TypeVar("T")


def overview(yard: Yard, _: Mapping[str, Any]) -> Overview:
    """Lights, what runs, what fires, and the last move."""
    moves = _known(yard.history)
    return Overview(
        name=yard.name,
        target=yard.target_name,
        targets=tuple(targets.names(yard.settings, yard.plugins)),
        lights=tuple(_light(yard, stage) for stage in STAGES),
        running=sum(run.status == "running" for run in _known(lambda: yard.runs.list(limit=200)) or ()),
        alerts=_known(lambda: _alerts(yard)) or (),
        last_move=move_of(moves[0]) if moves else None,
    )


def doctor(yard: Yard, _: Mapping[str, Any]) -> dict[str, Any]:
    """Every check of `modelyard doctor`."""
    return {"checks": [check.to_dict() for check in examine(yard.root, yard.target_name)]}


def _light(yard: Yard, stage: Any) -> PluginLight:
    provider = getattr(yard.settings.stages, stage)
    try:
        yard.provider(stage)
    except ModelyardError as fault:
        return PluginLight(
            stage=stage, provider=provider, light="failed", message=fault.message, hint=fault.hint
        )
    return PluginLight(stage=stage, provider=provider, light="ok", message="works")


def _alerts(yard: Yard) -> tuple[AlertLine, ...]:
    found = []
    for endpoint in yard.endpoints.list():
        for alert in yard.monitor.alerts(endpoint.name):
            found.append(
                AlertLine(
                    name=alert.name, severity=alert.severity, summary=alert.summary, endpoint=endpoint.name
                )
            )
    return tuple(found)


def _known(ask: Callable[[], T]) -> T | None:
    """What can't be known is left out here: the section that it belongs to says why."""
    try:
        return ask()
    except ModelyardError:
        return None
