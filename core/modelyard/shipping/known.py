"""What was shipped to a target: which run, version and alias here is which one there.

The file is written after every step, so that a killed ship goes on where it was. It only says where to
look: what is really there, the target is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.state import read_json, write_json

#: Tag of a run or version that was shipped; its value names the original.
MARK = "shipped_from"


class Known:
    """The part of `shipped.json` about one source.

    Args:
        file: below the target's state.
        source: the target that is shipped from, e.g. `local`.
    """

    def __init__(self, file: Path, source: str) -> None:
        self._file, self._source = file, source
        self._lock = threading.Lock()
        whole = read_json(file)
        self._whole: dict[str, Any] = whole if isinstance(whole, dict) else {}
        known = self._whole.get(source)
        self.fresh = known is None
        self._known: dict[str, Any] = {
            "runs": {},
            "unfinished": [],
            "versions": {},
            "aliases": {},
            **(known or {}),
        }

    @property
    def runs(self) -> Mapping[str, str]:
        """Run here -> run there, of those that are known to be there."""
        return {here: there for here, there in self._known["runs"].items() if there}

    @property
    def unfinished(self) -> list[str]:
        """Runs here whose copy is not whole: they had not ended, or the ship was killed."""
        return list(self._known["unfinished"])

    def was_begun(self, run_id: str) -> bool:
        """Whether a copy of the run was begun and may be there, under an id that nobody noted."""
        return run_id in self._known["runs"] and self._known["runs"][run_id] is None

    def begin_run(self, run_id: str) -> None:
        """Note that a copy is about to be made."""
        with self._lock:
            self._known["runs"][run_id] = None
            self._write()

    def note_run(self, run_id: str, there: str, *, whole: bool = False) -> None:
        """Note what a run is called there, and whether its copy is whole."""
        with self._lock:
            others = [other for other in self._known["unfinished"] if other != run_id]
            after = others if whole else [*others, run_id]
            if self._known["runs"].get(run_id) != there or self._known["unfinished"] != after:
                self._known["runs"][run_id], self._known["unfinished"] = there, after
                self._write()

    def note_version(self, ref: str, there: str) -> None:
        """Note what a version (`NAME/VERSION`) is called there."""
        with self._lock:
            if self._known["versions"].get(ref) != there:
                self._known["versions"][ref] = there
                self._write()

    def left(self, model: str, alias: str) -> list[str | None]:
        """Where a ship left the alias there; two places if it was killed while it moved it."""
        found: list[str | None] = self._known["aliases"].get(model, {}).get(alias, [None])
        return found

    def aliases(self, model: str) -> list[str]:
        """The aliases that were shipped."""
        return sorted(self._known["aliases"].get(model, {}))

    def note_alias(self, model: str, alias: str, *places: str | None) -> None:
        """Note where the alias stands, or between which places it moves now."""
        with self._lock:
            if self._known["aliases"].get(model, {}).get(alias) != list(places):
                self._known["aliases"].setdefault(model, {})[alias] = list(places)
                self._write()

    def _write(self) -> None:
        self._whole[self._source] = self._known
        write_json(self._file, self._whole)
