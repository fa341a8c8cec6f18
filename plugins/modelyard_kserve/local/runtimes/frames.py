"""Rows as a DataFrame, with the dtypes that a model's signature states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelyard_kserve.local.runtimes.base import Column

_WORDS = {"boolean": "true or false", "string": "text", "datetime": "an ISO 8601 time"}
_NUMBERS = {"double", "float", "long", "integer"}
_NESTED = {"array": "a list", "object": "an object", "map": "an object"}
#: Items of a list -> NumPy's type, and the kinds that are taken for it.
_ITEMS = {"double": ("f8", "iuf"), "float": ("f4", "iuf"), "long": ("i8", "iu"), "integer": ("i4", "iu")}
_ITEMS["boolean"] = ("?", "b")


def frame(columns: Sequence[Column], values: Mapping[str, Sequence[Any]]) -> Any:
    """A DataFrame out of one list per column, with the dtypes that the signature states.

    Raises:
        ValueError: a value does not fit its column; the sentence names row and column.
    """
    import pandas as pd

    return pd.DataFrame({c.name: _array(c, values[c.name]) for c in columns}, copy=False)


def _array(column: Column, values: Sequence[Any]) -> Any:
    import numpy as np

    if column.kind in _NUMBERS:
        try:
            # A missing number makes a float column, as everywhere in pandas.
            given = np.array([np.nan if v is None else v for v in values])
        except ValueError:
            raise _misfit(column, values, (int, float)) from None
        # NumPy would read numbers out of texts, and a row's list as a second axis.
        if given.ndim != 1 or given.dtype.kind not in "iufb":
            raise _misfit(column, values, (int, float))
        if column.kind in ("long", "integer") and not (given.dtype.kind == "f" and np.isnan(given).any()):
            return _whole(column, values, given)
        return given.astype(np.float32 if column.kind == "float" else float)  # MLflow refuses any other
    if column.kind == "boolean":
        if not all(isinstance(value, bool) or value is None for value in values):
            raise _misfit(column, values, (bool,))
        return np.array(values, dtype=bool if None not in values else object)
    if column.kind == "datetime":
        import pandas as pd

        try:
            return pd.to_datetime(pd.Series(values), format="ISO8601").to_numpy()
        except (TypeError, ValueError):
            raise _misfit(column, values, (str,)) from None
    if column.kind in _NESTED or column.kind == "any":
        return _nested(column, values)
    if not all(isinstance(value, str) or value is None for value in values):
        raise _misfit(column, values, (str,))
    if column.kind == "binary":
        return _bytes(column, values)
    return np.array(values, dtype=object)


def _nested(column: Column, values: Sequence[Any]) -> Any:
    """Lists and objects, a row each. Numbers in lists become arrays of the type that the signature states:
    MLflow refuses any other."""
    import numpy as np

    made = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        wanted = _NESTED.get(column.kind)
        fits = isinstance(value, (list, np.ndarray) if column.kind == "array" else dict)
        if wanted and value is not None and not fits:
            raise ValueError(f"row {row}, column '{column.name}': {value!r:.60} is not {wanted}")
        made[row] = value
        if column.items in _ITEMS and value is not None:
            try:
                made[row] = _items(value, *_ITEMS[column.items])
            except ValueError:
                items = f"{wanted} of {column.items}"
                raise ValueError(f"row {row}, column '{column.name}': {value!r:.60} is not {items}") from None
    return made


def _items(value: Any, dtype: str, kinds: str) -> Any:
    """The array of a list; lists of different lengths stay a list of arrays."""
    import numpy as np

    try:
        given = np.asarray(value)
    except ValueError:
        return [_items(part, dtype, kinds) for part in value]
    if given.size and given.dtype.kind not in kinds:
        raise ValueError(given.dtype)
    return given.astype(dtype)


def _bytes(column: Column, values: Sequence[Any]) -> Any:
    """Bytes, which JSON says in base64."""
    import base64

    import numpy as np

    made = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        try:
            made[row] = value if value is None else base64.b64decode(value, validate=True)
        except ValueError:
            raise ValueError(f"row {row}, column '{column.name}': {value!r:.60} is not base64") from None
    return made


def _whole(column: Column, values: Sequence[Any], given: Any) -> Any:
    """The column as integers of its size; cutting off a fraction would answer another question."""
    import numpy as np

    bits = 32 if column.kind == "integer" else 64
    if given.dtype.kind in "fu" or bits == 32:
        wrong = np.flatnonzero((given != np.trunc(given)) | (np.abs(given) >= 2.0 ** (bits - 1)))
        if wrong.size:
            value = values[wrong[0]]
            what = "a whole number" if bits == 64 else f"a whole number of {bits} bits"
            raise ValueError(f"row {wrong[0]}, column '{column.name}': {value!r:.60} is not {what}")
    return given.astype(f"i{bits // 8}")


def _misfit(column: Column, values: Sequence[Any], fits: tuple[type, ...]) -> ValueError:
    wanted = _WORDS.get(column.kind, "a number")
    for row, value in enumerate(values):
        if value is not None and (
            not isinstance(value, fits) or (isinstance(value, bool) and bool not in fits)
        ):
            return ValueError(f"row {row}, column '{column.name}': {value!r:.60} is not {wanted}")
    return ValueError(f"column '{column.name}' does not hold {wanted}")
