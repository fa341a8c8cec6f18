"""A graph as its router knows it: nodes, their steps, and how long anything may take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: The node where every request begins.
ROOT = "root"
#: Seconds after which KServe's router gives up an answer, unless `routerTimeouts.serverWrite` says otherwise.
_ANSWER = 60.0


@dataclass(frozen=True)
class Step:
    """One step of a node; exactly one of `node`, `service` and `url` says whom it asks."""

    name: str
    node: str
    service: str
    url: str
    data: str
    condition: str
    weight: int
    hard: bool
    maps: bool

    @property
    def target(self) -> str:
        """Whom it asks, in words."""
        return f"node {self.node}" if self.node else self.service or self.url


@dataclass(frozen=True)
class Node:
    """One node: `kind` is `Sequence`, `Splitter`, `Ensemble` or `Switch`."""

    kind: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Graph:
    """A whole graph.

    Attributes:
        nodes: by name; `root` is the first.
        seconds: that an answer may take.
        step_seconds: that one step may take; None: as long as the answer.
    """

    nodes: Mapping[str, Node]
    seconds: float
    step_seconds: float | None

    def steps(self) -> Iterator[tuple[str, int, Step]]:
        """Every step, with its node's name and its place there; those of the root first."""
        for name in sorted(self.nodes, key=lambda one: one != ROOT):
            for place, step in enumerate(self.nodes[name].steps):
                yield name, place, step


def graph_of(spec: Mapping[str, Any]) -> Graph:
    """The graph of an InferenceGraph's `spec`, which was checked before.

    Example:
        >>> steps = [{"serviceName": "a"}, {"serviceName": "b", "data": "$response"}]
        >>> graph = graph_of({"nodes": {"root": {"routerType": "Sequence", "steps": steps}}})
        >>> [step.target for _, _, step in graph.steps()], graph.seconds
        (['a', 'b'], 60.0)
    """
    timeouts = spec.get("routerTimeouts") or {}
    answer = timeouts.get("serverWrite")
    limits = [float(_ANSWER if answer is None else answer), float(spec.get("timeout") or 0)]
    step = timeouts.get("serviceClient")
    return Graph(
        nodes={name: _node(node) for name, node in spec["nodes"].items()},
        # 0 is Go's word for no limit; Knative's own is what remains then.
        seconds=min((one for one in limits if one > 0), default=300.0),
        step_seconds=float(step) if step else None,
    )


def _node(value: Mapping[str, Any]) -> Node:
    return Node(value["routerType"], tuple(_step(step) for step in value["steps"]))


def _step(value: Mapping[str, Any]) -> Step:
    return Step(
        name=value.get("name") or "",
        node=value.get("nodeName") or "",
        service=value.get("serviceName") or "",
        url=value.get("serviceUrl") or "",
        data=value.get("data") or "",
        condition=value.get("condition") or "",
        weight=value.get("weight") or 0,
        hard=value.get("dependency") == "Hard",
        maps=bool(value.get("mapPredictionsToInstances")),
    )
