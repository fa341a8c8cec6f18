"""Who answers for a model's pickles and code: the registry, a setting, or consent to exactly these files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from modelyard.records import Trust
from modelyard_kserve.documents import Said

#: Consent written into the file: the digest of the model's files, so that it is about no others.
ANNOTATION = "modelyard.dev/trust"
#: Ends what a model server says when it refuses; by it the provider knows that consent would help.
CONSENT = "consent to exactly these files with: modelyard endpoints apply --trust"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def findings(value: Mapping[str, Any]) -> Iterator[Said]:
    """What is wrong with the consent in an InferenceService."""
    said = (value["metadata"].get("annotations") or {}).get(ANNOTATION)
    if said is not None and not _DIGEST.fullmatch(str(said)):
        message = f"{said!r:.80} is not the SHA-256 of a model's files"
        hint = "sha256: and 64 hex digits; consent is for files, not for whatever comes later"
        yield Said(("metadata", "annotations", ANNOTATION), message, hint=hint)


def written(value: Mapping[str, Any]) -> str:
    """The digest to which the file (or the object on a cluster) consents; empty: to none.

    Example:
        >>> written({"metadata": {"annotations": {"modelyard.dev/trust": "sha256:" + 64 * "0"}}})[:4]
        '0000'
    """
    said = (value["metadata"].get("annotations") or {}).get(ANNOTATION) or ""
    return str(said).removeprefix("sha256:")


def trust_of(*, registered: bool, by_settings: bool, consented: bool) -> Trust:
    """Who answers for files.

    Args:
        registered: they are those that the registry recorded, by their digest.
        by_settings: `[providers.kserve] trust_pickle`.
        consented: somebody consented to exactly these.
    """
    if registered:
        return "registry"
    if by_settings:
        return "settings"
    return "consent" if consented else ""


def advice(refused: str, digest: str = "") -> str:
    """What to do about a model; empty: consent would not help.

    Args:
        refused: why it is not loaded.
        digest: of its files; empty: it is not known here.

    Example:
        >>> advice("model.pkl can't be loaded: it is torn", "ab12")
        ''
        >>> advice(f"it is a pickle; {CONSENT}")
        'if you know who made them: modelyard endpoints apply -f FILE --trust'
    """
    if CONSENT not in refused:
        return ""
    in_file = f", or in the file metadata.annotations {ANNOTATION}: sha256:{digest}" if digest else ""
    return f"if you know who made them: modelyard endpoints apply -f FILE --trust{in_file}"
