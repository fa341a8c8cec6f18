"""Do things side by side where they do not wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from modelyard.components import Component
from modelyard.errors import ModelyardError


class Stopped(ModelyardError):
    """Raised in the threads of an `up` that was interrupted, or in which something else failed."""

    def __init__(self) -> None:
        super().__init__("stopped", "stopped before it was done", "modelyard sandbox up")


def needs_of(components: Iterable[Component]) -> dict[str, set[str]]:
    """What each must wait for, among the components that are there.

    Example:
        >>> parts = [Component(name="db", summary="", version="1", objects=lambda site: ()),
        ...     Component(name="app", summary="", version="1", objects=lambda site: (), requires=("db",))]
        >>> needs_of(parts)
        {'db': set(), 'app': {'db'}}
    """
    there = {component.name: component for component in components}
    return {name: {n for n in (*c.requires, *c.after) if n in there} for name, c in there.items()}


def by_urgency(components: Iterable[Component]) -> list[Component]:
    """Those first for which the longest chain of others waits."""
    listed = list(components)
    needs = needs_of(listed)

    def chain(name: str) -> int:
        return 1 + max((chain(other) for other, wants in needs.items() if name in wants), default=0)

    return sorted(listed, key=lambda component: -chain(component.name))


def in_order(
    components: Iterable[Component], bring: Callable[[Component], None], stop: threading.Event
) -> None:
    """Each as soon as what it needs is ready; the first fault ends the others after their step.

    Raises:
        ModelyardError: the first fault.
    """
    waiting = {component.name: component for component in components}
    needs = {name: {n for n in (*c.requires, *c.after) if n in waiting} for name, c in waiting.items()}
    done: set[str] = set()
    running: dict[Future[None], str] = {}
    fault: BaseException | None = None
    with ThreadPoolExecutor(max(4, len(waiting))) as pool:
        try:
            while (waiting and fault is None) or running:
                for name in [name for name in waiting if needs[name] <= done and fault is None]:
                    running[pool.submit(bring, waiting.pop(name))] = name
                finished, _ = wait(running, return_when=FIRST_COMPLETED, timeout=1)
                for future in finished:
                    done.add(running.pop(future))
                    if future.exception() and fault is None:
                        fault = future.exception()
                        stop.set()
        except BaseException:
            stop.set()
            raise
    if fault is not None:
        raise fault
