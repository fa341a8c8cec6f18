"""The reference profile: what a column looked like, how far it may move, how good the model was.

A profile is frozen with the model: the method of every column and its threshold never change with
the data that arrives. Thresholds are calibrated on the reference itself: the 99th percentile of the
scores of same-sized pieces of it. With times the pieces are whole days, because weather and people
come in spells, and single rows drawn at random would make every real day look like drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelyard.errors import UsageError
from modelyard.stages import Reference
from modelyard_evidently.quality import quality

FORMAT = 1
#: The model's answer is watched like a column of this name.
PREDICTION = "prediction"
_LEVELS = 512
_TOP = 50
_SIZES = (300, 1000, 3000)
_DRAWS = 60


def build(reference: Reference, *, floor: float, min_rows: int) -> dict[str, Any]:
    """The profile of labelled reference data, as JSON values.

    Args:
        reference: features of n rows; predictions, labels and times of n each, or None.
        floor: no threshold is lower.
        min_rows: windows below it never count as drifted.

    Raises:
        UsageError: `reference-invalid`: not a table, empty, or of different lengths.
    """
    import pandas as pd

    features = _table(reference.features)
    rows = len(features)
    for name in ("labels", "predictions", "times"):
        part = getattr(reference, name)
        if part is not None and len(part) != rows:
            raise UsageError(
                "reference-invalid", f"reference {name} has {len(part)} rows, its features {rows}"
            )
    columns = {str(name): features[name] for name in features.columns}
    if reference.predictions is not None:
        columns[PREDICTION] = pd.Series(list(reference.predictions))
    pieces = list(_pieces(reference.times, rows))
    return {
        "format": FORMAT,
        "rows": rows,
        "min_rows": min_rows,
        "columns": [_column(name, values, pieces, floor) for name, values in columns.items()],
        "quality": quality(reference.labels, reference.predictions),
    }


def score(column: Mapping[str, Any], values: Any) -> float:
    """How far the values lie from a profiled column: 0 is the same.

    Numbers: the mean distance between quantiles, in standard deviations of the reference (the
    Wasserstein distance). Categories: the Jensen-Shannon distance, from 0 to 1.

    Raises:
        ValueError: nothing can be compared; the sentence says why.
    """
    if column["kind"] == "numeric":
        return _wasserstein(column, _numbers(values))
    return _jensen_shannon(column, _categories(values))


def threshold(column: Mapping[str, Any], rows: int) -> float:
    """The threshold for a window of so many rows, between the sizes that were calibrated."""
    import numpy as np

    sizes, limits = zip(*column["thresholds"])
    return float(np.interp(np.log(max(rows, 1)), np.log(sizes), limits))


def missing_ratio(values: Any) -> float:
    """The share of values that are missing."""
    import pandas as pd

    return float(pd.isna(pd.Series(values)).mean()) if len(values) else 0.0


def unseen_ratio(column: Mapping[str, Any], values: Any) -> float:
    """The share of categories that the reference did not have; 0 for numbers."""
    if column["kind"] == "numeric":
        return 0.0
    found = _categories(values)
    known = set(column["known"])
    return sum(value not in known for value in found) / len(found) if found else 0.0


def _column(name: str, values: Any, pieces: list[Any], floor: float) -> dict[str, Any]:
    kind = "numeric" if _is_numeric(values) else "categorical"
    try:
        described = _numeric(values) if kind == "numeric" else _categorical(values)
    except ValueError as fault:
        raise UsageError("reference-invalid", f"reference column '{name}': {fault}") from None
    column = {"name": name, "kind": kind, "missing_ratio": missing_ratio(values), **described}
    column["thresholds"] = _thresholds(column, values, pieces, floor)
    return column


def _numeric(values: Any) -> dict[str, Any]:
    import numpy as np

    numbers = _numbers(values)
    levels = (np.arange(_LEVELS) + 0.5) / _LEVELS
    mean, deviation = float(numbers.mean()), float(numbers.std())
    # A constant column: any real change is drift, rounding is not.
    scale = deviation if deviation > 0 else max(abs(mean), 1.0) * 1e-3
    return {
        "method": "wasserstein",
        "quantiles": np.quantile(numbers, levels).tolist(),
        "min": float(numbers.min()),
        "max": float(numbers.max()),
        "mean": mean,
        "scale": scale,
    }


def _categorical(values: Any) -> dict[str, Any]:
    from collections import Counter

    counts = Counter(_categories(values))
    if not counts:
        raise ValueError("all values are missing")
    top = counts.most_common(_TOP)
    total = sum(counts.values())
    return {
        "method": "jensenshannon",
        "top": {value: count / total for value, count in top},
        "other": 1 - sum(count for _, count in top) / total,
        "known": sorted(counts),
    }


def _thresholds(column: Mapping[str, Any], values: Any, pieces: list[Any], floor: float) -> list[list[float]]:
    import numpy as np

    values = np.asarray(values, dtype=object if column["kind"] == "categorical" else float)
    limits = []
    for size, drawn in pieces:
        scores = []
        for rows in drawn:
            try:
                scores.append(score(column, values[rows]))
            except ValueError:
                continue  # a piece without values says nothing
        limits.append([float(size), max(floor, float(np.quantile(scores, 0.99)) if scores else floor)])
    return limits


def _pieces(times: Any, rows: int) -> Iterator[tuple[int, list[Any]]]:
    """For every window size, the row numbers of random pieces of the reference of that size."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    if times is None:
        for size in _SIZES:
            yield size, [random.integers(0, rows, size) for _ in range(_DRAWS)]
        return
    # strict about what a day is: windows are in UTC too
    days = pd.to_datetime(pd.Series(list(times)), utc=True).dt.floor("D")
    blocks = [np.asarray(block) for block in days.groupby(days).indices.values()]
    for size in _SIZES:
        yield size, [_days(random, blocks, size) for _ in range(_DRAWS)]


