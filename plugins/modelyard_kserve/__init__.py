"""KServe's InferenceService as the stage `serving`: the hook implementations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from modelyard.hookspecs import hookimpl
from modelyard.offers import Offer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from modelyard.components import Component
    from modelyard.stages import Server, StageContext


def _server(context: StageContext) -> Server:
    if context.target is not None:
        from modelyard_kserve.cluster.provider import ClusterServer

        return ClusterServer(context, context.target)
    from modelyard_kserve.provider import KserveServer

    return KserveServer(context)


def _settings() -> type[BaseModel]:
    from modelyard_kserve.config import KserveSettings

    return KserveSettings


@hookimpl
def modelyard_servers() -> Iterable[Offer[Server]]:
    """Offer InferenceServices, as local processes and on clusters."""
    yield Offer(
        name="kserve",
        summary="KServe InferenceServices, as local processes or on a cluster",
        factory=_server,
        settings=_settings,
        requires=("kserve", "httptools", "httpx", "orjson", "yaml"),
        install="modelyard[kserve]",
    )


@hookimpl
def modelyard_sandbox_components() -> Iterable[Component]:
    """Offer our model servers as runtimes of the sandbox's KServe."""
    from modelyard_kserve.cluster.runtimes import COMPONENT

    yield COMPONENT
