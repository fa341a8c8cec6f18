"""This project's own annotations in KServe's documents: one that is spelt wrong must not mean nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelyard_kserve import trust
from modelyard_kserve.commands import COMPONENTS
from modelyard_kserve.documents import Place, Said
from modelyard_kserve.local import tokens

PREFIX = "modelyard.dev/"
#: `own` gives the model an environment with what its requirements.txt lists.
REQUIREMENTS = f"{PREFIX}requirements"
#: The label by which a project's InferenceServices are found on a cluster.
PROJECT = f"{PREFIX}project"
_NAMES = ("model", "version", "storage-uri", "digest", "lineage-id", "trusted-by", "spec", "generation")
#: What an object on a cluster says of itself: `apply` writes these, and what a file says of them is dropped.
WRITTEN = tuple(f"{PREFIX}{name}" for name in _NAMES)
#: What files may say, by their kind.
_READ = {
    "InferenceService": (tokens.ANNOTATION, trust.ANNOTATION, REQUIREMENTS),
    "InferenceGraph": (tokens.ANNOTATION,),
}


def findings(value: Mapping[str, Any]) -> Iterator[Said]:
    """What is wrong with our annotations in an InferenceService or InferenceGraph.

    Example:
        >>> metadata = {"name": "late", "annotations": {"modelyard.dev/tokn": "true"}}
        >>> [said.message for said in findings({"kind": "InferenceGraph", "metadata": metadata, "spec": {}})]
        ["unknown annotation; did you mean 'modelyard.dev/token'?"]
    """
    read, metadata, spec = _READ[value["kind"]], value["metadata"], value.get("spec") or {}
    for name in metadata.get("annotations") or {}:
        if _ours(name, read) and name not in (*read, *WRITTEN):
            yield Said(("metadata", "annotations", name), f"unknown annotation; {_meant(name, read)}")
    elsewhere: dict[Place, Mapping[str, Any]] = {("metadata", "labels"): metadata.get("labels") or {}}
    for part in ("predictor", *COMPONENTS):
        elsewhere["spec", part, "annotations"] = (spec.get(part) or {}).get("annotations") or {}
    for at, there in elsewhere.items():
        for name in there:
            if _ours(name, read) and name != PROJECT:
                message = "is not read here, only below metadata.annotations"
                yield Said((*at, name), message, hint=_meant(name, read))


def _ours(name: str, read: Sequence[str]) -> bool:
    """Whether this project is meant, perhaps by another prefix."""
    prefix, _, last = name.lower().rpartition("/")
    known = [one.removeprefix(PREFIX) for one in read]
    return name.lower().startswith(PREFIX) or (prefix.startswith("modelyard") and last in known)


def _meant(name: str, read: Sequence[str]) -> str:
    last = name.lower().rpartition("/")[2]
    near = difflib.get_close_matches(last, [one.removeprefix(PREFIX) for one in read], n=1, cutoff=0.5)
    return f"did you mean '{PREFIX}{near[0]}'?" if near else f"known: {', '.join(read)}"
