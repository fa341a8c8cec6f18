"""The conformance kit: prove that a provider keeps the promises of its stage.

A third party subclasses the suite of the stage, gives its offer, and inherits every test:

Example:
    import pytest
    from modelyard.testing import TrackSuite

    import acme_yard

    class TestAcme(TrackSuite):
        @pytest.fixture(scope="class")
        @classmethod
        def offer(cls):
            return next(iter(acme_yard.modelyard_trackers()))

`modelyard.testing.memory` holds a small complete provider for every stage, to read and to test with.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelyard.testing.contexts import EventCollector as EventCollector
    from modelyard.testing.contexts import ModelShelf as ModelShelf
    from modelyard.testing.contexts import make_context as make_context
    from modelyard.testing.data import DataSuite as DataSuite
    from modelyard.testing.memory.data import MemoryDataStore as MemoryDataStore
    from modelyard.testing.memory.monitoring import MemoryMonitor as MemoryMonitor
    from modelyard.testing.memory.registry import MemoryRegistry as MemoryRegistry
    from modelyard.testing.memory.serving import MemoryServer as MemoryServer
    from modelyard.testing.memory.track import MemoryTracker as MemoryTracker
    from modelyard.testing.models import ConstantModel as ConstantModel
    from modelyard.testing.monitoring import MonitoringSuite as MonitoringSuite
    from modelyard.testing.registry import RegistrySuite as RegistrySuite
    from modelyard.testing.serving import ServingSuite as ServingSuite
    from modelyard.testing.track import TrackSuite as TrackSuite

# pytest imports this package at every start, in every project of this environment: names come late.
_PUBLIC = {
    "ConstantModel": "models",
    "DataSuite": "data",
    "EventCollector": "contexts",
    "MemoryDataStore": "memory.data",
    "MemoryMonitor": "memory.monitoring",
    "MemoryRegistry": "memory.registry",
    "MemoryServer": "memory.serving",
    "MemoryTracker": "memory.track",
    "ModelShelf": "contexts",
    "MonitoringSuite": "monitoring",
    "RegistrySuite": "registry",
    "ServingSuite": "serving",
    "TrackSuite": "track",
    "make_context": "contexts",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'modelyard.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"modelyard.testing.{_PUBLIC[name]}"), name)
