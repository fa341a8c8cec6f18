"""How good predictions were, from those rows whose labels are known."""

from __future__ import annotations

from typing import Any, Literal

from modelyard_evidently.values import text_of

_BINS = 10

#: What a model does; frozen in its profile, so that a window's few labels can't change it.
Task = Literal["binary", "regression", "classes"]


def task_of(labels: Any, predictions: Any) -> Task | None:
    """What the labels and predictions are about; None where either is missing.

    Example:
        >>> task_of([0, 1], [0.2, 0.7]), task_of([3.5, 2.0], [3.1, 2.2]), task_of(["a"], ["b"])
        ('binary', 'regression', 'classes')
    """
    if labels is None or predictions is None:
        return None
    truth, guess = _numbers(labels), _numbers(predictions)
    if truth is None or guess is None:
        return "classes"
    if set(truth.tolist()) <= {0.0, 1.0}:
        return "binary" if len(guess) and guess.min() >= 0 and guess.max() <= 1 else "regression"
    return "regression"


def quality(
    labels: Any, predictions: Any, decisions: Any = None, task: Task | None = None
) -> dict[str, float]:
    """Metrics over n labelled rows; empty where they mean nothing.

    `binary` with probabilities: `auc`, `brier`, `calibration_error` (mean distance between what was
    predicted and what happened, over ten bins of equal size), `calibration_gap` (predicted minus
    happened, on the whole), `accuracy` of what was served; with classes instead of probabilities
    `accuracy` alone. `regression`: `mae`, `rmse`. `classes`: `accuracy`. Always `rows`.

    Args:
        labels: what happened.
        predictions: the probability of the positive class, the predicted number, or the class.
        decisions: what was served, for `accuracy`; default: the probability above one half.
        task: default: what labels and predictions look like.
    """
    task = task or task_of(labels, predictions)
    if task is None:
        return {}
    if task == "classes":
        return _agreement(labels, predictions if decisions is None else decisions)
    import numpy as np
    import pandas as pd

    truth = pd.to_numeric(pd.Series(list(labels)), errors="coerce").to_numpy(dtype=float)
    guess = pd.to_numeric(pd.Series(list(predictions)), errors="coerce").to_numpy(dtype=float)
    known = np.isfinite(truth) & np.isfinite(guess)
    if task == "binary":
        known &= np.isin(truth, (0.0, 1.0)) & (guess >= 0) & (guess <= 1)
    if not known.any():
        return {}
    truth, guess = truth[known], guess[known]
    if task == "regression":
        # Squares of larger numbers overflow.
        wrong = np.clip(guess, -1e100, 1e100) - np.clip(truth, -1e100, 1e100)
        return {
            "rows": float(len(truth)),
            "mae": float(np.abs(wrong).mean()),
            "rmse": float(np.sqrt((wrong**2).mean())),
        }
    served = None
    if decisions is not None:
        served = pd.to_numeric(pd.Series(list(decisions)), errors="coerce").to_numpy(dtype=float)[known]
    return _binary(truth, guess, served)


def _binary(truth: Any, guess: Any, served: Any) -> dict[str, float]:
    import numpy as np

    decided = (guess > 0.5).astype(float) if served is None else served
    found = {
        "rows": float(len(truth)),
        "accuracy": float((decided == truth).mean()),
        "positive_rate": float(truth.mean()),
        "mean_prediction": float(guess.mean()),
    }
    if np.isin(guess, (0.0, 1.0)).all():
        return found  # classes without probabilities: there is nothing to rank or to calibrate
    found["brier"] = float(((guess - truth) ** 2).mean())
    found["calibration_error"] = _calibration_error(truth, guess)
    found["calibration_gap"] = float(guess.mean() - truth.mean())
    positives = truth.sum()
    if 0 < positives < len(truth):  # with one class only there is nothing to rank
        pairs = positives * (len(truth) - positives)
        area = (_ranks(guess)[truth == 1].sum() - positives * (positives + 1) / 2) / pairs
        found["auc"] = float(np.clip(area, 0, 1))
    return found


def _calibration_error(truth: Any, guess: Any) -> float:
    import numpy as np

    # Equal predictions share a bin: split up, the result would depend on the order of the rows.
    edges = np.quantile(guess, np.linspace(0, 1, _BINS + 1)[1:-1])
    bins = np.searchsorted(edges, guess, side="right")
    gaps = np.bincount(bins, weights=guess - truth, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(truth))


def _ranks(values: Any) -> Any:
    """Ranks from 1; equal values share the mean of theirs."""
    import numpy as np

    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[where]


def _agreement(labels: Any, decisions: Any) -> dict[str, float]:
    pairs = [(text_of(a), text_of(b)) for a, b in zip(labels, decisions)]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not known:
        return {}
    return {"rows": float(len(known)), "accuracy": sum(a == b for a, b in known) / len(known)}


def _numbers(values: Any) -> Any:
    """The finite numbers, or None if there are words among the values, or nothing at all."""
    import numpy as np
    import pandas as pd

    present = pd.Series(list(values)).dropna()
    numbers = pd.to_numeric(present, errors="coerce").to_numpy(dtype=float)
    return numbers if len(numbers) and np.isfinite(numbers).all() else None
