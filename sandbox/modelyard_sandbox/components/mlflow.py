"""MLflow's server: runs and versions in PostgreSQL, files in S3, reachable with its password only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from modelyard.components import Component, Manifest, Port, Site, Visit
from modelyard.kube.objects import (
    deployment,
    from_secret,
    http_probe,
    resources,
    secret,
    service,
)

#: Everything of ours in Python, MLflow's server among it.
IMAGE = "ghcr.io/modelyard/stack:0.1.0"
_PORT = 5000


def _objects(site: Site) -> Iterable[Manifest]:
    database = (
        f"postgresql+psycopg2://postgres:{site.secret('postgres-password')}@postgres.modelyard.svc:5432"
    )
    values = {
        "username": "admin",
        "password": site.secret("mlflow-password"),
        "flask-key": site.secret("mlflow-flask-key"),
        "backend-store-uri": f"{database}/mlflow",
        "basic_auth.ini": f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {database}/mlflow_auth\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        # A password is hashed 600,000 times to be compared: once a minute is enough.
        "auth_cache_ttl_seconds = 60\n",
    }
    yield secret("mlflow", values)
    yield service("mlflow", _PORT, node_port=30500)
    names = ["localhost", "127.0.0.1", "mlflow", "mlflow.modelyard", "mlflow.modelyard.svc"]
    names += ["mlflow.modelyard.svc.cluster.local"]
    hosts = ",".join(f"{name},{name}:*" for name in names)
    made = deployment(
        "mlflow",
        {
            "image": site.image(IMAGE),
            "command": ["python", "-m", "modelyard_mlflow.server"],
            "args": [
                *("--host", "0.0.0.0", "--port", str(_PORT), "--workers", "1"),
                *("--app-name", "basic-auth"),
                *("--artifacts-destination", "s3://mlflow"),
                *("--allowed-hosts", hosts),
            ],
            "env": [
                from_secret("MLFLOW_BACKEND_STORE_URI", "backend-store-uri", of="mlflow"),
                from_secret("MLFLOW_FLASK_SERVER_SECRET_KEY", "flask-key", of="mlflow"),
                from_secret("MLFLOW_AUTH_ADMIN_USERNAME", "username", of="mlflow"),
                from_secret("MLFLOW_AUTH_ADMIN_PASSWORD", "password", of="mlflow"),
                {"name": "MLFLOW_AUTH_CONFIG_PATH", "value": "/etc/mlflow/basic_auth.ini"},
                # Job runners take three times the memory of the server, and nothing here gives them work.
                {"name": "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "value": "false"},
                {"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"},
                {"name": "DO_NOT_TRACK", "value": "true"},
                {"name": "MLFLOW_S3_ENDPOINT_URL", "value": "http://s3.modelyard.svc:7070"},
                {"name": "AWS_DEFAULT_REGION", "value": "us-east-1"},
                {"name": "AWS_REQUEST_CHECKSUM_CALCULATION", "value": "when_required"},
                from_secret("AWS_ACCESS_KEY_ID", "access-key", of="s3"),
                from_secret("AWS_SECRET_ACCESS_KEY", "secret-key", of="s3"),
                {"name": "HOME", "value": "/tmp"},
            ],
            "ports": [{"containerPort": _PORT}],
            "readinessProbe": http_probe("/health", _PORT),
            "resources": resources("400Mi", "1536Mi"),
            "volumeMounts": [{"name": "auth", "mountPath": "/etc/mlflow", "readOnly": True}],
        },
        user=1000,
        data="",
        stamp=hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:12],
    )
    made["spec"]["template"]["spec"]["volumes"] = [
        {
            "name": "auth",
            "secret": {
                "secretName": "mlflow",
                "items": [{"key": "basic_auth.ini", "path": "basic_auth.ini"}],
            },
        }
    ]
    yield made


def _probe(visit: Visit) -> str | None:
    status, _ = visit.get("mlflow", "/health")
    if status != 200:
        return f"MLflow's /health (it answers {status})" if status else "an answer of MLflow"
    status, _ = visit.get("mlflow", "/api/2.0/mlflow/experiments/get?experiment_id=0")
    return None if status == 401 else f"MLflow to ask for a password (it answers {status})"


COMPONENT = Component(
    name="mlflow",
    summary="MLflow's server: tracking and model registry",
    version="3",
    objects=_objects,
    images=(IMAGE,),
    profiles=("minimal", "full"),
    requires=("postgres", "s3"),
    ports=(Port(name="mlflow", node_port=30500, page="/"),),
    probe=_probe,
)
