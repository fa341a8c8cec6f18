"""Digests that mean the same everywhere: SHA-256 over canonical JSON and over manifests of files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> bytes:
    """JSON with one spelling: sorted keys, no spaces, UTF-8, no NaN (the spirit of RFC 8785).

    Example:
        >>> canonical_json({"b": 1, "a": "ä"}).decode()
        '{"a":"ä","b":1}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in pieces."""
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            whole.update(piece)
    return whole.hexdigest()


def manifest(path: Path, *, exclude: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Path (relative, with `/`), size and SHA-256 of each file, sorted by path.

    A single file has the empty path, so that renaming it does not change its manifest.
    """
    if path.is_file():
        return [{"path": "", "size": path.stat().st_size, "sha256": file_digest(path)}]
    skipped = set(exclude)
    files = []
    for folder, _, names in os.walk(path):
        for name in names:
            whole = Path(folder, name)
            relative = whole.relative_to(path).as_posix()
            if relative not in skipped:
                files.append({"path": relative, "size": whole.stat().st_size, "sha256": file_digest(whole)})
    return sorted(files, key=lambda file: str(file["path"]))


def model_manifest(folder: Path) -> list[dict[str, Any]]:
    """The manifest of a model folder, without what tools leave behind in it when they load the model: MLflow
    a note of the name it was loaded by, Python its byte code."""
    files = manifest(folder, exclude=["registered_model_meta"])
    return [file for file in files if "__pycache__" not in file["path"]]


def model_digest(folder: Path) -> str:
    """SHA-256 (hex) over the files of a model folder: equal for equal bytes, wherever they lie."""
    return manifest_digest(model_manifest(folder))


def manifest_digest(files: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 (hex) of a manifest: equal for equal bytes, wherever they lie."""
    return digest_of(list(files))
