"""Addresses of models, and texts about them, without their secrets."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from modelyard.errors import ModelyardError
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.storage import faults, problem
from modelyard_kserve.storage.findings import addresses
from modelyard_kserve.storage.uris import hidden, is_azure, key_of, shown

SAS = "https://acme.blob.core.windows.net/models/late?sv=2024&sig=a%2Fb%3D&se=2027"
FILE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: late}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      storageUri: URI
"""


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("https://ann:geheim@host:8443/late.zip", "https://host:8443/late.zip"),
        ("https://geheim@host/late.zip#x", "https://host/late.zip#x"),
        (SAS, "https://acme.blob.core.windows.net/models/late?..."),
        ("https://host/late.zip?version=3", "https://host/late.zip?version=3"),
        ("https://host/late.zip?version=3&token=geheim", "https://host/late.zip?..."),
        ("s3://key:geheim@bucket/late", "s3://bucket/late"),
        ("dvc://models/late?rev=v1", "dvc://models/late?rev=v1"),
        ("models:/late@production", "models:/late@production"),
        ("oci://host:5000/late@sha256:ab", "oci://host:5000/late@sha256:ab"),
        ("modelle/späte flüge", "modelle/späte flüge"),
    ],
)
def test_an_address_is_shown_without_its_secrets(uri: str, public: str) -> None:
    assert shown(uri) == public


@pytest.mark.parametrize("secret", ["a%2Fb%3D", "geheim"])
def test_texts_of_others_are_cleaned(secret: str) -> None:
    uris = {"a%2Fb%3D": SAS, "geheim": "https://ann:geheim@host/x"}
    told = f"GET {uris[secret]} failed\n  with sig={secret} for https://x:{secret}@y/z"
    assert secret not in hidden(told, uris[secret])
    assert "\n" not in hidden(told, uris[secret])


def test_a_login_is_no_part_of_what_is_meant() -> None:
    assert key_of("https://ann:eins@host/x") == key_of("https://ann:zwei@host/x")
    assert key_of("https://host/x?version=1") != key_of("https://host/x?version=2")


@pytest.mark.parametrize(
    ("uri", "azure"),
    [
        (SAS, True),
        ("https://a.z12.blob.storage.azure.net/c/x", True),
        ("https://a.file.core.windows.net/c/x", True),
        ("https://evil.example/a.blob.core.windows.net/c", False),
        ("https://a.blob.core.windows.net.evil.example/c/x", False),
    ],
)
def test_azure_is_told_by_its_host(uri: str, azure: bool) -> None:
    assert is_azure(uri) is azure


class Answered(Exception):
    """As HTTP libraries raise them."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status_code = status


class NoCredentialsError(Exception):
    """By its name, botocore's."""


class EndpointConnectionError(Exception):
    """By its name, botocore's."""


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Answered(403), "storage-refused"),
        (Answered(404), "model-files-missing"),
        (Answered(503), "storage-unreachable"),
        (Answered(418), "fetch-failed"),
        (NoCredentialsError("who are you"), "storage-refused"),
        (EndpointConnectionError("nobody"), "storage-unreachable"),
        (ConnectionResetError("gone"), "storage-unreachable"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk-full"),
        (RuntimeError("Failed to fetch model. No model found in x."), "model-files-missing"),
        (RuntimeError("S3 authentication failed."), "storage-refused"),
        (RuntimeError("Failed to connect to GCS endpoint"), "storage-unreachable"),
        (ValueError("odd"), "fetch-failed"),
    ],
)
def test_what_libraries_raise_gets_a_code(fault: Exception, code: str) -> None:
    assert faults.explained(fault, "s3://a/b", Path("x")).code == code


def test_the_first_cause_counts() -> None:
    try:
        try:
            raise Answered(403)
        except Answered as cause:
            raise RuntimeError("S3 resource not found") from cause
    except RuntimeError as fault:
        said = faults.explained(fault, SAS, Path("x"))
    assert said.code == "storage-refused"
    assert "AZURE_STORAGE_ACCESS_KEY" in said.hint


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("ftp://host/late", "'ftp' is no place that models come from here"),
        ("pvc://shelf/late", "no folder stands for the PersistentVolumeClaim 'shelf' here"),
        ("pvc://models/late", ""),
        ("s3://models/late", ""),
        ("a folder/late", ""),
    ],
)
def test_an_address_that_means_nothing_here(uri: str, said: str) -> None:
    settings = KserveSettings(pvc={"models": "/srv"})
    assert problem(uri, settings)[0] == said
    found = addresses(FILE.replace("URI", uri), "late.yaml", settings)
    assert [(one.level, one.line, one.message) for one in found] == ([("error", 8, said)] if said else [])
    if said:
        assert found[0].hint == problem(uri, settings)[1] != ""


def test_a_secret_in_a_file_is_a_warning_that_does_not_repeat_it() -> None:
    (found,) = addresses(FILE.replace("URI", "https://ann:geheim@host/x.zip"), "f", KserveSettings())
    assert (found.level, found.line) == ("warning", 8)
    assert "geheim" not in f"{found.message}{found.hint}"


@pytest.mark.parametrize("text", ["kind: InferenceService\nspec: 3", "a: [", "- 1", "kind: Pod"])
def test_other_files_are_left_alone(text: str) -> None:
    assert addresses(text, "f", KserveSettings()) == []


def test_every_fault_is_a_sentence_with_a_next_step() -> None:
    made: list[ModelyardError] = [
        *(make(SAS, "why") for make in (faults.missing, faults.refused, faults.unreachable, faults.failed)),
        faults.too_large(SAS, 20.0),
        faults.changed(SAS),
    ]
    for fault in made:
        assert fault.hint
        assert "sig=" not in fault.message
