"""Which refusals of a cluster pass by themselves."""

from __future__ import annotations

import pytest

from modelyard.kube import ApiFault


@pytest.mark.parametrize(
    ("status", "message", "passes"),
    [
        (0, "nobody answers", True),
        (429, "too many requests", True),
        (500, 'failed calling webhook "x": no endpoints available for service "y"', True),
        (500, "etcdserver: request timed out", True),
        (500, "etcdserver: leader changed", True),
        (500, "etcdserver: mvcc: database space exceeded", False),
        (403, "unable to create new content in namespace a because it is being terminated", True),
        (403, "configmaps is forbidden", False),
        (400, "admission webhook denied the request", False),
    ],
)
def test_what_passes_is_tried_again(status: int, message: str, passes: bool) -> None:
    fault = ApiFault("kube-refused", f"the cluster does not let us change /x: {message}", status=status)
    assert fault.passes is passes
