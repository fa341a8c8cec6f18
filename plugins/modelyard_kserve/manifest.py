"""An InferenceService file: read, checked against the SDK's classes and KServe's rules, understood."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from modelyard.digests import digest_of
from modelyard.errors import ConfigError
from modelyard.state import fault_of
from modelyard_kserve.schema import faults

#: How it is deployed: by processes of this machine, or on a cluster in one of KServe's modes.
Mode = Literal["local", "Knative", "Standard"]
#: Model formats that the local model server loads.
FORMATS = ("mlflow", "sklearn")
#: Fields of the predictor that a local process honours.
_HONOURED = {"model", "logger", "canaryTrafficPercent", "minReplicas", "maxReplicas"}
#: Fields that change answers: to ignore them would be a lie.
_REFUSED = {"batcher", "workerSpec"}
#: What decides about replicas in Knative mode, and has no counterpart in Standard mode.
_KNATIVE_METRICS = {"concurrency", "rps"}


@dataclass(frozen=True)
class Logger:
    """`spec.predictor.logger`."""

    mode: str
    url: str | None
    metadata_headers: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """What an InferenceService file asks for.

    Attributes:
        text: the file as it was.
        document: its values.
        mode: how it is deployed.
        canary: percent for the newest revision, or None.
        env: environment of the model server.
        spec_digest: identifies everything that makes a new revision when it changes.
        notes: what the file says that this target does not do.
    """

    text: str
    document: Mapping[str, Any]
    mode: Mode
    name: str
    namespace: str
    storage_uri: str
    model_format: str
    canary: int | None
    logger: Logger | None
    env: Mapping[str, str]
    spec_digest: str
    notes: tuple[str, ...] = field(default=())


#: Says how a document will be deployed.
ModeOf = Callable[[Mapping[str, Any]], Mode]


def _locally(_: Mapping[str, Any]) -> Mode:
    return "local"


def read(file: Path, *, namespace: str = "", mode_of: ModeOf = _locally) -> Manifest:
    """Read an InferenceService file; see `parse`.

    Raises:
        ConfigError: `manifest-invalid`, with file, line and field.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as fault:
        raise _invalid(str(file), f"it is not UTF-8 text: {fault}") from None
    except OSError as fault:
        raise fault_of(fault, file) from fault
    return parse(text, str(file), namespace=namespace, mode_of=mode_of)


def parse(text: str, where: str, *, namespace: str = "", mode_of: ModeOf = _locally) -> Manifest:
    """The manifest in a text.

    Args:
        text: YAML with one InferenceService.
        where: names it in messages.
        namespace: the only one that it may name; empty: any.
        mode_of: says how it will be deployed; what is refused and noted depends on that.

    Raises:
        ConfigError: `manifest-invalid`.
    """
    import yaml

    try:
        nodes = list(yaml.compose_all(text, yaml.SafeLoader))
        found = [(value, node) for value, node in zip(yaml.safe_load_all(text), nodes) if value is not None]
    except yaml.YAMLError as fault:
        raise _invalid(where, _without_the_text(fault)) from None
    if len(found) != 1:
        raise _invalid(where, f"it holds {len(found)} documents, not one InferenceService")
    value, node = found[0]
    if not isinstance(value, dict):
        raise _invalid(where, "it is not a mapping, so no InferenceService")
    return _Reader(value, node, where, namespace).manifest(text, mode_of)


