"""Rows that nobody could predict for are refused here, before anything is sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelyard.client import as_instances, predict
from modelyard.errors import UsageError

NOBODY = "http://127.0.0.1:9"
LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize("rows", [None, 3, "temp", b"temp", {"temp": 1.0}, object()])
def test_what_is_no_list_of_rows_is_named(rows: Any) -> None:
    with pytest.raises(UsageError) as refused:
        predict(NOBODY, "late-flights", rows)
    assert refused.value.code == "rows-invalid"
    assert f"a {type(rows).__name__} is no list of rows" in refused.value.message


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"temp": 1}, {"tmp": 1}], "row 2 and row 1 differ in 'temp'"),
        ([[1, 2], [3, 4], [5]], "row 3 has 1 values, row 1 has 2"),
        ([{"temp": 1}, [1]], "row 2 is [1], neither a dict nor a list like row 1"),
        ([1, 2], "row 1 is 1, neither"),
    ],
)
def test_rows_that_make_no_columns_are_refused_for_v2(rows: Any, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        predict(NOBODY, "late-flights", rows, protocol="v2")
    assert refused.value.code == "rows-invalid"
    assert said in refused.value.message


@pytest.mark.parametrize("value", [{1, 2}, object(), 1j])
def test_values_that_json_can_not_carry_are_refused(value: Any) -> None:
    with pytest.raises(UsageError) as refused:
        predict(NOBODY, "late-flights", [[value]])
    assert refused.value.code == "rows-invalid"


def test_arrays_and_generators_are_rows() -> None:
    assert as_instances(np.array([[1.0, np.nan]])) == [[1.0, None]]
    assert as_instances(row for row in ([1], [2])) == [[1], [2]]
