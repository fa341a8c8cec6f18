"""Acme's tracker keeps every promise of the stage `track`."""

import acme_yard
import pytest

from modelyard.testing import TrackSuite


class TestAcme(TrackSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls):
        return next(iter(acme_yard.modelyard_trackers()))
