"""Take secrets out of what is shown to others: by their values where they are known, and by their looks."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

REMOVED = "(removed)"
#: Shorter ones would take ordinary words out of the text.
_SHORTEST = 6
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S),
        REMOVED,
    ),
    (re.compile(r"(?<=://)[^/\s'\"]+@"), f"{REMOVED}@"),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {REMOVED}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), REMOVED),
    (
        re.compile(
            r"(?i)([\w-]*(?:password|passwd|secret[_-]?(?:access[_-]?)?key|token|client-key-data)[\w-]*"
            r"['\"]?\s*[=:]\s*['\"]?)[^\s'\",;&)(]{4,}"
        ),
        rf"\1{REMOVED}",
    ),
)
_SECRET_NAME = re.compile(r"(?i)password|passwd|secret|token|credential|(^|[_-])key$|key-data$")


class Redactor:
    """Removes secrets from texts.

    Args:
        values: secrets that are known; they are also found base64-encoded, quoted for a URL, and line by
            line (certificates and keys).
    """

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values for form in _forms(value) if len(form) >= _SHORTEST}
        # The longest first: one that holds another is removed whole.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._values = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._values is not None:
            text = self._values.sub(REMOVED, text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def value(self, value: Any) -> Any:
        """JSON values without secrets; a key that names a secret loses its value altogether."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                self.text(str(key)): REMOVED
                if isinstance(item, str) and item and _SECRET_NAME.search(str(key))
                else self.value(item)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def secret_values(named: Mapping[str, str]) -> list[str]:
    """The values of those names that say that they are secret, as in an environment."""
    return [value for name, value in named.items() if _SECRET_NAME.search(name)]


def _forms(value: str) -> Iterable[str]:
    yield value
    yield quote(value, safe="")
    yield base64.b64encode(value.encode()).decode()
    if "\n" in value:
        # The marks of PEM stay: they are no secret, and texts about certificates hold them.
        yield from (line for line in value.splitlines() if len(line) >= 16 and not line.startswith("-----"))
