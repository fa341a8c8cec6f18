"""What runs in the cluster, spoilt one thing at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

MakePod = Callable[..., dict[str, Any]]
_CRD = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")


def _waits(pod: dict[str, Any], reason: str) -> None:
    pod["status"]["conditions"] = []
    pod["status"]["containerStatuses"][0] |= {"ready": False, "state": {"waiting": {"reason": reason}}}


def test_an_api_server_that_does_not_answer(world: Any) -> None:
    world.cluster.ready = False
    assert world.finding("api").level == "error"
    found = world.finding("definitions")
    assert (found.level, found.evidence) == ("skipped", "the API server does not answer")


def test_a_node_that_does_not_run_skips_what_needs_its_cluster(world: Any) -> None:
    world.stopped()
    for name in ("api", "components", "image-pulls", "webhooks", "helm", "mlflow-hosts", "node-disk"):
        assert world.finding(name).level == "skipped", name


def test_a_component_that_fails(world: Any) -> None:
    _waits(world.cluster.objects["v1", "Pod"][1], "ImagePullBackOff")
    world.cluster.objects["apps/v1", "Deployment"][0]["status"] = {"observedGeneration": 1}
    found = world.finding("components")
    assert found.level == "error"
    assert "postgres is failed" in found.evidence
    assert "modelyard sandbox logs postgres" in found.fix


def test_a_component_that_is_not_installed_yet(world: Any) -> None:
    world.folder.remember(components=["postgres", "s3"])
    found = world.finding("components")
    assert found.level == "warning"
    assert "s3" in found.evidence


@pytest.mark.parametrize("image", ["example.org/a:1", "example.org/a@sha256:" + "0" * 64])
def test_a_pod_that_waits_for_an_image(world: Any, make_pod: MakePod, image: str) -> None:
    pod = make_pod("model", "default", image)
    _waits(pod, "ErrImagePull")
    world.cluster.objects["v1", "Pod"].append(pod)
    found = world.finding("image-pulls")
    assert found.level == "error"
    assert f"default/model waits for {image}" in found.evidence
    assert ("by digest alone" in found.evidence) == ("@" in image)


def test_an_image_that_the_node_lost(world: Any, make_pod: MakePod) -> None:
    world.cluster.objects["v1", "Pod"].append(make_pod("s3", "modelyard", "versity/versitygw:v1.8.0"))
    found = world.finding("node-images")
    assert found.level == "warning"
    assert "docker.io/versity/versitygw:v1.8.0" in found.evidence
    assert "kind load" in found.fix


def test_a_webhook_that_nobody_answers(world: Any) -> None:
    world.cluster.objects["discovery.k8s.io/v1", "EndpointSlice"][0]["endpoints"] = [
        {"conditions": {"ready": False}}
    ]
    found = world.finding("webhooks")
    assert found.level == "error"
    assert "kserve: nobody answers for kserve/hook" in found.evidence


def test_a_definition_that_is_not_established(world: Any) -> None:
    world.cluster.objects[_CRD][0]["status"]["conditions"] = [{"type": "Established", "status": "False"}]
    found = world.finding("definitions")
    assert found.level == "error"
    assert "things.example.org" in found.evidence


def test_annotations_near_their_limit(world: Any) -> None:
    world.cluster.objects[_CRD][0]["metadata"]["annotations"] = {"last-applied": "x" * 250_000}
    found = world.finding("annotations")
    assert found.level == "warning"
    assert "things.example.org" in found.evidence


def test_a_release_of_helm_that_hangs(world: Any) -> None:
    labels = {"owner": "helm", "name": "grafana", "status": "pending-upgrade"}
    world.cluster.objects["v1", "Secret"].append(
        {"metadata": {"name": "h", "namespace": "default", "labels": labels}}
    )
    found = world.finding("helm")
    assert found.level == "warning"
    assert "grafana" in found.evidence


def test_a_release_of_helm_that_does_not_hang(world: Any) -> None:
    labels = {"owner": "helm", "name": "grafana", "status": "deployed"}
    world.cluster.objects["v1", "Secret"].append(
        {"metadata": {"name": "h", "namespace": "default", "labels": labels}}
    )
    assert world.finding("helm").evidence == "1 releases of Helm, none hangs"


def test_a_namespace_that_does_not_end(world: Any) -> None:
    said = [{"type": "NamespaceFinalizersRemaining", "status": "True", "message": "some finalizers remain"}]
    world.cluster.objects["v1", "Namespace"].append(
        {"metadata": {"name": "old"}, "status": {"phase": "Terminating", "conditions": said}}
    )
    found = world.finding("namespaces")
    assert found.level == "error"
    assert "old does not end: some finalizers remain" in found.evidence


def test_a_registry_whose_tags_knative_looks_up(world: Any) -> None:
    settings = world.cluster.objects["v1", "ConfigMap"][1]["data"]
    settings["registries-skipping-tag-resolving"] = "docker.io,quay.io"
    found = world.finding("tag-resolving")
    assert found.level == "warning"
    assert "ghcr.io" in found.evidence


def test_a_revision_whose_tag_could_not_be_looked_up(world: Any) -> None:
    said = 'Unable to fetch image "example.org/a:1": failed to resolve image to digest: no such host'
    world.cluster.objects["serving.knative.dev/v1", "Revision"].append(
        {
            "metadata": {"name": "m-1", "namespace": "default"},
            "status": {"conditions": [{"type": "ContainerHealthy", "status": "False", "message": said}]},
        }
    )
    found = world.finding("tag-resolving")
    assert found.level == "error"
    assert "default/m-1" in found.evidence


def test_without_knative_there_is_nothing_to_look_at(world: Any) -> None:
    del world.cluster.objects["v1", "ConfigMap"][1]
    assert world.finding("tag-resolving").level == "skipped"


def test_a_host_name_that_mlflow_refuses(world: Any) -> None:
    world.mlflow_status["mlflow.modelyard.svc:5000"] = 403
    found = world.finding("mlflow-hosts")
    assert found.level == "error"
    assert "403 to the host mlflow.modelyard.svc:5000" in found.evidence


def test_an_image_of_mlflow_without_drivers(world: Any) -> None:
    pod = world.cluster.objects["v1", "Pod"][2]
    _waits(pod, "CrashLoopBackOff")
    assert world.finding("mlflow-drivers").level == "ok"
    world.cluster.log = [
        "Traceback (most recent call last):",
        "ModuleNotFoundError: No module named 'psycopg2'",
    ]
    found = world.finding("mlflow-drivers")
    assert found.level == "error"
    assert "lacks psycopg2" in found.evidence


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("serving.kserve.org/s3-endpoint", "serving.kserve.io/s3-endpoint"),
        ("serving.kserve.io/s3-verify-ssl", "serving.kserve.io/s3-verifyssl"),
    ],
)
def test_a_setting_that_kserve_ignores(world: Any, wrong: str, right: str) -> None:
    world.cluster.objects["v1", "Secret"][0]["metadata"]["annotations"] = {wrong: "x"}
    found = world.finding("s3-annotations")
    assert (found.level, found.fix) == ("error", f"it is {right}")
