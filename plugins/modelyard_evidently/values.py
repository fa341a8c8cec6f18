"""One spelling for values that have been through JSON, CSV and data frames, and names for folders."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import quote, unquote

#: File systems take 255 bytes; quoting makes three of one.
_LONGEST_NAME = 200


def text_of(value: Any) -> str | None:
    """A category as text: 1, 1.0 and "1" are the same after a trip through JSON.

    Example:
        >>> text_of(1.0), text_of("1"), text_of(True), text_of(None)
        ('1', '1', 'true', None)
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else str(value)
    if hasattr(value, "item"):  # a numpy scalar
        return text_of(value.item())
    return str(value)


def number_of(value: Any) -> float | None:
    """A number as float; None if it is none, or not finite.

    Example:
        >>> number_of("1.5"), number_of(True), number_of("viel"), number_of(float("inf"))
        (1.5, 1.0, None, None)
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def folder_name(name: str) -> str:
    """A name from the network as the name of one folder: no slash, and never `.` or `..`.

    Raises:
        ValueError: it is empty or too long.

    Example:
        >>> folder_name("späte flüge"), folder_name("..")
        ('sp%C3%A4te%20fl%C3%BCge', '%2E%2E')
    """
    folder = quote(name, safe="").replace(".", "%2E")
    if not folder or len(folder) > _LONGEST_NAME:
        raise ValueError(f"'{name[:40]}' can't name a folder: it is empty or too long")
    return folder


def name_of(folder: str) -> str:
    """The name that `folder_name` made a folder's name of."""
    return unquote(folder)
