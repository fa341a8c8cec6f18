"""Consent is for files by their digest: written into the file, or given to what lies here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelyard.digests import model_digest
from modelyard.errors import ConfigError, UsageError
from modelyard.testing import ModelShelf, make_context
from modelyard.testing.models import ConstantModel
from modelyard_kserve import trust
from modelyard_kserve.cluster.manifests import inference_service
from modelyard_kserve.cluster.provider import ClusterServer
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.manifest import Manifest, parse

AB = "ab" * 32


def file(uri: str, consent: str | None = None) -> str:
    annotations = f"\n  annotations: {{{trust.ANNOTATION}: '{consent}'}}" if consent is not None else ""
    return (
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\n"
        f"metadata:\n  name: flights{annotations}"
        f"\nspec:\n  predictor:\n    model: {{modelFormat: {{name: mlflow}}, storageUri: '{uri}'}}\n"
    )


@pytest.mark.parametrize("said", ["true", "sha256:12", f"sha256:{'AB' * 32}", AB, "*", ""])
def test_consent_to_whatever_comes_is_none(said: str) -> None:
    with pytest.raises(ConfigError, match="is not the SHA-256 of a model's files") as refused:
        parse(file("./model", said), "flights.yaml")
    assert f"metadata.annotations.{trust.ANNOTATION}" in refused.value.message


def test_consent_is_read_from_the_file() -> None:
    assert trust.written(parse(file("./model", f"sha256:{AB}"), "flights.yaml").document) == AB
    assert trust.written(parse(file("./model"), "flights.yaml").document) == ""


# -- on clusters -----------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path) -> ModelShelf:
    """`flights/1` with a recorded digest, `flights/2` without."""
    shelf = ModelShelf()
    for value in (0.25, 0.75):
        ConstantModel(value).save(tmp_path / str(value))
        shelf.put("flights", tmp_path / str(value))
    return shelf


def server(tmp_path: Path, shelf: ModelShelf, **settings: Any) -> Any:
    def resolve(uri: str) -> Any:
        found = shelf.resolve(uri)
        return replace(found, version=replace(found.version, digest=None)) if "/2" in uri else found

    context = make_context(tmp_path / "project", settings=KserveSettings(**settings), resolve_model=resolve)
    return ClusterServer(context, SimpleNamespace(namespace="team", name="team", cluster=None))  # type: ignore[arg-type]


def manifest(uri: str, consent: str | None = None) -> Manifest:
    return parse(file(uri, consent), "flights.yaml", mode_of=lambda _: "Knative")


def test_the_registry_answers_for_what_it_recorded(tmp_path: Path, shelf: ModelShelf) -> None:
    served = server(tmp_path, shelf)._served(manifest("models:/flights/1"), None, False)
    assert served.trust == "registry"


def test_nobody_answers_for_a_version_without_a_digest_until_somebody_consents(
    tmp_path: Path, shelf: ModelShelf
) -> None:
    provider, digest = server(tmp_path, shelf), model_digest(shelf.resolve("models:/flights/2").path)
    wanted = manifest("models:/flights/2")
    assert provider._served(wanted, None, False).trust == ""
    served = provider._served(wanted, None, True)
    assert (served.trust, served.digest) == ("consent", digest)
    made = inference_service(wanted, served, project="p", sink=None, account=None, canary=None)
    assert made["metadata"]["annotations"][trust.ANNOTATION] == f"sha256:{digest}"
    env = {item["name"]: item["value"] for item in made["spec"]["predictor"]["model"]["env"]}
    assert (env["MODELYARD_TRUST"], env["MODELYARD_DIGEST"]) == ("true", digest)
    # Applied again without --trust: it is remembered, for these files alone.
    again = provider._served(wanted, SimpleNamespace(service=made), False)
    assert (again.trust, again.digest) == ("consent", digest)
    made["metadata"]["annotations"][trust.ANNOTATION] = f"sha256:{AB}"
    assert provider._served(wanted, SimpleNamespace(service=made), False).trust == ""


def test_files_that_only_the_cluster_reads_are_named_by_their_digest(
    tmp_path: Path, shelf: ModelShelf
) -> None:
    provider = server(tmp_path, shelf)
    with pytest.raises(UsageError, match="nobody here knows the files behind s3://b/m") as refused:
        provider._served(manifest("s3://b/m"), None, True)
    assert trust.ANNOTATION in refused.value.hint
    served = provider._served(manifest("s3://b/m", f"sha256:{AB}"), None, True)
    assert (served.trust, served.digest) == ("consent", AB)  # the pod looks whether they are these
    assert provider._served(manifest("s3://b/m"), None, False).trust == ""


def test_the_setting_trusts_everything(tmp_path: Path, shelf: ModelShelf) -> None:
    served = server(tmp_path, shelf, trust_pickle=True)._served(manifest("s3://b/m"), None, False)
    assert (served.trust, served.digest) == ("settings", None)
