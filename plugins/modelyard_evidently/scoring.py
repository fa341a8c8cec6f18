"""How far values lie from a profiled column: the same function for calibration and for windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelyard_evidently.values import text_of

WASSERSTEIN, JENSEN_SHANNON = "wasserstein", "jensenshannon"
#: Equal shares of the reference, lowest first; each is represented by its mean, so the tails count in full.
LEVELS = 512


def score(column: Mapping[str, Any], values: Any) -> float:
    """The distance: 0 is the same.

    Numbers: the Wasserstein distance in standard deviations of the reference. Categories: the
    Jensen-Shannon distance to base 2, from 0 to 1, over the most frequent 50 and the rest together.

    Raises:
        ValueError: nothing can be compared; the sentence says why.
    """
    if column["kind"] == "numeric":
        return numeric_score(column, numbers(values))
    found = categories(values)
    if not found:
        raise ValueError("all values are missing")
    import pandas as pd

    return categorical_score(column, codes(column, pd.Series(found)))


def numeric_score(column: Mapping[str, Any], found: Any) -> float:
    """The distance of finite numbers, in any order."""
    import numpy as np

    distance = np.abs(levels(np.sort(found)) - np.asarray(column["levels"])).mean()
    return float(distance / column["scale"])


def categorical_score(column: Mapping[str, Any], found: Any) -> float:
    """The distance of categories given as `codes`."""
    import numpy as np

    now = np.bincount(found, minlength=len(column["top"]) + 1) / len(found)
    before = np.array([*column["top"].values(), column["other"]])
    middle = (now + before) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(p > 0, p * np.log2(p / middle), 0.0).sum() for p in (now, before)]
    return float(np.sqrt(max(0.0, sum(parts) / 2)))


def levels(ordered: Any) -> Any:
    """The mean of each of `LEVELS` equal shares of sorted numbers."""
    import numpy as np

    sums = np.concatenate(([0.0], np.cumsum(ordered)))
    at = np.interp(np.linspace(0, len(ordered), LEVELS + 1), np.arange(len(ordered) + 1), sums)
    return np.diff(at) * (LEVELS / len(ordered))


def codes(column: Mapping[str, Any], found: Any) -> Any:
    """Categories (text) as the place of each in the column's `top`; the last place is for all others."""
    import numpy as np
    import pandas as pd

    places = pd.Index(list(column["top"])).get_indexer(found)
    return np.where(places < 0, len(column["top"]), places)


def numbers(values: Any) -> Any:
    """The finite numbers among the values; words count as missing.

    Raises:
        ValueError: there is none.
    """
    import numpy as np
    import pandas as pd

    found = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    finite = found[np.isfinite(found)]
    if not len(finite):
        raise ValueError("there is no finite number in it")
    # Sums of squares of larger numbers overflow.
    return np.clip(finite, -1e100, 1e100)


def categories(values: Any) -> list[str]:
    """The values that are there, as text in one spelling."""
    import pandas as pd

    present = pd.Series(values).dropna()
    if isinstance(present.dtype, pd.CategoricalDtype):
        present = present.astype(object)
    try:
        spelled = {value: text_of(value) for value in present.unique().tolist()}
        return [text for text in present.map(spelled).tolist() if text is not None]
    except TypeError:  # lists and the like can't be keys
        return [str(value) for value in present.tolist()]
