"""`endpoints apply`, `traffic`, `reconcile`, `show` and `delete` against a real API server."""

from __future__ import annotations

import base64
import threading
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import ConfigError, ConflictError, EnvironmentFault, NotFoundError, UsageError
from modelyard.kube import Cluster, Ref

pytest.importorskip("kserve")
pytest.importorskip("kubernetes")

V1, V2, V3 = (f"models:/late-flights/{version}" for version in (1, 2, 3))


def live(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    found = cluster.get(Ref("serving.kserve.io/v1beta1", "InferenceService", namespace, name))
    assert found is not None
    return found


def shares(endpoint: Any) -> dict[str, int]:
    return {revision.version: revision.traffic for revision in endpoint.revisions if revision.traffic}


def test_an_applied_file_becomes_an_endpoint(
    open_server: Any, write: Any, controllers: Any, namespace: str
) -> None:
    endpoint = open_server().apply(write("flights", V1))
    assert (endpoint.name, endpoint.target, endpoint.ready, endpoint.storage_uri) == (
        "flights",
        "team",
        True,
        V1,
    )
    assert endpoint.url == f"http://flights-predictor.{namespace}.modelyard.localhost:31080"
    (revision,) = endpoint.revisions
    assert (revision.name, revision.number, revision.model, revision.version) == (
        "flights-predictor-00001",
        1,
        "late-flights",
        "1",
    )
    assert (revision.traffic, revision.ready, revision.failed, revision.storage_uri) == (100, True, False, V1)


def test_the_model_is_named_by_its_address_and_proves_itself(
    open_server: Any, write: Any, controllers: Any, kserve_cluster: Cluster, namespace: str
) -> None:
    open_server().apply(write("flights", V1))
    made = live(kserve_cluster, namespace, "flights")
    predictor, annotations = made["spec"]["predictor"], made["metadata"]["annotations"]
    assert predictor["model"]["storageUri"] == "s3://mlflow/late-flights/1"
    assert {item["name"]: item["value"] for item in predictor["model"]["env"]} == {
        "MODELYARD_MODEL": "late-flights",
        "MODELYARD_VERSION": "1",
        "MODELYARD_DIGEST": "1" * 64,
        "MODELYARD_TRUST": "true",
    }
    assert annotations["modelyard.dev/digest"] == "1" * 64
    assert annotations["modelyard.dev/lineage-id"] == "ab" * 32
    logger = predictor["logger"]
    assert logger["url"] == "http://monitor.modelyard.svc:8080/events/late-flights"
    assert logger["metadataHeaders"] == ["X-Event-Time", "X-Request-Id"]
    assert logger["metadataAnnotations"] == ["modelyard.dev/model", "modelyard.dev/version"]


def test_pods_get_the_keys_of_the_targets_s3(
    open_server: Any, write: Any, controllers: Any, kserve_cluster: Cluster, namespace: str
) -> None:
    open_server().apply(write("flights", V1))
    assert (
        live(kserve_cluster, namespace, "flights")["spec"]["predictor"]["serviceAccountName"]
        == "modelyard-models"
    )
    account = kserve_cluster.get(Ref("v1", "ServiceAccount", namespace, "modelyard-models"))
    secret = kserve_cluster.get(Ref("v1", "Secret", namespace, "modelyard-models"))
    assert account is not None
    assert secret is not None
    assert account["secrets"] == [{"name": "modelyard-models"}]
    assert base64.b64decode(secret["data"]["AWS_SECRET_ACCESS_KEY"]) == b"geheim"
    assert secret["metadata"]["annotations"]["serving.kserve.io/s3-endpoint"] == "s3.modelyard.svc:7070"
    assert secret["metadata"]["annotations"]["serving.kserve.io/s3-usehttps"] == "0"


def test_the_same_file_again_changes_nothing(
    open_server: Any, write: Any, controllers: Any, kserve_cluster: Cluster, namespace: str
) -> None:
    server = open_server()
    first = server.apply(write("flights", V1))
    before = live(kserve_cluster, namespace, "flights")["metadata"]["generation"]
    assert server.apply(write("flights", V1)).revisions == first.revisions
    assert live(kserve_cluster, namespace, "flights")["metadata"]["generation"] == before


def test_a_canary_shares_is_promoted_and_rolled_back(open_server: Any, write: Any, controllers: Any) -> None:
    server = open_server()
    server.apply(write("flights", V1))
    assert shares(server.apply(write("flights", V2, canary=20))) == {"2": 20, "1": 80}
    assert shares(server.traffic("flights", 50)) == {"2": 50, "1": 50}
    assert shares(server.traffic("flights", 100)) == {"2": 100}
    assert shares(server.traffic("flights", 0)) == {"1": 100}
    assert len(controllers.revisions("flights")) == 2  # a split makes none


def test_one_revision_can_not_be_split(open_server: Any, write: Any, controllers: Any) -> None:
    server = open_server()
    assert shares(server.apply(write("flights", V1, canary=10))) == {"1": 100}
    with pytest.raises(UsageError, match="nothing to split") as refused:
        server.traffic("flights", 10)
    assert refused.value.code == "no-canary"


def test_an_alias_that_moved_is_followed_with_the_canary_of_the_file(
    open_server: Any, write: Any, controllers: Any, shelf: Any
) -> None:
    server = open_server()
    shelf.aliases["production"] = "1"
    server.apply(write("flights", "models:/late-flights@production", canary=25))
    shelf.aliases["production"] = "2"
    moved = server.reconcile("flights")
    assert shares(moved) == {"2": 25, "1": 75}
    assert moved.storage_uri == "models:/late-flights@production"
    server.traffic("flights", 60)
    assert shares(server.reconcile("flights")) == {"2": 60, "1": 40}  # nothing moved


def test_a_revision_that_fails_is_explained_and_the_old_one_answers(
    open_server: Any, write: Any, controllers: Any
) -> None:
    server = open_server()
    server.apply(write("flights", V1))
    controllers.outcome["2"] = "model can't be loaded: no module named 'lightgbm'"
    with pytest.raises(EnvironmentFault) as failed:
        server.apply(write("flights", V2))
    assert failed.value.code == "revision-failed"
    assert failed.value.message == (
        "revision flights-predictor-00002 with late-flights/2: container kserve-container: ended with "
        "status 3 (model can't be loaded: no module named 'lightgbm'); flights-predictor-00001 with "
        "late-flights/1 still answers"
    )
    endpoint = server.get("flights")
    assert endpoint.ready
    assert shares(endpoint) == {"1": 100}
    assert (endpoint.revisions[0].version, endpoint.revisions[0].failed) == ("2", True)


def test_a_failed_revision_is_tried_again_when_its_file_is(
    open_server: Any, write: Any, controllers: Any
) -> None:
    server = open_server()
    server.apply(write("flights", V1))
    controllers.outcome["2"] = "model can't be loaded"
    with pytest.raises(EnvironmentFault):
        server.apply(write("flights", V2))
    del controllers.outcome["2"]
    endpoint = server.apply(write("flights", V2))
    assert (endpoint.revisions[0].number, shares(endpoint)) == (3, {"2": 100})


def test_who_is_overtaken_by_another_apply_is_told(
    open_server: Any, write: Any, controllers: Any, kserve_cluster: Cluster, namespace: str
) -> None:
    server, other = open_server(), open_server()
    controllers.stopped.set()  # nothing becomes ready any more
    assert controllers.ended.wait(60)
    first = write("flights", V1)
    said: list[str] = []

    def wait() -> None:
        try:
            server.apply(first)
        except ConflictError as fault:
            said.append(f"{fault.code}: {fault.message}")

    waiting = threading.Thread(target=wait)
    waiting.start()
    ref = Ref("serving.kserve.io/v1beta1", "InferenceService", namespace, "flights")
    for _ in range(1200):
        if kserve_cluster.get(ref) is not None:
            break
        waiting.join(0.05)
    other.apply(write("flights", V2), wait=False)
    waiting.join(90)
    assert said == [
        "endpoint-changed: 'flights' was changed to late-flights/2 by another command before it was ready"
    ]


def test_a_deleted_endpoint_is_gone(open_server: Any, write: Any, controllers: Any) -> None:
    server = open_server()
    server.apply(write("flights", V1))
    server.delete("flights")
    assert server.endpoints() == []
    with pytest.raises(NotFoundError, match="no endpoint 'flights' on team; there are: none yet") as missing:
        server.get("flights")
    assert missing.value.code == "endpoint-not-found"


def test_a_project_sees_its_own_endpoints(open_server: Any, write: Any, controllers: Any) -> None:
    ours, theirs = open_server("late-flights"), open_server("Züge")
    ours.apply(write("flights", V1))
    theirs.apply(write("trains", V1))
    assert [endpoint.name for endpoint in ours.endpoints()] == ["flights"]
    assert [endpoint.name for endpoint in theirs.endpoints()] == ["trains"]
    with pytest.raises(NotFoundError):
        ours.get("trains")


def test_what_kserve_refuses_is_the_reason(
    open_server: Any, write: Any, kserve_cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard_kserve.cluster.waiting._GRACE", 1.0)
    server = open_server()
    server.apply(write("flights", V1), wait=False)
    said = "No runtime found to support predictor with model type: mlflow"
    status = {
        "deploymentMode": "Knative",
        "modelStatus": {
            "transitionStatus": "InvalidSpec",
            "lastFailureInfo": {"reason": "NoSupportingRuntime", "message": said},
        },
    }
    ref = Ref("serving.kserve.io/v1beta1", "InferenceService", namespace, "flights")
    kserve_cluster.patch(ref, {"status": status}, part="status")
    with pytest.raises(EnvironmentFault, match=said) as failed:
        server.apply(write("flights", V1))
    assert failed.value.code == "revision-failed"
    assert said in server.get("flights").message


def test_a_file_for_another_namespace_is_refused(open_server: Any, write: Any, namespace: str) -> None:
    file: Path = write("flights", V1)
    file.write_text(file.read_text().replace('"name": "flights"', '"name": "flights", "namespace": "other"'))
    with pytest.raises(ConfigError, match=f"'other' is not the target's namespace, '{namespace}'"):
        open_server().apply(file)


def test_a_model_on_this_machine_is_refused(open_server: Any, write: Any) -> None:
    with pytest.raises(EnvironmentFault, match="lies on this machine") as refused:
        open_server().apply(write("flights", "models/late"))
    assert refused.value.code == "model-not-reachable"
