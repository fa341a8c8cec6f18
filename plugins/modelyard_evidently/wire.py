"""What travels between a project and the monitor of a cluster: addresses, errors, labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modelyard import errors
from modelyard.errors import ModelyardError
from modelyard.stages import Label

_PIECE = 64 * 1024
_KINDS: dict[int, type[ModelyardError]] = {
    kind.exit_status: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ModelyardError)
}
#: The HTTP status of an error, by the exit status of its class.
STATUSES = {2: 400, 3: 400, 4: 404, 5: 409, 8: 503}


def path_of(*names: str) -> str:
    """A path of names, each of which may hold anything.

    Example:
        >>> path_of("default", "späte flüge")
        '/default/sp%C3%A4te%20fl%C3%BCge'
    """
    return "".join(f"/{quote(name, safe='')}" for name in names)


def error_of(said: Mapping[str, Any]) -> ModelyardError:
    """An error that `ModelyardError.to_dict` wrote elsewhere.

    Example:
        >>> error_of({"code": "x-not-found", "message": "there is no x", "exit_status": 4})
        NotFoundError('there is no x')
    """
    kind = _KINDS.get(said.get("exit_status", 1), ModelyardError)
    return kind(said["code"], said["message"], said.get("hint", ""), details=said.get("details"))


def pieces_of(labels: Iterable[Label]) -> Iterator[bytes]:
    """Labels as lines of JSON, many at a time, so that millions need no memory."""
    lines: list[bytes] = []
    size = 0
    for label in labels:
        lines.append(_line(label))
        size += len(lines[-1])
        if size > _PIECE:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)


def labels_in(file: Path) -> Iterator[Label]:
    """The labels of such lines."""
    with file.open("rb") as lines:
        for line in lines:
            prediction_id, row, value = json.loads(line)
            yield Label(prediction_id=prediction_id, row=row, value=value)


def _line(label: Label) -> bytes:
    said = [label.prediction_id, int(label.row), label.value]
    return json.dumps(said, ensure_ascii=False, default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
