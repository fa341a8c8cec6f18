"""Amounts of processors and memory, as Kubernetes writes them."""

from __future__ import annotations

import re

_UNITS = {
    "": 1.0,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
}
_UNITS |= {f"{unit}i": 2.0 ** (10 * power) for power, unit in enumerate("KMGTPE", start=1)}


def quantity(text: str | float) -> float:
    """A quantity as a number: processors, or bytes.

    Raises:
        ValueError: it is none.

    Example:
        >>> quantity("250m"), quantity("1Gi"), quantity("1e3"), quantity(2)
        (0.25, 1073741824.0, 1000.0, 2.0)
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i)?)", str(text))
    if found is None:
        raise ValueError(f"{text!r:.40} is not a quantity, as 500m or 2Gi are")
    return float(found[1]) * (10.0 ** int(found[2]) if found[2] else _UNITS[found[3] or ""])
