"""What is to be said about the addresses in a file before anybody goes there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelyard.records import Finding
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.documents import Level, Place, Unreadable, documents, dotted
from modelyard_kserve.rules import LEGACY
from modelyard_kserve.storage import problem
from modelyard_kserve.storage.uris import has_secret, plain, scheme_of


def addresses(text: str, where: str, settings: KserveSettings) -> list[Finding]:
    """About the addresses of models that are to be served by processes of this machine.

    Args:
        text: YAML with any number of documents.
        where: names the file.
        settings: the project's.
    """
    try:
        found = documents(text, where)
    except Unreadable:
        return []  # that is said elsewhere
    return [
        Finding(
            level=level, file=where, line=one.line(place), field=dotted(place), message=message, hint=hint
        )
        for one in found
        for place, uri in _addresses(one.value)
        for level, message, hint in _about(uri, settings)
    ]


def _addresses(value: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    spec = value.get("spec")
    predictor = spec.get("predictor") if isinstance(spec, dict) else None
    if value.get("kind") != "InferenceService" or not isinstance(predictor, dict):
        return
    for name in ("model", *LEGACY):
        model = predictor.get(name)
        uri = model.get("storageUri") if isinstance(model, dict) else None
        if isinstance(uri, str):
            yield ("spec", "predictor", name, "storageUri"), plain(uri)


def _about(uri: str, settings: KserveSettings) -> Iterator[tuple[Level, str, str]]:
    message, hint = problem(uri, settings)
    if message:
        yield "error", message, hint
    if has_secret(uri):
        logins = "~/.netrc" if scheme_of(uri) in ("http", "https") else "the environment"
        yield "warning", "holds a login, for everybody who reads the file", f"keep it in {logins}"
