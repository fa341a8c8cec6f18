"""What every data store must do: the conformance suite of the stage `data`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.digests import manifest, manifest_digest
from modelyard.errors import (
    ConfigError,
    CorruptStateError,
    EnvironmentFault,
    NotFoundError,
    UsageError,
)
from modelyard.offers import Offer
from modelyard.records import DataRef
from modelyard.stages import DataStore, StageContext
from modelyard.testing.base import StageSuite, at_once, refusal
from modelyard.testing.files import empty_folder, remove, replace_content, spoil_files
from modelyard.testing.publishing import PublishTests


class DataSuite(PublishTests, StageSuite):
    """Subclass it and give the fixture `offer`; say with `cache_folders` where bytes are kept locally,
    and override `spoil` and `empty_remote` if your remote is no folder of plain files."""

    stage = "data"
    protocol = DataStore
    reads = "refs"

    @pytest.fixture(scope="class")
    @classmethod
    def remote_url(cls, tmp_path_factory: pytest.TempPathFactory) -> str:
        """A remote for the tests."""
        return str(tmp_path_factory.mktemp("entfernter speicher"))

    @pytest.fixture
    def cache_folders(self, context: StageContext) -> list[Path]:
        """The folders that hold the bytes of versions on this machine."""
        return [context.state / "objects"]

    @pytest.fixture
    def spoil(self) -> Callable[[Path, bytes], None]:
        """Changes what is stored of such a content below a folder (remote or cache)."""
        return spoil_files

    @pytest.fixture
    def empty_remote(self, remote_url: str) -> Callable[[], None]:
        """Removes everything from the remote."""
        return lambda: empty_folder(Path(remote_url))

    @pytest.fixture
    def forget(self, cache_folders: list[Path]) -> Callable[[Path], None]:
        """Removes a data set from the working tree, and all bytes from the caches."""

        def forget(path: Path) -> None:
            remove(path)
            for folder in cache_folders:
                empty_folder(folder)

        return forget

    @pytest.fixture
    def store(self, provider: DataStore, remote_url: str) -> DataStore:
        """The store under test, with a remote."""
        if provider.remote() is None:
            provider.set_remote(remote_url)
        return provider

    @pytest.fixture
    def folder(self, context: StageContext, unique: str) -> Path:
        """A new folder inside the project."""
        folder = context.root / "daten" / unique
        folder.mkdir(parents=True)
        return folder

    @pytest.fixture
    def file(self, folder: Path) -> Path:
        """A file that is not yet added; no other file has its bytes or its name."""
        file = folder / f"{folder.name} tabelle.csv"
        file.write_text(f"temp,wind\n1,2\n# {folder.name}\n", encoding="utf-8")
        return file

    @pytest.fixture
    def tree(self, folder: Path) -> Path:
        """A folder with files, one of them empty, that is not yet added."""
        tree = folder / f"{folder.name} baum"
        for name in ("a.csv", "unter ordner/b ü.csv", "unter ordner/tief/c.csv"):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(f"{name} {folder.name}", encoding="utf-8")
        (tree / "leer.csv").touch()
        return tree

    # -- adding -----------------------------------------------------------------------------

    def test_a_file_is_described(self, store: DataStore, file: Path, context: StageContext) -> None:
        """Every field of the record."""
        size = file.stat().st_size
        ref = store.add(file)
        assert ref.name == file.stem, f"the name is the file name without its ending, not {ref.name!r}"
        assert ref.path == file.relative_to(context.root).as_posix(), "the path is relative to the project"
        assert ref.digest == manifest_digest(manifest(file)), "the digest is the manifest's SHA-256"
        assert (ref.size, ref.files) == (size, 1), f"it is one file of {size} bytes"
        assert ref.scheme, "the scheme must say which store understands the version"
        assert 0 < len(ref.version) <= 36, f"a version has 1 to 36 characters, not {len(ref.version)}"
        assert ref.published is False, "nothing was pushed yet"
        assert ref.remote is None, "nothing was pushed yet"

    def test_a_folder_is_one_data_set(self, store: DataStore, tree: Path) -> None:
        """With all the files below it."""
        size = sum(each.stat().st_size for each in tree.rglob("*") if each.is_file())
        ref = store.add(tree)
        assert ref.digest == manifest_digest(manifest(tree)), "the digest is the manifest's SHA-256"
        assert (ref.size, ref.files) == (size, 4), f"it is 4 files of {size} bytes together"

    def test_a_name_can_be_given(self, store: DataStore, file: Path, unique: str) -> None:
        """And then finds it."""
        ref = store.add(file, name=f"{unique} eigener name")
        assert ref.name == f"{unique} eigener name", "the given name must be used"
        assert store.get(ref.name) == ref, "the given name must find the data set"

    def test_adding_leaves_the_bytes_alone(self, store: DataStore, tree: Path) -> None:
        """The user goes on working with the files."""
        before = manifest(tree)
        store.add(tree)
        assert manifest(tree) == before, "adding must not change the files"
        (tree / "a.csv").write_text("new")
        (tree / "neu.csv").write_text("new")

    def test_unchanged_bytes_give_the_same_version(self, store: DataStore, file: Path) -> None:
        """Adding twice is adding once."""
        first = store.add(file)
        assert store.add(file) == first, "the same bytes must give the same version"
        assert [ref.name for ref in store.refs()].count(first.name) == 1, "it must be listed once"

    def test_changed_bytes_give_another_version(self, store: DataStore, file: Path) -> None:
        """Even of the same length."""
        first = store.add(file)
        content = file.read_bytes()
        replace_content(file, content[::-1])
        second = store.add(file)
        assert second.version != first.version, "other bytes must give another version"
        assert second.digest != first.digest, "other bytes must give another digest"
        assert store.get(first.name) == second, "the current version is the new one"
        replace_content(file, content)
        assert store.add(file).version == first.version, "the old bytes must give the old version"

    def test_equal_bytes_have_equal_digests(self, store: DataStore, file: Path) -> None:
        """Under any name."""
        copy = file.with_name(f"kopie von {file.name}")
        shutil.copy(file, copy)
        assert store.add(copy).digest == store.add(file).digest, "the digest must not depend on the name"

    def test_an_empty_file_is_data_too(self, store: DataStore, file: Path) -> None:
        """Of zero bytes."""
        file.write_bytes(b"")
        ref = store.add(file)
        assert (ref.size, ref.files) == (0, 1), "an empty file is one file of 0 bytes"

    def test_what_is_not_there_is_not_found(self, store: DataStore, folder: Path) -> None:
        """With the path in the message."""
        error = refusal(NotFoundError, "data-not-found", store.add, folder / "fehlt.csv")
        assert "fehlt.csv" in error.message, f"the message must name the path: {error}"

    def test_what_is_outside_the_project_is_refused(
        self, store: DataStore, context: StageContext, tmp_path: Path
    ) -> None:
        """Directly, or through `..`."""
        outside = tmp_path / "outside.csv"
        outside.write_text("x")
        refusal(UsageError, "data-outside-project", store.add, outside)
        sly = context.root.parent / f"{context.root.name} neben.csv"
        sly.write_text("x")
        refusal(UsageError, "data-outside-project", store.add, context.root / ".." / sly.name)

    # -- looking ----------------------------------------------------------------------------

    def test_a_data_set_is_found_by_name_and_path(self, store: DataStore, file: Path) -> None:
        """Both are printed, so both are typed."""
        ref = store.add(file)
        assert store.get(ref.name) == ref, "the name must find the data set"
        assert store.get(ref.path) == ref, "the path must find the data set"
        assert ref in store.refs(), "`refs` must list it"

    def test_an_unknown_name_is_not_found_and_the_known_are_named(self, store: DataStore, file: Path) -> None:
        """So that a typing mistake is seen."""
        ref = store.add(file)
        error = refusal(NotFoundError, "data-not-found", store.get, "gibt es nicht")
        said = f"{error.message} {error.hint} {error.details}"
        assert ref.name in said, f"the error must name the data sets that exist: {said}"

    def test_the_status_tells_unchanged_modified_and_missing(self, store: DataStore, file: Path) -> None:
        """Compared with the working tree."""
        ref = store.add(file)

        def state() -> str:
            return next(each.state for each in store.status() if each.ref.name == ref.name)

        content = file.read_bytes()
        assert state() == "unchanged", "what was just added is unchanged"
        replace_content(file, content[::-1])
        assert state() == "modified", "other bytes of the same length are a change"
        replace_content(file, content)
        assert state() == "unchanged", "the old bytes again are no change"
        file.unlink()
        assert state() == "missing", "a file that is gone is missing"

    def test_a_new_file_modifies_a_folder(self, store: DataStore, tree: Path) -> None:
        """And so does one that is gone."""
        ref = store.add(tree)

        def state() -> str:
            return next(each.state for each in store.status() if each.ref.name == ref.name)

        assert state() == "unchanged", "what was just added is unchanged"
        (tree / "neu.csv").write_text("x")
        assert state() == "modified", "a new file in the folder is a change"
        (tree / "neu.csv").unlink()
        assert state() == "unchanged", "the folder as it was added is unchanged"
        (tree / "a.csv").unlink()
        assert state() == "modified", "a file that is gone from the folder is a change"

    def test_a_new_project_has_no_data(self, fresh: DataStore) -> None:
        """Empty lists, no errors; no remote."""
        assert fresh.refs() == [], "a new project has no data sets"
        assert fresh.status() == [], "a new project has no data sets"
        assert fresh.remote() is None, "a new project has no remote"

    # -- remote -----------------------------------------------------------------------------

    def test_without_a_remote_nothing_can_be_pushed(self, fresh: DataStore) -> None:
        """The error says so, also when there is nothing to push."""
        refusal(ConfigError, "no-remote", fresh.push)

    def test_the_remote_is_remembered_without_its_password(self, fresh: DataStore, tmp_path: Path) -> None:
        """What is printed must not leak."""
        fresh.set_remote(str(tmp_path / "ein speicher"))
        assert fresh.remote() == str(tmp_path / "ein speicher"), (
            "the remote must be remembered as it was named"
        )
        fresh.set_remote("https://user:geheim@store.example/data")
        assert "geheim" not in (fresh.remote() or ""), "the remote's password must never be shown"
        assert "store.example" in (fresh.remote() or ""), "the rest of the URL must stay"

    def test_a_remote_that_can_not_be_reached_is_said(
        self, offer: Offer[DataStore], new_context: Callable[[], StageContext], tmp_path: Path
    ) -> None:
        """Here: a folder inside a file."""
        context = new_context()
        store = offer.factory(context)
        (context.root / "data.csv").write_text("x")
        store.add(context.root / "data.csv")
        (tmp_path / "file").write_text("x")
        store.set_remote(str(tmp_path / "file" / "remote"))
        refusal(EnvironmentFault, "remote-unreachable", store.push)
        assert not store.get("data").published, "a push that failed must not be noted as done"

    def test_a_push_publishes(self, store: DataStore, file: Path, reopen: Callable[[], DataStore]) -> None:
        """The returned record, and what is read later."""
        ref = store.add(file)
        (pushed,) = store.push([ref.name])
        assert pushed.published is True, "what was pushed is published"
        assert pushed.remote, "what was pushed must say where"
        assert (pushed.version, pushed.digest) == (ref.version, ref.digest), (
            "a push must not change the version"
        )
        assert reopen().get(ref.name).published is True, "that it is published must be remembered"

    def test_pushing_twice_is_pushing_once(self, store: DataStore, file: Path) -> None:
        """Nothing is lacking the second time."""
        ref = store.add(file)
        assert store.push([ref.name]) == store.push([ref.name]), "a second push must return the same records"

    def test_only_the_named_data_are_pushed(self, store: DataStore, file: Path, tree: Path) -> None:
        """The other stays at home."""
        first, second = store.add(file), store.add(tree)
        assert [ref.name for ref in store.push([first.name])] == [first.name], (
            "only the named data set must be pushed"
        )
        assert not store.get(second.name).published, "a data set that was not named was pushed"
        refusal(NotFoundError, "data-not-found", store.push, ["gibt es nicht"])

    def test_a_new_version_is_not_published_by_the_old_one(self, store: DataStore, file: Path) -> None:
        """Every version needs its own push."""
        store.push([store.add(file).name])
        replace_content(file, b"other bytes " + file.read_bytes())
        assert store.add(file).published is False, "the new version was never pushed"

    # -- pulling ----------------------------------------------------------------------------

    def test_a_pull_brings_back_what_is_missing(
        self, store: DataStore, tree: Path, forget: Callable[[Path], None]
    ) -> None:
        """All files of a folder, from the remote alone."""
        ref = store.add(tree)
        store.push([ref.name])
        before = manifest(tree)
        forget(tree)
        pulled = store.pull([ref.name])
        assert [each.digest for each in pulled] == [ref.digest], (
            "the pulled version is not the one that was pushed"
        )
        assert manifest(tree) == before, "the pulled files are not those that were pushed"

    def test_a_pull_again_changes_nothing(self, store: DataStore, file: Path) -> None:
        """Everything is there."""
        ref = store.add(file)
        store.push([ref.name])
        content = file.read_bytes()
        store.pull([ref.name])
        assert file.read_bytes() == content, "a pull must not change what is right already"

    def test_a_pull_of_an_unknown_name_is_not_found(self, store: DataStore) -> None:
        """As for `get`."""
        refusal(NotFoundError, "data-not-found", store.pull, ["gibt es nicht"])

    def test_what_was_never_pushed_can_not_be_pulled(
        self, store: DataStore, file: Path, forget: Callable[[Path], None]
    ) -> None:
        """When the local bytes are gone too."""
        ref = store.add(file)
        forget(file)
        refusal(NotFoundError, "data-not-in-remote", store.pull, [ref.name])
        assert not file.exists(), "nothing must be handed out"

    def test_what_vanished_from_the_remote_can_not_be_pulled(
        self,
        store: DataStore,
        file: Path,
        forget: Callable[[Path], None],
        empty_remote: Callable[[], None],
    ) -> None:
        """Somebody cleaned up."""
        ref = store.add(file)
        store.push([ref.name])
        forget(file)
        empty_remote()
        refusal(NotFoundError, "data-not-in-remote", store.pull, [ref.name])

    @pytest.mark.parametrize("shape", ["file", "folder"])
    def test_tampered_bytes_in_the_remote_are_not_handed_out(
        self,
        store: DataStore,
        file: Path,
        tree: Path,
        shape: str,
        forget: Callable[[Path], None],
        spoil: Callable[[Path, bytes], None],
        remote_url: str,
    ) -> None:
        """Same length, other bytes in one file: only the hash tells, and all or nothing is pulled."""
        data, bad = (file, file) if shape == "file" else (tree, tree / "unter ordner" / "tief" / "c.csv")
        content = bad.read_bytes()
        ref = store.add(data)
        store.push([ref.name])
        forget(data)
        spoil(Path(remote_url), content)
        try:
            refusal(CorruptStateError, "data-corrupt", store.pull, [ref.name])
            left = [each for each in (data, *data.rglob("*")) if each.is_file()]
            assert not left, f"corrupt data was handed out: {left[0]}"
        finally:
            empty_folder(Path(remote_url))

    def test_tampered_bytes_in_the_cache_are_not_handed_out(
        self,
        store: DataStore,
        file: Path,
        cache_folders: list[Path],
        spoil: Callable[[Path, bytes], None],
    ) -> None:
        """The store may fetch good bytes from the remote, or refuse; it must not believe its cache."""
        ref = store.add(file)
        store.push([ref.name])
        content = file.read_bytes()
        file.unlink()
        for folder in cache_folders:
            spoil(folder, content)
        refused = False
        try:
            store.pull([ref.name])
        except CorruptStateError as error:
            refused = error.code == "data-corrupt"
        finally:
            for folder in cache_folders:
                empty_folder(folder)
        if refused:
            assert not file.exists(), "corrupt data was handed out"
        else:
            assert file.read_bytes() == content, "corrupt data was handed out"

    # -- several at once --------------------------------------------------------------------

    def test_two_instances_see_each_other(
        self, store: DataStore, file: Path, tree: Path, reopen: Callable[[], DataStore]
    ) -> None:
        """A notebook and a terminal work on one project."""
        other = reopen()
        first, second = store.add(file), other.add(tree)
        assert other.get(first.name) == first, "the second instance does not see the first one's data"
        assert store.get(second.name) == second, "the first instance does not see the second one's data"
        assert other.remote() == store.remote(), "both must know the remote"

    def test_adding_at_the_same_time_loses_nothing(
        self, store: DataStore, folder: Path, reopen: Callable[[], DataStore]
    ) -> None:
        """Four files through two instances, in threads."""
        files = [folder / f"{folder.name} {n}.csv" for n in range(4)]
        for file in files:
            file.write_text(f"{file} {folder.name}", encoding="utf-8")
        other = reopen()
        stores = [store, other, store, other]
        refs = at_once(*(lambda s=s, f=f: s.add(f) for s, f in zip(stores, files)))
        listed = store.refs()
        assert all(ref in listed for ref in refs), "data that was added at the same time got lost"

    def test_records_survive_json(self, store: DataStore, file: Path) -> None:
        """`--json` prints them, and other tools read that."""
        ref = store.add(file)
        assert DataRef.from_dict(json.loads(json.dumps(ref.to_dict()))) == ref, (
            "the data version does not survive JSON"
        )
