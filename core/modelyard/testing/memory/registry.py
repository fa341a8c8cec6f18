"""The reference registry: one JSON file per model, and a copy of every version's files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from modelyard import state
from modelyard.digests import manifest as manifest_of
from modelyard.digests import manifest_digest
from modelyard.errors import EnvironmentFault, NotFoundError
from modelyard.records import LoggedModel, ModelVersion, now
from modelyard.stages import StageContext
from modelyard.testing.models import CONSTANT_FILE


class MemoryRegistry:
    """Keeps models under `registry/`, their files under `registered/`, by digest."""

    def __init__(self, context: StageContext) -> None:
        self._folder = context.state / "registry"
        self._files = context.state / "registered"
        self._lock = context.state / "registry.lock"

    def register(
        self, name: str, model: LoggedModel, *, tags: Mapping[str, str] | None = None
    ) -> ModelVersion:
        """See `Registry.register`."""
        path = self._copied(model)
        with state.locked(self._lock):
            content = state.read_json(self._file(name)) or {"count": 0, "versions": {}, "aliases": {}}
            # Counted, not derived from the versions that are left: a number is never used again.
            content["count"] += 1
            version = ModelVersion(
                name=name,
                version=str(content["count"]),
                uri=model.uri,
                run_id=model.run_id,
                created=now(),
                digest=manifest_digest(manifest_of(path)),
                lineage_id=model.lineage_id,
                signature=(path / CONSTANT_FILE).exists(),
                tags=dict(tags or {}),
            )
            content["versions"][version.version] = version.to_dict()
            state.write_json(self._file(name), content)
        return version

    def models(self) -> list[str]:
        """See `Registry.models`."""
        return sorted(unquote(file.stem) for file in self._folder.glob("*.json"))

    def versions(self, name: str) -> list[ModelVersion]:
        """See `Registry.versions`."""
        numbers = sorted(self._model(name)["versions"], key=int, reverse=True)
        return [self.get(name, number) for number in numbers]

    def get(self, name: str, version: str) -> ModelVersion:
        """See `Registry.get`."""
        content = self._model(name)
        if version not in content["versions"]:
            raise NotFoundError(
                "version-not-found",
                f"'{name}' has no version '{version}'",
                f"modelyard models show {name}",
            )
        aliases = sorted(alias for alias, at in content["aliases"].items() if at == version)
        return ModelVersion.from_dict({**content["versions"][version], "aliases": aliases})

    def alias(self, name: str, alias: str) -> str | None:
        """See `Registry.alias`."""
        content = state.read_json(self._file(name))
        return None if content is None else content["aliases"].get(alias)

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """See `Registry.set_alias`."""
        with state.locked(self._lock):
            content = self._model(name)
            if version is None:
                content["aliases"].pop(alias, None)
            else:
                content["aliases"][alias] = self.get(name, version).version
            state.write_json(self._file(name), content)

    def fetch(self, version: ModelVersion) -> Path:
        """See `Registry.fetch`."""
        folder = self._files / str(version.digest)
        if not folder.is_dir():
            raise NotFoundError("model-files-missing", f"the files of {version.ref} are gone: {folder}")
        return folder

    def address(self, version: ModelVersion) -> str:
        """See `Registry.address`."""
        raise EnvironmentFault(
            "model-not-reachable",
            f"the files of {version.ref} lie in {self.fetch(version)}, on this machine alone",
            "modelyard ship --to TARGET brings them to a cluster",
        )

    def _copied(self, model: LoggedModel) -> Path:
        source = Path(unquote(urlsplit(model.uri).path))
        if not source.is_dir():
            raise NotFoundError("model-files-missing", f"there is no model folder at {model.uri}")
        target = self._files / manifest_digest(manifest_of(source))
        with state.locked(self._lock), state.os_errors(target):
            if not target.exists():
                shutil.copytree(source, target.with_suffix(".part"), dirs_exist_ok=True)
                target.with_suffix(".part").replace(target)
        return target

    def _model(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] | None = state.read_json(self._file(name))
        if content is None:
            raise NotFoundError("model-not-found", f"no model named '{name}'", "modelyard models list")
        return content

    def _file(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.json"
