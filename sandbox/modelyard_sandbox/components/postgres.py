"""PostgreSQL: where MLflow keeps runs, versions and users."""

from __future__ import annotations

from collections.abc import Iterable

from modelyard.components import Component, Manifest, Site, Visit
from modelyard.kube.objects import config, deployment, resources, secret, service

IMAGE = "docker.io/library/postgres:17-bookworm"
#: The user `postgres` in Debian's and the official image.
_USER = 999

#: The data folder appears under its name only when it is whole: a first start may be cut off anywhere.
_START = """\
set -eu
if [ ! -s /data/pg/PG_VERSION ]; then
  rm -rf /data/new
  initdb --pgdata=/data/new --username=postgres --pwfile=/etc/postgres/password \\
    --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C >/dev/null
  echo "host all all all scram-sha-256" >>/data/new/pg_hba.conf
  for name in mlflow mlflow_auth; do
    echo "CREATE DATABASE $name" | postgres --single -D /data/new postgres >/dev/null
  done
  mv /data/new /data/pg
fi
exec postgres -D /data/pg -c listen_addresses='*' -c unix_socket_directories=/tmp \\
  -c shared_buffers=64MB -c max_connections=60 -c jit=off
"""


def _objects(site: Site) -> Iterable[Manifest]:
    yield secret("postgres", {"password": site.secret("postgres-password")})
    yield config("postgres", {"start.sh": _START})
    yield service("postgres", 5432)
    made = deployment(
        "postgres",
        {
            "image": site.image(IMAGE),
            "command": ["sh", "/etc/start/start.sh"],
            "ports": [{"containerPort": 5432}],
            "readinessProbe": {
                "exec": {"command": ["pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres"]},
                "periodSeconds": 2,
                "timeoutSeconds": 5,
            },
            "resources": resources("96Mi", "512Mi"),
            "volumeMounts": [
                {"name": "password", "mountPath": "/etc/postgres", "readOnly": True},
                {"name": "start", "mountPath": "/etc/start", "readOnly": True},
            ],
        },
        user=_USER,
        data=site.data("postgres"),
    )
    made["spec"]["template"]["spec"]["volumes"] += [
        {"name": "password", "secret": {"secretName": "postgres"}},
        {"name": "start", "configMap": {"name": "postgres"}},
    ]
    yield made


def _backup(visit: Visit) -> str:
    """A dump of every database, beside the data."""
    pods = visit.cluster.find("v1", "Pod", namespace="modelyard", labels="app=postgres")
    command = (
        "mkdir -p /data/backups && file=/data/backups/$(date -u +%Y%m%dT%H%M%SZ).sql.gz && "
        "pg_dumpall -h /tmp -U postgres | gzip >$file.part && mv $file.part $file && echo $file"
    )
    said = visit.cluster.run("modelyard", pods[0]["metadata"]["name"], ["sh", "-c", command])
    return said.strip().replace("/data", visit.site.data("postgres"))


COMPONENT = Component(
    name="postgres",
    summary="PostgreSQL, the database of MLflow",
    version="17",
    objects=_objects,
    images=(IMAGE,),
    profiles=("minimal", "full"),
    backup=_backup,
)
