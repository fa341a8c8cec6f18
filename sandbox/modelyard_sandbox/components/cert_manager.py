"""cert-manager, for those who want it: it signs for KServe's webhooks, and we do not."""

from __future__ import annotations

from collections.abc import Iterable

from modelyard.components import Component, Manifest, Release, Site, Visit

_VERSION = "v1.19.4"
_IMAGES = tuple(
    f"quay.io/jetstack/cert-manager-{name}:{_VERSION}" for name in ("controller", "webhook", "cainjector")
)
_RELEASE = Release(
    name="cert-manager-v1.19.yaml",
    url=f"https://github.com/cert-manager/cert-manager/releases/download/{_VERSION}/cert-manager.yaml",
    sha256="abad40873bd9c63105bf1fc7c41354fe8ad716f01657762b5acb82977e707ef1",
)


def _objects(site: Site) -> Iterable[Manifest]:
    for found in site.release(_RELEASE.name):
        if found["kind"] == "Deployment":
            found["spec"]["replicas"] = 1
            for container in found["spec"]["template"]["spec"]["containers"]:
                container["image"] = site.image(container["image"])
                container["resources"] = {
                    "requests": {"cpu": "10m", "memory": "48Mi"},
                    "limits": {"memory": "256Mi"},
                }
        elif found["kind"].endswith("WebhookConfiguration"):
            for hook in found["webhooks"]:
                hook["clientConfig"].pop("caBundle", None)  # its own injector fills it in
        yield found


def _probe(visit: Visit) -> str | None:
    """Its webhook takes an Issuer."""
    trial = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Issuer",
        "metadata": {"name": "modelyard-trial", "namespace": "default"},
        "spec": {"selfSigned": {}},
    }
    visit.cluster.create(trial, dry_run=True)
    return None


COMPONENT = Component(
    name="cert-manager",
    summary="cert-manager; without it the sandbox signs for KServe's webhooks itself",
    version="1.19.4",
    objects=_objects,
    images=_IMAGES,
    releases=(_RELEASE,),
    probe=_probe,
)
