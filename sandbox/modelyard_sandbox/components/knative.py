"""Knative Serving behind Kourier: revisions, traffic split, scale to zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modelyard.components import Component, Manifest, Port, Release, Site, Visit
from modelyard.kube import ApiFault

#: Host names of models end in this; browsers and curl resolve *.localhost to 127.0.0.1.
DOMAIN = "modelyard.localhost"
GATEWAY_NODE_PORT = 31080
_SERVING, _KOURIER = "v1.21.1", "v1.21.0"
_PROGRAMS = ("activator", "autoscaler", "controller", "webhook", "queue")
_IMAGES = {
    **{name: f"gcr.io/knative-releases/knative.dev/serving/cmd/{name}:{_SERVING}" for name in _PROGRAMS},
    "kourier": f"gcr.io/knative-releases/knative.dev/net-kourier/cmd/kourier:{_KOURIER}",
    "envoy": "docker.io/envoyproxy/envoy:v1.37.2",
}
_RELEASES = (
    Release(
        name="knative-serving-v1.21.yaml",
        url="https://github.com/knative/serving/releases/download/knative-v1.21.1/serving-core.yaml",
        sha256="b953f17d95e8a693f1dacfbb6f9395aabb63a0185606aa499bfb275f3d589f30",
    ),
    Release(
        name="kourier-v1.21.yaml",
        url="https://raw.githubusercontent.com/knative/serving/knative-v1.21.1/third_party/kourier-latest/kourier.yaml",
        sha256="0d207b6184a84896b062a0e0fd7d7041fd816a08450b084afa956411db425a0f",
    ),
)
_RESOLVER = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
_NOT_FOR_ONE_NODE = ("HorizontalPodAutoscaler", "PodDisruptionBudget")


def _objects(site: Site) -> Iterable[Manifest]:
    for found in (*site.release(_RELEASES[0].name), *site.release(_RELEASES[1].name)):
        kind, name = found["kind"], found["metadata"]["name"]
        if kind in _NOT_FOR_ONE_NODE or kind == "Certificate":  # Knative's own, for encryption inside
            continue
        if kind == "Deployment":
            _shrink(found, site)
        elif kind == "Image":
            found["spec"]["image"] = _image(found["spec"]["image"], site)
        elif kind == "Service" and name == "kourier":
            found["spec"]["type"] = "NodePort"
            next(p for p in found["spec"]["ports"] if p["port"] == 80)["nodePort"] = GATEWAY_NODE_PORT
        elif kind == "ConfigMap" and name == "kourier-bootstrap":
            _try_again_soon(found["data"])
        elif kind == "ConfigMap" and name in (settings := _settings(site)):
            found["data"] = {**(found.get("data") or {}), **settings[name]}
        elif kind.endswith("WebhookConfiguration"):
            # Knative writes the rules itself; owning them would mean to fight over them.
            for hook in found["webhooks"]:
                hook.pop("rules", None)
        elif kind == "Secret" and not found.get("data"):
            # Its controller fills it in.
            found.pop("data", None)
        yield found


def _settings(site: Site) -> dict[str, dict[str, str]]:
    registries = sorted({site.image(reference).partition("/")[0] for reference in _IMAGES.values()})
    registries += [
        "index.docker.io",
        "docker.io",
        "ghcr.io",
        "gcr.io",
        "quay.io",
        "localhost:5001",
        "kind.local",
    ]
    return {
        "config-network": {"ingress-class": "kourier.ingress.networking.knative.dev"},
        "config-domain": {DOMAIN: ""},
        "config-deployment": {
            "queue-sidecar-image": site.image(_IMAGES["queue"]),
            "queue-sidecar-cpu-request": "10m",
            # A tag is looked up in its registry for every revision otherwise: offline nothing would start.
            "registries-skipping-tag-resolving": ",".join(
                dict.fromkeys([*registries, "modelyard.test", "dev.local"])
            ),
        },
        # Else nobody counts requests, and Knative's own pods ask to be scraped and do not answer.
        "config-observability": {"request-metrics-protocol": "prometheus", "metrics-protocol": "prometheus"},
        "config-features": {"kubernetes.podspec-init-containers": "enabled"},
    }


def _try_again_soon(data: dict[str, str]) -> None:
    """Envoy looks for its controller's address, then asks it for routes; where all start at once, its next
    try may be 30 s away."""
    import yaml

    settings = yaml.safe_load(data["envoy-bootstrap.yaml"])
    for asked in settings["dynamic_resources"]["ads_config"]["grpc_services"]:
        back_off = {"base_interval": "0.5s", "max_interval": "2s"}
        asked["envoy_grpc"]["retry_policy"] = {"retry_back_off": back_off}
    for cluster in settings["static_resources"]["clusters"]:
        if cluster["type"] == "STRICT_DNS":
            cluster["dns_failure_refresh_rate"] = {"base_interval": "0.5s", "max_interval": "1s"}
            cluster["typed_dns_resolver_config"] = {
                "name": "envoy.network.dns_resolver.cares",
                "typed_config": {
                    "@type": f"type.googleapis.com/{_RESOLVER}",
                    "query_timeout_seconds": 1,
                    "query_tries": 1,
                },
            }
    data["envoy-bootstrap.yaml"] = yaml.safe_dump(settings, sort_keys=False)


def _shrink(found: Manifest, site: Site) -> None:
    """Images that are here, and requests that fit a laptop: upstream's fill two cores."""
    pod = found["spec"]["template"]["spec"]
    found["spec"]["replicas"] = 1
    pod["terminationGracePeriodSeconds"] = 30
    for container in pod["containers"]:
        container["image"] = _image(container["image"], site)
        container["imagePullPolicy"] = "IfNotPresent"
        container.pop("lifecycle", None)  # wants a shell
        container["resources"] = {"requests": {"cpu": "10m", "memory": "40Mi"}, "limits": {"memory": "512Mi"}}
        probe: dict[str, Any] = container.get("readinessProbe") or {}
        probe.pop("initialDelaySeconds", None)


def _image(upstream: str, site: Site) -> str:
    """By the program's name: the release names digests, the lock names tags."""
    program = upstream.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return site.image(_IMAGES[program])


def _probe(visit: Visit) -> str | None:
    """The webhooks take a Service; the gateway answers."""
    trial = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "modelyard-trial", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": [{"image": "dev.local/none:1"}]}}},
    }
    try:
        visit.cluster.create(trial, dry_run=True)
    except ApiFault as fault:
        # There is nothing wrong with it: for a moment only the webhook that judges is registered, and not
        # yet the one that fills in what is judged.
        if "denied the request" not in fault.message:
            raise
        return f"its webhook that fills in defaults ({fault.message.rpartition('denied the request: ')[2]})"
    status, _ = visit.get("gateway", "/", headers={"Host": f"nobody.{DOMAIN}"})
    return None if status == 404 else f"Kourier on its port (it answers {status or 'nothing'})"


COMPONENT = Component(
    name="knative",
    summary="Knative Serving with Kourier: revisions, canaries, scale to zero",
    version="1.21.1",
    objects=_objects,
    images=tuple(_IMAGES.values()),
    profiles=("full",),
    releases=_RELEASES,
    ports=(Port(name="gateway", node_port=GATEWAY_NODE_PORT),),
    probe=_probe,
)
