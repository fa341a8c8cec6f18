"""Records as plain HTML tables, for notebooks and what is exported from them.

No script and no colours: GitHub and mail programs take both out, themes bring their own, and screen readers
need neither. Everything that a record holds is escaped; what matters is said in words, with a mark beside it.
"""

from __future__ import annotations

import dataclasses
import html
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from modelyard import console
from modelyard.records import (
    DataRef,
    DataUse,
    Endpoint,
    GateResult,
    ModelVersion,
    Promotion,
    Record,
    Revision,
    Run,
    Window,
)

Columns = Sequence[tuple[str, Callable[[Any], object]]]
#: Rows that a list shows, and items that a cell names; how many more there are is said.
_ROWS, _ITEMS = 50, 8
#: JupyterLab sets cells to the right.
_LEFT = ' style="text-align: left"'
_MARKS = {
    "running": "●",
    "finished": "✓",
    "failed": "✗",
    "killed": "■",
    "stopped": "■",
    "died": "✗",
    "completed": "✓",
    "pending": "●",
    "abandoned": "✗",
    "ok": "✓",
    "warning": "▲",
    "ready": "✓",
    "not ready": "✗",
}


def marked(word: str) -> str:
    """A state with its mark, e.g. `✓ finished`."""
    return f"{_MARKS[word]} {word}" if word in _MARKS else word


def _ready(ready: bool) -> str:
    return marked("ready" if ready else "not ready")


def _run_state(run: Run) -> str:
    return marked(run.status)


def _took(run: Run) -> str | None:
    return f"{(run.ended - run.started).total_seconds():.1f} s" if run.ended else None


def _place(run: Run) -> str:
    count = run.code.execution_count
    return run.code.entry_point + (f", cell [{count}]" if count is not None else "")


def _drift(window: Window) -> str:
    scored = [column for column in window.columns if column.score is not None]
    if not window.enough:
        return "too few rows"
    if not window.drifted:
        return f"✓ none of {len(scored)}"
    return f"▲ {len(window.drifted)} of {len(scored)}: {_listed(window.drifted)}"


def _quality(window: Window) -> str:
    known = window.quality_reference
    return _listed(
        f"{name} {number(value)}" + (f" (reference {number(known[name])})" if name in known else "")
        for name, value in sorted(window.quality.items())
    )


_COLUMNS: dict[type[Record], Columns] = {
    Run: (
        ("run", lambda run: run.id[:8]),
        ("name", lambda run: run.name),
        ("status", _run_state),
        ("started (UTC)", lambda run: run.started),
        ("took", _took),
        ("metrics", lambda run: run.metrics),
        ("parameters", lambda run: run.params),
        ("data", lambda run: run.data),
        ("by", lambda run: run.user),
        ("code", _place),
    ),
    ModelVersion: (
        ("version", lambda version: version.ref),
        ("aliases", lambda version: version.aliases),
        ("created (UTC)", lambda version: version.created),
        ("by", lambda version: version.user),
        ("run", lambda version: (version.run_id or "")[:8]),
        ("signature", lambda version: version.signature),
        ("sha256", lambda version: (version.digest or "")[:12]),
    ),
    Promotion: (
        ("promotion", lambda move: move.id),
        ("alias", lambda move: move.alias),
        ("from", lambda move: move.from_version),
        ("to", lambda move: move.to_version),
        ("action", lambda move: move.action),
        ("time (UTC)", lambda move: move.time),
        ("by", lambda move: move.actor.user),
        ("reason", lambda move: move.reason),
        ("status", lambda move: marked(move.status)),
        ("deployed", lambda move: move.deployed),
        ("gates", lambda move: move.gates),
    ),
    Endpoint: (
        ("endpoint", lambda endpoint: endpoint.name),
        ("state", lambda endpoint: _ready(endpoint.ready)),
        ("why", lambda endpoint: None if endpoint.ready else endpoint.reason),
        ("serves", lambda endpoint: [r for r in endpoint.revisions if r.traffic]),
        ("asks for", lambda endpoint: endpoint.storage_uri),
        ("target", lambda endpoint: endpoint.target),
        ("address", lambda endpoint: endpoint.url),
    ),
    Window: (
        ("endpoint", lambda window: window.endpoint),
        ("version", lambda window: f"{window.model}/{window.version}"),
        ("from (UTC)", lambda window: window.start),
        ("to (UTC)", lambda window: window.end),
        ("rows", lambda window: window.rows),
        ("labelled", lambda window: window.labelled),
        ("drifted columns", _drift),
        ("quality", _quality),
    ),
    DataRef: (
        ("data", lambda ref: ref.name),
        ("path", lambda ref: ref.path),
        ("version", lambda ref: f"{ref.scheme} {ref.version[:10]}"),
        ("size", lambda ref: console.size(ref.size)),
        ("files", lambda ref: ref.files),
        ("published", lambda ref: ref.published),
        ("remote", lambda ref: ref.remote),
    ),
}


