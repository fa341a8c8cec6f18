"""What is asked of whatever fetches from a kind of place, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

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


def named(keys: Iterable[str], wanted: str, uri: str) -> dict[str, str]:
    """The objects of a bucket that an address means, by the names that their files get: the one with that
    very key, or all below it.

    Raises:
        EnvironmentFault: `fetch-failed`: a name would be written elsewhere.

    Example:
        >>> named(["late/MLmodel", "late/code/", "late-2/MLmodel"], "late", "s3://models/late")
        {'MLmodel': 'late/MLmodel'}
        >>> named(["late.zip"], "late.zip", "s3://models/late.zip")
        {'late.zip': 'late.zip'}
    """
    below, found = f"{wanted}/" if wanted else "", {}
    for key in keys:
        if wanted and key == wanted:
            return {PurePosixPath(key).name: key}
        name = key.removeprefix(below)
        if key.startswith(below) and name and not name.endswith("/"):
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise faults.failed(uri, f"'{name}' would be written elsewhere")
            found[name] = key
    return found


@dataclass(frozen=True)
class Fetched:
    """What came of it.

    Attributes:
        version: the place's name for it, by which the next one sees whether it changed; None: it has none.
        same: it is what we have already, and was not fetched.
    """

    version: str | None
    same: bool = False
