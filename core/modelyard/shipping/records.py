"""What a ship did, and who is told while it does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from modelyard.records import Record

State = Literal["new", "there", "missing", "refused", "kept", "removed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedData(Record):
    """A version of data. `new`: it was copied (a dry run: it would be); `there`: it was there already;
    `missing`: neither side has it. `bytes` are those that were copied."""

    name: str
    version: str
    bytes: int
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedVersion(Record):
    """A version of a model, here `NAME/VERSION`, and what it and its run are called there.

    `new`, `there` or `refused`; `bytes` are those of its files, if they were copied.
    """

    ref: str
    there: str | None = None
    run_id: str | None = None
    run_there: str | None = None
    bytes: int = 0
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedAlias(Record):
    """An alias and the version there that it points to. `kept`: it was moved there, and stays so."""

    model: str
    alias: str
    version: str | None
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment(Record):
    """What a ship did, or, as a dry run, would do.

    `promotions` counts the events of each model's ledger that were new there; `refused` are the errors.
    """

    target: str
    dry_run: bool
    data: tuple[ShippedData, ...] = ()
    versions: tuple[ShippedVersion, ...] = ()
    aliases: tuple[ShippedAlias, ...] = ()
    promotions: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[Mapping[str, Any], ...] = ()

    @property
    def bytes(self) -> int:
        """All that was copied."""
        return sum(item.bytes for item in self.data) + sum(version.bytes for version in self.versions)

    @property
    def empty(self) -> bool:
        """Whether everything was there already."""
        states = {
            *(item.state for item in self.data),
            *(version.state for version in self.versions),
            *(alias.state for alias in self.aliases),
        }
        return not states & {"new", "removed"} and not any(self.promotions.values())


class Progress:
    """Is told how far a ship is, from several threads. These methods do nothing; override them."""

    def more(self, size: int) -> None:
        """So many bytes more will be copied."""

    def advance(self, size: int) -> None:
        """Some more were (negative: they have to be sent again)."""

    def say(self, what: str) -> None:
        """What is done now."""
