"""Which steps of a demo are done: written after each, so that an interrupted demo goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelyard.state import read_json, write_json

_FORMAT = 1


class Journal:
    """The demo's progress in a project.

    Args:
        file: `.modelyard/demo.json`; a file of another format is a demo of another version.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def exists(self) -> bool:
        """Whether a demo was begun here."""
        return self._file.exists()

    def begin(self, *, fast: bool) -> None:
        """Note that a demo begins, unless one has begun."""
        if not self.exists():
            write_json(self._file, {"format": _FORMAT, "fast": fast, "done": []})

    @property
    def fast(self) -> bool:
        """Whether it was begun with `--fast`; going on keeps to that."""
        return bool(self._read()["fast"])

    def done(self) -> list[dict[str, Any]]:
        """The finished steps: `name`, `seconds`, `facts`."""
        return list(self._read()["done"])

    def facts(self) -> dict[str, Any]:
        """What the finished steps found out, together."""
        return {key: value for step in self.done() for key, value in step["facts"].items()}

    def finish(self, name: str, seconds: float, facts: dict[str, Any]) -> None:
        """Note that a step is finished."""
        content = self._read()
        content["done"].append({"name": name, "seconds": round(seconds, 2), "facts": facts})
        write_json(self._file, content)

    def _read(self) -> dict[str, Any]:
        content: dict[str, Any] = read_json(self._file)
        return content
