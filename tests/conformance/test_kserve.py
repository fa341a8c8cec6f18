"""The local KServe runtime keeps the promises of the stage `serving`."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.testing import ServingSuite

pytest.importorskip("kserve")
pytest.importorskip("mlflow", reason="the sample models are MLflow's")


class TestKserve(ServingSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        import modelyard_kserve

        return next(iter(modelyard_kserve.modelyard_servers()))
