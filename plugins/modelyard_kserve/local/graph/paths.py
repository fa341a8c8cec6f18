"""Conditions of a graph: the part of GJSON's path language that KServe's documentation uses.

Keys and indices with dots (`predictions.0`), `*` and `?` in keys, `#` for every element, queries
(`instances.#(kind=="cat")`, with a second `#` for all that fit), and `@this` or `[@this]`, the document or a
list with it alone. Other modifiers, pipes and multipaths are refused.

Source: the syntax of github.com/tidwall/gjson, from which KServe's router takes its conditions.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

_MISSING = object()
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATOR = re.compile(r"==|!=|!%|<=|>=|=|<|>|%")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class _Key:
    """A key of an object, or the index in a list."""

    name: str
    pattern: str = ""


@dataclass(frozen=True)
class _Each:
    """`#`: every element; at the end their number."""


@dataclass(frozen=True)
class _Query:
    """`#(...)`: the first element that fits; `every`: all that do."""

    path: tuple[_Part, ...]
    order: str
    value: str
    every: bool


@dataclass(frozen=True)
class _Itself:
    """`@this`; `boxed`: in a list."""

    boxed: bool


_Part: TypeAlias = "_Key | _Each | _Query | _Itself"


def exists(document: Any, path: str) -> bool:
    """Whether the path leads to something in the document.

    Raises:
        ValueError: the path is none that is understood here.

    Example:
        >>> cat = {"predictions": [{"kind": "cat", "sure": 0.9}]}
        >>> exists(cat, 'predictions.#(kind=="cat")'), exists(cat, "predictions.#(sure>0.95)")
        (True, False)
        >>> exists({"predictions": ["dog"]}, '[@this].#(predictions.0=="dog")')
        True
    """
    return bool(path) and _found(document, parsed(path)) is not _MISSING


@lru_cache(maxsize=1024)
def parsed(path: str) -> tuple[_Part, ...]:
    """The parts of a path.

    Raises:
        ValueError: it is none that is understood here; the sentence says what is not.
    """
    return tuple(_part(text) for text in _split(path))


def compares_nothing(path: str) -> bool:
    """Whether it looks like a comparison and is none: outside of `#(...)` GJSON takes it for a key.

    Example:
        >>> compares_nothing("predictions.0==1"), compares_nothing("predictions.#(==1)")
        (True, False)
    """
    return any(isinstance(part, _Key) and _OPERATOR.search(part.name) for part in parsed(path))


# -- reading a path -------------------------------------------------------------------------


def _split(path: str) -> Iterator[str]:
    """The texts between the dots that are in no brackets, quotes or behind a backslash."""
    if not path:
        return
    depth, quoted, escaped, begun = 0, False, False, 0
    for place, letter in enumerate(path):
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == '"':
            quoted = not quoted and depth > 0
        elif quoted:
            continue
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif not depth and letter == "|":
            raise ValueError("pipes ('|') are not understood here: write a dot")
        elif not depth and letter == ".":
            yield path[begun:place]
            begun = place + 1
    if depth or quoted or escaped:
        raise ValueError("a bracket or quote is not closed")
    yield path[begun:]


def _part(text: str) -> _Part:
    if text == "#":
        return _Each()
    if text in ("@this", "[@this]"):
        return _Itself(text[0] == "[")
    if text.startswith("#("):
        every = text.endswith("#")
        inner = text[2:].removesuffix("#")
        if not inner.endswith(")"):
            raise ValueError(f"{text!r:.60} is no query: #(...) or #(...)#")
        return _query(inner[:-1], every=every)
    if text.startswith("@"):
        raise ValueError(f"the modifier {text!r:.40} is not understood here, only @this")
    if text[:1] in ("[", "{", "!"):
        raise ValueError(f"{text!r:.60} is not understood here: no multipaths and literals but [@this]")
    if text.startswith("#"):
        raise ValueError(f"{text!r:.60} is not understood here: # or #(...)")
    return _key(text)


def _key(text: str) -> _Key:
    name, pattern, wild, letters = "", "", False, iter(text)
    for letter in letters:
        if letter == "\\":
            letter = next(letters, "")
            pattern += f"[{letter}]" if letter in "*?[" else letter
        elif letter in "*?":
            wild, pattern = True, pattern + letter
        else:
            pattern += "[[]" if letter == "[" else letter
        name += letter
    return _Key(name, pattern if wild else "")


def _query(text: str, *, every: bool) -> _Query:
    found = _order(text)
    if found is None:
        return _Query(parsed(text.strip()), "", "", every)
    begin, end = found
    order = text[begin:end].replace("==", "=")
    value = text[end:].strip()
    if value.startswith("~"):
        raise ValueError(
            f"{value!r:.40} is not understood here: compare with a text, a number, true or false"
        )
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return _Query(parsed(text[:begin].strip()), order, value, every)


def _order(text: str) -> tuple[int, int] | None:
    """Where the comparison stands, outside of brackets and quotes."""
    depth = 0
    for match in re.finditer(r'\\.|"(?:\\.|[^"\\])*"|[(\[{]|[)\]}]|' + _OPERATOR.pattern, text):
        said = match[0]
        if said in "([{":
            depth += 1
        elif said in ")]}":
            depth -= 1
        elif not depth and _OPERATOR.fullmatch(said):
            return match.span()
    return None


# -- following it ---------------------------------------------------------------------------


def _found(value: Any, parts: Sequence[_Part]) -> Any:
    for place, part in enumerate(parts):
        rest = parts[place + 1 :]
        if isinstance(part, _Itself):
            value = [value] if part.boxed else value
        elif isinstance(part, _Key):
            value = _child(value, part)
        elif not isinstance(value, list):
            return _MISSING
        elif isinstance(part, _Each):
            return _each(value, rest) if rest else len(value)
        elif part.every:
            fitting = [one for one in value if _fits(one, part)]
            return _each(fitting, rest) if rest else fitting
        else:
            value = next((one for one in value if _fits(one, part)), _MISSING)
        if value is _MISSING:
            return _MISSING
    return value


def _each(values: list[Any], parts: Sequence[_Part]) -> list[Any]:
    return [one for one in (_found(value, parts) for value in values) if one is not _MISSING]


def _child(value: Any, key: _Key) -> Any:
    if isinstance(value, dict):
        if not key.pattern:
            return value.get(key.name, _MISSING)
        return next((v for k, v in value.items() if fnmatch.fnmatchcase(k, key.pattern)), _MISSING)
    if isinstance(value, list) and key.name.isascii() and key.name.isdigit() and int(key.name) < len(value):
        return value[int(key.name)]
    return _MISSING


def _fits(value: Any, query: _Query) -> bool:
    found = _found(value, query.path)
    if found is _MISSING:
        return False
    if not query.order:
        return True
    if isinstance(found, bool):
        return _bool_fits(found, query.order, query.value)
    if isinstance(found, str):
        return _text_fits(found, query.order, query.value)
    if isinstance(found, (int, float)) and query.order in _ORDERS:
        # As GJSON: what is no number counts as 0.
        number = float(query.value) if _NUMBER.fullmatch(query.value) else 0.0
        return _ORDERS[query.order](found, number)
    return False


def _text_fits(found: str, order: str, value: str) -> bool:
    if order in _ORDERS:
        return _ORDERS[order](found, value)
    fits = fnmatch.fnmatchcase(found, value.replace("[", "[[]"))
    return fits if order == "%" else not fits


def _bool_fits(found: bool, order: str, value: str) -> bool:
    if order in ("=", "!="):
        return (value == str(found).lower()) == (order == "=")
    if order in ("<", "<=", ">", ">="):
        return _ORDERS[order](found, value == "true") if value in ("true", "false") else order[-1] == "="
    return False
