"""InferenceService files, as far as the reference server understands them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from modelyard.errors import ConfigError

#: The fields that are known at each path.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "": ("apiVersion", "kind", "metadata", "spec"),
    "metadata": ("name", "namespace", "labels", "annotations"),
    "spec": ("predictor",),
    "spec.predictor": ("model", "canaryTrafficPercent", "minReplicas", "maxReplicas", "logger"),
    "spec.predictor.logger": ("mode", "url", "metadataHeaders"),
    "spec.predictor.model": ("modelFormat", "storageUri", "protocolVersion", "env"),
}
REQUIRED = ("metadata.name", "spec.predictor.model.storageUri")


def parse_manifest(text: str, where: str) -> dict[str, Any]:
    """The text's content, checked.

    Raises:
        ConfigError: `manifest-invalid`, with the field's path and the nearest known name.
    """
    content = _parsed(text, where)
    if not isinstance(content, dict):
        raise _invalid(where, "it is no mapping")
    for path, known in FIELDS.items():
        _require_known(where, content, path, known)
    if content.get("kind") != "InferenceService":
        raise _invalid(where, f"kind is {content.get('kind')!r}, not 'InferenceService'")
    for path in REQUIRED:
        if not isinstance(_at(content, path), str):
            raise _invalid(where, f"{path} is missing")
    share = _at(content, "spec.predictor.canaryTrafficPercent")
    if share is not None and not (isinstance(share, int) and 0 <= share <= 100):
        raise _invalid(where, f"spec.predictor.canaryTrafficPercent is {share!r}, not 0 to 100")
    return content


def canary_of(manifest: Mapping[str, Any]) -> int:
    """The share of the newest revision in percent."""
    share = manifest["spec"]["predictor"].get("canaryTrafficPercent")
    return 100 if share is None else int(share)


def without_canary(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The predictor without its traffic split: what makes a new revision when it changes."""
    return {k: v for k, v in manifest["spec"]["predictor"].items() if k != "canaryTrafficPercent"}


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)  # JSON is YAML too, and needs no library
    except ValueError:
        pass
    try:
        import yaml

        return yaml.safe_load(text)
    except ImportError:
        raise _invalid(where, "it is not JSON, and pyyaml is not installed") from None
    except yaml.YAMLError as fault:
        raise _invalid(where, " ".join(str(fault).split())) from None


def _require_known(where: str, content: Mapping[str, Any], path: str, known: tuple[str, ...]) -> None:
    part = _at(content, path) if path else content
    if part is None:
        return
    if not isinstance(part, Mapping):
        raise _invalid(where, f"{path} is no mapping")
    for name in part:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            field = f"{path}.{name}" if path else str(name)
            raise _invalid(where, f"unknown field {field}" + (f"; did you mean '{near[0]}'?" if near else ""))


def _at(content: Any, path: str) -> Any:
    for name in path.split("."):
        content = content.get(name) if isinstance(content, Mapping) else None
    return content


def _invalid(where: str, what: str) -> ConfigError:
    return ConfigError("manifest-invalid", f"{where}: {what}", f"edit {where}")
