"""What people see: tables, progress and errors. Rich is loaded only for a terminal.

Piped output is plain aligned text without colours, so that `grep` and `cut` work on it; scripts
use `--json`.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from modelyard.errors import ModelyardError
from modelyard.records import Record

#: What changes the texts that `waiting` shows, the innermost last.
_shown: list[Callable[[str], None]] = []


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str = "") -> None:
    """Print rows under headers; `empty` is the sentence for no rows."""
    if not rows:
        print(empty or "nothing yet")
        return
    cells = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(headers, cells)
        return
    widths = [max(len(line[i]) for line in [list(headers), *cells]) for i in range(len(headers))]
    for line in [list(headers), *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def _rich_table(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for place, header in enumerate(headers):
        drawn.add_column(header, overflow="fold", no_wrap=place == 0)  # ids are there to be copied
    for line in cells:
        drawn.add_row(*(cell.replace("[", r"\[") for cell in line))
    Console().print(drawn)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return str(value)


def size(count: int) -> str:
    """Bytes for people.

    Example:
        >>> size(999), size(123456)
        ('999 B', '123.5 kB')
    """
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on a terminal what is being waited for, while the block runs."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(what)) as status:
        _shown.append(lambda text: status.update(escape(text)))
        try:
            yield
        finally:
            _shown.pop()


def doing(what: str) -> None:
    """Say what the innermost block of `waiting` does just now; nothing where none is shown."""
    if _shown:
        _shown[-1](what)


def print_json(value: Any) -> None:
    """Print records, or lists and dicts of them, as JSON."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def plain(value: Any) -> Any:
    """Records, paths and times as JSON values."""
    if isinstance(value, Record):
        return plain(value.to_dict())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no word for it
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_error(error: ModelyardError) -> None:
    """One sentence, its code, and what to do next, on stderr."""
    bold, plain_, dim = ("\033[1;31m", "\033[0m", "\033[2m") if sys.stderr.isatty() else ("", "", "")
    print(f"{bold}error:{plain_} {error.message} {dim}[{error.code}]{plain_}", file=sys.stderr)
    if error.hint:
        print(f"  next: {error.hint}", file=sys.stderr)
