"""What all widgets share: their JavaScript and CSS, and the forms that need neither."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelyard.errors import MissingRequirementError

try:
    from anywidget import AnyWidget
except ModuleNotFoundError as fault:
    raise MissingRequirementError(
        "extra-missing",
        f"widgets need {fault.name}, which is not installed",
        "pip install 'modelyard[jupyter]'",
    ) from None

_FOLDER = Path(__file__).parent


def script(name: str) -> str:
    """The widget's JavaScript module, with what all of them use in front: a browser gets it in one piece."""
    return "\n".join((_FOLDER / file).read_text(encoding="utf-8") for file in ("base.js", f"{name}.js"))


def style(name: str) -> str:
    """The widget's CSS, after what all of them use."""
    return "\n".join((_FOLDER / file).read_text(encoding="utf-8") for file in ("base.css", f"{name}.css"))


class Readable(AnyWidget):
    """A widget that can be read where no JavaScript runs."""

    def _text(self) -> str:
        raise NotImplementedError

    def _html(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._text()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The widget, its text and its HTML; front ends show the first that they can."""
        given = super()._repr_mimebundle_(**options)
        if given is None:
            return None
        data, metadata = given if isinstance(given, tuple) else (given, {})
        return {**data, "text/plain": self._text(), "text/html": self._html()}, metadata


def finite(value: float | None) -> float | None:
    """JSON knows no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None


def aligned(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under headers, as text."""
    lines = [list(headers), *(list(row) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(headers))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
