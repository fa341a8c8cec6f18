"""Servers that are broken in one way each, and the test that must catch it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelyard import state
from modelyard.records import Endpoint, Explanation, Finding, Revision
from modelyard.stages import StageContext
from modelyard.testing import ConstantModel, MemoryServer, ServingSuite, base, memory
from modelyard.testing.memory import listeners


class Suite(ServingSuite):
    broken: type[MemoryServer]

    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        return replace(next(iter(memory.modelyard_servers())), factory=cls.broken)

    @pytest.fixture(scope="class")
    @classmethod
    def save_model(cls) -> Callable[[Path, float], None]:
        return lambda folder, value: ConstantModel(value).save(folder)

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def stopped(cls, context: StageContext) -> Iterator[None]:
        yield
        memory.stop(context.root)

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(base, "PATIENCE", 1.0)


class IgnoresThePercentage(MemoryServer):
    def choose(self, revisions: Sequence[Revision]) -> Revision:
        return revisions[0]


class TakesUnknownFields(MemoryServer):
    def apply(self, manifest: Path, *, wait: bool = True) -> Endpoint:
        content = json.loads(manifest.read_text())
        predictor = content.get("spec", {}).get("predictor", {})
        predictor.pop("replicas", None)
        manifest.write_text(json.dumps(content))
        return super().apply(manifest)


class NewRevisionEachTime(MemoryServer):
    def _deploy(self, name: str, old: Any, manifest: Any) -> None:
        super()._deploy(name, {**old, "manifest": None}, manifest)


class StopsTheOldFirst(MemoryServer):
    """A revision that fails leaves nothing that answers."""

    def _loadable(self, name: str, manifest: Any) -> Any:
        listeners.close(self._file(name))
        return super()._loadable(name, manifest)


class ForgetsTheAlias(MemoryServer):
    def reconcile(self, name: str, *, wait: bool = True) -> Endpoint:
        return self.get(name)


class NamesTheWrongVersion(MemoryServer):
    """The headers come from the newest revision, whoever answered."""

    def _answer(self, name: str, request: Any, body: bytes) -> None:
        send = request.send_header

        def lie(key: str, value: str) -> None:
            newest = self.get(name).revisions[0]
            send(key, newest.version if key == "X-Modelyard-Version" else value)

        request.send_header = lie
        super()._answer(name, request, body)


class LogsNothing(MemoryServer):
    def _log_prediction(self, *_: Any) -> None:
        pass


class KeepsAnsweringWhenDeleted(MemoryServer):
    def delete(self, name: str) -> None:
        content = self._read(name)
        super().delete(name)
        listeners.listen(self._file(name), lambda request, body: self._answer(name, request, body))
        state.write_json(self._file(name).with_suffix(".kept"), content)

    def _read(self, name: str) -> dict[str, Any]:
        kept = self._file(name).with_suffix(".kept")
        return (
            super()._read(name) if self._file(name).exists() or not kept.exists() else state.read_json(kept)
        )


class LimitsNothing(MemoryServer):
    def logs(self, name: str, *, lines: int = 100) -> Iterator[str]:
        return super().logs(name, lines=1000)


class LogsEveryRequest(MemoryServer):
    def access_log(self, name: str, *, lines: int = 100) -> Iterator[str]:
        return iter(["{}"] * 3)


class FindsNothing(MemoryServer):
    def lint(self, *_: Any, **__: Any) -> list[Finding]:
        return []


class ForgetsWhatHappened(MemoryServer):
    def explain(self, name: str) -> Explanation:
        return replace(super().explain(name), events=())


class KnowsNoConditions(MemoryServer):
    def get(self, name: str) -> Endpoint:
        return replace(super().get(name), conditions=())


CAUGHT_BY = {
    IgnoresThePercentage: "test_a_canary_gets_its_percentage",
    TakesUnknownFields: "test_an_unknown_field_is_refused[replicas]",
    NewRevisionEachTime: "test_applying_the_same_file_again_changes_nothing",
    StopsTheOldFirst: "test_a_revision_that_fails_leaves_the_old_one_answering",
    ForgetsTheAlias: "test_an_alias_is_followed_when_reconciled",
    NamesTheWrongVersion: "test_a_canary_gets_its_percentage",
    LogsNothing: "test_an_answer_is_logged_as_two_events",
    KeepsAnsweringWhenDeleted: "test_endpoints_are_listed_by_name_until_they_are_deleted",
    LimitsNothing: "test_the_log_is_bounded",
    LogsEveryRequest: "test_the_access_log_is_bounded",
    FindsNothing: "test_what_is_wrong_in_a_file_is_found_without_applying_it",
    ForgetsWhatHappened: "test_a_revision_that_fails_is_explained",
    KnowsNoConditions: "test_conditions_say_what_is_so",
}
for provider in CAUGHT_BY:
    globals()[f"Test{provider.__name__}"] = type(f"Test{provider.__name__}", (Suite,), {"broken": provider})
