"""The files that describe endpoints: found and read; what they mean is the serving provider's."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelyard.errors import ConfigError, NotFoundError
from modelyard.records import Finding
from modelyard.state import fault_of

_ENDINGS = (".yaml", ".yml", ".json")
#: Begins a document, wherever it stands in YAML: a text can't hold a line like it.
_MARK = re.compile(r"^---(?=\s|$)", re.MULTILINE)
#: Lines without content, and directives of the document that follows.
_EMPTY = re.compile(r"\s*(?:[#%][^\n]*\n?\s*|\.\.\.\s*)*")
_KIND = re.compile(r"^kind:[ \t]*[\"']?(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """One document of a file.

    Attributes:
        file: the file, or `<stdin>`; for messages.
        text: the document, below as many empty lines as stand before it, so that lines are the file's.
        kind: what it describes; empty: it does not say.
    """

    file: Path
    text: str
    kind: str

    @property
    def is_endpoint(self) -> bool:
        """Whether it is to be applied; one that does not say what it is will be refused."""
        return self.kind in ("", "InferenceService", "InferenceGraph")

    @property
    def is_runtime(self) -> bool:
        """Whether it says how models are run that others describe."""
        return self.kind in ("ServingRuntime", "ClusterServingRuntime")

    def beside(self, others: Sequence[Source]) -> Source:
        """This document with others below it, which it needs.

        Example:
            >>> service, runtime = sources("kind: A\\n---\\nkind: B\\n", Path("both.yaml"))
            >>> service.beside([runtime]).text
            'kind: A\\n\\n...\\n---\\nkind: B\\n'
        """
        below = [one.text.lstrip("\n") for one in others]
        marked = [text if _MARK.search(text) else f"---\n{text}" for text in below]
        return replace(self, text="\n...\n".join([self.text, *marked]))

    @property
    def is_graph(self) -> bool:
        """Whether it asks other endpoints, and is better applied after them."""
        return self.kind == "InferenceGraph"


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


def stdin_text() -> str:
    """What stands on standard input.

    Raises:
        ConfigError: `manifest-invalid`: it is not UTF-8.
    """
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as fault:
        raise ConfigError(
            "manifest-invalid", f"<stdin>: it is not UTF-8 text: {fault}", "save it as UTF-8"
        ) from None


def sources(text: str, file: Path) -> list[Source]:
    """The documents of a text; empty ones are left out.

    Example:
        >>> found = sources("kind: A\\n---\\n# none\\n---\\nkind: B\\n", Path("both.yaml"))
        >>> [(one.kind, one.text.count("\\n")) for one in found]
        [('A', 1), ('B', 5)]
    """
    starts = [0, *(mark.start() for mark in _MARK.finditer(text))]
    found, began = [], 0
    for start, end in zip(starts, [*starts[1:], len(text)]):
        part = text[start:end].removeprefix("---")
        if _EMPTY.fullmatch(part):
            # Directives stand before the mark of their document.
            began = start if "%" in part else end
            continue
        first = began if began < start and "%" in text[began:start] else start
        found.append(Source(file, "\n" * text.count("\n", 0, first) + text[first:end], _kind(part)))
        began = end
    return found


def twins(found: Sequence[Source], *, one_of_each_name: bool) -> Iterator[Finding]:
    """Documents that describe what another one describes already: the one would replace the other.

    Args:
        found: documents, of any files.
        one_of_each_name: endpoints of one name are the same, whatever their kind and namespace.

    Example:
        >>> text = "kind: Model\\nmetadata: {name: late}\\n"
        >>> both = sources(f"{text}---\\n{text}", Path("both.yaml"))
        >>> [(one.line, one.message) for one in twins(both, one_of_each_name=False)]
        [(5, "Model 'late' stands at both.yaml:2 already: one would replace the other")]
    """
    places: dict[tuple[str, ...], str] = {}
    for source in found if len(found) > 1 else ():
        named = _named(source) if source.kind else None
        if named is None:
            continue
        name, namespace, line = named
        alone = one_of_each_name and source.is_endpoint
        known = ("", "", name) if alone else (source.kind, namespace, name)
        if (first := places.get(known)) is None:
            places[known] = f"{source.file}:{line}"
            continue
        yield Finding(
            level="error",
            file=str(source.file),
            line=line,
            field="metadata.name",
            message=f"{source.kind} '{name}' stands at {first} already: one would replace the other",
            hint="give it another name, or leave one of them out",
        )


def _named(source: Source) -> tuple[str, str, int] | None:
    """A document's name and namespace, and the name's line; None: it has no name, which is said elsewhere."""
    try:
        import yaml

        node = next(yaml.compose_all(source.text, yaml.SafeLoader), None)
    except (ImportError, yaml.YAMLError, RecursionError, ValueError):
        return None
    metadata = _below(node, "metadata")
    name, namespace = _below(metadata, "name"), _below(metadata, "namespace")
    if name is None or not isinstance(name.value, str):
        return None
    inside = namespace.value if namespace is not None and isinstance(namespace.value, str) else ""
    return name.value, inside, int(name.start_mark.line) + 1


def _below(node: Any, key: str) -> Any:
    """The node of a mapping's key; None: there is none."""
    pairs = node.value if node is not None and isinstance(node.value, list) else ()
    return next((p[1] for p in pairs if isinstance(p, tuple) and p[0].value == key), None)


def _kind(text: str) -> str:
    try:
        value = json.loads(text)
        return str(value.get("kind") or "") if isinstance(value, dict) else ""
    except (ValueError, RecursionError):  # YAML says what is wrong with it
        found = _KIND.search(text)
        return found[1] if found else ""
