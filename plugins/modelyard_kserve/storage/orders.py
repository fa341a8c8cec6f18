"""What is asked of whatever fetches from a kind of place, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelyard_kserve.storage import faults

#: Is told of bytes: how many have arrived, and of how many, if that is known.
Tell = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class Order:
    """Fetch what lies at an address.

    Attributes:
        uri: the address.
        folder: an empty folder that takes the files.
        known: the place's name for what we have already; None: we have nothing.
        root: the project's folder.
        limit: gigabytes that may arrive.
    """

    uri: str
    folder: Path
    known: str | None
    root: Path
    limit: float

    def require_room(self, size: int) -> None:
        """See that so many bytes are not too many.

        Raises:
            ConfigError: `model-too-large`.
        """
        if size > self.limit * 1e9:
            raise faults.too_large(self.uri, self.limit)


@dataclass(frozen=True)
class Fetched:
    """What came of it.

    Attributes:
        version: the place's name for it, by which the next one sees whether it changed; None: it has none.
        same: it is what we have already, and was not fetched.
    """

    version: str | None
    same: bool = False
