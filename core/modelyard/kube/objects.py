"""Kubernetes objects that components are made of, so that a file says only what is special about its part."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from modelyard.components import Manifest

#: Where everything of ours lives; Knative and KServe keep their own namespaces.
NAMESPACE = "modelyard"


def secret(name: str, values: Mapping[str, str], *, namespace: str = NAMESPACE) -> Manifest:
    """A Secret of texts."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return _object("v1", "Secret", name, namespace) | {"type": "Opaque", "data": data}


def config(name: str, values: Mapping[str, str], *, namespace: str = NAMESPACE) -> Manifest:
    """A ConfigMap."""
    return _object("v1", "ConfigMap", name, namespace) | {"data": dict(values)}


def service(name: str, port: int, *, node_port: int | None = None) -> Manifest:
    """A Service in front of the pods labelled `app: NAME`."""
    spec: dict[str, Any] = {
        "selector": {"app": name},
        "ports": [{"name": "http", "port": port, "targetPort": port}],
    }
    if node_port is not None:
        spec["type"] = "NodePort"
        spec["ports"][0]["nodePort"] = node_port
    return _object("v1", "Service", name, NAMESPACE) | {"spec": spec}


def deployment(name: str, container: Mapping[str, Any], *, user: int, data: str, stamp: str = "") -> Manifest:
    """One pod that stores its data in a folder of the node, so that an old one ends before a new one starts.

    Args:
        name: of the Deployment, its container and the label `app`.
        container: image, command, env, ports, resources, probes.
        user: the numeric user that it runs as.
        data: folder on the node that is mounted at /data; empty: none.
        stamp: changes when a Secret or ConfigMap that it reads changes, so that the pod is made anew.
    """
    mounts: Sequence[Mapping[str, Any]] = ({"name": "data", "mountPath": "/data"},) if data else ()
    made = {
        "name": name,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        **container,
        "volumeMounts": [*mounts, *container.get("volumeMounts", ())],
    }
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": user, "runAsGroup": user},
        "containers": [made],
        "terminationGracePeriodSeconds": 30,
    }
    if data:
        pod["volumes"] = [{"name": "data", "hostPath": {"path": data, "type": "Directory"}}]
    template: dict[str, Any] = {"metadata": {"labels": {"app": name}}, "spec": pod}
    if stamp:
        template["metadata"]["annotations"] = {"modelyard.dev/stamp": stamp}
    return _object("apps/v1", "Deployment", name, NAMESPACE) | {
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app": name}},
            "template": template,
        }
    }


def resources(memory: str, limit: str, *, cpu: str = "10m") -> Mapping[str, Any]:
    """Requests, and a limit for memory alone: a CPU limit only makes start-up slow on a small machine."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": limit}}


def from_secret(name: str, key: str, *, of: str) -> Manifest:
    """An environment variable out of a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": of, "key": key}}}


def http_probe(path: str, port: int, *, every: int = 2) -> Mapping[str, Any]:
    """A readiness probe by GET."""
    return {"httpGet": {"path": path, "port": port}, "periodSeconds": every, "timeoutSeconds": 5}


def _object(api_version: str, kind: str, name: str, namespace: str) -> Manifest:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}
