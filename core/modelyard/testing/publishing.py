"""The part of the suite of data stores that is about versions on their way to another place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelyard.digests import manifest
from modelyard.errors import UsageError
from modelyard.offers import Offer
from modelyard.stages import DataStore, StageContext
from modelyard.targets import Target
from modelyard.testing.base import refusal
from modelyard.testing.files import replace_content


class PublishTests:
    """Part of `DataSuite`, which has the fixtures."""

    # -- publishing versions ----------------------------------------------------------------

    def test_what_the_remote_lacks_is_told_in_bytes(self, store: DataStore, file: Path, tree: Path) -> None:
        """Of the remote as it is; nothing is copied by asking."""
        refs = [store.add(file), store.add(tree)]
        # A store may count what it keeps beside the files, e.g. the listing of a folder.
        for lacking, ref in zip(store.lacking(refs), refs):
            assert lacking is not None, f"this machine has '{ref.name}'"
            assert lacking >= ref.size, f"all {ref.size} bytes of '{ref.name}' are lacking, not {lacking}"
        assert not store.get(refs[0].name).published, "asking must not publish"
        store.publish(refs[:1])
        (first, second) = store.lacking(refs)
        assert first == 0, f"all of the first was published, so 0 bytes are lacking, not {first}"
        assert second, "the second was not published"

    def test_an_earlier_version_can_be_published(self, store: DataStore, file: Path) -> None:
        """A model was trained on it, so it belongs to what is shipped."""
        content = file.read_bytes()
        earlier = store.add(file)
        replace_content(file, b"other bytes " + content)
        current = store.add(file)
        told: list[int] = []
        (published,) = store.publish([earlier], progress=told.append)
        assert published.published, "the earlier version must be published"
        assert published.remote == store.remote(), "it must say where"
        assert (published.version, published.digest) == (earlier.version, earlier.digest), "another version"
        assert sum(told) in (0, *range(earlier.size, earlier.size + 1000)), f"bytes told: {told}"
        assert not store.get(current.name).published, "the current version was not asked for"
        assert store.lacking([earlier]) == [0], "the remote must hold it"

    def test_what_is_nowhere_is_not_published(
        self, store: DataStore, file: Path, forget: Callable[[Path], None]
    ) -> None:
        """Said in the record; the others are published all the same."""
        lost = store.add(file)
        forget(file)
        file.write_bytes(b"still here")
        here = store.add(file)
        published = store.publish([lost, here])
        assert [ref.published for ref in published] == [False, True], "only the second is anywhere"
        assert store.lacking([lost, here]) == [None, 0], "the first is nowhere, the second is there"

    def test_versions_of_other_stores_are_left_alone(self, store: DataStore, file: Path) -> None:
        """Runs may have been made before a project changed its store."""
        foreign = replace(store.add(file), scheme="anderswo", version="7", digest="f" * 64)
        (answered,) = store.publish([foreign])
        assert not answered.published, "nobody here knows that version"
        assert store.lacking([foreign]) == [None], "nobody here knows that version"

    # -- on a target ------------------------------------------------------------------------

    @pytest.fixture
    def target(self) -> Target:
        """A target with an S3 service that has a storage of its own."""
        return pytest.skip("override the fixture `target` to see that the store works on targets")

    def test_on_a_target_the_remote_is_that_of_the_target(
        self,
        offer: Offer[DataStore],
        context: StageContext,
        store: DataStore,
        target: Target,
        tree: Path,
        forget: Callable[[Path], None],
    ) -> None:
        """The same data sets, published there and pulled from there; the project's own remote stays."""
        state = context.state / "auf dem ziel"
        state.mkdir(exist_ok=True)
        there = offer.factory(replace(context, state=state, target=target))
        ref, own, before = store.add(tree), store.remote(), manifest(tree)
        assert there.get(ref.name) == ref, "the target has the same data sets, not yet published"
        assert there.remote() == target.address("s3").storage, "its remote is the target's storage"
        (pushed,) = there.push([ref.name])
        assert (pushed.published, pushed.remote) == (True, there.remote()), "it must be published there"
        assert there.lacking([ref]) == [0], "its remote must hold it"
        assert store.remote() == own, "the project's own remote must stay"
        assert not store.get(ref.name).published, "to the project's own remote nothing was pushed"
        refusal(UsageError, "remote-of-target", there.set_remote, "anywhere")
        forget(tree)
        (pulled,) = there.pull([ref.name])
        assert pulled.digest == ref.digest, "the pulled version is not the one that was pushed"
        assert manifest(tree) == before, "the pulled files are not those that were pushed"
