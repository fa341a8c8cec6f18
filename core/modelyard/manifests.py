"""The files that describe endpoints: found and read; what they mean is the serving provider's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from modelyard.errors import ConfigError, NotFoundError
from modelyard.state import fault_of

_ENDINGS = (".yaml", ".yml", ".json")


def files(places: Sequence[Path]) -> Iterator[Path]:
    """The files that are meant: those in folders that are YAML or JSON, by name, and files as they are named.

    Raises:
        NotFoundError: `manifest-not-found`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.yaml", "a.yml", "notes.md"):
        ...     _ = (folder / name).write_text("kind: InferenceService")
        >>> [file.name for file in files([folder])]
        ['a.yml', 'b.yaml']
    """
    for place in places:
        if place.is_dir():
            yield from (p for p in sorted(place.rglob("*")) if p.suffix in _ENDINGS and p.is_file())
        elif place.exists():
            yield place
        else:
            raise NotFoundError(
                "manifest-not-found", f"there is no {place}", "name files or folders; - is standard input"
            )


def text_of(file: Path) -> str:
    """The text of a file.

    Raises:
        ConfigError: `manifest-invalid`: it is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as fault:
        raise ConfigError(
            "manifest-invalid", f"{file}: it is not UTF-8 text: {fault}", "edit the file, then apply it again"
        ) from None
    except OSError as fault:
        raise fault_of(fault, file) from fault
