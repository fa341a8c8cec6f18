"""KServe's other objects: what its webhooks refuse in runtimes, trained models and graphs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from modelyard_kserve.documents import NAME, Said, said_of_name
from modelyard_kserve.rules import env_names, storage_uri

_GROUP = "serving.kserve.io"
#: Runtimes are named as anything in Kubernetes is.
_RUNTIME_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_ROUTERS = ("Sequence", "Splitter", "Ensemble", "Switch")
_TARGETS = ("nodeName", "serviceName", "serviceUrl")


def serving_runtime(value: Mapping[str, Any]) -> Iterator[Said]:
    """`ServingRuntime` and `ClusterServingRuntime`."""
    spec = value.get("spec") or {}
    if not spec.get("containers"):
        yield Said(("spec", "containers"), "is missing: what runs")
    priorities: dict[str, int] = {}
    for number, format_ in enumerate(spec.get("supportedModelFormats") or []):
        at = ("spec", "supportedModelFormats", number)
        name, priority = format_.get("name"), format_.get("priority")
        if not name:
            yield Said((*at, "name"), "is missing")
        if priority is None:
            continue
        if priority < 1:
            yield Said((*at, "priority"), f"{priority} is less than 1")
        if format_.get("autoSelect") and priorities.setdefault(name, priority) != priority:
            yield Said((*at, "priority"), f"{name!r} has another priority above, {priorities[name]}")
    for number, container in enumerate(spec.get("containers") or []):
        yield from env_names(("spec", "containers", number), container.get("env"))


def trained_model(value: Mapping[str, Any]) -> Iterator[Said]:
    """`TrainedModel`."""
    spec = value.get("spec") or {}
    model = spec.get("model") or {}
    if not spec.get("inferenceService"):
        yield Said(("spec", "inferenceService"), "is missing: which one loads the model")
    for name in ("framework", "storageUri", "memory"):
        if not model.get(name):
            yield Said(("spec", "model", name), "is missing")
    if model.get("storageUri"):
        yield from storage_uri(("spec", "model", "storageUri"), model["storageUri"])


def inference_graph(value: Mapping[str, Any]) -> Iterator[Said]:
    """`InferenceGraph`."""
    nodes = (value.get("spec") or {}).get("nodes") or {}
    if "root" not in nodes:
        yield Said(("spec", "nodes"), "has no 'root', where every request begins")
    for name, node in nodes.items():
        at = ("spec", "nodes", str(name))
        kind = node.get("routerType")
        if kind not in _ROUTERS:
            yield Said((*at, "routerType"), f"{kind!r} is none of {', '.join(_ROUTERS)}")
        steps = node.get("steps") or []
        if not steps:
            yield Said((*at, "steps"), "is empty")
        counted = Counter(step.get("name") for step in steps if step.get("name"))
        for number, step in enumerate(steps):
            yield from _step((*at, "steps", number), step, nodes)
            if counted[step.get("name")] > 1:
                yield Said((*at, "steps", number, "name"), f"{step['name']!r} stands there twice")
        if kind == "Splitter":
            yield from _weights(at, steps)


def _step(at: tuple[str | int, ...], step: Mapping[str, Any], nodes: Mapping[str, Any]) -> Iterator[Said]:
    named = [target for target in _TARGETS if step.get(target)]
    if len(named) != 1:
        said = f"has {', '.join(named)}" if named else "says nobody to ask"
        yield Said(at, f"{said}; exactly one of {', '.join(_TARGETS)} is needed")
    elif named == ["nodeName"] and step["nodeName"] not in nodes:
        yield Said((*at, "nodeName"), f"there is no node {step['nodeName']!r}")


def _weights(at: tuple[str | int, ...], steps: list[Mapping[str, Any]]) -> Iterator[Said]:
    lacking = [number for number, step in enumerate(steps) if step.get("weight") is None]
    for number in lacking:
        yield Said((*at, "steps", number, "weight"), "is missing: a splitter splits by it")
    total = sum(step.get("weight") or 0 for step in steps)
    if steps and not lacking and total != 100:
        yield Said((*at, "steps"), f"their weights are {total} together, not 100")


def metadata(value: Mapping[str, Any]) -> Iterator[Said]:
    """The object's name and namespace."""
    fitting = _RUNTIME_NAME if str(value.get("kind")).endswith("Runtime") else NAME
    yield from said_of_name(value.get("metadata") or {}, fitting)


#: apiVersion and kind -> the SDK's class and the rules.
KINDS = {
    (f"{_GROUP}/v1alpha1", "ServingRuntime"): ("V1alpha1ServingRuntime", serving_runtime),
    (f"{_GROUP}/v1alpha1", "ClusterServingRuntime"): ("V1alpha1ClusterServingRuntime", serving_runtime),
    (f"{_GROUP}/v1alpha1", "TrainedModel"): ("V1alpha1TrainedModel", trained_model),
    (f"{_GROUP}/v1alpha1", "InferenceGraph"): ("V1alpha1InferenceGraph", inference_graph),
}
