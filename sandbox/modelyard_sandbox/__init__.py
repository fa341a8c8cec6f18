"""The sandbox: a kind cluster with the full stack. This file holds the hook implementations."""

from __future__ import annotations

from collections.abc import Iterable

from modelyard.components import Component
from modelyard.hookspecs import hookimpl


@hookimpl
def modelyard_sandbox_components() -> Iterable[Component]:
    """Offer the stack: every component that the profiles name."""
    from modelyard_sandbox.components import everything

    return everything()
