"""Grafana with our dashboards. The user is `admin`, the password lies in the Secret `grafana`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files

from modelyard.components import Component, Manifest, Port, Site, Visit
from modelyard.kube.objects import config, deployment, from_secret, http_probe, resources, secret, service

IMAGE = "docker.io/grafana/grafana:12.1.0"
_PORT, _NODE_PORT = 3000, 30300
#: The user `grafana` in its own image.
_USER = 472
_PROVISIONING = "/etc/modelyard-grafana"
#: What dashboards name as their source.
SOURCE = "modelyard-prometheus"

#: By section and key of Grafana's own settings. It asks nobody outside: not for updates, plugins or news.
_SETTINGS = {
    "ANALYTICS_REPORTING_ENABLED": "false",
    "ANALYTICS_CHECK_FOR_UPDATES": "false",
    "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
    "ANALYTICS_FEEDBACK_LINKS_ENABLED": "false",
    "NEWS_NEWS_FEED_ENABLED": "false",
    "PLUGINS_PLUGIN_ADMIN_ENABLED": "false",
    "PLUGINS_PREINSTALL_DISABLED": "true",
    "PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED": "true",
    "SECURITY_DISABLE_GRAVATAR": "true",
    "SNAPSHOTS_EXTERNAL_ENABLED": "false",
    "PATHS_DATA": "/data",
    "PATHS_LOGS": "/data/log",
    "PATHS_PLUGINS": "/data/plugins",
    "PATHS_PROVISIONING": _PROVISIONING,
    "LOG_MODE": "console",
    "DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": f"{_PROVISIONING}/boards/drift.json",
}


def dashboards() -> dict[str, str]:
    """Our dashboards by file name."""
    folder = files("modelyard_sandbox") / "dashboards"
    found = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}
    return {name: found[name] for name in sorted(found) if name.endswith(".json")}


def _provisioning() -> dict[str, str]:
    source = {
        "name": "Prometheus",
        "uid": SOURCE,
        "type": "prometheus",
        "access": "proxy",
        "url": "http://prometheus.modelyard.svc:9090",
        "isDefault": True,
        "jsonData": {"timeInterval": "15s"},
    }
    boards = {
        "name": "modelyard",
        "folder": "Modelyard",
        "type": "file",
        "options": {"path": f"{_PROVISIONING}/boards"},
    }
    # JSON is YAML, too.
    return {
        "datasources": json.dumps({"apiVersion": 1, "datasources": [source]}),
        "dashboards": json.dumps({"apiVersion": 1, "providers": [boards]}),
    }


def _objects(site: Site) -> Iterable[Manifest]:
    password, provisioning, boards = site.secret("grafana-admin"), _provisioning(), dashboards()
    yield secret("grafana", {"password": password})
    yield config("grafana", provisioning)
    yield config("grafana-dashboards", boards)
    yield service("grafana", _PORT, node_port=_NODE_PORT)
    made = deployment(
        "grafana",
        {
            "image": site.image(IMAGE),
            "command": ["grafana", "server", "--homepath=/usr/share/grafana", "--packaging=docker"],
            "env": [
                from_secret("GF_SECURITY_ADMIN_PASSWORD", "password", of="grafana"),
                *({"name": f"GF_{name}", "value": value} for name, value in _SETTINGS.items()),
            ],
            "ports": [{"containerPort": _PORT}],
            "readinessProbe": http_probe("/api/health", _PORT),
            "resources": resources("128Mi", "512Mi"),
            "volumeMounts": [
                {"name": name, "mountPath": f"{_PROVISIONING}/{name}", "readOnly": True}
                for name in ("datasources", "dashboards", "boards")
            ],
        },
        user=_USER,
        data=site.data("grafana"),
        stamp=_stamp({**provisioning, **boards, "password": password}),
    )
    made["spec"]["template"]["spec"]["volumes"] += [
        *(_file(key) for key in provisioning),
        {"name": "boards", "configMap": {"name": "grafana-dashboards"}},
    ]
    yield made


def _file(key: str) -> Manifest:
    items = [{"key": key, "path": f"{key}.yaml"}]
    return {"name": key, "configMap": {"name": "grafana", "items": items}}


def _stamp(values: Mapping[str, str]) -> str:
    return hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:12]


def _probe(visit: Visit) -> str | None:
    status, _ = visit.get("grafana", "/api/health")
    if status != 200:
        return f"Grafana's /api/health (it answers {status})" if status else "an answer of Grafana"
    status, _ = visit.get("grafana", "/api/search")
    return None if status == 401 else f"Grafana to ask for a password (it answers {status})"


COMPONENT = Component(
    name="grafana",
    summary="Grafana with our dashboards",
    version="12.1.0",
    objects=_objects,
    images=(IMAGE,),
    profiles=("full",),
    requires=("prometheus",),
    ports=(Port(name="grafana", node_port=_NODE_PORT, page="/"),),
    probe=_probe,
)
