"""The stage `registry` on MLflow: names, versions, aliases. Who moved them when is the core's ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from modelyard.digests import digest_of
from modelyard.errors import EnvironmentFault, NotFoundError, UsageError
from modelyard.records import LoggedModel, ModelVersion
from modelyard.stages import StageContext
from modelyard_mlflow.files import downloaded
from modelyard_mlflow.store import (
    Stores,
    artifacts_at,
    logged_model,
    mlflow_errors,
    open_stores,
    quiet,
    said_by,
    switch_telemetry_off,
    without_credentials,
)

_DIGEST, _LINEAGE = "modelyard.digest", "modelyard.lineage_id"
_SIGNATURE, _USER, _URI = "modelyard.signature", "modelyard.user", "modelyard.uri"
_OWN = (_DIGEST, _LINEAGE, _SIGNATURE, _USER, _URI)


class MlflowRegistry:
    """See `modelyard.stages.Registry`; the promises are written there."""

    def __init__(self, context: StageContext) -> None:
        switch_telemetry_off()
        self._context = context

    @cached_property
    def _stores(self) -> Stores:
        return open_stores(self._context)

    def register(
        self, name: str, model: LoggedModel, *, tags: Mapping[str, str] | None = None
    ) -> ModelVersion:
        """See `Registry.register`."""
        from modelyard.capture import user_name

        source, signature = self._source(model)
        own = {
            _DIGEST: model.digest,
            _LINEAGE: model.lineage_id or "",
            _SIGNATURE: signature,
            _USER: user_name(),
            _URI: model.uri,
        }
        with self._failures("register", f"model '{name}'"):
            made = self._create_version(name, model, source, {**(tags or {}), **own})
        return _record(made, {})

    def models(self) -> list[str]:
        """See `Registry.models`."""
        names: list[str] = []
        token = None
        with self._failures("list", "the models"):
            while True:
                page = self._stores.registry.search_registered_models("", 100, ["name ASC"], token)
                names += [model.name for model in page]
                token = page.token
                if not token:
                    return sorted(names)

    def versions(self, name: str) -> list[ModelVersion]:
        """See `Registry.versions`."""
        by_version = self._aliases(name)
        found: list[Any] = []
        token = None
        with self._failures("list", f"the versions of '{name}'"):
            while True:
                page = self._stores.registry.search_model_versions(
                    _named(name), 1000, ["version_number DESC"], token
                )
                found += [version for version in page if version.name == name]
                token = page.token
                if not token:
                    break
        return [_record(version, by_version) for version in found]

    def get(self, name: str, version: str) -> ModelVersion:
        """See `Registry.get`."""
        by_version = self._aliases(name)
        if not version.isdigit():
            raise self._no_version(name, version)
        with self._failures("find", f"version {version} of '{name}'"):
            from mlflow.exceptions import MlflowException

            try:
                found = self._stores.registry.get_model_version(name, version)
            except MlflowException as fault:
                if fault.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                raise self._no_version(name, version) from None
        return _record(found, by_version)

    def alias(self, name: str, alias: str) -> str | None:
        """See `Registry.alias`."""
        try:
            by_version = self._aliases(name)
        except NotFoundError:
            return None
        return next((version for version, aliases in by_version.items() if alias in aliases), None)

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """See `Registry.set_alias`."""
        with self._failures("move an alias of", f"model '{name}'"):
            if version is None:
                self._aliases(name)
                self._stores.registry.delete_registered_model_alias(name, alias)
            else:
                self.get(name, version)
                self._stores.registry.set_registered_model_alias(name, alias, version)

    def fetch(self, version: ModelVersion) -> Path:
        """See `Registry.fetch`."""
        with self._failures("find the files of", version.ref):
            uri = self._stores.registry.get_model_version_download_uri(version.name, version.version)
        parts = urlsplit(uri)
        if parts.scheme in ("", "file"):
            folder = Path(unquote(parts.path))
            if not (folder / "MLmodel").is_file():
                raise self._no_files(version, str(folder))
            return folder
        return self._downloaded(version, uri)

    def address(self, version: ModelVersion) -> str:
        """See `Registry.address`."""
        with self._failures("find the files of", version.ref):
            uri = self._stores.registry.get_model_version_download_uri(version.name, version.version)
        parts = urlsplit(uri)
        target = self._context.target
        if parts.scheme == "mlflow-artifacts" and target is not None:
            # The server hands files out itself; where it keeps them, pods can fetch them, too.
            if storage := target.address("mlflow").storage:
                return f"{storage.rstrip('/')}/{parts.path.strip('/')}"
        elif parts.scheme not in ("", "file", "mlflow-artifacts", "http", "https"):
            return str(uri)
        raise EnvironmentFault(
            "model-not-reachable",
            f"the files of {version.ref} lie at {without_credentials(uri)}, where no cluster fetches them",
            "modelyard ship --to TARGET brings them to one",
        )

    def _downloaded(self, version: ModelVersion, uri: str) -> Path:
        # Not the recorded digest: it is a tag that everybody on the server can write.
        key = digest_of([self._stores.uri, version.name, version.version, uri])
        folder = self._context.state / "models" / key
        with self._failures("download", version.ref):
            whole = downloaded(artifacts_at(uri, self._stores), folder, version.ref)
        if not whole:
            raise self._no_files(version, without_credentials(uri))
        return folder

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._stores.registry.create_registered_model(name, [], None)
        except MlflowException as fault:
            if fault.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _create_version(self, name: str, model: LoggedModel, source: str, tags: Mapping[str, str]) -> Any:
        from mlflow.entities.model_registry import ModelVersionTag
        from mlflow.exceptions import MlflowException

        # Empty values are the user's to give, but of ours they only mean that nothing is known.
        kept = {key: value for key, value in tags.items() if value or key not in _OWN}
        create = partial(
            self._stores.registry.create_model_version,
            name,
            source,
            model.run_id or None,
            [ModelVersionTag(key, value) for key, value in kept.items()],
            None,
            None,
            local_model_path=None,
            model_id=model.uri.removeprefix("models:/") if model.uri.startswith("models:/m-") else None,
        )
        try:
            return create()
        except MlflowException as fault:
            if fault.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        self._ensure_model(name)
        return create()

    def _source(self, model: LoggedModel) -> tuple[str, str]:
        """Where the files lie, and whether they state a signature. `models:/m-...` would be looked up
        in MLflow's process-wide tracking address, which is not ours."""
        if not model.uri.startswith("models:/m-"):
            return model.uri, ""
        with self._failures("find", f"the logged model {model.uri}", "logged-model-not-found"):
            found = logged_model(self._stores, model.uri.removeprefix("models:/"))
        return found.artifact_location, found.tags.get(_SIGNATURE, "")

    def _aliases(self, name: str) -> dict[str, list[str]]:
        with self._failures("find", f"model named '{name}'"):
            model = self._stores.registry.get_registered_model(name)
        by_version: dict[str, list[str]] = {}
        for alias, version in model.aliases.items():
            by_version.setdefault(str(version), []).append(alias)
        return by_version

    def _no_version(self, name: str, version: str) -> NotFoundError:
        return NotFoundError(
            "version-not-found", f"'{name}' has no version '{version}'", f"modelyard models show {name}"
        )

    def _no_files(self, version: ModelVersion, where: str) -> NotFoundError:
        return NotFoundError(
            "model-files-missing",
            f"the files of {version.ref} are not at {where}",
            "bring the folder back, or train and register it again",
        )

    @contextmanager
    def _failures(self, doing: str, what: str, code: str = "model-not-found") -> Iterator[None]:
        _ = self._stores  # opened first, because that imports MLflow quietly
        from mlflow.exceptions import MlflowException

        with mlflow_errors(doing, what), quiet():
            try:
                yield
            except MlflowException as fault:
                said = said_by(fault, 300)
                if fault.error_code == "RESOURCE_DOES_NOT_EXIST":
                    raise NotFoundError(code, f"there is no {what}", "modelyard models list") from None
                if fault.error_code == "INVALID_PARAMETER_VALUE":
                    raise UsageError(
                        "name-refused", f"MLflow refuses {what}: {said}", "choose another name"
                    ) from None
                raise


def _record(found: Any, by_version: Mapping[str, list[str]]) -> ModelVersion:
    tags = dict(found.tags)
    own = {key: tags.pop(key, None) for key in _OWN}
    return ModelVersion(
        name=found.name,
        version=str(found.version),
        uri=own[_URI] or found.source,
        run_id=found.run_id or None,
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, timezone.utc),
        user=own[_USER] or "",
        digest=own[_DIGEST],
        lineage_id=own[_LINEAGE],
        signature=own[_SIGNATURE] == "true",
        aliases=tuple(sorted(by_version.get(str(found.version), ()))),
        tags=tags,
    )


def _named(name: str) -> str:
    """MLflow's filter has no escape: a name with both quotes is filtered by the caller alone."""
    if "'" in name and '"' in name:
        return ""
    return f'name = "{name}"' if "'" in name else f"name = '{name}'"
