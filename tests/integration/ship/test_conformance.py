"""MLflow keeps the promises of the stage `track` on a target, too: by its server, with its files on S3."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from modelyard.stages import StageContext
from modelyard.targets import Address, Target
from modelyard.testing import TrackSuite

pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow


class TestTrackerOnATarget(TrackSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        import modelyard_mlflow

        return next(iter(modelyard_mlflow.modelyard_trackers()))

    @pytest.fixture(scope="class")
    @classmethod
    def context(cls, new_context: Callable[[], StageContext], addresses: dict[str, Address]) -> StageContext:
        return on_target(new_context(), addresses)

    @pytest.fixture
    def fresh(
        self, offer: Any, new_context: Callable[[], StageContext], addresses: dict[str, Address]
    ) -> Any:
        return offer.factory(on_target(new_context(), addresses))


def on_target(context: StageContext, addresses: dict[str, Address]) -> StageContext:
    """With an experiment of its own: on a server projects would share one."""
    target = Target("cluster", find=lambda service: addresses[service])
    return replace(context, target=target, project=f"conformance {uuid.uuid4().hex}")
