"""Registries that are broken in one way each, and the test that must catch it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from modelyard import state
from modelyard.records import LoggedModel, ModelVersion
from modelyard.stages import StageContext
from modelyard.testing import MemoryRegistry, RegistrySuite, memory


class Suite(RegistrySuite):
    broken: type[MemoryRegistry]

    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        return replace(next(iter(memory.modelyard_registries())), factory=cls.broken)

    @pytest.fixture
    def delete_version(self, context: StageContext) -> Callable[[ModelVersion], None]:
        def delete(version: ModelVersion) -> None:
            file = context.state / "registry" / f"{quote(version.name, safe='')}.json"
            content = state.read_json(file)
            del content["versions"][version.version]
            state.write_json(file, content)

        return delete

    @pytest.fixture
    def lose_files(self, context: StageContext) -> Callable[[ModelVersion], None]:
        return lambda version: shutil.rmtree(context.state / "registered" / str(version.digest))


class ReusesNumbers(MemoryRegistry):
    def register(
        self, name: str, model: LoggedModel, *, tags: Mapping[str, str] | None = None
    ) -> ModelVersion:
        content = state.read_json(self._file(name))
        if content is not None:
            state.write_json(self._file(name), {**content, "count": len(content["versions"])})
        return super().register(name, model, tags=tags)


class StaleAliases(MemoryRegistry):
    def __init__(self, context: StageContext) -> None:
        super().__init__(context)
        self._seen: dict[tuple[str, str], str | None] = {}

    def alias(self, name: str, alias: str) -> str | None:
        return self._seen.setdefault((name, alias), super().alias(name, alias))


class AliasOnBoth(MemoryRegistry):
    def get(self, name: str, version: str) -> ModelVersion:
        found = super().get(name, version)
        return replace(found, aliases=tuple(sorted(self._model(name)["aliases"])))


class AliasToNothing(MemoryRegistry):
    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        content = self._model(name)
        state.write_json(self._file(name), {**content, "aliases": {**content["aliases"], alias: version}})


class SortsNumbersAsText(MemoryRegistry):
    def versions(self, name: str) -> list[ModelVersion]:
        return sorted(super().versions(name), key=lambda version: version.version, reverse=True)


class ChangesTheFiles(MemoryRegistry):
    def fetch(self, version: ModelVersion) -> Path:
        folder = super().fetch(version)
        (folder / "registered_model_meta").write_text(version.ref)
        return folder


class FetchesTheNewest(MemoryRegistry):
    def fetch(self, version: ModelVersion) -> Path:
        return super().fetch(self.versions(version.name)[0])


class LosesTags(MemoryRegistry):
    def register(
        self, name: str, model: LoggedModel, *, tags: Mapping[str, str] | None = None
    ) -> ModelVersion:
        return super().register(name, model)


class RaisesValueError(MemoryRegistry):
    def get(self, name: str, version: str) -> ModelVersion:
        return super().get(name, str(int(version)))


class HandsOutNothing(MemoryRegistry):
    def fetch(self, version: ModelVersion) -> Path:
        return self._files / str(version.digest)


CAUGHT_BY = {
    ReusesNumbers: "test_a_deleted_number_is_never_used_again",
    StaleAliases: "test_an_alias_moves",
    AliasOnBoth: "test_an_alias_moves",
    AliasToNothing: "test_an_unknown_version_is_not_found[2]",
    SortsNumbersAsText: "test_the_newest_version_comes_first",
    ChangesTheFiles: "test_the_files_are_those_that_were_logged",
    FetchesTheNewest: "test_each_version_keeps_its_own_files",
    LosesTags: "test_a_version_carries_what_is_known_of_the_model",
    RaisesValueError: "test_an_unknown_version_is_not_found[latest]",
    HandsOutNothing: "test_lost_files_are_said",
}
for provider in CAUGHT_BY:
    globals()[f"Test{provider.__name__}"] = type(f"Test{provider.__name__}", (Suite,), {"broken": provider})
