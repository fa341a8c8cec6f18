"""KServe's YAML files as documents that know the lines of their fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from modelyard.errors import ConfigError

#: Where a field lies: names of keys and numbers in lists.
Place = tuple[str | int, ...]
Level = Literal["error", "warning", "info"]
#: What objects may be called: the names of their services come from it.
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
#: What they may lie in: it is part of their address.
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
#: Characters of a name that is part of a host's.
_LONGEST_NAME = 63
#: Values in a document with its aliases followed: more are a trap.
_LARGEST = 1_000_000


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
        """`apiVersion` and `kind`; None: there is no text."""
        version, kind = self.value.get("apiVersion"), self.value.get("kind")
        return version if isinstance(version, str) else None, kind if isinstance(kind, str) else None

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
        read = _json(text)
        # JSON may be indented by tabs, YAML not; in JSON's texts there are none.
        nodes = list(yaml.compose_all(text if read is None else text.replace("\t", " "), yaml.SafeLoader))
        for node in nodes:
            _size(node, {})
        values = list(yaml.safe_load_all(text)) if read is None else [read]
    except RecursionError:
        raise Unreadable(1, "it is nested too deeply") from None
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


def said_of_name(metadata: Mapping[str, Any], fitting: re.Pattern[str] = NAME) -> Iterator[Said]:
    """What is wrong with an object's name and namespace.

    Example:
        >>> [said.message for said in said_of_name({"name": 64 * "a"})]
        ['has 64 characters, and names have 63 at most']
    """
    name, namespace = metadata.get("name"), metadata.get("namespace")
    for field, value, wanted in (("name", name, fitting), ("namespace", namespace, _NAMESPACE)):
        if field == "namespace" and value is None:
            continue
        if not isinstance(value, str) or not wanted.fullmatch(value):
            message = f"{value!r:.80} is not a name of lower-case letters, digits and '-'"
            if isinstance(value, str) and len(value) > _LONGEST_NAME and wanted.fullmatch(value[:1]):
                message = f"has {len(value)} characters, and names have {_LONGEST_NAME} at most"
            yield Said(("metadata", field), message)


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


def _json(text: str) -> Any:
    """The value of a file of JSON, whose escapes YAML reads otherwise; None: it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _size(node: Any, known: dict[int, int]) -> int:
    """How many values a node holds with its aliases followed.

    Raises:
        Unreadable: it holds itself, a key twice, or too much.
    """
    line = int(node.start_mark.line) + 1
    if id(node) in known:
        if not known[id(node)]:
            raise Unreadable(line, "an alias in it means what it stands in")
        return known[id(node)]
    known[id(node)] = 0
    size = 1
    lines: dict[tuple[str, str], int] = {}
    for part in node.value if isinstance(node.value, list) else ():
        key, value = part if isinstance(part, tuple) else (None, part)
        if key is not None and isinstance(key.value, str) and key.value != "<<":
            at = int(key.start_mark.line) + 1
            if (first := lines.get((key.tag, key.value))) is not None:
                raise Unreadable(
                    at, f"'{key.value:.60}' stands on line {first} already, and one would be lost"
                )
            lines[key.tag, key.value] = at
        size += _size(value, known)
    if size > _LARGEST:
        raise Unreadable(line, "its aliases make more of it than anybody could mean")
    known[id(node)] = size
    return size
