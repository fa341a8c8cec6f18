"""KServe's Standard mode: Deployments whose pods kwok pretends, and a port-forward to their Service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from modelyard.errors import ConfigError, UsageError
from modelyard.kube import Cluster, Ref

pytest.importorskip("kserve")
pytest.importorskip("kubernetes")

SERVICE = ("serving.kserve.io/v1beta1", "InferenceService")
V1, V2 = (f"models:/late-flights/{version}" for version in (1, 2))


class Standard:
    """What KServe does with one InferenceService in this mode: a Deployment, a Service, a status."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster, self._namespace, self._name = cluster, namespace, name
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Standard:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(20)

    def _run(self) -> None:
        ref = Ref(*SERVICE, self._namespace, self._name)
        while not self._stopped.wait(0.1):
            service = self._cluster.get(ref)
            if service is not None:
                self._deploy(service)
                ready = self._is_available()
                status = {
                    "deploymentMode": "Standard",
                    "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
                }
                if (service.get("status") or {}).get("conditions") != status["conditions"]:
                    self._cluster.patch(ref, {"status": status}, part="status")

    def _deploy(self, service: dict[str, Any]) -> None:
        name, labels = f"{self._name}-predictor", {"app": f"isvc.{self._name}-predictor"}
        own = {
            **labels,
            **service["metadata"]["labels"],
            "serving.kserve.io/inferenceservice": self._name,
            "component": "predictor",
        }
        annotations = {
            k: v for k, v in service["metadata"]["annotations"].items() if not k.startswith("kubectl.")
        }
        where = {"namespace": self._namespace, "name": name}
        self._cluster.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": where,
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": own, "annotations": annotations},
                        "spec": {"containers": [{"name": "kserve-container", "image": "none"}]},
                    },
                },
            }
        )
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        spec = {"selector": labels, "ports": ports}
        self._cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": where, "spec": spec})

    def _is_available(self) -> bool:
        found = self._cluster.get(Ref("apps/v1", "Deployment", self._namespace, f"{self._name}-predictor"))
        status = (found or {}).get("status") or {}
        return status.get("updatedReplicas") == status.get("readyReplicas") == status.get("replicas") == 1


@pytest.fixture
def kserve(kserve_cluster: Cluster, namespace: str) -> Iterator[Standard]:
    """Administrators choose the mode for everybody; KServe at work on one InferenceService."""
    kserve_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}})
    kserve_cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "inferenceservice-config", "namespace": "kserve"},
            "data": {"deploy": '{"defaultDeploymentMode": "Standard"}'},
        }
    )
    with Standard(kserve_cluster, namespace, "flights") as made:
        yield made
    kserve_cluster.delete(Ref("v1", "ConfigMap", "kserve", "inferenceservice-config"))


def test_revisions_are_replica_sets_and_a_forward_leads_to_them(
    open_server: Any, write: Any, kserve: Standard
) -> None:
    server = open_server()
    try:
        first = server.apply(write("flights", V1, minReplicas=0))
        assert first.ready
        assert first.url is not None
        assert first.url.startswith("http://127.0.0.1:")
        assert "spec.predictor.minReplicas 0 becomes 1 in Standard mode" in first.message
        second = server.apply(write("flights", V2))
        assert [(r.number, r.version, r.traffic) for r in second.revisions] == [(2, "2", 100), (1, "1", 0)]
        assert second.url == first.url  # the forward stays
        assert [endpoint.name for endpoint in server.endpoints()] == ["flights"]
        with pytest.raises(UsageError, match="Standard mode") as refused:
            server.traffic("flights", 50)
        assert refused.value.code == "no-canary"
    finally:
        server.delete("flights")


def test_a_canary_that_would_do_nothing_is_refused(open_server: Any, write: Any, kserve: Standard) -> None:
    with pytest.raises(ConfigError, match="canaryTrafficPercent: has no effect in KServe's Standard mode"):
        open_server().apply(write("flights", V1, canary=20))
