"""What is made out of a file for the cluster, and what of it makes a new revision."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from modelyard.errors import ConfigError
from modelyard.targets import Address
from modelyard_kserve.cluster.manifests import (
    Served,
    applied_document,
    identity_of,
    inference_service,
    project_label,
    storage_access,
    with_canary,
)
from modelyard_kserve.manifest import parse

pytest.importorskip("kserve")

DOCUMENT: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "late-flights", "labels": {"team": "ops"}, "annotations": {"note": "ours"}},
    "spec": {
        "predictor": {
            "logger": {"mode": "all", "metadataHeaders": ["x-event-time"]},
            "model": {
                "modelFormat": {"name": "mlflow"},
                "storageUri": "models:/late-flights@production",
                "env": [
                    {"name": "PREDICT_PROBA", "value": "true"},
                    {"name": "MODELYARD_TRUST", "value": "x"},
                ],
            },
        }
    },
}
SERVED = Served(
    model="late-flights",
    version="3",
    storage_uri="models:/late-flights@production",
    address="s3://mlflow/1/models/m-7/artifacts",
    digest="ab" * 32,
    lineage_id="cd" * 32,
    trust="registry",
)


def made(document: dict[str, Any] | None = None, served: Served = SERVED, **changed: Any) -> dict[str, Any]:
    manifest = parse(json.dumps(document or DOCUMENT), "dienst.yaml", mode_of=lambda _: "Knative")
    given = {"project": "yard", "sink": "http://monitor/", "account": "modelyard-models", "canary": None}
    return inference_service(manifest, served, **{**given, **changed})


def with_predictor(**more: Any) -> dict[str, Any]:
    predictor = {**DOCUMENT["spec"]["predictor"], **more}
    return {**DOCUMENT, "spec": {"predictor": predictor}}


def spec_of(service: dict[str, Any]) -> str:
    return identity_of(service["metadata"]).spec


def test_who_it_is_stands_in_annotations_and_environment() -> None:
    service = made()
    annotations, model = service["metadata"]["annotations"], service["spec"]["predictor"]["model"]
    assert annotations["note"] == "ours"
    assert service["metadata"]["labels"]["team"] == "ops"
    assert (annotations["modelyard.dev/model"], annotations["modelyard.dev/version"]) == ("late-flights", "3")
    assert annotations["modelyard.dev/storage-uri"] == "models:/late-flights@production"
    assert annotations["modelyard.dev/digest"] == "ab" * 32
    assert annotations["modelyard.dev/lineage-id"] == "cd" * 32
    assert model["storageUri"] == SERVED.address
    assert {item["name"]: item["value"] for item in model["env"]} == {
        "PREDICT_PROBA": "true",
        "MODELYARD_MODEL": "late-flights",
        "MODELYARD_VERSION": "3",
        "MODELYARD_DIGEST": "ab" * 32,
        "MODELYARD_TRUST": "true",
    }


def test_a_model_that_nobody_registered_is_not_trusted() -> None:
    served = Served(model="late-flights", version="0", storage_uri="gs://b/m", address="gs://b/m")
    env = {item["name"]: item["value"] for item in made(served=served)["spec"]["predictor"]["model"]["env"]}
    assert env == {"PREDICT_PROBA": "true", "MODELYARD_MODEL": "late-flights", "MODELYARD_VERSION": "0"}


def test_the_file_is_not_changed_and_can_be_read_back() -> None:
    before = json.dumps(DOCUMENT)
    service = made()
    assert json.dumps(DOCUMENT) == before
    assert json.loads(applied_document(service) or "") == DOCUMENT


def test_the_files_own_account_stays() -> None:
    service = made(with_predictor(serviceAccountName="mine"))
    assert service["spec"]["predictor"]["serviceAccountName"] == "mine"


def test_a_split_makes_no_new_revision_and_everything_else_does() -> None:
    spec = spec_of(made())
    assert spec_of(made(canary=20)) == spec
    assert spec_of(made(with_predictor(canaryTrafficPercent=20), canary=20)) == spec
    assert spec_of(made(generation=2)) == spec
    others = [
        made(with_predictor(minReplicas=0)),
        made(served=replace(SERVED, version="4")),
        made(served=replace(SERVED, digest="ef" * 32)),
        made(sink="http://elsewhere/"),
    ]
    assert len({spec, *map(spec_of, others)}) == 5


def test_a_live_service_with_another_split_keeps_all_that_kserve_copies() -> None:
    live = made(generation=2)
    live["metadata"] |= {"uid": "u", "managedFields": [], "resourceVersion": "7"}
    live["status"] = {"url": "http://x"}
    changed = with_canary(live, 30)
    assert changed["spec"]["predictor"]["canaryTrafficPercent"] == 30
    assert changed["metadata"]["annotations"] == live["metadata"]["annotations"]
    assert sorted(changed["metadata"]) == ["annotations", "labels", "name", "namespace"]
    assert "status" not in changed


def test_the_logger_knows_where_and_what() -> None:
    logger = made()["spec"]["predictor"]["logger"]
    assert logger == {
        "mode": "all",
        "url": "http://monitor/",
        "metadataHeaders": ["X-Event-Time", "X-Request-Id"],
        "metadataAnnotations": ["modelyard.dev/model", "modelyard.dev/version"],
    }
    theirs = made(with_predictor(logger={"url": "http://broker/"}))["spec"]["predictor"]["logger"]
    assert theirs["url"] == "http://broker/"


def test_without_a_monitor_nothing_is_logged() -> None:
    assert "logger" not in made(sink=None)["spec"]["predictor"]


@pytest.mark.parametrize("name", ["a,b", 'say "late"'])
def test_a_name_that_would_stop_kserves_agent_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        made(served=replace(SERVED, model=name))
    assert refused.value.code == "model-not-loggable"
    no_logger = {**DOCUMENT, "spec": {"predictor": {"model": DOCUMENT["spec"]["predictor"]["model"]}}}
    made(no_logger, served=replace(SERVED, model=name))


def test_annotations_of_strangers_are_read_as_nothing() -> None:
    assert identity_of({}).model == ""
    assert identity_of({"annotations": {"modelyard.dev/generation": "many"}}).generation == 1


@pytest.mark.parametrize("name", ["yard", "Über 5 Züge", "a" * 100, "x-", "_"])
def test_every_project_name_makes_a_label(name: str) -> None:
    label = project_label(name)
    assert len(label) <= 63
    assert label.replace("-", "").replace(".", "").replace("_", "").isalnum()
    assert label[0].isalnum()
    assert label[-1].isalnum()


def test_different_projects_have_different_labels() -> None:
    assert project_label("späte züge") != project_label("sp-te z-ge")


def test_an_s3_server_with_tls_is_checked() -> None:
    secret, account = storage_access(
        "team", Address(url="", inside="https://s3.corp", user="u", password="p")
    )
    assert secret["metadata"]["annotations"]["serving.kserve.io/s3-usehttps"] == "1"
    assert secret["metadata"]["annotations"]["serving.kserve.io/s3-verifyssl"] == "1"
    assert account["automountServiceAccountToken"] is False


def test_what_was_applied_can_be_copied_out_of_the_cluster_and_applied_again() -> None:
    again = made(made())
    assert again["metadata"]["annotations"]["modelyard.dev/trusted-by"] == "registry"


def test_a_file_does_not_say_who_answers_for_its_model() -> None:
    annotations = {"modelyard.dev/trusted-by": "registry", "modelyard.dev/lineage-id": "ef" * 32}
    claimed = {**DOCUMENT, "metadata": {"name": "late-flights", "annotations": annotations}}
    said = made(claimed, replace(SERVED, trust="", lineage_id=None))["metadata"]["annotations"]
    assert not annotations.keys() & said.keys()
