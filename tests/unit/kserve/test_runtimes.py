"""The sandbox's runtimes: what KServe demands of them, and what we promise about their pods."""

from __future__ import annotations

from typing import Any

from modelyard_kserve.cluster.runtimes import COMPONENT, STACK
from modelyard_kserve.local.runtimes import FORMATS as SERVED_HERE

FORMATS = ("mlflow", "sklearn", "xgboost", "lightgbm", "onnx")


class Place:
    """As much of a sandbox as the component asks for."""

    def image(self, reference: str) -> str:
        return reference.replace("ghcr.io/modelyard", "bundle.test")


def objects() -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in COMPONENT.objects(Place())}  # type: ignore[arg-type]


def test_they_win_against_kserves_own_runtimes() -> None:
    for name in FORMATS:
        formats = objects()[f"modelyard-{name}"]["spec"]["supportedModelFormats"]
        assert {(f["name"], f["autoSelect"]) for f in formats} == {(name, True)}
        # KServe refuses different priorities for one format of one runtime; its own are 1 and 2.
        assert len({f["priority"] for f in formats}) == 1
        assert formats[0]["priority"] > 2


def test_each_tells_the_server_its_format() -> None:
    found = objects()
    for name in FORMATS:
        assert f"--model_format={name}" in found[f"modelyard-{name}"]["spec"]["containers"][0]["args"]
    assert set(FORMATS) < set(SERVED_HERE)


def test_every_container_is_from_our_image_and_nobody_in_particular() -> None:
    found = objects()
    containers = [found[f"modelyard-{name}"]["spec"]["containers"][0] for name in FORMATS]
    containers.append(found["default"]["spec"]["container"])
    for container in containers:
        assert container["image"] == "bundle.test/stack:0.1.0"
        assert container["securityContext"]["runAsUser"] == 1000
        assert container["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]["cpu"] == "10m"
    assert COMPONENT.images == (STACK,)


def test_environment_that_kserve_forbids_is_not_used() -> None:
    env = objects()["modelyard-mlflow"]["spec"]["containers"][0]["env"]
    assert "PYTHONPATH" not in {item["name"] for item in env}


def test_the_one_port_that_knative_takes_is_the_files() -> None:
    """KServe puts the ports of a file beside those of a runtime; probes go on asking the usual one."""
    for name in FORMATS:
        spec = objects()[f"modelyard-{name}"]["spec"]
        container = spec["containers"][0]
        assert "ports" not in container
        assert container["readinessProbe"]["httpGet"]["port"] == 8080
        assert {"--http_port=8080", "--grpc_port=8081"} < set(container["args"])
        assert "grpc-v2" in spec["protocolVersions"]
