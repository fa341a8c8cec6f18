"""Alertmanager: gathers what Prometheus finds. Nobody is told of it until you say who.

Write a configuration of your own, with your receivers, and put it into a Secret that is read instead:

    kubectl -n modelyard create secret generic alertmanager-own --from-file=alertmanager.yml
    kubectl -n modelyard rollout restart deployment alertmanager

`modelyard sandbox up` leaves that Secret alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from modelyard.components import Component, Manifest, Port, Site, Visit
from modelyard.kube.objects import config, deployment, http_probe, resources, service

IMAGE = "docker.io/prom/alertmanager:v0.28.1"
_PORT, _NODE_PORT = 9093, 30993
_OWN = "alertmanager-own"
#: `nobody`, as in Alertmanager's own image.
_USER = 65534

SETTINGS = f"""\
# Alerts are shown on Alertmanager's page and go nowhere else. To be told of them, write a file like this one
# with your receivers, and put it into a Secret, which is read instead:
#   kubectl -n modelyard create secret generic {_OWN} --from-file=alertmanager.yml
#   kubectl -n modelyard rollout restart deployment alertmanager
route:
  receiver: nobody
  group_by: [alertname, namespace, project, endpoint]
receivers:
  - name: nobody
"""

_START = """\
file=/etc/alertmanager/own/alertmanager.yml
[ -s $file ] || file=/etc/alertmanager/ours/alertmanager.yml
exec alertmanager --config.file=$file --storage.path=/data --web.listen-address=:{port} \\
  --cluster.listen-address=
"""


def _objects(site: Site) -> Iterable[Manifest]:
    yield config("alertmanager", {"alertmanager.yml": SETTINGS})
    yield service("alertmanager", _PORT, node_port=_NODE_PORT)
    made = deployment(
        "alertmanager",
        {
            "image": site.image(IMAGE),
            "command": ["sh", "-c", _START.format(port=_PORT)],
            "ports": [{"containerPort": _PORT}],
            "readinessProbe": http_probe("/-/ready", _PORT),
            "resources": resources("32Mi", "128Mi"),
            "volumeMounts": [
                {"name": name, "mountPath": f"/etc/alertmanager/{name}", "readOnly": True}
                for name in ("ours", "own")
            ],
        },
        user=_USER,
        data=site.data("alertmanager"),
        stamp=hashlib.sha256(SETTINGS.encode()).hexdigest()[:12],
    )
    made["spec"]["template"]["spec"]["volumes"] += [
        {"name": "ours", "configMap": {"name": "alertmanager"}},
        {"name": "own", "secret": {"secretName": _OWN, "optional": True}},
    ]
    yield made


def _probe(visit: Visit) -> str | None:
    status, _ = visit.get("alertmanager", "/-/ready")
    if status == 200:
        return None
    return f"Alertmanager to be ready (it answers {status})" if status else "an answer of Alertmanager"


COMPONENT = Component(
    name="alertmanager",
    summary="Alertmanager: gathers alerts, tells whom you name",
    version="0.28.1",
    objects=_objects,
    images=(IMAGE,),
    profiles=("full",),
    ports=(Port(name="alertmanager", node_port=_NODE_PORT, page="/"),),
    probe=_probe,
)
