"""MLflow keeps the promises of the stages `track` and `registry`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from modelyard.records import LoggedModel, ModelVersion
from modelyard.stages import StageContext
from modelyard.testing import RegistrySuite, TrackSuite
from modelyard.testing.models import ROWS, fitted_model
from modelyard.testing.registry import LINEAGE
from modelyard.testing.track import CONTEXT

pytest.importorskip("mlflow")


class TestTracker(TrackSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        import modelyard_mlflow

        return next(iter(modelyard_mlflow.modelyard_trackers()))


class TestRegistry(RegistrySuite):
    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        import modelyard_mlflow

        return next(iter(modelyard_mlflow.modelyard_registries()))

    @pytest.fixture(scope="class")
    @classmethod
    def log_model(cls, context: StageContext) -> Callable[[float], LoggedModel]:
        """MLflow's registry takes models from MLflow's tracker, in the same store."""
        import pandas as pd

        import modelyard_mlflow

        tracker = next(iter(modelyard_mlflow.modelyard_trackers())).factory(context)
        example, files = pd.DataFrame(list(ROWS)), {"lineage.json": LINEAGE}

        def log_model(value: float) -> LoggedModel:
            run = tracker.start("ein lauf", CONTEXT)
            return tracker.log_model(run.id, fitted_model(value), example=example, files=files)

        return log_model

    @pytest.fixture
    def delete_version(self, provider: Any, context: StageContext) -> Callable[[ModelVersion], None]:
        def delete(version: ModelVersion) -> None:
            from mlflow import MlflowClient

            uri = tracking_uri(context)
            MlflowClient(uri, uri).delete_model_version(version.name, version.version)

        return delete

    @pytest.fixture
    def lose_files(self, provider: Any) -> Callable[[ModelVersion], None]:
        return lambda version: shutil.rmtree(provider.fetch(version))


def tracking_uri(context: StageContext) -> str:
    """The sqlite file below the provider's state folder."""
    (database,) = context.state.rglob("*.db")
    assert not urlsplit(unquote(str(database))).query, "a path that would be cut as a URL"
    return f"sqlite:///{Path(database)}"
