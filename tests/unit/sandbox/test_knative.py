"""When Knative counts as working: a Service is taken, and the gateway answers."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.kube import ApiFault
from modelyard_sandbox.components.knative import COMPONENT


class Visiting:
    """A cluster that says the same to every Service, and a gateway."""

    def __init__(self, message: str = "", status: int = 404) -> None:
        self.cluster, self._message, self._status = self, message, status

    def create(self, manifest: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
        assert dry_run, "nothing is made to find out whether something works"
        if self._message:
            hint = "modelyard doctor"
            raise ApiFault("kube-refused", self._message, hint, status=400, reason="BadRequest")
        return manifest

    def get(self, port: str, path: str, *, headers: dict[str, str]) -> tuple[int, bytes]:
        return self._status, b""


def probe(visit: Any) -> str | None:
    return COMPONENT.probe(visit)


def test_it_works_when_a_service_is_taken_and_the_gateway_knows_nobody() -> None:
    assert probe(Visiting()) is None
    assert probe(Visiting(status=0)) == "Kourier on its port (it answers nothing)"


def test_a_service_that_is_judged_before_its_defaults_are_filled_in_is_tried_again() -> None:
    denied = (
        'the cluster does not let us create /apis/x: admission webhook "validation.webhook.serving.knative'
        '.dev" denied the request: validation failed: Traffic targets sum to 0, want 100: spec.traffic'
    )
    waits_for = probe(Visiting(denied))
    assert waits_for is not None
    assert waits_for.startswith("its webhook that fills in defaults (validation failed: Traffic targets sum")


def test_other_refusals_are_said() -> None:
    with pytest.raises(ApiFault, match="forbidden"):
        probe(Visiting("services.serving.knative.dev is forbidden"))