def _days(random: Any, blocks: list[Any], size: int) -> Any:
    """Rows of whole days, drawn until there are enough; a window of n rows spans several days."""
    import numpy as np

    drawn: list[Any] = []
    total = 0
    # At least three days: a window is longer than one, and one day is one draw of the weather.
    while total < size or len(drawn) < 3:
        block = blocks[int(random.integers(len(blocks)))]
        drawn.append(block)
        total += len(block)
    rows = np.concatenate(drawn)
    return rows if len(rows) <= size else random.permutation(rows)[:size]


def _wasserstein(column: Mapping[str, Any], numbers: Any) -> float:
    import numpy as np

    levels = (np.arange(len(column["quantiles"])) + 0.5) / len(column["quantiles"])
    distance = np.abs(np.quantile(numbers, levels) - np.asarray(column["quantiles"])).mean()
    return float(distance / column["scale"])


def _jensen_shannon(column: Mapping[str, Any], values: list[str]) -> float:
    from collections import Counter

    import numpy as np

    if not values:
        raise ValueError("all values are missing")
    counts = Counter(values)
    top = column["top"]
    now = np.array([counts.get(value, 0) for value in top] + [0.0]) / len(values)
    now[-1] = 1 - now.sum()
    before = np.array([*top.values(), column["other"]])
    middle = (now + before) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(p > 0, p * np.log2(p / middle), 0.0).sum() for p in (now, before)]
    return float(np.sqrt(max(0.0, sum(parts) / 2)))


def _numbers(values: Any) -> Any:
    import numpy as np
    import pandas as pd

    numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=float)
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        raise ValueError("there is no finite number in it")
    return finite


def _categories(values: Any) -> list[str]:
    """Values as text, one spelling each: 1, 1.0 and "1" are the same after a trip through JSON."""
    import pandas as pd

    return [_text(value) for value in pd.Series(values).dropna().tolist()]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _is_numeric(values: Any) -> bool:
    from pandas.api import types

    return bool(types.is_numeric_dtype(values) and not types.is_bool_dtype(values))


def _table(features: Any) -> Any:
    import pandas as pd

    if not isinstance(features, pd.DataFrame):
        try:
            features = pd.DataFrame(features)
        except (ValueError, TypeError) as fault:
            raise UsageError("reference-invalid", f"reference features are not a table: {fault}") from None
    if not len(features) or not len(features.columns):
        raise UsageError("reference-invalid", "reference features are empty", "give the validation set")
    return features.reset_index(drop=True)
