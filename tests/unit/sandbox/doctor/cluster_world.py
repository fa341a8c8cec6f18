"""The API server of a cluster where all is well; each test spoils one thing."""

from __future__ import annotations

import copy
import json
from typing import Any

from modelyard_sandbox.lock import Lock


class ClusterWorld:
    """What the API server holds and answers.

    Attributes:
        objects: by API version and kind.
        ready: whether it says so of itself.
        log: the lines of every pod's log.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], list[dict[str, Any]]] = copy.deepcopy(_OBJECTS)
        hosts = {reference.partition("/")[0] for reference in Lock.load().images}
        settings = {"registries-skipping-tag-resolving": ",".join(sorted(hosts))}
        self.objects["v1", "ConfigMap"].append(
            {"metadata": {"name": "config-deployment", "namespace": "knative-serving"}, "data": settings}
        )
        self.ready = True
        self.log: list[str] = []

    def answer(self, _: str, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if path == "/readyz":
            return (200, "ok") if self.ready else (500, "not yet")
        if path == "/version":
            return 200, {"gitVersion": "v1.34.4"}
        if path.endswith("/log"):
            return 200, "\n".join(self.log)
        version, _, rest = path.removeprefix("/apis/").removeprefix("/api/").partition("/")
        if path.startswith("/apis/"):
            part, _, rest = rest.partition("/")
            version = f"{version}/{part}"
        known = {kind: items for (of, kind), items in self.objects.items() if of == version}
        if not rest:
            listed = [
                {"kind": kind, "name": kind.lower(), "namespaced": kind in _NAMESPACED} for kind in known
            ]
            return 200, {"resources": listed}
        words = rest.split("/")
        namespace = words[1] if words[0] == "namespaces" else ""
        kind = next((kind for kind in known if kind.lower() == words[-1]), "")
        if not kind:
            return 404, {"message": f"no {path}"}
        labels = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        return 200, {
            "items": [
                one
                for one in known[kind]
                if namespace in ("", one["metadata"].get("namespace"))
                and labels.items() <= (one["metadata"].get("labels") or {}).items()
            ]
        }


_NAMESPACED = frozenset(
    {"Pod", "ConfigMap", "Secret", "ServiceAccount", "EndpointSlice", "Revision", "Deployment"}
)
_READY = [{"type": "Ready", "status": "True"}]


def pod(name: str, namespace: str, image: str, **labels: str) -> dict[str, Any]:
    """A pod that is ready."""
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": name, "labels": labels},
        "spec": {"containers": [{"name": "main", "image": image}]},
        "status": {
            "phase": "Running",
            "conditions": _READY,
            "containerStatuses": [
                {"name": "main", "image": image, "ready": True, "restartCount": 0, "state": {}}
            ],
        },
    }


_INVENTORY = [["apps/v1", "Deployment", "modelyard", "postgres", "a", "b"]]
_OBJECTS: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("v1", "Pod"): [
        pod("coredns-1", "kube-system", "postgres:17", **{"k8s-app": "kube-dns"}),
        pod("postgres-1", "modelyard", "postgres:17", app="postgres"),
        pod("mlflow-1", "modelyard", "postgres:17", app="mlflow"),
    ],
    ("v1", "Node"): [
        {
            "metadata": {"name": "n"},
            "status": {"addresses": [{"type": "InternalIP", "address": "172.18.0.2"}]},
        }
    ],
    ("v1", "Namespace"): [{"metadata": {"name": "modelyard"}, "status": {"phase": "Active"}}],
    ("v1", "ConfigMap"): [
        {
            "metadata": {
                "name": "inventory-postgres",
                "namespace": "modelyard",
                "labels": {"app.kubernetes.io/managed-by": "modelyard"},
            },
            "data": {"version": "17", "objects": json.dumps(_INVENTORY)},
        }
    ],
    ("v1", "Secret"): [
        {
            "metadata": {
                "name": "s3",
                "namespace": "default",
                "annotations": {
                    "serving.kserve.io/s3-endpoint": "s3:7070",
                    "serving.kserve.io/s3-verifyssl": "0",
                },
            }
        }
    ],
    ("v1", "ServiceAccount"): [],
    ("apps/v1", "Deployment"): [
        {
            "metadata": {"name": "postgres", "namespace": "modelyard", "generation": 1},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "postgres"}}},
            "status": {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1},
        }
    ],
    ("apps/v1", "StatefulSet"): [],
    ("apps/v1", "DaemonSet"): [],
    ("batch/v1", "Job"): [],
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"): [
        {
            "metadata": {"name": "kserve"},
            "webhooks": [{"clientConfig": {"service": {"namespace": "kserve", "name": "hook"}}}],
        }
    ],
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"): [],
    ("discovery.k8s.io/v1", "EndpointSlice"): [
        {
            "metadata": {
                "name": "h",
                "namespace": "kserve",
                "labels": {"kubernetes.io/service-name": "hook"},
            },
            "endpoints": [{"conditions": {"ready": True}}],
        }
    ],
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): [
        {
            "metadata": {"name": "things.example.org", "annotations": {"a": "b"}},
            "status": {"conditions": [{"type": "Established", "status": "True"}]},
        }
    ],
    ("serving.knative.dev/v1", "Revision"): [],
}
