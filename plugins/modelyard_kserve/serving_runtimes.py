"""KServe's ServingRuntimes: which one runs a model, and the container that it then is.

A runtime is run here if its container has a command which is a program of this machine: images are not.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from modelyard_kserve.commands import command_of, python_program
from modelyard_kserve.documents import Document, Said, Unreadable, documents
from modelyard_kserve.rules import MAIN_CONTAINER
from modelyard_kserve.storage.uris import asked_for

#: `ServingRuntime` or `ClusterServingRuntime`, as their documents hold them.
Runtime = Mapping[str, Any]
_CLUSTERS = "ClusterServingRuntime"
KINDS = tuple(("serving.kserve.io/v1alpha1", kind) for kind in ("ServingRuntime", _CLUSTERS))
#: What `predictor.model` says besides the container that it is.
_OF_MODELS = {"modelFormat", "runtime", "runtimeVersion", "protocolVersion", "storageUri", "storage"}
#: How models may be asked, by KServe's names; runtimes that say the first are taken first.
PROTOCOLS = ("v1", "v2", "grpc-v1", "grpc-v2")
#: What KServe takes for a model that does not say how it is asked.
_PROTOCOL = "v1"
_PLACEHOLDER = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_KEPT_BY_NAME = re.compile(r'\.(Labels|Annotations)\.(\w+)|index \.(Labels|Annotations) \\?"([^"\\]+)\\?"')


class Unfit(ValueError):
    """A runtime that is named does not go with the model."""


def among(found: Iterable[Document]) -> list[Runtime]:
    """The runtimes among documents."""
    return [one.value for one in found if one.kind in KINDS]


def in_text(text: str) -> list[Runtime]:
    """The runtimes in a text that was applied."""
    if "ServingRuntime" not in text:
        return []
    try:
        return among(documents(text, ""))
    except Unreadable:
        return []


def named(runtime: Runtime) -> tuple[str, str, str]:
    """What it is known by: kind, namespace (clusters' have none) and name."""
    metadata = runtime.get("metadata") or {}
    inside = "" if runtime["kind"] == _CLUSTERS else metadata.get("namespace") or "default"
    return str(runtime["kind"]), inside, str(metadata.get("name"))


def runs_here(runtime: Runtime) -> bool:
    """Whether its container has a command which is a program of this machine."""
    spec = runtime.get("spec") or {}
    command = command_of(_main(spec) or {})
    if not command or spec.get("multiModel") or spec.get("workerSpec") is not None:
        return False
    # One of the project's, `./serve`, is looked for when it is started there.
    in_project = "/" in command[0] and not command[0].startswith("/")
    return in_project or python_program(command) is not None or shutil.which(command[0]) is not None


def chosen(model: Mapping[str, Any], namespace: str, known: Sequence[Runtime]) -> Runtime | None:
    """The runtime that KServe would take for a model.

    Args:
        model: `spec.predictor.model`.
        namespace: the InferenceService's.
        known: the runtimes; of two that are called the same the first counts.

    Returns:
        The one that the model names, else the first of those that take its format by themselves and run
        here. None: it is none of these.

    Raises:
        Unfit: the model names one that does not go with it.

    Example:
        >>> spec = {"supportedModelFormats": [{"name": "prophet", "version": "1"}], "containers": []}
        >>> ours = {"kind": "ServingRuntime", "metadata": {"name": "ours"}, "spec": spec}
        >>> chosen({"runtime": "ours", "modelFormat": {"name": "prophet"}}, "default", [ours]) is ours
        True
        >>> chosen({"runtime": "ours", "modelFormat": {"name": "sklearn"}}, "default", [ours])
        Traceback (most recent call last):
        modelyard_kserve.serving_runtimes.Unfit: specified runtime ours does not support specified framework/version
    """  # noqa: E501
    seen = [one for one in known if named(one)[1] in ("", namespace)]
    seen.sort(key=lambda one: one["kind"] == _CLUSTERS)  # a namespace's own come first
    wanted = model.get("runtime")
    if wanted:
        found = next((one for one in seen if named(one)[2] == wanted), None)
        if found is not None:
            _require_fit(found, model)
        return found
    fitting = [one for one in seen if runs_here(one) and _fits(one, model)]
    return min(fitting, key=lambda one: _order(one, model["modelFormat"]["name"]), default=None)


def container_of_model(
    runtime: Runtime, model: Mapping[str, Any], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """The container that runs the model: the runtime's, with what the model says of it, as KServe merges
    them, placeholders filled in.

    Args:
        runtime: the one that was `chosen`.
        model: `spec.predictor.model`.
        metadata: the InferenceService's.

    Raises:
        Unfit: a placeholder can't be filled in.
    """
    made = dict(_main(runtime["spec"]) or {})
    for key, value in model.items():
        if key in _OF_MODELS or value is None:
            continue
        if key == "args":
            made["args"] = [*(made.get("args") or []), *value]
        elif key == "env":
            made["env"] = _by_name(made.get("env") or [], value)
        elif key == "resources":
            made["resources"] = _merged(made.get("resources") or {}, value)
        else:
            made[key] = value
    uri = asked_for(model)
    if uri:
        made["env"] = _by_name(made.get("env") or [], [{"name": "STORAGE_URI", "value": uri}])
    text = _PLACEHOLDER.sub(lambda found: _filled(found[1], metadata), json.dumps(made))
    return {**json.loads(text), "name": MAIN_CONTAINER}


def findings(runtime: Runtime) -> Iterator[Said]:
    """What a runtime in which nothing is wrong does not do here."""
    if not runs_here(runtime):
        message = "run nothing here: none is a command of this machine"
        hint = 'say it in kserve-container, as in command: ["python", "-m", "my_server"]'
        yield Said(("spec", "containers"), message, "warning", hint)


def _main(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((one for one in spec.get("containers") or [] if one.get("name") == MAIN_CONTAINER), None)


def _require_fit(runtime: Runtime, model: Mapping[str, Any]) -> None:
    """In KServe's words."""
    name = named(runtime)[2]
    if runtime["spec"].get("disabled"):
        raise Unfit(f"specified runtime {name} is disabled")
    if not _speaks(runtime, model):
        raise Unfit(f"specified runtime {name} does not support specified protocol version")
    if not _takes(runtime, model, by_itself=False):
        raise Unfit(f"specified runtime {name} does not support specified framework/version")


def _fits(runtime: Runtime, model: Mapping[str, Any]) -> bool:
    disabled = bool(runtime["spec"].get("disabled"))
    return not disabled and _speaks(runtime, model) and _takes(runtime, model, by_itself=True)


def _speaks(runtime: Runtime, model: Mapping[str, Any]) -> bool:
    protocols = runtime["spec"].get("protocolVersions") or []
    return not protocols or (model.get("protocolVersion") or _PROTOCOL) in protocols


def _takes(runtime: Runtime, model: Mapping[str, Any], *, by_itself: bool) -> bool:
    format_ = model["modelFormat"]
    version = format_.get("version")
    return any(
        one["name"] == format_["name"] and (version is None or one.get("version") == version)
        for one in runtime["spec"].get("supportedModelFormats") or []
        if one.get("autoSelect") or not by_itself
    )


def _order(runtime: Runtime, format_: str) -> tuple[Any, ...]:
    formats = runtime["spec"].get("supportedModelFormats") or []
    priority = next((one.get("priority") for one in formats if one["name"] == format_), None) or 0
    protocols = runtime["spec"].get("protocolVersions") or []
    spoken = min((PROTOCOLS.index(p) for p in protocols if p in PROTOCOLS), default=len(PROTOCOLS))
    return runtime["kind"] == _CLUSTERS, -priority, spoken, named(runtime)[2]


def _by_name(first: Sequence[Any], then: Sequence[Any]) -> list[Any]:
    return list({one["name"]: one for one in (*first, *then)}.values())


def _merged(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    nested = {
        key: _merged(first[key], value)
        for key, value in then.items()
        if isinstance(value, Mapping) and isinstance(first.get(key), Mapping)
    }
    return {**first, **then, **nested}


def _filled(asked: str, metadata: Mapping[str, Any]) -> str:
    """What stands for a placeholder, inside a JSON string."""
    value = None
    if asked == ".Name":
        value = metadata["name"]
    elif asked == ".Namespace":
        value = metadata.get("namespace") or "default"
    elif found := _KEPT_BY_NAME.fullmatch(asked):
        where, key = found[1] or found[3], found[2] or found[4]
        value = (metadata.get(where.lower()) or {}).get(key)
        if value is None:
            raise Unfit(f"its runtime asks for metadata.{where.lower()}.{key}, which the file does not say")
    if value is None:
        raise Unfit(f"its runtime asks for {{{{{asked}}}}}, which is nothing that is filled in")
    return json.dumps(str(value))[1:-1]