class _Reader:
    def __init__(self, value: dict[str, Any], node: Any, where: str, namespace: str) -> None:
        self._value, self._node, self._where = value, node, where
        self._only, self._mode = namespace, _locally(value)

    def manifest(self, text: str, mode_of: ModeOf) -> Manifest:
        self._require_kind()
        self._mode = mode_of(self._value)
        for fault in faults(self._value, "V1beta1InferenceService"):
            raise self._fault(fault.path, _without_secrets(fault.path, fault.message))
        predictor = self._predictor()
        model = predictor["model"]
        self._require_rules(predictor, model)
        logger = predictor.get("logger")
        counted = {k: v for k, v in predictor.items() if k not in ("canaryTrafficPercent",)}
        return Manifest(
            text=text,
            document=self._value,
            mode=self._mode,
            name=self._value["metadata"]["name"],
            namespace=self._namespace(),
            storage_uri=model["storageUri"],
            model_format=model["modelFormat"]["name"],
            canary=predictor.get("canaryTrafficPercent"),
            logger=None if logger is None else self._logger(logger),
            env=self._env(model),
            spec_digest=digest_of(counted),
            notes=self._notes(predictor, model),
        )

    def _require_kind(self) -> None:
        for key, wanted in (("apiVersion", "serving.kserve.io/v1beta1"), ("kind", "InferenceService")):
            if self._value.get(key) != wanted:
                raise self._fault((key,), f"{self._value.get(key)!r} is not '{wanted}'")
        metadata = self._value.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise self._fault(("metadata",), f"{metadata!r:.60} is not a mapping")
        name = metadata.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name):
            raise self._fault(
                ("metadata", "name"), f"{name!r} is not a name of lower-case letters, digits and '-'"
            )

    def _namespace(self) -> str:
        said = self._value["metadata"].get("namespace")
        if said and self._only and said != self._only:
            raise self._fault(
                ("metadata", "namespace"),
                f"'{said}' is not the target's namespace, '{self._only}'; leave it out here",
            )
        return said or self._only or "default"

    def _predictor(self) -> dict[str, Any]:
        spec = self._value.get("spec") or {}
        for part in ("transformer", "explainer"):
            if spec.get(part) and self._mode == "local":
                raise self._fault(("spec", part), "is not run by local processes yet; leave it out here")
        if spec.get("canary"):
            raise self._fault(
                ("spec", "canary"),
                "gets no traffic from KServe 0.20, whatever trafficPercent says; leave it out"
                if self._mode == "Standard"
                else "is for KServe's Standard mode; use spec.predictor.canaryTrafficPercent",
            )
        predictor = spec.get("predictor")
        if not predictor:
            raise self._fault(("spec", "predictor"), "is missing")
        if not predictor.get("model"):
            others = [
                key for key in predictor if key in ("sklearn", "xgboost", "lightgbm", "pytorch", "onnx")
            ]
            instead = f"; write it instead of '{others[0]}'" if others else ""
            raise self._fault(("spec", "predictor", "model"), f"is missing{instead}")
        return dict(predictor)

    def _require_rules(self, predictor: Mapping[str, Any], model: Mapping[str, Any]) -> None:
        at = ("spec", "predictor")
        for refused in sorted(_REFUSED & predictor.keys()) if self._mode == "local" else ():
            raise self._fault((*at, refused), "would change answers and is not done by local processes")
        if not model.get("storageUri"):
            raise self._fault((*at, "model", "storageUri"), "is missing: where the model lies")
        format_name = (model.get("modelFormat") or {}).get("name")
        if format_name not in FORMATS and self._mode == "local":
            raise self._fault(
                (*at, "model", "modelFormat", "name"),
                f"{format_name!r} is not served here; known: {', '.join(FORMATS)}",
            )
        if not format_name:
            raise self._fault((*at, "model", "modelFormat", "name"), "is missing: what kind of model it is")
        canary = predictor.get("canaryTrafficPercent")
        if canary is not None and not 0 <= canary <= 100:
            raise self._fault((*at, "canaryTrafficPercent"), f"{canary} is not a percentage from 0 to 100")
        if canary not in (None, 100) and self._mode == "Standard":
            raise self._fault(
                (*at, "canaryTrafficPercent"),
                "has no effect in KServe's Standard mode: every new revision gets all traffic; leave it out, "
                "or deploy it in Knative mode",
            )
        least, most = predictor.get("minReplicas"), predictor.get("maxReplicas")
        if least is not None and most and least > most:
            raise self._fault((*at, "minReplicas"), f"{least} is more than maxReplicas, {most}")

    def _logger(self, logger: Mapping[str, Any]) -> Logger:
        mode = logger.get("mode") or "all"
        if mode not in ("all", "request", "response"):
            raise self._fault(
                ("spec", "predictor", "logger", "mode"), f"{mode!r} is not all, request or response"
            )
        return Logger(mode, logger.get("url"), tuple(logger.get("metadataHeaders") or ()))

    def _env(self, model: Mapping[str, Any]) -> dict[str, str]:
        for number, item in enumerate(model.get("env") or []):
            name = item.get("name")
            if not name or "=" in name:
                at = ("spec", "predictor", "model", "env", number, "name")
                shown = f"'{name.partition('=')[0]}=...'" if name else name  # the rest may be a secret
                raise self._fault(at, f"{shown} is not a name of an environment variable")
        return {item["name"]: item.get("value") or "" for item in model.get("env") or [] if _is_plain(item)}

    def _notes(self, predictor: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[str, ...]:
        if self._mode != "local":
            return notes_on_cluster(predictor, self._mode)
        ignored = [f"spec.predictor.{key}" for key in predictor if key not in _HONOURED]
        known = {"modelFormat", "storageUri", "env", "protocolVersion", "name", "runtime"}
        ignored += [f"spec.predictor.model.{key}" for key in model if key not in known]
        ignored += [
            f"spec.predictor.model.env, {item['name']} (valueFrom)"
            for item in model.get("env") or []
            if not _is_plain(item)
        ]
        if (predictor.get("minReplicas") or 1) != 1 or (predictor.get("maxReplicas") or 1) != 1:
            ignored.append("replicas other than one")
        return tuple(f"without effect on local processes: {what}" for what in ignored)

    def _fault(self, path: tuple[str | int, ...], message: str) -> ConfigError:
        line = _line(self._node, path)
        return _invalid(f"{self._where}, line {line}", f"{_dotted(path)}: {message}")


def notes_on_cluster(predictor: Mapping[str, Any], mode: Mode) -> tuple[str, ...]:
    """What KServe takes and does not do, and does not say either.

    Example:
        >>> notes_on_cluster({"minReplicas": 0}, "Standard")
        ("without effect in KServe's Standard mode: minReplicas 0 (one replica stays)",)
    """
    ignored = []
    if mode == "Standard":
        if predictor.get("minReplicas") == 0:
            ignored.append("minReplicas 0 (one replica stays)")
        if predictor.get("scaleMetric") in _KNATIVE_METRICS:
            ignored.append(f"scaleMetric {predictor['scaleMetric']} (cpu and memory are)")
    return tuple(f"without effect in KServe's {mode} mode: {what}" for what in ignored)


def _without_the_text(fault: Exception) -> str:
    """What is wrong with the YAML and where; its own message quotes lines, which may hold secrets."""
    mark = getattr(fault, "problem_mark", None)
    if mark is None:
        return " ".join(str(fault).split())
    said = (getattr(fault, "context", None), getattr(fault, "problem", None))
    return f"line {mark.line + 1}, column {mark.column + 1}: {', '.join(filter(None, said))}"


def _without_secrets(path: tuple[str | int, ...], message: str) -> str:
    """The message about a value in `env`, without the value."""
    _, is_not, kind = message.rpartition(" is not ")
    return f"the value is not {kind}" if "env" in path and is_not else message


def _is_plain(variable: Mapping[str, Any]) -> bool:
    """Whether its value stands in the file; secrets and config maps are the cluster's."""
    return not variable.get("valueFrom")


def _line(node: Any, path: tuple[str | int, ...]) -> int:
    """The line of the deepest part of the path that is there."""
    line = int(node.start_mark.line) + 1
    for part in path:
        if isinstance(part, int) and isinstance(node.value, list) and part < len(node.value):
            node = node.value[part]
        elif isinstance(part, str) and isinstance(node.value, list):
            pairs = [pair for pair in node.value if isinstance(pair, tuple) and pair[0].value == part]
            if not pairs:
                return line
            line, node = int(pairs[0][0].start_mark.line) + 1, pairs[0][1]
            continue
        else:
            return line
        line = int(node.start_mark.line) + 1
    return line


def _dotted(path: tuple[str | int, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _invalid(where: str, message: str) -> ConfigError:
    return ConfigError("manifest-invalid", f"{where}: {message}", "edit the file, then apply it again")
