"""How good predictions were, from those rows whose labels are known."""

from __future__ import annotations

from typing import Any

_BINS = 10


def quality(labels: Any, predictions: Any, decisions: Any = None) -> dict[str, float]:
    """Metrics over n labelled rows; empty where they mean nothing (no labels, text without decisions).

    Two classes with probabilities: `auc`, `brier`, `calibration_error` (mean distance between what was
    predicted and what happened, over ten bins of equal size), `calibration_gap` (what was predicted
    minus what happened, on the whole). Numbers: `mae`, `rmse`. Always `rows`.

    Args:
        labels: what happened.
        predictions: the probability of the positive class, or the predicted number.
        decisions: what was served, for `accuracy`; default: the probability above one half.
    """
    import numpy as np
    import pandas as pd

    if labels is None or predictions is None:
        return {}
    truth = pd.to_numeric(pd.Series(list(labels)), errors="coerce").to_numpy(dtype=float)
    guess = pd.to_numeric(pd.Series(list(predictions)), errors="coerce").to_numpy(dtype=float)
    known = np.isfinite(truth) & np.isfinite(guess)
    if not known.any():
        return _agreement(labels, predictions if decisions is None else decisions)
    truth, guess = truth[known], guess[known]
    if set(np.unique(truth)) <= {0.0, 1.0} and set(np.unique(guess)) <= {0.0, 1.0}:
        # Classes without probabilities: there is nothing to rank or to calibrate.
        return {
            "rows": float(len(truth)),
            "accuracy": float((truth == guess).mean()),
            "positive_rate": float(truth.mean()),
            "mean_prediction": float(guess.mean()),
        }
    if set(np.unique(truth)) <= {0.0, 1.0} and guess.min() >= 0 and guess.max() <= 1:
        served = None if decisions is None else np.asarray(list(decisions), dtype=float)[known]
        return _binary(truth, guess, served)
    wrong = guess - truth
    return {
        "rows": float(len(truth)),
        "mae": float(np.abs(wrong).mean()),
        "rmse": float(np.sqrt((wrong**2).mean())),
    }


def _binary(truth: Any, guess: Any, served: Any) -> dict[str, float]:
    import numpy as np

    decided = (guess > 0.5).astype(float) if served is None else served
    found = {
        "rows": float(len(truth)),
        "accuracy": float((decided == truth).mean()),
        "brier": float(((guess - truth) ** 2).mean()),
        "calibration_error": _calibration_error(truth, guess),
        "calibration_gap": float(guess.mean() - truth.mean()),
        "positive_rate": float(truth.mean()),
        "mean_prediction": float(guess.mean()),
    }
    positives = truth.sum()
    if 0 < positives < len(truth):  # with one class only there is nothing to rank
        from scipy.stats import rankdata  # type: ignore[import-untyped,unused-ignore]

        ranks = rankdata(guess)
        pairs = positives * (len(truth) - positives)
        area = (ranks[truth == 1].sum() - positives * (positives + 1) / 2) / pairs
        found["auc"] = float(np.clip(area, 0, 1))
    return found


def _calibration_error(truth: Any, guess: Any) -> float:
    import numpy as np

    order = np.argsort(guess, kind="stable")
    bins = [part for part in np.array_split(order, _BINS) if len(part)]
    gaps = [abs(guess[part].mean() - truth[part].mean()) * len(part) for part in bins]
    return float(sum(gaps) / len(truth))


def _agreement(labels: Any, decisions: Any) -> dict[str, float]:
    pairs = [(str(a), str(b)) for a, b in zip(labels, decisions) if a is not None and b is not None]
    if not pairs:
        return {}
    return {"rows": float(len(pairs)), "accuracy": sum(a == b for a, b in pairs) / len(pairs)}
