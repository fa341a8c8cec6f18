"""Amounts of processors and memory, as Kubernetes writes them."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.kube.quantities import quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("250m", 0.25),
        ("1", 1.0),
        (2, 2.0),
        ("64Mi", 64 * 2**20),
        ("1.5Gi", 1.5 * 2**30),
        ("3k", 3000.0),
        ("2e3", 2000.0),
    ],
)
def test_quantities(text: Any, number: float) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize("said", ["a lot", "", "2 Gi", "-1", "1GiB", None])
def test_a_quantity_that_is_none_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity(said)
