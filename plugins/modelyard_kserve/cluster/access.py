"""Where an InferenceService of a cluster answers, as seen from this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

from modelyard.kube.services import Place, forwarded
from modelyard.stages import Services
from modelyard.targets import Target
from modelyard_kserve.cluster.observing import Seen


def url_of(seen: Seen, target: Target, services: Services) -> str | None:
    """The URL; None: it has none yet.

    In Knative mode it is the InferenceService's own host behind the gateway. In Standard mode there is
    nothing in front of its Service, so that a port-forward of ours leads to it.

    Raises:
        NotFoundError: `target-service-unknown`.
        EnvironmentFault: the gateway or the forward can't be reached.
    """
    if seen.mode == "Knative":
        host = urlsplit((seen.service.get("status") or {}).get("url") or "").hostname
        if not host:
            return None
        gateway = urlsplit(target.address("gateway").url)
        return f"{gateway.scheme}://{host}" + (f":{gateway.port}" if gateway.port else "")
    if not seen.revisions:
        return None
    return forwarded(target, Place(target.namespace, entry_of(seen), 80), services, forward_of(seen.name))


def entry_of(seen: Seen) -> str:
    """The Service that takes requests in Standard mode."""
    spec = seen.service["spec"]
    if spec.get("transformer"):
        return f"{seen.name}-transformer"
    variant = spec["predictor"].get("name")
    return f"{seen.name}-{variant}-predictor" if variant else f"{seen.name}-predictor"


def forward_of(name: str) -> str:
    """The name of an endpoint's port-forward, without what all forwards begin with."""
    return f"endpoint-{name}"
