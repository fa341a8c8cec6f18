"""Rows as the matrix that a booster takes."""

from __future__ import annotations

from typing import Any


def matrix(rows: Any, width: int) -> Any:
    """The rows as numbers.

    Args:
        rows: a DataFrame, or a matrix.
        width: how many features the model has.

    Raises:
        ValueError: the rows do not fit.
    """
    import numpy as np

    made = np.asarray(rows, dtype=float)
    if made.ndim != 2 or made.shape[1] != width:
        has = made.shape[1] if made.ndim == 2 else 1
        raise ValueError(f"the rows have {has} values, the model takes {width} features")
    return made
