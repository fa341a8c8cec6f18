"""What every registry must do: the conformance suite of the stage `registry`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from modelyard.digests import canonical_json, manifest, manifest_digest
from modelyard.errors import EnvironmentFault, NotFoundError
from modelyard.records import LoggedModel, ModelVersion, now
from modelyard.stages import Registry
from modelyard.testing.base import StageSuite, at_once, refusal
from modelyard.testing.models import ConstantModel

LINEAGE = canonical_json({"id": "b" * 64, "run": {"user": "Jörg"}})


class RegistrySuite(StageSuite):
    """Subclass it and give the fixture `offer`, and `log_model` if your registry takes models only
    from its own tracker."""

    stage = "registry"
    protocol = Registry
    reads = "models"

    @pytest.fixture(scope="class")
    @classmethod
    def log_model(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], LoggedModel]:
        """Stores a model that predicts the given value, with a signature and the `lineage.json` of this
        module, and returns what a tracker would."""

        def log_model(value: float) -> LoggedModel:
            folder = tmp_path_factory.mktemp("ein modell")
            ConstantModel(value).save(folder)
            (folder / "lineage.json").write_bytes(LINEAGE)
            return LoggedModel(
                uri=folder.as_uri(),
                run_id="run-1",
                digest=manifest_digest(manifest(folder)),
                lineage_id=json.loads(LINEAGE)["id"],
            )

        return log_model

    @pytest.fixture(scope="class")
    @classmethod
    def logged(cls, log_model: Callable[[float], LoggedModel]) -> LoggedModel:
        """A logged model, shared by the tests because logging is slow for real tools."""
        return log_model(0.25)

    @pytest.fixture
    def delete_version(self) -> Callable[[ModelVersion], None] | None:
        """Deletes a version by the tool's own means; None: the tool can't."""
        return None

    @pytest.fixture
    def lose_files(self) -> Callable[[ModelVersion], None] | None:
        """Removes the files of a version behind the registry's back; None: it can't be done."""
        return None

    @pytest.fixture
    def registry(self, provider: Registry) -> Registry:
        """The registry under test."""
        return provider

    # -- registering ------------------------------------------------------------------------

    def test_a_version_carries_what_is_known_of_the_model(
        self, registry: Registry, unique: str, logged: LoggedModel
    ) -> None:
        """Every field of the record."""
        version = registry.register(unique, logged, tags={"team": "flüge & wetter"})
        assert version.ref == f"{unique}/1", f"the first version is {unique}/1, not {version.ref}"
        assert version.uri == logged.uri, "the version must name the source it was registered from"
        assert version.run_id == logged.run_id, "the version must name the run behind it"
        assert version.digest == logged.digest, "the version must carry the digest of its files"
        assert version.lineage_id == logged.lineage_id, "the version must carry its lineage id"
        assert version.signature, "the model states its inputs, so `signature` is True"
        assert version.tags.get("team") == "flüge & wetter", "the tag was lost"
        assert version.aliases == (), "a new version has no alias"
        assert version.created.tzinfo is not None, "the time must be aware"
        assert abs(now() - version.created) < timedelta(minutes=1), f"now, not {version.created}"

    def test_what_register_returns_is_what_is_stored(
        self, registry: Registry, unique: str, logged: LoggedModel, reopen: Callable[[], Registry]
    ) -> None:
        """For another instance too."""
        version = registry.register(unique, logged)
        assert reopen().get(unique, "1") == version, "`get` must give what `register` returned"
        assert reopen().versions(unique) == [version], "`versions` must give what `register` returned"

    def test_versions_count_from_one(self, registry: Registry, unique: str, logged: LoggedModel) -> None:
        """Each model for itself."""
        numbers = [registry.register(unique, logged).version for _ in range(3)]
        assert numbers == ["1", "2", "3"], f"versions must count 1, 2, 3, not {numbers}"
        assert registry.register(f"{unique} b", logged).version == "1", "each model counts for itself"

    def test_the_newest_version_comes_first(
        self, registry: Registry, unique: str, logged: LoggedModel
    ) -> None:
        """By number: 11 is newer than 9."""
        for _ in range(11):
            registry.register(unique, logged)
        numbers = [version.version for version in registry.versions(unique)]
        assert numbers == [str(n) for n in range(11, 0, -1)], f"newest first by number, not {numbers}"

    def test_a_deleted_number_is_never_used_again(
        self,
        registry: Registry,
        unique: str,
        logged: LoggedModel,
        delete_version: Callable[[ModelVersion], None] | None,
    ) -> None:
        """An old name must never mean a new model."""
        if delete_version is None:
            pytest.skip("this registry can't delete versions")
        registry.register(unique, logged)
        delete_version(registry.register(unique, logged))
        again = registry.register(unique, logged).version
        assert again == "3", f"version 2 was deleted; the next one is 3, not {again}"

    def test_models_are_listed_by_name(self, registry: Registry, unique: str, logged: LoggedModel) -> None:
        """Sorted, each once, whatever characters they hold."""
        names = [f"{unique} {end}" for end in ("b", "ä", "a", "日本")]
        for name in [*names, names[0]]:
            registry.register(name, logged)
        listed = [name for name in registry.models() if name.startswith(unique)]
        assert listed == sorted(names), "the names must be sorted, each once"
        assert registry.models() == sorted(registry.models()), "the names must be sorted"

    def test_a_new_project_has_no_models(self, fresh: Registry) -> None:
        """An empty list, no error."""
        assert fresh.models() == [], "a new project has no models"

    def test_an_unknown_model_is_not_found(self, registry: Registry) -> None:
        """By every method that takes its name."""
        refusal(NotFoundError, "model-not-found", registry.versions, "gibt es nicht")
        refusal(NotFoundError, "model-not-found", registry.get, "gibt es nicht", "1")
        refusal(NotFoundError, "model-not-found", registry.set_alias, "gibt es nicht", "production", "1")

    @pytest.mark.parametrize("version", ["2", "0", "latest", "eins"])
    def test_an_unknown_version_is_not_found(
        self, registry: Registry, unique: str, logged: LoggedModel, version: str
    ) -> None:
        """A number that is not there, or a word."""
        registry.register(unique, logged)
        refusal(NotFoundError, "version-not-found", registry.get, unique, version)
        refusal(NotFoundError, "version-not-found", registry.set_alias, unique, "production", version)
        assert registry.alias(unique, "production") is None, "a refused alias must not be set"

    # -- aliases ----------------------------------------------------------------------------

    def test_an_alias_that_nobody_set_is_none(
        self, registry: Registry, unique: str, logged: LoggedModel
    ) -> None:
        """Of a known model and of an unknown one."""
        registry.register(unique, logged)
        assert registry.alias(unique, "production") is None, "an alias that nobody set is None"
        assert registry.alias("gibt es nicht", "production") is None, "an alias of an unknown model is None"

    def test_an_alias_moves(
        self, registry: Registry, unique: str, logged: LoggedModel, reopen: Callable[[], Registry]
    ) -> None:
        """The old version loses it at once, in every view."""
        registry.register(unique, logged)
        registry.register(unique, logged)
        other = reopen()
        for version in ("1", "2", "1"):
            registry.set_alias(unique, "production", version)
            assert registry.alias(unique, "production") == version, f"the alias must point to {version}"
            assert other.alias(unique, "production") == version, "another instance sees the old alias"
            holders = [v.version for v in other.versions(unique) if "production" in v.aliases]
            assert holders == [version], f"only {version} holds the alias, not {holders}"
            assert other.get(unique, version).aliases == ("production",), "the version must list its alias"

    def test_a_version_may_hold_several_aliases(
        self, registry: Registry, unique: str, logged: LoggedModel
    ) -> None:
        """And one can be removed while the other stays."""
        registry.register(unique, logged)
        registry.set_alias(unique, "production", "1")
        registry.set_alias(unique, "staging-2_b", "1")
        assert sorted(registry.get(unique, "1").aliases) == ["production", "staging-2_b"], (
            "both aliases must be listed with the version"
        )
        registry.set_alias(unique, "production", None)
        assert registry.alias(unique, "production") is None, "a removed alias points nowhere"
        assert registry.get(unique, "1").aliases == ("staging-2_b",), (
            "removing one alias must leave the other"
        )

    def test_setting_or_removing_twice_changes_nothing(
        self, registry: Registry, unique: str, logged: LoggedModel
    ) -> None:
        """A repeated command is no error."""
        registry.register(unique, logged)
        for version in ("1", "1", None, None):
            registry.set_alias(unique, "production", version)
            assert registry.alias(unique, "production") == version, (
                "the same again must leave the alias as it is"
            )

    def test_an_alias_belongs_to_its_model(
        self, registry: Registry, unique: str, logged: LoggedModel
    ) -> None:
        """The same word elsewhere is another alias."""
        for name in (unique, f"{unique} b"):
            registry.register(name, logged)
            registry.register(name, logged)
        registry.set_alias(unique, "production", "1")
        registry.set_alias(f"{unique} b", "production", "2")
        assert registry.alias(unique, "production") == "1", "another model's alias moved this one"

    # -- files ------------------------------------------------------------------------------

    def test_the_files_are_those_that_were_logged(
        self, registry: Registry, unique: str, logged: LoggedModel
    ) -> None:
        """Byte by byte, `lineage.json` among them; and again the second time."""
        version = registry.register(unique, logged)
        for _ in range(2):
            folder = registry.fetch(version)
            assert folder.is_dir(), f"fetch must give a folder, not {folder}"
            got = manifest_digest(manifest(folder))
            assert got == version.digest, "the fetched files do not have the digest of the version"
            assert (folder / "lineage.json").read_bytes() == LINEAGE, "lineage.json was lost or changed"

    def test_each_version_keeps_its_own_files(
        self, registry: Registry, unique: str, log_model: Callable[[float], LoggedModel]
    ) -> None:
        """A newer version must not replace them."""
        models = [log_model(value) for value in (0.1, 0.9)]
        versions = [registry.register(unique, model) for model in models]
        digests = [manifest_digest(manifest(registry.fetch(version))) for version in versions]
        assert digests == [model.digest for model in models], "a version got another one's files"
        assert digests[0] != digests[1], "two different models have the same digest"

    def test_lost_files_are_said(
        self,
        registry: Registry,
        unique: str,
        log_model: Callable[[float], LoggedModel],
        lose_files: Callable[[ModelVersion], None] | None,
    ) -> None:
        """The version is still there, its files are not."""
        if lose_files is None:
            pytest.skip("the files of this registry can't be removed behind its back")
        version = registry.register(unique, log_model(0.77))
        lose_files(version)
        refusal(NotFoundError, "model-files-missing", registry.fetch, version)

    def test_an_address_is_for_other_machines(
        self, registry: Registry, unique: str, logged: LoggedModel
    ) -> None:
        """A path of this machine would fail in a pod, minutes later."""
        version = registry.register(unique, logged)
        try:
            address = registry.address(version)
        except EnvironmentFault:
            refusal(EnvironmentFault, "model-not-reachable", registry.address, version)
            return
        scheme = address.partition("://")[0]
        assert scheme not in (address, "file"), f"{address} is no URI that other machines can fetch"

    # -- several at once --------------------------------------------------------------------

    def test_two_instances_see_each_other(
        self, registry: Registry, unique: str, logged: LoggedModel, reopen: Callable[[], Registry]
    ) -> None:
        """And count on from one another."""
        other = reopen()
        numbers = [each.register(unique, logged).version for each in (registry, other, registry)]
        assert numbers == ["1", "2", "3"], f"two instances must count together, not {numbers}"
        assert unique in other.models(), "another instance must list the model"

    def test_registering_at_the_same_time_gives_different_numbers(
        self, registry: Registry, unique: str, logged: LoggedModel, reopen: Callable[[], Registry]
    ) -> None:
        """Four at once through two instances."""
        registry.register(unique, logged)
        other = reopen()
        calls = [lambda r=r: r.register(unique, logged).version for r in (registry, other) * 2]
        numbers = sorted(at_once(*calls))
        assert numbers == ["2", "3", "4", "5"], f"four registrations must give 2 to 5, not {numbers}"

    def test_records_survive_json(self, registry: Registry, unique: str, logged: LoggedModel) -> None:
        """`--json` prints them, and other tools read that."""
        version = registry.register(unique, logged, tags={"a": "ü"})
        assert ModelVersion.from_dict(json.loads(json.dumps(version.to_dict()))) == version, (
            "the version does not survive JSON"
        )

    def test_the_lineage_id_is_that_of_the_file(
        self, registry: Registry, unique: str, logged: LoggedModel
    ) -> None:
        """So that the registry alone leads to the run."""
        version = registry.register(unique, logged)
        content = (Path(registry.fetch(version)) / "lineage.json").read_bytes()
        known = (json.loads(content)["id"], hashlib.sha256(content).hexdigest())
        assert version.lineage_id in known, f"lineage_id is {version.lineage_id}, not one of {known}"
