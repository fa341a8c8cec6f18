"""What a person without an administrator's rights may do, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from modelyard.kube import Cluster
from modelyard.kube.rights import RIGHTS, examine_target, missing, role
from modelyard.targets import Address, Target

pytest.importorskip("kubernetes")


@pytest.fixture
def person(light_cluster: Cluster, namespace: str, tmp_path: Path) -> Path:
    """A kubeconfig of somebody who may do nothing yet."""
    metadata = {"name": "ada", "namespace": namespace}
    light_cluster.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/ada/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = light_cluster.request("POST", path, body=request)["status"]["token"]
    assert light_cluster.kubeconfig is not None
    config = yaml.safe_load(light_cluster.kubeconfig.read_text())
    config["users"] = [{"name": "admin", "user": {"token": token}}]
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


def grant(cluster: Cluster, namespace: str) -> None:
    """As an administrator does it with the Role that we show."""
    made = yaml.safe_load(role(namespace))
    cluster.apply(made)
    cluster.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "modelyard", "namespace": namespace},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": made["metadata"]["name"],
            },
            "subjects": [{"kind": "ServiceAccount", "name": "ada", "namespace": namespace}],
        }
    )


def target_of(kubeconfig: Path, namespace: str) -> Target:
    return Target(
        "team", namespace=namespace, kubeconfig=kubeconfig, find=lambda _: Address(url="http://127.0.0.1:1")
    )


def test_everything_is_missing_until_the_role_is_granted(
    light_cluster: Cluster, namespace: str, person: Path
) -> None:
    cluster = Cluster(person)
    assert missing(cluster, namespace) == list(RIGHTS)
    grant(light_cluster, namespace)
    assert missing(cluster, namespace) == []


def test_doctor_names_each_missing_right_and_service(
    light_cluster: Cluster, namespace: str, person: Path
) -> None:
    checks = {check.name: check for check in examine_target(target_of(person, namespace))}
    right = checks["right inferenceservices.serving.kserve.io"]
    assert right.status == "failed"
    assert "you may not get, list, watch, create, patch, delete inferenceservices" in right.message
    assert checks["cluster"].status == "ok"
    assert (checks["s3"].status, "http://127.0.0.1:1 can't be reached" in checks["s3"].message) == (
        "failed",
        True,
    )
    grant(light_cluster, namespace)
    after = {check.name: check.status for check in examine_target(target_of(person, namespace))}
    assert after["rights"] == "ok"
    assert not any(name.startswith("right ") for name in after)


def test_a_cluster_that_does_not_answer_is_one_failed_check(person: Path, namespace: str) -> None:
    config = yaml.safe_load(person.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    person.write_text(yaml.safe_dump(config))
    (check,) = examine_target(target_of(person, namespace))
    assert (check.name, check.status) == ("cluster", "failed")
    assert "does not answer" in check.message
