"""DVC keeps the promises of the stage `data`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelyard.offers import Offer
from modelyard.stages import StageContext
from modelyard.testing.data import DataSuite


class TestDvc(DataSuite):
    """The suite that every data store has to pass."""

    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Offer[Any]:
        import modelyard_dvc

        (offer,) = modelyard_dvc.modelyard_data_stores()
        return offer

    @pytest.fixture
    def cache_folders(self, context: StageContext) -> list[Path]:
        return [context.root / ".dvc" / "cache"]