def record(value: Record) -> str:
    """One record: a row for everything that it holds, but what is empty."""
    rows = [
        f'<tr><th scope="row"{_LEFT}>{escaped(title)}</th><td{_LEFT}>{cell}</td></tr>'
        for title, get in _columns(type(value))
        if (cell := _cell(get(value)))
    ]
    return f"<table>\n<tbody>\n{_lines(rows)}</tbody>\n</table>"


def records(values: Sequence[Record], *, title: str = "") -> str:
    """Records of one kind: a row for each, at most 50; columns in which none has anything are left out.

    Args:
        values: at least one.
        title: the table's caption.
    """
    shown = values[:_ROWS]
    rows = [[_cell(get(value)) for _, get in _columns(type(values[0]))] for value in shown]
    titles = [name for name, _ in _columns(type(values[0]))]
    kept = [place for place in range(len(titles)) if any(row[place] for row in rows)]
    cells = [[row[place] for place in kept] for row in rows]
    left_out = f"{len(shown)} of {len(values)} shown" if len(values) > len(shown) else ""
    caption = ", ".join(filter(None, (title, left_out)))
    return table([titles[place] for place in kept], cells, caption=caption)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> str:
    """A table of cells that are HTML already; the first of each row names it. Titles and caption are text."""
    head = "".join(f'<th scope="col"{_LEFT}>{escaped(title)}</th>' for title in titles)
    body = [
        f'<tr><th scope="row"{_LEFT}>{first}</th>'
        + "".join(f"<td{_LEFT}>{cell}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    ]
    said = f"<caption>{escaped(caption)}</caption>\n" if caption else ""
    return f"<table>\n{said}<thead><tr>{head}</tr></thead>\n<tbody>\n{_lines(body)}</tbody>\n</table>"


def answer(value: object) -> str | None:
    """What a command or call gave, as HTML: a record, a list of them, or such lists by name; else None."""
    if isinstance(value, Record):
        return record(value)
    if isinstance(value, (list, tuple)):
        return records(value) if _alike(value) else None
    if isinstance(value, Mapping):
        lists = {str(name): found for name, found in value.items() if isinstance(found, (list, tuple))}
        tables = [records(found, title=name) for name, found in lists.items() if _alike(found)]
        return "\n".join(tables) or None
    return None


def escaped(value: object) -> str:
    """Text that is safe between tags and in quoted attributes."""
    return html.escape(str(value))


def number(value: float) -> str:
    """A measured value for people; not a number and infinite are words."""
    if math.isnan(value):
        return "not a number"
    return f"{value:.4g}" if math.isfinite(value) else ("infinite" if value > 0 else "-infinite")


def _alike(values: Sequence[object]) -> bool:
    return bool(values) and all(isinstance(v, Record) and type(v) is type(values[0]) for v in values)


def _columns(kind: type[Record]) -> Columns:
    """What is worth seeing of that kind; of one that nobody thought of, everything."""
    if kind in _COLUMNS:
        return _COLUMNS[kind]
    names = [field.name for field in dataclasses.fields(kind)]
    return [(name.replace("_", " "), operator.attrgetter(name)) for name in names]


def _cell(value: object) -> str:
    return escaped(_text(value))


def _text(value: object) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "✓ yes" if value else "✗ no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Mapping):
        return _listed(f"{name} {_text(item)}" for name, item in sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return _listed(_text(item) for item in value)
    if isinstance(value, Record):
        return _phrase(value)
    return str(value)


def _phrase(value: Record) -> str:
    """A record inside another one."""
    if isinstance(value, DataUse):
        return f"{value.role} {value.ref.name}@{value.ref.version[:10]}"
    if isinstance(value, Revision):
        state = "" if value.ready else f" ({_ready(value.ready)})"
        return f"{value.model}/{value.version} {value.traffic} %{state}"
    if isinstance(value, GateResult):
        return f"{'✓ passed' if value.passed else '✗ refused'} {value.gate}: {value.message}"
    return _listed(
        f"{field.name} {text}"
        for field in dataclasses.fields(value)
        if (text := _text(getattr(value, field.name)))
    )


def _listed(items: Iterable[str]) -> str:
    known = list(items)
    more = [f"and {len(known) - _ITEMS} more"] if len(known) > _ITEMS else []
    return ", ".join([*known[:_ITEMS], *more])


def _lines(rows: Sequence[str]) -> str:
    return "".join(f"{row}\n" for row in rows)
