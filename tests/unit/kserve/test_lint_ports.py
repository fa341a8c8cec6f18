"""What `endpoints lint` says to ports, whose names are how a cluster asks."""

from __future__ import annotations

import pytest
from tests.unit.kserve.linted import LINE, found, instead_of_model, only, with_predictor

from modelyard_kserve.lint import Mode

pytest.importorskip("kserve")


def with_ports(*ports: str, more: str = "") -> str:
    return with_predictor(f"  ports: [{', '.join(ports)}]{more}")


H2C = "{name: h2c, protocol: TCP, containerPort: 8081}"


@pytest.mark.parametrize("mode", ["Knative", "Standard"])
def test_a_port_named_h2c_is_asked_by_grpc(mode: Mode) -> None:
    for more in ("", "\n      protocolVersion: v2", "\n      protocolVersion: grpc-v2"):
        assert found(with_ports(H2C, more=more), mode) == []
    named = with_ports("{name: grpc, containerPort: 8081}", more="\n      protocolVersion: grpc-v2")
    assert [said.level for said in found(named, mode)] == {"Knative": ["error", "warning"]}.get(mode, [])
    (said,) = found(with_predictor("  protocolVersion: grpc-v2"), mode)
    assert (said.level, said.line) == ("warning", LINE)
    assert "without a port named h2c it is asked in HTTP/1.1" in said.message
    assert said.hint == f"ports: [{H2C}]"


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ([H2C, "{containerPort: 8080}"], "ports[1]: is one port more than Knative takes"),
        (["{name: grpc, containerPort: 8081}"], "ports[0].name: 'grpc' is no name of a port that Knative"),
        (["{name: h2c, containerPort: 9090}"], "ports[0].containerPort: 9090 is a port of Knative's own"),
    ],
)
def test_ports_that_knative_refuses(ports: list[str], said: str) -> None:
    (level, line, told_) = only(with_ports(*ports))
    assert (level, line) == ("error", LINE)
    assert told_.startswith(f"spec.predictor.model.{said}")
    text = instead_of_model(f"    containers: [{{name: kserve-container, ports: [{', '.join(ports)}]}}]\n")
    assert only(text)[2].startswith(f"spec.predictor.containers[0].{said}")


def test_only_knative_says_to_which_port_it_sends() -> None:
    text = with_ports("{name: h2c, containerPort: 9000}")
    assert found(text) == []
    (said,) = found(text, "Standard")
    assert (said.level, said.message) == (
        "warning",
        "nothing listens on 9000 in Standard mode, unless the model's server is told to",
    )
    assert said.hint == 'args: ["--grpc_port=9000"]'
    assert found(f"{text}      args: [--grpc_port=9000]\n", "Standard") == []
    assert len(found(f"{text}      args: [--grpc_port=$(OURS)]\n", "Standard")) == 1
    assert found(f"{text}      runtime: kserve-mlserver\n", "Standard") == []


def test_what_is_asked_by_grpc_is_not_in_the_prediction_log_of_a_cluster() -> None:
    text = with_ports(H2C) + "    logger: {mode: all}\n"
    assert only(text) == (
        "warning",
        LINE + 1,
        "spec.predictor.logger: logs what is asked by gRPC as its bytes, which the prediction log can't read",
    )
