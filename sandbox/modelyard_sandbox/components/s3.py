"""versitygw: S3 over a folder. Models, runs' files and data lie in it as ordinary files."""

from __future__ import annotations

from collections.abc import Iterable

from modelyard.components import Component, Manifest, Port, Site, Visit
from modelyard.kube.objects import deployment, from_secret, resources, secret, service

IMAGE = "docker.io/versity/versitygw:v1.8.0"
BUCKETS = ("mlflow", "dvc")
_PORT = 7070


def _objects(site: Site) -> Iterable[Manifest]:
    yield secret("s3", {"access-key": "modelyard", "secret-key": site.secret("s3-secret-key")})
    yield service("s3", _PORT, node_port=30900)
    folders = " ".join(f"/data/{bucket}" for bucket in BUCKETS)
    yield deployment(
        "s3",
        {
            "image": site.image(IMAGE),
            # A folder is a bucket; made here, they are there before anybody asks for them.
            "command": ["sh", "-c", f"mkdir -p {folders} && exec versitygw --port :{_PORT} posix /data"],
            "env": [
                from_secret("ROOT_ACCESS_KEY", "access-key", of="s3"),
                from_secret("ROOT_SECRET_KEY", "secret-key", of="s3"),
                {"name": "VGW_HEALTH", "value": "/health"},
            ],
            "ports": [{"containerPort": _PORT}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": _PORT}, "periodSeconds": 2},
            "resources": resources("64Mi", "512Mi"),
        },
        user=1000,
        data=site.data("s3"),
    )


def _probe(visit: Visit) -> str | None:
    status, _ = visit.get("s3", "/health")
    return None if status == 200 else "an answer of the S3 server"


COMPONENT = Component(
    name="s3",
    summary="versitygw, an S3 server over a folder",
    version="1.8.0",
    objects=_objects,
    images=(IMAGE,),
    profiles=("minimal", "full"),
    ports=(Port(name="s3", node_port=30900),),
    probe=_probe,
)
