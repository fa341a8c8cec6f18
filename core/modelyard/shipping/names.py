"""Aliases and history of a model that was shipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelyard.errors import NotFoundError
from modelyard.ledger import Ledger
from modelyard.shipping.known import Known
from modelyard.shipping.records import ShippedAlias, State

if TYPE_CHECKING:
    from modelyard.yard import Yard


class Names:
    """The aliases and the history of one model. `numbers`: version here -> version there."""

    def __init__(
        self, source: Yard, target: Yard, known: Known, model: str, numbers: Mapping[str, str]
    ) -> None:
        self._source, self._target, self._map, self._model = source, target, known, model
        self._numbers = numbers
        self._events = Ledger(source.state / "ledger", model).events()
        self._ledger = Ledger(target.state / "ledger", model)

    def new_events(self) -> int:
        """How many events of the ledger the target has not."""
        return len(self._ledger.not_taken(self._events, self._source.target_name))

    def aliases(self) -> list[ShippedAlias]:
        """What has to be done about each alias; one that was moved there by anybody else stays."""
        wanted: dict[str, str | None] = dict.fromkeys(self._map.aliases(self._model))
        wanted |= {a: self._numbers.get(v, v) for a, v in _standing(self._source, self._model).items()}
        standing = _standing(self._target, self._model)
        found = []
        for alias, version in sorted(wanted.items()):
            now = standing.get(alias)
            if now == version:
                state: State = "there"
            elif now in self._map.left(self._model, alias):
                state = "new" if version else "removed"
            else:
                state, version = "kept", now
            if version or state == "removed":
                found.append(ShippedAlias(model=self._model, alias=alias, version=version, state=state))
        return found

    def move(self, runs: Mapping[str, str]) -> tuple[list[ShippedAlias], int]:
        """Set the aliases and take over the history, while nobody promotes there."""
        with self._ledger.lock():
            self.new_events()  # one that can't be taken over moves no alias
            aliases = self.aliases()
            standing = _standing(self._target, self._model)
            for each in aliases:
                if each.state in ("new", "removed"):
                    self._map.note_alias(self._model, each.alias, standing.get(each.alias), each.version)
                    self._target.registry.set_alias(self._model, each.alias, each.version)
                if each.state != "kept":
                    self._map.note_alias(self._model, each.alias, each.version)
            kept = {each.alias for each in aliases if each.state == "kept"}
            taken = self._ledger.take_over(
                self._events,
                origin=self._source.target_name,
                versions=self._numbers,
                runs=runs,
                kept=kept,
            )
        return aliases, taken


def _standing(yard: Yard, model: str) -> dict[str, str]:
    """Alias -> version."""
    try:
        versions = yard.registry.versions(model)
    except NotFoundError:
        return {}
    return {alias: version.version for version in versions for alias in version.aliases}
