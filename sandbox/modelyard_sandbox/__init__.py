"""The sandbox: a kind cluster with the full stack. This file holds the hook implementations."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from modelyard.components import Component
from modelyard.hookspecs import hookimpl
from modelyard.targets import TargetOffer


@hookimpl
def modelyard_sandbox_components() -> Iterable[Component]:
    """Offer the stack: every component that the profiles name."""
    from modelyard_sandbox.components import everything

    return everything()


@hookimpl
def modelyard_targets() -> Iterable[TargetOffer]:
    """Offer every sandbox of this machine; the usual one is `sandbox`, whether it is there or not."""
    from modelyard_sandbox.folder import DEFAULT, sandboxes
    from modelyard_sandbox.target import connect

    for name in dict.fromkeys([DEFAULT, *sandboxes()]):
        usual = name == DEFAULT
        yield TargetOffer(
            name="sandbox" if usual else f"sandbox-{name}",
            summary=f"the cluster of modelyard sandbox up{'' if usual else f' --name {name}'}",
            connect=partial(connect, name),
        )
