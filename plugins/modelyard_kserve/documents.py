"""KServe's YAML files as documents that know the lines of their fields."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from modelyard.errors import ConfigError

#: Where a field lies: names of keys and numbers in lists.
Place = tuple[str | int, ...]
Level = Literal["error", "warning", "info"]
#: What objects may be called: the names of their services come from it.
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Said:
    """Something about a field: `error`s are refused, `warning`s do not do what they seem to."""

    place: Place
    message: str
    level: Level = "error"
    hint: str = ""


class Unreadable(Exception):
    """A file that holds no documents of ours."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Document:
    """One document of a file.

    Attributes:
        where: the file's name, for messages.
        value: its values.
    """

    where: str
    value: dict[str, Any]
    node: Any

    @property
    def kind(self) -> tuple[Any, Any]:
        """`apiVersion` and `kind`, as they stand there."""
        return self.value.get("apiVersion"), self.value.get("kind")

    def line(self, place: Place) -> int:
        """The line of the deepest part of the place that is there."""
        node = self.node
        line = int(node.start_mark.line) + 1
        for part in place:
            if isinstance(part, int) and isinstance(node.value, list) and part < len(node.value):
                node = node.value[part]
            elif isinstance(part, str) and isinstance(node.value, list):
                pairs = [pair for pair in node.value if isinstance(pair, tuple) and pair[0].value == part]
                if not pairs:
                    return line
                line, node = int(pairs[0][0].start_mark.line) + 1, pairs[0][1]
                continue
            else:
                return line
            line = int(node.start_mark.line) + 1
        return line


def dotted(place: Place) -> str:
    """The usual way to write a place.

    Example:
        >>> dotted(("spec", "predictor", "containers", 0, "name"))
        'spec.predictor.containers[0].name'
    """
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def documents(text: str, where: str) -> list[Document]:
    """The documents in a text; empty ones are left out.

    Raises:
        Unreadable: it is no YAML, or a document is no mapping.
    """
    import yaml

    try:
        nodes = list(yaml.compose_all(text, yaml.SafeLoader))
        values = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError) as fault:  # a ValueError is a date that the calendar lacks
        mark = getattr(fault, "problem_mark", None)
        raise Unreadable(mark.line + 1 if mark else 1, _without_the_text(fault)) from None
    found = []
    for value, node in zip(values, nodes):
        if value is None:
            continue
        if not isinstance(value, dict):
            line = int(node.start_mark.line) + 1
            raise Unreadable(line, "it is not a mapping, so nothing of KServe's")
        found.append(Document(where, value, node))
    return found


def invalid(where: str, message: str) -> ConfigError:
    """The error of a file that can't be taken."""
    return ConfigError("manifest-invalid", f"{where}: {message}", "edit the file, then apply it again")


def _without_the_text(fault: Exception) -> str:
    """What is wrong with the YAML and where; its own message quotes lines, which may hold secrets."""
    mark = getattr(fault, "problem_mark", None)
    if mark is None:
        return " ".join(str(fault).split())
    said = (getattr(fault, "context", None), getattr(fault, "problem", None))
    return f"column {mark.column + 1}: {', '.join(filter(None, said))}"
