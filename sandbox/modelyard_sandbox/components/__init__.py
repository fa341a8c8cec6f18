"""The components of the stack, one file each."""

from __future__ import annotations

from modelyard.components import Component


def everything() -> list[Component]:
    """Ours, in the order in which they build on each other; plugins bring what belongs to their stage."""
    from modelyard_sandbox.components import (
        alertmanager,
        cert_manager,
        grafana,
        knative,
        kserve,
        mlflow,
        postgres,
        prometheus,
        s3,
    )

    parts = (postgres, s3, mlflow, knative, cert_manager, kserve, prometheus, alertmanager, grafana)
    return [part.COMPONENT for part in parts]
