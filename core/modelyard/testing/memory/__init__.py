"""Reference providers for all five stages: small, complete, and written to be read.

They keep plain files under the project's state folder, so that two processes see one state; the
server and the collector listen from a thread of the process that started them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.hookspecs import hookimpl
from modelyard.offers import Offer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from modelyard.stages import DataStore, Monitor, Registry, Server, StageContext, Tracker

#: A `modelyardfile.py` that offers the reference providers, under the name `memory`.
INLINE_PLUGIN = """\
from modelyard.testing.memory import (
    modelyard_data_stores,
    modelyard_monitors,
    modelyard_registries,
    modelyard_servers,
    modelyard_trackers,
)
"""


@hookimpl
def modelyard_trackers() -> Iterable[Offer[Tracker]]:
    """Offer the reference tracker."""
    yield Offer(name="memory", summary="runs as JSON files, for tests", factory=_tracker)


@hookimpl
def modelyard_data_stores() -> Iterable[Offer[DataStore]]:
    """Offer the reference data store."""
    yield Offer(name="memory", summary="data versions in a folder, for tests", factory=_data_store)


@hookimpl
def modelyard_registries() -> Iterable[Offer[Registry]]:
    """Offer the reference registry."""
    yield Offer(name="memory", summary="model versions as JSON files, for tests", factory=_registry)


@hookimpl
def modelyard_servers() -> Iterable[Offer[Server]]:
    """Offer the reference server."""
    yield Offer(name="memory", summary="constant models from a thread, for tests", factory=_server)


@hookimpl
def modelyard_monitors() -> Iterable[Offer[Monitor]]:
    """Offer the reference monitor."""
    yield Offer(
        name="memory",
        summary="drift by shift of the mean, for tests",
        factory=_monitor,
        settings=_monitor_settings,
    )


def stop(root: Path) -> None:
    """End the threads that serve endpoints or collect events of the project in `root`."""
    from modelyard.testing.memory.listeners import close_below

    close_below(root)


def _tracker(context: StageContext) -> Tracker:
    from modelyard.testing.memory.track import MemoryTracker

    return MemoryTracker(context)


def _data_store(context: StageContext) -> DataStore:
    from modelyard.testing.memory.data import MemoryDataStore

    return MemoryDataStore(context)


def _registry(context: StageContext) -> Registry:
    from modelyard.testing.memory.registry import MemoryRegistry

    return MemoryRegistry(context)


def _server(context: StageContext) -> Server:
    from modelyard.testing.memory.serving import MemoryServer

    return MemoryServer(context)


def _monitor(context: StageContext) -> Monitor:
    from modelyard.testing.memory.monitoring import MemoryMonitor

    return MemoryMonitor(context)


def _monitor_settings() -> type[BaseModel]:
    from modelyard.testing.memory.monitoring import MemoryMonitorSettings

    return MemoryMonitorSettings
