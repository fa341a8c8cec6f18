"""MLflow as the stages `track` and `registry`: the hook implementations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from modelyard.hookspecs import hookimpl
from modelyard.offers import CheckOffer, Offer

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

    from modelyard.records import Check
    from modelyard.stages import Registry, StageContext, Tracker

_INSTALL = "modelyard[mlflow]"
_REQUIRES = ("mlflow", "skops")


def _tracker(context: StageContext) -> Tracker:
    from modelyard_mlflow.tracker import MlflowTracker

    return MlflowTracker(context)


def _registry(context: StageContext) -> Registry:
    from modelyard_mlflow.registry import MlflowRegistry

    return MlflowRegistry(context)


def _settings() -> type[BaseModel]:
    from modelyard_mlflow.config import MlflowSettings

    return MlflowSettings


def _check(root: Path | None) -> Check:
    from modelyard_mlflow.checks import store_is_sound

    return store_is_sound(root)


@hookimpl
def modelyard_trackers() -> Iterable[Offer[Tracker]]:
    """Offer MLflow tracking."""
    yield Offer(
        name="mlflow",
        summary="MLflow tracking, on sqlite in the project or on a server",
        factory=_tracker,
        settings=_settings,
        requires=_REQUIRES,
        install=_INSTALL,
    )


@hookimpl
def modelyard_registries() -> Iterable[Offer[Registry]]:
    """Offer MLflow's model registry."""
    yield Offer(
        name="mlflow",
        summary="MLflow's model registry with aliases",
        factory=_registry,
        settings=_settings,
        requires=_REQUIRES,
        install=_INSTALL,
    )


@hookimpl
def modelyard_checks() -> Iterable[CheckOffer]:
    """Offer a look at the sqlite file."""
    yield CheckOffer(name="mlflow", run=_check)
