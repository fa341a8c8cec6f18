"""Evidently and Prometheus as the stage `monitoring`: the hook implementations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from modelyard.hookspecs import hookimpl
from modelyard.offers import GateOffer, Offer

if TYPE_CHECKING:
    from typing import Any

    from pydantic import BaseModel

    from modelyard.components import Component
    from modelyard.offers import Candidate
    from modelyard.records import Endpoint, GateResult, Promotion
    from modelyard.stages import Monitor, StageContext
    from modelyard.yard import Yard


def _monitor(context: StageContext) -> Monitor:
    if context.target is not None:
        from modelyard_evidently.remote import RemoteMonitor

        return RemoteMonitor(context, context.target)
    from modelyard_evidently.provider import EvidentlyMonitor

    return EvidentlyMonitor(context)


def _settings() -> type[BaseModel]:
    from modelyard_evidently.config import EvidentlySettings

    return EvidentlySettings


def _quality(candidate: Candidate, settings: Any) -> GateResult:
    from modelyard_evidently.gate import check_quality

    return check_quality(candidate, settings)


def _quality_settings() -> type[BaseModel]:
    from modelyard_evidently.gate import QualityGate

    return QualityGate


@hookimpl
def modelyard_monitors() -> Iterable[Offer[Monitor]]:
    """Offer prediction log, windows, exporter and Evidently's report."""
    yield Offer(
        name="evidently",
        summary="drift and quality windows as Prometheus metrics, Evidently's report on demand",
        factory=_monitor,
        settings=_settings,
        requires=("evidently", "duckdb", "pyarrow", "uvicorn", "orjson"),
        install="modelyard[evidently]",
    )


@hookimpl
def modelyard_gates() -> Iterable[GateOffer]:
    """Offer a gate on the quality over the reference data."""
    yield GateOffer(
        name="quality",
        summary="quality over the reference data lies within bounds, and is not worse than before",
        check=_quality,
        settings=_quality_settings,
    )


@hookimpl
def modelyard_sandbox_components() -> Iterable[Component]:
    """Offer the monitor as a part of the sandbox."""
    from modelyard_evidently.component import COMPONENT

    yield COMPONENT


@hookimpl
def modelyard_after_promote(yard: Yard, promotion: Promotion) -> None:
    """Mark the promotion, so that dashboards can draw it."""
    if yard.settings.stages.monitoring == "evidently" and yard.monitors():
        yard.monitor_provider.mark_promotion(promotion)  # type: ignore[attr-defined]


@hookimpl
def modelyard_after_deploy(yard: Yard, endpoint: Endpoint) -> None:
    """Mark the deployment, so that dashboards can draw it."""
    if yard.settings.stages.monitoring == "evidently" and yard.monitors():
        yard.monitor_provider.mark_deployment(endpoint)  # type: ignore[attr-defined]
