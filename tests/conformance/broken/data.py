"""Data stores that are broken in one way each, and the test that must catch it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelyard import state
from modelyard.errors import NotFoundError
from modelyard.records import DataRef
from modelyard.stages import DataStatus, StageContext
from modelyard.targets import Address, Target
from modelyard.testing import DataSuite, MemoryDataStore, memory


class Suite(DataSuite):
    broken: type[MemoryDataStore]

    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Any:
        return replace(next(iter(memory.modelyard_data_stores())), factory=cls.broken)

    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        return Target(
            "ziel", find=lambda _: Address(url="http://127.0.0.1:9", storage=str(tmp_path / "ziel"))
        )


class PullsUnverified(MemoryDataStore):
    def _verified(self, file: Path, ref: DataRef) -> bytes:
        return file.read_bytes()


class BelievesItsCache(MemoryDataStore):
    def _verified(self, file: Path, ref: DataRef) -> bytes:
        return file.read_bytes() if file.parent == self._objects else super()._verified(file, ref)


class HandsOutHalf(MemoryDataStore):
    """Writes file by file, and notices the bad one in the middle."""

    def pull(self, names: Sequence[str] = ()) -> list[DataRef]:
        for ref in self._chosen(names):
            for file in self._files_of(ref):
                target = self._root / ref.path / file["path"] if file["path"] else self._root / ref.path
                if file["size"]:
                    self._bytes_of(file["sha256"], ref)
                state.write_bytes(target, self._bytes_of(file["sha256"], ref))
        return self._chosen(names)


class ComparesSizes(MemoryDataStore):
    def _compared(self, ref: DataRef) -> DataStatus:
        path = self._root / ref.path
        if path.is_file() and path.stat().st_size == ref.size:
            return DataStatus(ref=ref, state="unchanged")
        return super()._compared(ref)


class TakesEverything(MemoryDataStore):
    def _inside(self, path: Path) -> Path:
        return path if path.is_relative_to(self._root) else super()._inside(path)


class DigestOfTheName(MemoryDataStore):
    def add(self, path: Path, *, name: str | None = None) -> DataRef:
        ref = super().add(path, name=name)
        return replace(ref, digest=f"{hash(path.name) & 0xFFFF:064x}")


class PublishedForever(MemoryDataStore):
    def add(self, path: Path, *, name: str | None = None) -> DataRef:
        old = {ref.name: ref for ref in self.refs()}.get(name or path.stem)
        ref = super().add(path, name=name)
        if old is None or not old.published:
            return ref
        self._note_published(ref)
        return self.get(ref.name)


class ShowsThePassword(MemoryDataStore):
    def remote(self) -> str | None:
        url: str | None = self._read()["remote"]
        return url


class PushesEverything(MemoryDataStore):
    def push(self, names: Sequence[str] = ()) -> list[DataRef]:
        super().push()
        return super().push(names)


class KeepsQuietAboutNames(MemoryDataStore):
    def get(self, name: str) -> DataRef:
        try:
            return super().get(name)
        except NotFoundError:
            raise NotFoundError("data-not-found", f"no data set '{name}'") from None


class PublishesTheCurrentVersion(MemoryDataStore):
    """Whichever was asked for."""

    def publish(self, refs: Sequence[DataRef], **rest: Any) -> list[DataRef]:
        published = super().publish([self.get(ref.name) for ref in refs], **rest)
        return [replace(ref, published=True, remote=each.remote) for ref, each in zip(refs, published)]


class CopiesNothing(MemoryDataStore):
    def publish(self, refs: Sequence[DataRef], **_: Any) -> list[DataRef]:
        return [replace(ref, published=True, remote=self.remote()) for ref in refs]


class HasOneRemote(MemoryDataStore):
    def __init__(self, context: StageContext) -> None:
        super().__init__(replace(context, target=None))


CAUGHT_BY = {
    PullsUnverified: "test_tampered_bytes_in_the_remote_are_not_handed_out[file]",
    BelievesItsCache: "test_tampered_bytes_in_the_cache_are_not_handed_out",
    HandsOutHalf: "test_tampered_bytes_in_the_remote_are_not_handed_out[folder]",
    ComparesSizes: "test_the_status_tells_unchanged_modified_and_missing",
    TakesEverything: "test_what_is_outside_the_project_is_refused",
    DigestOfTheName: "test_equal_bytes_have_equal_digests",
    PublishedForever: "test_a_new_version_is_not_published_by_the_old_one",
    ShowsThePassword: "test_the_remote_is_remembered_without_its_password",
    PushesEverything: "test_only_the_named_data_are_pushed",
    PublishesTheCurrentVersion: "test_an_earlier_version_can_be_published",
    CopiesNothing: "test_what_is_nowhere_is_not_published",
    HasOneRemote: "test_on_a_target_the_remote_is_that_of_the_target",
    KeepsQuietAboutNames: "test_an_unknown_name_is_not_found_and_the_known_are_named",
}
for provider in CAUGHT_BY:
    globals()[f"Test{provider.__name__}"] = type(f"Test{provider.__name__}", (Suite,), {"broken": provider})
