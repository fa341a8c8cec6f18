"""Whether components do what they are for, not only whether their pods run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from modelyard.components import Component, Visit
from modelyard.kube import ApiFault
from modelyard_sandbox.errors import ComponentFailed
from modelyard_sandbox.readiness import Watcher

_ASK_EVERY = 0.5


def verify(component: Component, visit: Visit, watcher: Watcher, say: Callable[[str], None]) -> None:
    """Until the component's own probe is content.

    Args:
        component: the component; its workloads are available.
        visit: what the probe may use.
        watcher: knows whether anything still moves.
        say: gets what the probe waits for; what it raises ends the waiting.

    Raises:
        NoProgress: nothing changes any more.
        ApiFault: the cluster refuses what the probe tries.
    """
    while waits_for := _said(component, visit):
        say(waits_for[:200])
        said = f"{component.name} does not work: {waits_for}"
        hint = f"modelyard sandbox logs {component.name}"
        watcher.require_progress(
            component.name,
            lambda s=said, h=hint: ComponentFailed("component-failed", s, h),  # type: ignore[misc]
        )
        time.sleep(_ASK_EVERY)


def require_health(
    components: Iterable[Component], visit: Visit, watcher: Watcher, say: Callable[[str, str], None]
) -> None:
    """Until every component works at this moment, not only when its turn was.

    Args:
        components: all of them.
        visit: what probes may use.
        watcher: looks at the workloads.
        say: gets a component's name and what it waits for.

    Raises:
        ComponentFailed, NoProgress: one does not come up (again).
    """
    for component in components:
        name = component.name
        refs = watcher.workloads_of(name)
        watcher.wait(name, refs, lambda doing, n=name: say(n, doing))  # type: ignore[misc]
        verify(component, visit, watcher, lambda doing, n=name: say(n, doing))  # type: ignore[misc]


def _said(component: Component, visit: Visit) -> str | None:
    try:
        return component.probe(visit)
    except ApiFault as fault:
        if not fault.passes:
            raise
        return fault.message
