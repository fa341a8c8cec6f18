"""The components of the stack, one file each."""

from __future__ import annotations

from modelyard.components import Component


def everything() -> list[Component]:
    """Ours, in the order in which they build on each other."""
    return []
