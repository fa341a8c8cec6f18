"""DVC keeps the promises of the stage `data`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.stages import StageContext
from modelyard.testing import DataSuite

pytest.importorskip("dvc")


class TestDvc(DataSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        import modelyard_dvc

        return next(iter(modelyard_dvc.modelyard_data_stores()))

    @pytest.fixture(scope="class")
    @classmethod
    def prepare_project(cls) -> Callable[[Path], None]:
        return lambda root: subprocess.run(["git", "init", "--quiet", str(root)], check=True) and None

    @pytest.fixture
    def cache_folders(self, context: StageContext) -> list[Path]:
        return [context.root / ".dvc" / "cache"]


class TestDvcWithoutGit(TestDvc):
    @pytest.fixture(scope="class")
    @classmethod
    def prepare_project(cls) -> Callable[[Path], None]:
        return lambda _: None
