"""A graph among the project's endpoints: whether it can be, what its steps ask, and whether that answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from modelyard.errors import ConfigError, ConflictError
from modelyard.records import Endpoint, GraphStep
from modelyard_kserve import graphs
from modelyard_kserve.local.desired import Desired
from modelyard_kserve.local.graph.board import own_endpoint
from modelyard_kserve.local.graph.spec import Node, Step, graph_of
from modelyard_kserve.manifest import Manifest

#: The project's endpoints by NAMESPACE/NAME: as commands want them, and as they are.
Known: TypeAlias = Mapping[str, tuple[Desired, Endpoint]]


def require_possible(
    manifest: Manifest, before: Desired | None, known: Known, headers: Sequence[str]
) -> None:
    """Refuse a graph that would ask itself, and a name that means something of the other kind.

    Raises:
        ConflictError: `endpoint-kind`.
        ConfigError: `manifest-invalid`.
    """
    if before is not None and bool(before.newest.graph) != bool(manifest.graph):
        there = "InferenceGraph" if before.newest.graph else "InferenceService"
        raise ConflictError(
            "endpoint-kind",
            f"'{manifest.name}' is an {there} already, and both would answer under this name",
            f"choose another name, or first: modelyard endpoints delete {manifest.name}",
        )
    if not manifest.graph:
        return
    itself = f"{manifest.namespace}/{manifest.name}"
    there_are = {name: one.newest.graph for name, (one, _) in known.items() if one.newest.graph}
    there_are[itself] = graphs.router(manifest.graph, manifest.namespace, headers)
    way = graphs.circle(itself, there_are)
    if way:
        raise ConfigError(
            "manifest-invalid",
            f"the graph '{manifest.name}' would ask itself: {' -> '.join(way)}",
            "let one of the steps ask something else",
        )


def with_steps(endpoint: Endpoint, wanted: Desired, known: Callable[[], Known]) -> Endpoint:
    """The endpoint of a graph with its steps; the message names those that nobody would answer."""
    steps = steps_of(wanted, known())
    said = [f"step {one.name} of node {one.node}: {one.message}" for one in steps if one.message]
    return replace(endpoint, graph=steps, message="; ".join(filter(None, [endpoint.message, *said])))


def steps_of(wanted: Desired, known: Known) -> tuple[GraphStep, ...]:
    """The steps of a graph with what is known of whom they ask; none of a model."""
    if not wanted.newest.graph:
        return ()
    graph = graph_of(json.loads(wanted.newest.graph)["spec"])
    return tuple(
        _step(wanted, name, graph.nodes[name], place, step, known) for name, place, step in graph.steps()
    )


def _step(wanted: Desired, name: str, node: Node, place: int, step: Step, known: Known) -> GraphStep:
    ready, message = _health(wanted, step, known)
    return GraphStep(
        node=name,
        router=node.kind,
        name=step.name or str(place),
        leads_to=step.node,
        target=step.service or step.url,
        when=", ".join(_when(node, step)),
        ready=ready,
        message=message,
    )


def _when(node: Node, step: Step) -> Iterator[str]:
    if node.kind == "Splitter":
        yield f"{step.weight} %"
    if step.condition and node.kind in ("Sequence", "Switch"):
        yield f"if {step.condition}"
    if node.kind == "Sequence" and step.data:
        yield f"gets {step.data}"
    if step.maps:
        yield "predictions become instances"
    if step.hard:
        yield "hard"


def _health(wanted: Desired, step: Step, known: Known) -> tuple[bool | None, str]:
    """Whether whom it asks answers, and why not."""
    if step.node:
        return None, ""
    name = f"{wanted.namespace}/{step.service}" if step.service else own_endpoint(step.url, known)
    if name is None:
        return None, ""
    if name not in known:
        return False, f"there is no endpoint '{step.service}' in '{wanted.namespace}' yet"
    asked, endpoint = known[name]
    if asked.guarded and not wanted.guarded:
        message = f"'{asked.name}' asks for the token, which this graph does not ask for and so can't hand on"
        return endpoint.ready, message
    if not endpoint.ready:
        failed = next((one.message for one in endpoint.revisions if one.message), "")
        return False, f"'{asked.name}' is not ready" + (f": {failed}" if failed else "")
    return True, ""
