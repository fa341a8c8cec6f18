"""The monitor as a part of the sandbox: one pod that keeps its data on the node, and the rules about it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from modelyard.components import Component, Manifest, Port, Site, Visit
from modelyard.kube.objects import config, deployment, http_probe, resources, secret, service
from modelyard_evidently import rules

#: Everything of ours in Python, the monitor among it.
IMAGE = "ghcr.io/modelyard/stack:0.1.0"
_PORT = 8080
_NODE_PORT = 30800


def _objects(site: Site) -> Iterable[Manifest]:
    token = site.secret("monitor-token")
    yield secret("monitor", {"token": token})
    yield service("monitor", _PORT, node_port=_NODE_PORT)
    # Where the sandbox holds Prometheus, it reads the rules of every component under this name.
    yield config("prometheus-rules-monitor", {"rules.yml": rules.text()})
    made = deployment(
        "monitor",
        {
            "image": site.image(IMAGE),
            "command": ["python", "-m", "modelyard_evidently.server"],
            "args": [
                "--state=/data",
                "--host=0.0.0.0",
                f"--port={_PORT}",
                "--token-file=/etc/monitor/token",
            ],
            "env": [
                {"name": "DO_NOT_TRACK", "value": "true"},
                {"name": "HOME", "value": "/tmp"},
            ],
            "ports": [{"containerPort": _PORT}],
            "readinessProbe": http_probe("/healthz", _PORT),
            "resources": resources("128Mi", "1Gi"),
            "volumeMounts": [{"name": "token", "mountPath": "/etc/monitor", "readOnly": True}],
        },
        user=1000,
        data=site.data("monitor"),
        stamp=hashlib.sha256(token.encode()).hexdigest()[:12],
    )
    made["spec"]["template"]["spec"]["volumes"] += [{"name": "token", "secret": {"secretName": "monitor"}}]
    yield made


def _probe(visit: Visit) -> str | None:
    status, _ = visit.get("monitor", "/healthz")
    if status != 200:
        return f"the monitor's /healthz (it answers {status})" if status else "an answer of the monitor"
    status, _ = visit.get("monitor", "/api/default/none/metrics")
    return None if status == 401 else f"the monitor to ask for its token (it answers {status})"


COMPONENT = Component(
    name="monitor",
    summary="the monitor: prediction log, windows, metrics",
    version="0.1.0",
    objects=_objects,
    images=(IMAGE,),
    profiles=("full",),
    ports=(Port(name="monitor", node_port=_NODE_PORT),),
    probe=_probe,
)
