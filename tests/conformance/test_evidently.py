"""The default monitor keeps the promises of the stage `monitoring`."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.testing import MonitoringSuite

pytest.importorskip("evidently")


class TestEvidently(MonitoringSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        import modelyard_evidently

        return next(iter(modelyard_evidently.modelyard_monitors()))
