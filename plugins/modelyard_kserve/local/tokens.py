"""The bearer token of a project's local endpoints: who asks for one, and where it is kept."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelyard.state import locked, write_bytes
from modelyard_kserve.documents import Said

#: Whether this endpoint asks for the token, whatever the setting says of all.
ANNOTATION = "modelyard.dev/token"
_FILE = "token"
_YES, _NO = "true", "false"


def findings(value: Mapping[str, Any], mode: str) -> Iterator[Said]:
    """What is wrong with the wish for a token in an InferenceService."""
    said, at = _said(value), ("metadata", "annotations", ANNOTATION)
    if said not in (None, _YES, _NO):
        yield Said(at, f"{said!r:.60} is neither '{_YES}' nor '{_NO}'")
    elif said == _YES and mode != "local":
        message = "is for local processes: on a cluster nothing would ask for it"
        yield Said(at, message, hint="let the cluster's gateway ask, and leave it out here")


def asked_for(value: Mapping[str, Any], *, by_all: bool) -> bool:
    """Whether an InferenceService asks for the token.

    Example:
        >>> asked_for({"metadata": {"annotations": {"modelyard.dev/token": "false"}}}, by_all=True)
        False
    """
    said = _said(value)
    return by_all if said is None else said == _YES


def file_of(state: Path) -> Path:
    """Where the project keeps it."""
    return state / _FILE


def read(state: Path) -> str:
    """The token; empty: there is none, so that nobody has it."""
    try:
        return file_of(state).read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def make(state: Path, *, anew: bool = False) -> str:
    """The token; it is made where there is none.

    Args:
        state: the provider's folder.
        anew: make another one all the same; the old one is refused from then on.
    """
    with locked(state / f"{_FILE}.lock", doing="making the endpoints' token"):
        found = read(state)
        if found and not anew:
            return found
        made = secrets.token_urlsafe(32)
        write_bytes(file_of(state), f"{made}\n".encode(), mode=0o600)
        return made


def _said(value: Mapping[str, Any]) -> Any:
    return (value["metadata"].get("annotations") or {}).get(ANNOTATION)
