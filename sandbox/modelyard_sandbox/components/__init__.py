"""The components of the stack, one file each."""

from __future__ import annotations

from modelyard.components import Component


def everything() -> list[Component]:
    """Ours, in the order in which they build on each other; plugins bring what belongs to their stage."""
    from modelyard_sandbox.components import knative, kserve, mlflow, postgres, s3

    return [part.COMPONENT for part in (postgres, s3, mlflow, knative, kserve)]
