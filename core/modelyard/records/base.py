"""What every record is: frozen, typed, JSON-able."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

T = TypeVar("T", bound="Record")


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of all records: `to_dict` gives plain JSON values, `from_dict` takes them back.

    Example:
        >>> from modelyard.records import DataRef
        >>> ref = DataRef(name="flights", scheme="dvc", path="data/flights.parquet",
        ...     version="d41d8cd98f00b204e9800998ecf8427e", digest="0" * 64, size=10, files=1)
        >>> DataRef.from_dict(ref.to_dict()) == ref
        True
    """

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return {f.name: _to_json(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
        """The record from plain JSON values; keys of newer versions are ignored.

        Raises:
            TypeError: a field without a default is missing.
        """
        hints = _hints(cls)  # type: ignore[arg-type]  # mypy takes the class for its instances
        known = {name: _from_json(hints[name], values[name]) for name in hints if name in values}
        return cls(**known)

    def _repr_html_(self) -> str:
        """The record as a table, where notebooks show it."""
        from modelyard import html

        return html.record(self)


@cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _to_json(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    return value


def _from_json(hint: Any, value: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = [a for a in args if a is not type(None)]
        return None if value is None else _from_json(inner[0], value) if len(inner) == 1 else value
    if origin is tuple:
        return tuple(_from_json(args[0], item) for item in value)
    if origin is not None and isinstance(value, Mapping):
        return {key: _from_json(args[1], item) for key, item in value.items()}
    if hint is datetime and isinstance(value, str):
        return datetime.fromisoformat(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and issubclass(hint, Record) and isinstance(value, Mapping):
        return hint.from_dict(value)
    return value
