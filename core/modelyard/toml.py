"""TOML files as plain values. Reading one is cheap; checking it against a model is `config`'s affair."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from modelyard.errors import ConfigError
from modelyard.state import fault_of

if sys.version_info >= (3, 11):
    import tomllib
else:  # the same module under its old name
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]


def read_toml(file: Path) -> dict[str, Any]:
    """A TOML file as plain values.

    Raises:
        ConfigError: `config-syntax`, with the line.
    """
    try:
        values: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8-sig"))
        return values
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise ConfigError("config-syntax", f"{file} is not valid TOML: {fault}", f"edit {file}") from None
    except OSError as fault:
        raise fault_of(fault, file) from fault


def read_value(text: str) -> Any:
    """One value as TOML writes it; text that is none is itself.

    Example:
        >>> read_value("[1, 2]"), read_value("acme")
        ([1, 2], 'acme')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
