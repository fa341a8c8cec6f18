"""How far a column may move before it counts as drifted: found on the reference itself.

Two things move the score of a window in which nothing drifted. *Chance*: a window of 300 rows is a
small sample; how much that is, draws of single rows from the reference show. *Spells*: rows of one
day share its weather; how much that is, spans of the reference as long as a window show. The
threshold is the 99th percentile of both together, for each length of a window and number of rows.
Without times there are no spells to see, and a daily window of something like the weather will
often seem to drift: give the times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelyard_evidently import scoring

#: Rows of a window for which a threshold is stored; between them it is interpolated.
SIZES = (300, 1000, 3000, 10_000)
#: Spans of the reference by the length of a window; rows of one span.
Blocks = Mapping[str, list[Any]]
#: The entry that holds where a length of windows has none of its own.
ANY = "any"
_NANOSECONDS = {
    "hour": 3600 * 10**9,
    "day": 86_400 * 10**9,
    "week": 604_800 * 10**9,
    "month": 2_592_000 * 10**9,
}
_DRAWS = 200
_MOST_BLOCKS = 60
_MOST_ROWS = 5000
_FEWEST_ROWS = 30
_QUANTILE = 0.99


def threshold(column: Mapping[str, Any], unit: str, rows: int) -> float:
    """The threshold for a window of that length and so many rows; between the stored sizes it is
    interpolated, beyond them it stays."""
    import numpy as np

    tables = column["thresholds"]
    table = tables.get(unit) or tables.get(ANY)
    if not table:
        return 0.0
    sizes, limits = zip(*table)
    return float(np.interp(np.log(max(rows, 1)), np.log(sizes), limits))


def blocks_of(times: Any) -> Blocks:
    """Overlapping spans of the reference, for each length of a window of which at least two fit.

    Args:
        times: n event times, or None.

    Returns:
        By length, arrays of row numbers.
    """
    if times is None:
        return {}
    import numpy as np
    import pandas as pd

    stamps = pd.to_datetime(pd.Series(list(times)), utc=True, errors="coerce")
    known = np.flatnonzero(stamps.notna().to_numpy())
    ticks = stamps.iloc[known].dt.tz_localize(None).astype("datetime64[ns]").astype("int64").to_numpy()
    order = np.argsort(ticks, kind="stable")
    ticks, rows = ticks[order], known[order]
    found: dict[str, list[Any]] = {}
    for unit, length in _NANOSECONDS.items():
        step = _NANOSECONDS["hour" if unit == "hour" else "day"]
        starts = np.unique(ticks // step) * step
        whole = starts[starts + length <= ticks[-1] + step] if len(ticks) else starts
        chosen = (
            whole[np.unique(np.linspace(0, len(whole) - 1, _MOST_BLOCKS).astype(int))]
            if len(whole)
            else whole
        )
        spans = zip(np.searchsorted(ticks, chosen), np.searchsorted(ticks, chosen + length))
        blocks = [rows[first:last] for first, last in spans if last - first >= _FEWEST_ROWS]
        if len(blocks) >= 2:
            found[unit] = blocks
    return found


def thresholds(column: Mapping[str, Any], values: Any, blocks: Blocks, floor: float) -> dict[str, Any]:
    """By length of a window, pairs of rows and threshold.

    Args:
        column: the profiled column.
        values: its n values in the reference.
        blocks: the reference's spans.
        floor: no threshold is lower.
    """
    import numpy as np

    prepared, present, measure = _prepared(column, values)
    known = prepared[present]
    random = np.random.default_rng(0)
    chance = {
        size: np.array([measure(known[random.integers(0, len(known), size)]) for _ in range(_DRAWS)])
        for size in SIZES[:2]
    }
    # Beyond the largest that is drawn, chance shrinks with the root of the rows.
    # A small span must not pass for a spell by bad luck: what chance explains is its 95th percentile.
    noise = float(np.quantile(chance[SIZES[1]], 0.95) ** 2) * SIZES[1]
    for size in SIZES[2:]:
        chance[size] = chance[SIZES[1]] * np.sqrt(SIZES[1] / size)
    spells: dict[str, Any] = {ANY: np.zeros(1)}
    for unit, spans in blocks.items():
        spells[unit] = np.array([_spell(prepared, present, span, measure, noise, random) for span in spans])
    # A span too long for the reference is judged like the longest that fits, which moves at least as much.
    units = list(_NANOSECONDS)
    for number, unit in enumerate(units):
        shorter = [u for u in reversed(units[:number]) if u in spells]
        if unit not in spells and shorter:
            spells[unit] = spells[shorter[0]]
    return {unit: _table(chance, moved, len(known), floor) for unit, moved in spells.items()}


def _prepared(column: Mapping[str, Any], values: Any) -> tuple[Any, Any, Any]:
    """The values as numbers (codes of categories), which of them are there, and what scores them."""
    import numpy as np
    import pandas as pd

    if column["kind"] == "numeric":
        found = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        fast = {**column, "levels": np.asarray(column["levels"])}
        return np.clip(found, -1e100, 1e100), np.isfinite(found), lambda v: scoring.numeric_score(fast, v)
    present = pd.Series(values).notna().to_numpy()
    codes = np.zeros(len(present), dtype=int)
    codes[present] = scoring.codes(column, scoring.categories(values))
    return codes, present, lambda v: scoring.categorical_score(column, v)


def _spell(prepared: Any, present: Any, span: Any, measure: Any, noise: float, random: Any) -> float:
    """How far a span lies from the rest of the reference, beyond what its number of rows explains."""
    import numpy as np

    rows = span[present[span]]
    if not len(rows):
        return 0.0  # a span without values says nothing
    chosen = rows if len(rows) <= _MOST_ROWS else random.choice(rows, _MOST_ROWS, replace=False)
    score = measure(prepared[chosen])
    beyond = np.sqrt(max(0.0, score**2 - noise / len(chosen)))
    # The span is part of what it is compared with; a new window is not. Its distance to the rest
    # of the reference is larger by exactly that share (the Wasserstein distance is linear in it).
    share = min(len(rows) / int(present.sum()), 2 / 3)
    return float(beyond / (1 - share))


def _table(chance: Mapping[int, Any], moved: Any, rows: int, floor: float) -> list[list[float]]:
    import numpy as np

    table = []
    for size in SIZES:
        # Window and reference are both samples: a small reference is off by its own chance.
        both = np.hypot(moved[:, None], chance[size][None, :] * np.sqrt(1 + size / rows))
        # The default would lie below: of a hundred draws the 99th percentile is passed by two in a hundred.
        limit = float(np.quantile(both, _QUANTILE, method="weibull"))
        table.append([size, round(max(floor, limit), 6)])
    return table
