"""Prometheus: what the monitor and the models say over time, and the alerts that follow from it.

A component brings rules of its own in a ConfigMap `prometheus-rules-COMPONENT` in the namespace
`modelyard`, under the key `rules.yml`; nothing has to know it. Pods are scraped that carry the usual
annotations `prometheus.io/scrape`, `port` and `path`; models without being asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from modelyard.components import Component, Manifest, Port, Site, Visit
from modelyard.kube.objects import NAMESPACE, config, deployment, http_probe, resources, service

IMAGE = "docker.io/prom/prometheus:v3.5.0"
_PORT, _NODE_PORT = 9090, 30909
_ACCOUNT = "modelyard-prometheus"
#: `nobody`, as in Prometheus' own image.
_USER = 65534
_POD = "__meta_kubernetes_pod_"
_CONFIG, _RULES = "/etc/modelyard/prometheus", "/etc/modelyard/rules"
_MODEL = f"{_POD}label_serving_kserve_io_inferenceservice"


def settings(components: frozenset[str]) -> str:
    """Prometheus' configuration; JSON is YAML, too.

    Args:
        components: what the sandbox holds.
    """
    known = {"prometheus": f"localhost:{_PORT}", "monitor": "monitor.modelyard.svc:8080"}
    known["alertmanager"] = "alertmanager.modelyard.svc:9093"
    said: dict[str, Any] = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": [f"{_RULES}/*.yml"],
        "scrape_configs": [
            *(_job(name, target) for name, target in known.items() if name in components),
            *(_revisions(), _models(), _annotated()),
        ],
    }
    if "alertmanager" in components:
        targets = [{"targets": [known["alertmanager"]]}]
        said["alerting"] = {"alertmanagers": [{"static_configs": targets}]}
    return json.dumps(said, indent=2) + "\n"


def _job(name: str, target: str) -> dict[str, Any]:
    return {"job_name": name, "static_configs": [{"targets": [target]}]}


def _revisions() -> dict[str, Any]:
    """Knative's proxy in front of every model: requests by revision and status."""
    return _pods("revisions", [_keep("container_port_name", "http-usermetric"), *_names()])


def _models() -> dict[str, Any]:
    """The models themselves; KServe's runtimes say in annotations where."""
    port, path = (f"{_POD}annotation_prometheus_kserve_io_{word}" for word in ("port", "path"))
    return _pods("models", [*_at(port, path), *_names()])


def _annotated() -> dict[str, Any]:
    """Whatever else asks for it."""
    port, path = (f"{_POD}annotation_prometheus_io_{word}" for word in ("port", "path"))
    wants = [_keep("annotation_prometheus_io_scrape", "true")]
    not_models = {"source_labels": [_MODEL], "action": "drop", "regex": ".+"}
    return _pods("pods", [*wants, not_models, *_at(port, path), *_names()])


def _pods(name: str, relabel: list[dict[str, Any]]) -> dict[str, Any]:
    running = _keep("phase", "Running")
    return {
        "job_name": name,
        "kubernetes_sd_configs": [{"role": "pod"}],
        "relabel_configs": [running, *relabel],
    }


def _keep(what: str, regex: str) -> dict[str, Any]:
    return {"source_labels": [f"{_POD}{what}"], "action": "keep", "regex": regex}


def _at(port: str, path: str) -> list[dict[str, Any]]:
    """Scrape the port and path that annotations name; without a port, not at all. A pod is found once for
    each of its own ports, but what ends up as the same target is scraped once."""
    return [
        {"source_labels": [port], "action": "keep", "regex": "[0-9]+"},
        {
            "source_labels": [f"{_POD}ip", port],
            "separator": ";",
            "regex": "(.+);(.+)",
            "replacement": "$1:$2",
            "target_label": "__address__",
        },
        {"source_labels": [path], "regex": "(.+)", "target_label": "__metrics_path__"},
    ]


def _names() -> list[dict[str, Any]]:
    """Whose it is, in the words of our own metrics."""
    named = {
        "namespace": "__meta_kubernetes_namespace",
        "pod": f"{_POD}name",
        "endpoint": _MODEL,
        "revision": f"{_POD}label_serving_knative_dev_revision",
    }
    return [{"source_labels": [source], "target_label": label} for label, source in named.items()]


def _objects(site: Site) -> Iterable[Manifest]:
    said = settings(site.components)
    yield config("prometheus", {"prometheus.yml": said})
    yield service("prometheus", _PORT, node_port=_NODE_PORT)
    yield from _rights()
    made = deployment(
        "prometheus",
        {
            "image": site.image(IMAGE),
            "command": ["prometheus"],
            "args": [
                f"--config.file={_CONFIG}/prometheus.yml",
                "--storage.tsdb.path=/data",
                "--storage.tsdb.retention.time=15d",
                "--storage.tsdb.retention.size=2GB",
                f"--web.listen-address=:{_PORT}",
                # Rules of other components change without this pod.
                "--enable-feature=auto-reload-config",
            ],
            "ports": [{"containerPort": _PORT}],
            "readinessProbe": http_probe("/-/ready", _PORT),
            "resources": resources("128Mi", "768Mi"),
            "volumeMounts": [
                {"name": "config", "mountPath": _CONFIG, "readOnly": True},
                {"name": "rules", "mountPath": _RULES, "readOnly": True},
            ],
        },
        user=_USER,
        data=site.data("prometheus"),
        stamp=hashlib.sha256(said.encode()).hexdigest()[:12],
    )
    pod = made["spec"]["template"]["spec"]
    pod["serviceAccountName"], pod["automountServiceAccountToken"] = _ACCOUNT, True
    pod["volumes"] += [
        {"name": "config", "configMap": {"name": "prometheus"}},
        {"name": "rules", "projected": {"sources": [_rules_of(name) for name in sorted(site.components)]}},
    ]
    yield made


def _rules_of(component: str) -> dict[str, Any]:
    items = [{"key": "rules.yml", "path": f"{component}.yml"}]
    return {"configMap": {"name": f"prometheus-rules-{component}", "optional": True, "items": items}}


def _rights() -> Iterable[Manifest]:
    """To find pods, and nothing else."""
    role = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    group = "rbac.authorization.k8s.io"
    yield {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": _ACCOUNT, "namespace": NAMESPACE},
    }
    yield {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": _ACCOUNT},
        "rules": [role],
    }
    yield {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": _ACCOUNT},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": _ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": NAMESPACE}],
    }


def _probe(visit: Visit) -> str | None:
    status, _ = visit.get("prometheus", "/-/ready")
    if status != 200:
        return f"Prometheus to be ready (it answers {status})" if status else "an answer of Prometheus"
    status, said = visit.get("prometheus", "/api/v1/rules?type=alert")
    wanted = "monitor" in visit.site.components
    return "Prometheus to read the rules" if wanted and not _has_rules(status, said) else None


def _has_rules(status: int, said: bytes) -> bool:
    if status != 200:
        return False
    answer: Mapping[str, Any] = json.loads(said)
    return any(group["rules"] for group in answer["data"]["groups"])


COMPONENT = Component(
    name="prometheus",
    summary="Prometheus: metrics of models and monitor, and alerts",
    version="3.5.0",
    objects=_objects,
    images=(IMAGE,),
    profiles=("full",),
    after=("monitor",),  # its rules are there when Prometheus starts
    ports=(Port(name="prometheus", node_port=_NODE_PORT, page="/"),),
    probe=_probe,
)
