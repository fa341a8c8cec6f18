"""Profiles and scores of the reference monitor, in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from modelyard.records import ColumnScore, Window
from modelyard.stages import Reference

#: Shift of the mean in standard deviations, and distance of the shares of categories (0 to 1).
THRESHOLDS = {"mean shift": 0.5, "total variation": 0.25}


def profile(reference: Reference) -> dict[str, Any]:
    """What windows are compared with, as JSON values."""
    features = reference.features
    columns = {str(name): _column_profile(features[name].tolist()) for name in features.columns}
    found: dict[str, float] = {}
    if reference.labels is not None and reference.predictions is not None:
        found = quality(zip(list(reference.predictions), list(reference.labels)))
    return {"format": 1, "columns": columns, "quality": found}


def column_score(name: str, expected: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> ColumnScore:
    """How far one column of the rows lies from its profile."""
    values = [row.get(name) for row in rows]
    there = [value for value in values if not _is_missing(value)]
    method = "mean shift" if expected["kind"] == "number" else "total variation"
    missing = 1 - len(there) / len(values) if values else 0.0
    score: float | None = None
    error: str | None = None
    try:
        score = _shift(expected, there) if method == "mean shift" else _variation(expected, there)
    except ValueError as fault:
        error = str(fault)
    return ColumnScore(
        column=name,
        method=method,
        score=score,
        threshold=THRESHOLDS[method],
        drifted=score is not None and score > THRESHOLDS[method],
        missing_ratio=missing,
        unseen_ratio=_unseen(expected, there),
        error=error,
    )


def quality(outcomes: Iterable[tuple[Any, Any]]) -> dict[str, float]:
    """Accuracy and Brier score of 0/1 labels, mean absolute error of other numbers."""
    pairs = [(_score_of(prediction), float(label)) for prediction, label in outcomes]
    if any(label not in (0.0, 1.0) for _, label in pairs):
        return {"mae": fmean(abs(score - label) for score, label in pairs)}
    return {
        "accuracy": fmean(float((score >= 0.5) == bool(label)) for score, label in pairs),
        "brier": fmean((score - label) ** 2 for score, label in pairs),
    }


def exposition(windows: Iterable[Window]) -> str:
    """The windows in Prometheus' text format."""
    rows, drifted = [], []
    for window in windows:
        labels = f'endpoint="{_escaped(window.endpoint)}",version="{_escaped(window.version)}"'
        rows.append(f"modelyard_window_rows{{{labels}}} {window.rows}")
        for column in window.columns:
            labelled = f'{labels},column="{_escaped(column.column)}"'
            drifted.append(f"modelyard_column_drifted{{{labelled}}} {int(column.drifted)}")
    lines = [
        "# HELP modelyard_window_rows Rows of the newest closed window.",
        "# TYPE modelyard_window_rows gauge",
        *rows,
        "# HELP modelyard_column_drifted 1 when the column is over its threshold.",
        "# TYPE modelyard_column_drifted gauge",
        *drifted,
    ]
    return "\n".join(lines) + "\n"


def _column_profile(values: Sequence[Any]) -> dict[str, Any]:
    there = [value for value in values if not _is_missing(value)]
    if there and all(_is_number(value) for value in there):
        return {"kind": "number", "mean": fmean(there), "deviation": pstdev(there) or 1.0}
    counts = Counter(str(value) for value in there)
    return {"kind": "category", "shares": {key: n / len(there) for key, n in sorted(counts.items())}}


def _shift(expected: Mapping[str, Any], values: Sequence[Any]) -> float:
    if not values:
        raise ValueError("all values are missing")
    wrong = next((value for value in values if not _is_number(value)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is not a number")
    shift: float = abs(fmean(values) - expected["mean"]) / expected["deviation"]
    return shift


def _variation(expected: Mapping[str, Any], values: Sequence[Any]) -> float:
    if not values:
        raise ValueError("all values are missing")
    counts, shares = Counter(str(value) for value in values), expected["shares"]
    keys = {*counts, *shares}
    distance: float = sum(abs(counts[key] / len(values) - shares.get(key, 0)) for key in keys) / 2
    return distance


def _unseen(expected: Mapping[str, Any], values: Sequence[Any]) -> float:
    if expected["kind"] == "number" or not values:
        return 0.0
    return sum(str(value) not in expected["shares"] for value in values) / len(values)


def _score_of(prediction: Any) -> float:
    return float(prediction[-1] if isinstance(prediction, list) else prediction)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
