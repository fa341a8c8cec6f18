"""The reference profile: what a column looked like, how far it may move, how good the model was.

A profile is frozen with the model: the method of every column and its threshold never change with
the data that arrives. How the thresholds are found is told in `calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.errors import UsageError
from modelyard.stages import Reference
from modelyard_evidently import calibration, scoring
from modelyard_evidently.quality import quality, task_of
from modelyard_evidently.values import folder_name, text_of

FORMAT = 1
#: The model's answer is watched like a column; its role is `prediction`, not `feature`.
PREDICTION = "prediction"
_TOP = 50
#: Categories beyond are not listed as known; an id column would make the profile as long as the data.
_KNOWN = 2000


def file_of(state: Path, model: str, version: str) -> Path:
    """Where the profile of a watched version lies."""
    return state / "profiles" / folder_name(model) / f"{folder_name(version)}.json"


def build(reference: Reference, *, floor: float) -> dict[str, Any]:
    """The profile of reference data, as JSON values.

    Args:
        reference: features of n rows; predictions, labels and times of n each, or None.
        floor: no threshold is lower.

    Raises:
        UsageError: `reference-invalid`: not a table, empty, or of different lengths.
    """
    features = _table(reference.features)
    rows = len(features)
    for name in ("labels", "predictions", "times"):
        part = getattr(reference, name)
        if part is not None and len(part) != rows:
            raise UsageError(
                "reference-invalid", f"reference {name} has {len(part)} rows, its features {rows}"
            )
    blocks = calibration.blocks_of(reference.times)
    columns = [
        _column(str(name), "feature", features.iloc[:, place], blocks, floor)
        for place, name in enumerate(features.columns)
    ]
    if reference.predictions is not None:
        name = PREDICTION if PREDICTION not in map(str, features.columns) else f"{PREDICTION} (served)"
        columns.append(_column(name, "prediction", _series(reference.predictions), blocks, floor))
    classes = None if reference.classes is None else [text_of(name) for name in reference.classes]
    task = task_of(reference.labels, reference.predictions)
    if task == "regression" and classes is not None:
        task = "classes"  # classes may be numbers
    return {
        "format": FORMAT,
        "rows": rows,
        "columns": columns,
        "task": task,
        "classes": classes,
        "probabilities": task != "classes" and _probabilities(reference.predictions),
        "quality": quality(reference.labels, reference.predictions, task=task),
    }


def _column(name: str, role: str, values: Any, blocks: calibration.Blocks, floor: float) -> dict[str, Any]:
    import pandas as pd

    missing = float(pd.isna(values).mean())
    base = {"name": name, "role": role, "missing_ratio": missing}
    if missing == 1.0:
        # One empty column must not cost the profile of the others.
        error = "all its values are missing in the reference"
        return {**base, "kind": "categorical", "method": "none", "thresholds": {}, "error": error}
    kind = "numeric" if _is_numeric(values) else "categorical"
    try:
        described = _numeric(values) if kind == "numeric" else _categorical(values)
    except ValueError as fault:
        return {**base, "kind": kind, "method": "none", "thresholds": {}, "error": str(fault)}
    column = {**base, "kind": kind, **described}
    return {**column, "thresholds": calibration.thresholds(column, values, blocks, floor)}


def _numeric(values: Any) -> dict[str, Any]:
    import numpy as np

    numbers = np.sort(scoring.numbers(values))
    mean, deviation = float(numbers.mean()), float(numbers.std())
    counts, edges = np.histogram(numbers, bins=np.unique(np.quantile(numbers, np.linspace(0, 1, 33))))
    return {
        "method": scoring.WASSERSTEIN,
        "levels": scoring.levels(numbers).tolist(),
        "min": float(numbers[0]),
        "max": float(numbers[-1]),
        "mean": mean,
        "std": deviation,
        # In a constant column rounding is no drift, and a change by more than a thousandth is.
        "scale": deviation if deviation > 1e-9 * max(abs(mean), 1.0) else max(abs(mean), 1.0) * 1e-2,
        "edges": edges.tolist(),
        "counts": counts.tolist(),
    }


def _categorical(values: Any) -> dict[str, Any]:
    import pandas as pd

    counts = pd.Series(scoring.categories(values)).value_counts()
    # Equal counts in the order of their names, or the profile would depend on the order of the rows.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    total = int(counts.sum())
    known = ranked[:_KNOWN]
    return {
        "method": scoring.JENSEN_SHANNON,
        "top": {value: int(count) / total for value, count in ranked[:_TOP]},
        "other": sum(int(count) for _, count in ranked[_TOP:]) / total,
        "known": sorted(value for value, _ in known),
        "distinct": len(ranked),
        "unlisted": 1 - sum(int(count) for _, count in known) / total,
    }


def _is_numeric(values: Any) -> bool:
    from decimal import Decimal

    import pandas as pd
    from pandas.api import types

    if types.is_bool_dtype(values):
        return False
    if types.is_numeric_dtype(values):
        return True
    if not types.is_object_dtype(values):
        return False
    present = pd.Series(values).dropna()
    return all(isinstance(v, (int, float, Decimal)) and not isinstance(v, bool) for v in present)


def _probabilities(predictions: Any) -> bool:
    """Whether predictions are probabilities, and not classes or numbers."""
    if predictions is None or not _is_numeric(values := _series(predictions)):
        return False
    present = values.dropna().astype(float)
    within = bool(((present >= 0) & (present <= 1)).all())
    return within and bool((~present.isin((0.0, 1.0))).any())


def _series(values: Any) -> Any:
    import pandas as pd

    return values.reset_index(drop=True) if isinstance(values, pd.Series) else pd.Series(list(values))


def _table(features: Any) -> Any:
    import pandas as pd

    if not isinstance(features, pd.DataFrame):
        try:
            features = pd.DataFrame(features)
        except (ValueError, TypeError) as fault:
            raise UsageError("reference-invalid", f"reference features are not a table: {fault}") from None
    if not len(features) or not len(features.columns):
        raise UsageError("reference-invalid", "reference features are empty", "give the validation set")
    names = [str(name) for name in features.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError("reference-invalid", f"reference features have two columns '{twice}'")
    return features.reset_index(drop=True)


def feature_names(profile: Mapping[str, Any] | None) -> list[str]:
    """The features in the order of the reference, which is that of the model's signature."""
    return [column["name"] for column in (profile or {}).get("columns", ()) if column["role"] == "feature"]


def kinds(profile: Mapping[str, Any] | None) -> dict[str, str]:
    """The kind of every feature that could be profiled."""
    columns = (profile or {}).get("columns", ())
    return {c["name"]: c["kind"] for c in columns if c["role"] == "feature" and "error" not in c}


def unseen_ratio(column: Mapping[str, Any], values: Any) -> float:
    """The share of categories that the reference did not have; 0 for numbers."""
    if column["kind"] == "numeric" or "known" not in column:
        return 0.0
    found = scoring.categories(values)
    known = set(column["known"])
    share = sum(value not in known for value in found) / len(found) if found else 0.0
    return max(0.0, share - float(column["unlisted"]))
