"""KServe's InferenceGraph: what is wrong with one, and what its router has to know."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from modelyard_kserve.documents import Said
from modelyard_kserve.local.graph import paths
from modelyard_kserve.local.graph.board import own_endpoint
from modelyard_kserve.local.graph.spec import ROOT, graph_of
from modelyard_kserve.rules import seconds

GRAPH = ("serving.kserve.io/v1alpha1", "InferenceGraph")
#: Fields that say where a router runs on a cluster; here all run on one machine.
_OF_CLUSTERS = ("affinity", "nodeName", "nodeSelector", "resources", "serviceAccountName", "tolerations")
_OF_ENVOY = ("serverRead", "serverIdle")


def findings(value: Mapping[str, Any], mode: str) -> Iterator[Said]:
    """What KServe takes in a graph and what will not go well all the same.

    Args:
        value: an InferenceGraph in which nothing else is wrong.
        mode: how it is deployed.
    """
    nodes = value["spec"]["nodes"]
    for name, node in nodes.items():
        for number, step in enumerate(node["steps"]):
            at = ("spec", "nodes", str(name), "steps", number)
            yield from _conditions(at, node["routerType"], number, step, mode)
            if mode == "local" and step.get("serviceUrl") and not _address(step["serviceUrl"]):
                yield Said((*at, "serviceUrl"), f"{step['serviceUrl']!r:.80} is no http or https address")
    for name in _circle(nodes):
        yield Said(("spec", "nodes", name), f"{name!r} leads back to itself: no request would ever end")
    for name in _unreached(nodes):
        yield Said(("spec", "nodes", name), f"no step leads to {name!r}", "warning")
    if mode == "local":
        yield from _not_here(value["spec"])


def router(value: Mapping[str, Any], namespace: str, headers: Iterable[str]) -> str:
    """What the router of a graph is started with; see `modelyard_kserve.local.graph.router`."""
    told = {"namespace": namespace, "spec": _routed(value["spec"]), "headers": list(headers)}
    return json.dumps(told, sort_keys=True)


def asked_by(routed: str, known: Iterable[str]) -> Iterator[str]:
    """The endpoints (NAMESPACE/NAME) that a graph asks: those that it names, and the project's by their URL.

    Args:
        routed: what its router is started with.
        known: the project's endpoints.
    """
    told = json.loads(routed)
    there = list(known)
    for _, _, step in graph_of(told["spec"]).steps():
        if step.service:
            yield f"{told['namespace']}/{step.service}"
        elif step.url and (own := own_endpoint(step.url, there)):
            yield own


def circle(name: str, graphs: Mapping[str, str]) -> list[str]:
    """The way on which a graph comes to ask itself; empty: it does not.

    Args:
        name: as NAMESPACE/NAME.
        graphs: what the routers of the project's graphs are started with, by such names.

    Example:
        >>> def asks(other):
        ...     root = {"routerType": "Sequence", "steps": [{"serviceName": other}]}
        ...     return router({"spec": {"nodes": {"root": root}}}, "default", ())
        >>> circle("default/a", {"default/a": asks("b"), "default/b": asks("a")})
        ['default/a', 'default/b', 'default/a']
        >>> circle("default/a", {"default/a": asks("b"), "default/b": asks("model")})
        []
    """
    edges = {one: list(asked_by(routed, graphs)) for one, routed in graphs.items()}
    return _way(name, name, edges)


def _routed(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a spec that changes answers."""
    return {key: spec[key] for key in ("nodes", "timeout", "routerTimeouts") if spec.get(key) is not None}


def _conditions(
    at: tuple[str | int, ...], kind: str, number: int, step: Mapping[str, Any], mode: str
) -> Iterator[Said]:
    condition, place = step.get("condition"), (*at, "condition")
    if not condition:
        if kind == "Switch":
            yield Said(place, "is missing: a step of a switch without one is never asked", "warning")
        return
    if kind == "Sequence" and number == 0:
        yield Said(
            place, "looks at the answer before, and the first step has none: every request fails", "warning"
        )
    elif kind in ("Ensemble", "Splitter"):
        yield Said(place, f"is not looked at in a node of type {kind}", "warning")
        return
    try:
        if paths.compares_nothing(condition):
            hint = '[@this].#(predictions.0=="cat")'
            yield Said(place, "compares nothing outside of #(...): it is never met", "warning", hint)
    except ValueError as fault:
        if mode == "local":
            yield Said(place, str(fault))


def _address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _circle(nodes: Mapping[str, Any]) -> Iterator[str]:
    """The first node from which one comes back to it."""
    edges = {name: _next(node) for name, node in nodes.items()}
    yield from [name for name in nodes if _way(name, name, edges)][:1]


def _unreached(nodes: Mapping[str, Any]) -> Iterator[str]:
    edges = {name: _next(node) for name, node in nodes.items()}
    yield from (name for name in nodes if name != ROOT and not _way(ROOT, name, edges))


def _next(node: Mapping[str, Any]) -> list[str]:
    return [step["nodeName"] for step in node["steps"] if step.get("nodeName")]


def _way(begin: str, end: str, edges: Mapping[str, list[str]]) -> list[str]:
    """A way of at least one edge."""
    came: dict[str, str] = {}
    waiting = [begin]
    while waiting:
        here = waiting.pop()
        for there in edges.get(here, ()):
            if there == end:
                way = [end, here]
                while way[-1] != begin:
                    way.append(came[way[-1]])
                return way[::-1]
            if there not in came:
                came[there] = here
                waiting.append(there)
    return []


def _not_here(spec: Mapping[str, Any]) -> Iterator[Said]:
    yield from seconds(("spec", "timeout"), spec.get("timeout"), "local")
    for name in ("serverWrite", "serviceClient"):
        said = (spec.get("routerTimeouts") or {}).get(name)
        yield from seconds(("spec", "routerTimeouts", name), said, "local")
    for name in _OF_CLUSTERS:
        if spec.get(name):
            yield Said(("spec", name), "is for clusters: the router is a process of this machine", "info")
    for name in _OF_ENVOY:
        if (spec.get("routerTimeouts") or {}).get(name) is not None:
            message = "is not looked at here: Envoy's limits for slow callers hold"
            yield Said(("spec", "routerTimeouts", name), message, "info")
