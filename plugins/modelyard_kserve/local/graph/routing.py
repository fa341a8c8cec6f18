"""Takes a request through a graph, step by step, as KServe's router does.

Source: cmd/router/main.go of KServe. An error that a step answers is an answer like others unless the step is
a hard dependency; one that can't be asked at all ends the request with 500.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from modelyard_kserve.local.graph import paths
from modelyard_kserve.local.graph.spec import ROOT, Graph, Node, Step
from modelyard_kserve.local.messages import parsed

_Task: TypeAlias = "asyncio.Future[tuple[int, Any]]"
#: Asks a step that is no node with a body; gives status and body. Raises `Failed`.
Ask = Callable[[str, int, Step, bytes], Awaitable[tuple[int, bytes]]]


class Failed(Exception):
    """A request that ends without an answer of a step.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, cause: str) -> None:
        super().__init__(cause)
        self.status = status


class _NoRoute(Failed):
    """No condition of a switch fits."""

    def __init__(self) -> None:
        super().__init__(404, "None of the routes matched with the switch condition")


class Routing:
    """One request on its way.

    Args:
        graph: where it goes.
        ask: asks a service.
        point: decides splits, from 0 to 99; None: chance does.
    """

    def __init__(self, graph: Graph, ask: Ask, point: int | None = None) -> None:
        self._graph, self._ask, self._point = graph, ask, point

    async def answer(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            Failed: there is none.
        """
        return await self._node(ROOT, body)

    async def _node(self, name: str, body: bytes) -> tuple[int, bytes]:
        node = self._graph.nodes[name]
        if node.kind == "Sequence":
            return await self._sequence(name, node, body)
        if node.kind == "Ensemble":
            return await self._ensemble(name, node, body)
        place = self._split(name, node) if node.kind == "Splitter" else _first_that_fits(node, body)
        return await self._step(name, place, node.steps[place], body)

    async def _step(self, name: str, place: int, step: Step, body: bytes) -> tuple[int, bytes]:
        try:
            if step.node:
                return await self._node(step.node, body)
            return await self._ask(name, place, step, body)
        except _NoRoute as fault:  # KServe: only the first node may say 404
            raise Failed(500, str(fault)) from None

    async def _sequence(self, name: str, node: Node, body: bytes) -> tuple[int, bytes]:
        status, answer = 200, b""
        for place, step in enumerate(node.steps):
            given = answer if step.data == "$response" and place else body
            if step.condition:
                try:
                    document = parsed(answer)
                except ValueError:
                    raise Failed(500, "invalid response") from None
                if not paths.exists(document, step.condition):
                    return 200, answer
            status, answer = await self._step(name, place, step, _mapped(given) if step.maps else given)
            if step.hard and not _succeeded(status):
                break
        return status, answer

    async def _ensemble(self, name: str, node: Node, body: bytes) -> tuple[int, bytes]:
        tasks = [
            asyncio.ensure_future(self._member(name, place, step, body))
            for place, step in enumerate(node.steps)
        ]
        try:
            return await self._merged(node, tasks)
        finally:
            for task in tasks:  # whatever is asked still, nobody waits for its answer
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _merged(self, node: Node, tasks: Sequence[_Task]) -> tuple[int, bytes]:
        import orjson

        merged: dict[str, Any] = {}
        waiting: set[_Task] = set(tasks)
        for place, (step, task) in enumerate(zip(node.steps, tasks)):
            while not task.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    one.result()  # one that could not be asked ends them all, whichever it is
            status, value = task.result()
            if step.hard and not _succeeded(status):
                return status, orjson.dumps(value)
            merged[step.name or str(place)] = value
        return 200, orjson.dumps(merged, option=orjson.OPT_SORT_KEYS)

    async def _member(self, name: str, place: int, step: Step, body: bytes) -> tuple[int, Any]:
        status, answer = await self._step(name, place, step, body)
        try:
            value = parsed(answer)
        except ValueError as fault:
            value, said = "", str(fault).replace("the body", "its answer")
        else:
            said = f"its answer is a {type(value).__name__}, not an object"
        if value is not None and not isinstance(value, dict):
            raise Failed(500, f"step {step.name or place} of node {name}, {step.target}: {said}")
        return status, value

    def _split(self, name: str, node: Node) -> int:
        point = random.randrange(100) if self._point is None else self._point % 100
        end = 0
        for place, step in enumerate(node.steps):
            end += step.weight
            if point < end:
                return place
        raise Failed(500, f"no route was selected by the splitter {name}")


def _first_that_fits(node: Node, body: bytes) -> int:
    try:
        document = parsed(body)
    except ValueError:
        raise _NoRoute from None
    for place, step in enumerate(node.steps):
        if paths.exists(document, step.condition):
            return place
    raise _NoRoute


def _mapped(body: bytes) -> bytes:
    """What was predicted as instances of the next request; another body as it is."""
    import orjson

    try:
        value = parsed(body)
    except ValueError:
        return body
    predictions = value.get("predictions") if isinstance(value, dict) else None
    if not isinstance(predictions, list) or not predictions:
        return body
    return orjson.dumps({"instances": predictions})


def _succeeded(status: int) -> bool:
    return 200 <= status <= 299
