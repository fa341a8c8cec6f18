"""The sandbox's component `runtimes`: what KServe runs for our model formats, and what fetches models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modelyard.components import Component, Manifest, Site
from modelyard_kserve.local.forks import ONE_THREAD

#: The image with everything of ours.
STACK = "ghcr.io/modelyard/stack:0.1.0"
#: Where KServe puts a model, and which port it asks.
_FOLDER = "/mnt/models"
#: Where the model server listens in its pod, and where KServe's samples ask for gRPC.
PORT, GRPC_PORT = 8080, 8081
#: Format -> the versions that files may name. What needs torch or TensorFlow is gigabytes: not in the image.
_FORMATS = {
    **{"mlflow": ("1", "2", "3"), "sklearn": ("0", "1")},
    **{"xgboost": ("1", "2", "3"), "lightgbm": ("3", "4"), "onnx": ("1",)},
}
#: Above those of the runtimes that KServe brings (1 and 2).
_PRIORITY = 10
_SOURCES: tuple[dict[str, str], ...] = (
    *({"prefix": f"{scheme}://"} for scheme in ("s3", "gs", "hf", "hdfs", "webhdfs", "modelscope")),
    {"regex": "https?://(.+)/(.+)"},
)
#: In containers, because KServe lets a runtime say nothing about the pod as a whole.
_AS_NOBODY = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


def _objects(site: Site) -> Iterable[Manifest]:
    image = site.image(STACK)
    for name, versions in _FORMATS.items():
        yield _runtime(name, versions, image)
    yield _initializer(image)


def _runtime(name: str, versions: Iterable[str], image: str) -> Manifest:
    formats = [
        {"name": name, "version": version, "autoSelect": True, "priority": _PRIORITY} for version in versions
    ]
    container: dict[str, Any] = {
        "name": "kserve-container",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "modelyard_kserve.cluster.server"],
        "args": [
            *("--model_name={{.Name}}", f"--model_format={name}"),
            *(f"--model_dir={_FOLDER}", f"--http_port={PORT}", f"--grpc_port={GRPC_PORT}"),
        ],
        "env": [{"name": key, "value": value} for key, value in ONE_THREAD.items()],
        # No ports: KServe would put those of a file beside them, and Knative takes one. 8080 is everybody's.
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": PORT},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
            "successThreshold": 1,
        },
        "resources": {"requests": {"cpu": "10m", "memory": "192Mi"}, "limits": {"memory": "2Gi"}},
        "securityContext": _AS_NOBODY,
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterServingRuntime",
        "metadata": {"name": f"modelyard-{name}"},
        "spec": {
            "annotations": {"prometheus.kserve.io/path": "/metrics", "prometheus.kserve.io/port": str(PORT)},
            "supportedModelFormats": formats,
            "protocolVersions": ["v1", "v2", "grpc-v2"],
            "containers": [container],
        },
    }


def _initializer(image: str) -> Manifest:
    container = {
        "name": "storage-initializer",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "modelyard_kserve.cluster.initializer"],
        "env": [{"name": "HOME", "value": "/tmp"}],  # where the hubs' clients keep their caches
        "resources": {"requests": {"cpu": "10m", "memory": "100Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": _AS_NOBODY,
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterStorageContainer",
        "metadata": {"name": "default"},
        "spec": {
            "container": container,
            "supportedUriFormats": list(_SOURCES),
            "supportsMultiModelDownload": True,
            "workloadType": "initContainer",
        },
    }


COMPONENT = Component(
    name="runtimes",
    summary="model servers for MLflow, scikit-learn, XGBoost, LightGBM and ONNX, and what fetches models",
    version="0.1.0",
    objects=_objects,
    images=(STACK,),
    profiles=("minimal", "full"),
    requires=("kserve",),
)
