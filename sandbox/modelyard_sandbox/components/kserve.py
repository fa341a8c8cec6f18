"""KServe. The sandbox's own authority signs for its webhooks, where cert-manager is not part of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

from modelyard.components import Component, Manifest, Release, Site, Visit
from modelyard_sandbox.components.knative import DOMAIN

_VERSION = "v0.20.0"
_SERVICE = "kserve-webhook-server-service"
_IMAGES = {name: f"docker.io/kserve/{name}:{_VERSION}" for name in ("kserve-controller", "agent", "router")}
#: Downloads models into their pods; the component `runtimes` brings it.
_STACK = "ghcr.io/modelyard/stack:0.1.0"
_INSTALL = f"https://raw.githubusercontent.com/kserve/kserve/{_VERSION}/install/{_VERSION}"
_RELEASES = (
    Release(
        name="kserve-v0.20.0-crds.yaml",
        url=f"{_INSTALL}/kserve-crds.yaml",
        sha256="dd5fad5999862c34dde061c97e49419810034320e1245ce9c6e4bfd51cac6255",
    ),
    Release(
        name="kserve-v0.20.0.yaml",
        url=f"{_INSTALL}/kserve.yaml",
        sha256="6e6c1a5ceeb889e6ac41d68a551fa8c7d1fc1abcba10284154a0872bcc0d3fb8",
        without=("CustomResourceDefinition",),
    ),
)
#: Controllers of language models and of model caches on nodes, which the file brings as well.
_OTHERS = ("llmisvc", "llminference", "localmodel")


def _objects(site: Site) -> Iterable[Manifest]:
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}}
    ours = "cert-manager" not in site.components
    authority = _encoded(site.authority())
    for release in _RELEASES:
        for found in site.release(release.name):
            kind, name = found["kind"], found["metadata"]["name"]
            if ours and found["apiVersion"].startswith("cert-manager.io/"):
                continue
            if name == "kserve-webhook-server-secret":
                continue
            if any(other in name for other in _OTHERS):
                continue
            if kind == "ClusterStorageContainer":
                continue  # the component `runtimes` brings ours
            for client in _clients(found):
                client.pop("caBundle", None)  # cert-manager's injector fills it in
                if ours:
                    client["caBundle"] = authority
            if kind == "ConfigMap" and name == "inferenceservice-config":
                _configure(found["data"], site)
            elif kind == "Deployment":
                _adapt(found, site)
            yield found
    if not ours:
        return
    certificate, key = site.certificate(_SERVICE, "kserve")
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "kserve-webhook-server-cert", "namespace": "kserve"},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": _encoded(certificate), "tls.key": _encoded(key)},
    }


def _clients(found: Manifest) -> Iterable[dict[str, Any]]:
    """Where an object says how the API server calls a webhook."""
    yield from (hook["clientConfig"] for hook in found.get("webhooks", ()))
    if found["kind"] == "CustomResourceDefinition":
        conversion = found["spec"].get("conversion") or {}
        if "webhook" in conversion:
            yield conversion["webhook"]["clientConfig"]


def _configure(data: dict[str, str], site: Site) -> None:
    """KServe's settings for one small node."""
    _change(data, "deploy", defaultDeploymentMode=site.mode)
    _change(
        data,
        "ingress",
        disableIstioVirtualHost=True,  # there is no Istio
        disableIngressCreation=site.mode == "Standard",
        ingressDomain=DOMAIN,
        ingressClassName="kourier.ingress.networking.knative.dev",
    )
    asks = {"cpuRequest": "10m", "cpuLimit": "1"}
    _change(data, "inferenceService", resource={**asks, "memoryRequest": "192Mi", "memoryLimit": "2Gi"})
    for part, name in (("agent", "agent"), ("logger", "agent"), ("batcher", "agent"), ("router", "router")):
        _change(data, part, image=site.image(_IMAGES[name]), memoryRequest="32Mi", **asks)
    _change(data, "storageInitializer", image=site.image(_STACK), memoryRequest="64Mi", **asks)


def _adapt(found: Manifest, site: Site) -> None:
    found["spec"]["replicas"] = 1
    template, pod = found["spec"]["template"], found["spec"]["template"]["spec"]
    # It looks for Knative's kinds once, when it starts: where they come or go, it must start again.
    template["metadata"].setdefault("annotations", {})["modelyard.dev/mode"] = site.mode
    # Metrics behind a proxy of their own: nobody here asks for them.
    pod["containers"] = [c for c in pod["containers"] if c["name"] != "kube-rbac-proxy"]
    for container in pod["containers"]:
        container["image"] = site.image(_IMAGES["kserve-controller"])
        container["imagePullPolicy"] = "IfNotPresent"
        container["resources"] = {"requests": {"cpu": "10m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}}
        probe: dict[str, Any] = container["readinessProbe"]
        probe.update(initialDelaySeconds=1, periodSeconds=2)


def _change(data: dict[str, str], key: str, **values: object) -> None:
    data[key] = json.dumps({**json.loads(data[key]), **values})


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _probe(visit: Visit) -> str | None:
    """Its webhooks take an InferenceService."""
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://mlflow/none"}
    trial = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "modelyard-trial", "namespace": "default"},
        "spec": {"predictor": {"model": model}},
    }
    visit.cluster.create(trial, dry_run=True)
    return None


COMPONENT = Component(
    name="kserve",
    summary="KServe: models as InferenceServices",
    version="0.20.0",
    objects=_objects,
    images=tuple(_IMAGES.values()),
    profiles=("minimal", "full"),
    after=("knative", "cert-manager"),  # it looks for Knative's kinds when it starts
    releases=_RELEASES,
    probe=_probe,
)
