"""The reference providers keep every promise, so a failing suite means a broken provider."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard import state
from modelyard.records import ModelVersion
from modelyard.stages import StageContext
from modelyard.targets import Address, Target
from modelyard.testing import (
    ConstantModel,
    DataSuite,
    MonitoringSuite,
    RegistrySuite,
    ServingSuite,
    TrackSuite,
    memory,
)


class TestTracker(TrackSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        return next(iter(memory.modelyard_trackers()))

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> ConstantModel:
        return ConstantModel(0.25)


class TestDataStore(DataSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        return next(iter(memory.modelyard_data_stores()))

    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        return Target(
            "ziel", find=lambda _: Address(url="http://127.0.0.1:9", storage=str(tmp_path / "ziel"))
        )


class TestRegistry(RegistrySuite):
    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        return next(iter(memory.modelyard_registries()))

    @pytest.fixture
    def delete_version(self, context: StageContext) -> Callable[[ModelVersion], None]:
        def delete(version: ModelVersion) -> None:
            file = context.state / "registry" / f"{quoted(version.name)}.json"
            content = state.read_json(file)
            del content["versions"][version.version]
            state.write_json(file, content)

        return delete

    @pytest.fixture
    def lose_files(self, context: StageContext) -> Callable[[ModelVersion], None]:
        return lambda version: shutil.rmtree(context.state / "registered" / str(version.digest))


class TestServer(ServingSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        return next(iter(memory.modelyard_servers()))

    @pytest.fixture(scope="class")
    @classmethod
    def save_model(cls) -> Callable[[Path, float], None]:
        return lambda folder, value: ConstantModel(value).save(folder)

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def stopped(cls, context: StageContext) -> Iterator[None]:
        yield
        memory.stop(context.root)


class TestMonitor(MonitoringSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        return next(iter(memory.modelyard_monitors()))

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def stopped(cls, context: StageContext) -> Iterator[None]:
        yield
        memory.stop(context.root)


def quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")
