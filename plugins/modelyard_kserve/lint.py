"""Everything that is to be said about a file of KServe's, before anybody applies it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from modelyard.errors import UsageError
from modelyard.records import Finding
from modelyard_kserve import graphs, kinds, own_annotations, reasons, rules, serving_runtimes, trust
from modelyard_kserve.documents import Document, Said, Unreadable, documents, dotted
from modelyard_kserve.effects import effects, sleeping
from modelyard_kserve.local import tokens
from modelyard_kserve.schema import faults
from modelyard_kserve.serving_runtimes import KINDS, Runtime, among

#: How it is deployed: by processes of this machine, or on a cluster in one of KServe's modes.
Mode = Literal["local", "Knative", "Standard"]
MODES: tuple[Mode, ...] = ("local", "Knative", "Standard")
#: Says how a document will be deployed.
ModeOf = Callable[[Mapping[str, Any]], Mode]
#: Finds what somebody refuses in an InferenceService, beyond what KServe does.
Refusals = Callable[[Document], Iterable[Said]]
SERVICE = ("serving.kserve.io/v1beta1", "InferenceService")
_OURS = "serving.kserve.io/"


def _nothing(_: Document) -> Iterable[Said]:
    return ()


def lint(
    text: str, where: str, mode_of: ModeOf, also: Refusals = _nothing, known: Sequence[Runtime] = ()
) -> list[Finding]:
    """What is wrong in a file, and what it says that will not be so.

    Args:
        text: YAML with any number of documents.
        where: names the file.
        mode_of: says how an InferenceService will be deployed.
        also: what else is wrong with an InferenceService that KServe takes.
        known: runtimes that it may name, besides those in the text.
    """
    try:
        found = documents(text, where)
    except Unreadable as fault:
        return [Finding(level="error", file=where, line=fault.line, field="", message=str(fault))]
    right = [one for one in found if one.kind in KINDS and not _wrong(one)]
    known = [*among(right), *known]
    return [
        Finding(
            level=said.level,
            file=where,
            line=document.line(said.place),
            field=dotted(said.place),
            message=said.message,
            hint=said.hint,
        )
        for document in found
        for said in _about(document, mode_of, also, known)
    ]


def mode_named(name: str) -> Mode:
    """A mode by its name in small letters, too.

    Raises:
        UsageError: `mode-unknown`.

    Example:
        >>> mode_named("knative")
        'Knative'
    """
    for mode in MODES:
        if mode.lower() == name.lower():
            return mode
    raise UsageError(
        "mode-unknown",
        f"{name!r} is no way to deploy; known: {', '.join(MODES).lower()}",
        "modelyard endpoints lint FILE --target knative",
    )


def service_findings(document: Document, mode: Mode, known: Sequence[Runtime] = ()) -> Iterator[Said]:
    """About an InferenceService: first what is wrong with it, then what it does not do. `known`: the runtimes
    that it may name."""
    found = [_without_secrets(said) for said in faults(document.value, "V1beta1InferenceService")]
    if not _refused(found):
        found += rules.inference_service(document.value, mode)
        found += own_annotations.findings(document.value)
        found += trust.findings(document.value)
        found += tokens.findings(document.value, mode)
    yield from found
    if not _refused(found):
        yield from effects(document.value, mode, known)


def runtime_findings(document: Document, mode: Mode) -> Iterator[Said]:
    """About a ServingRuntime: first what is wrong with it, then what it does not do."""
    wrong = _wrong(document)
    yield from wrong
    if not _refused(wrong) and mode == "local":
        yield from serving_runtimes.findings(document.value)


def graph_findings(document: Document, mode: Mode) -> Iterator[Said]:
    """About an InferenceGraph: first what is wrong with it, then what it does not do."""
    value = document.value
    sdk, rule = kinds.KINDS[graphs.GRAPH]
    wrong = [_without_secrets(said) for said in faults(value, sdk)]
    wrong = wrong or [*kinds.metadata(value), *rule(value), *own_annotations.findings(value)]
    yield from wrong
    if not wrong:
        yield from tokens.findings(value, mode)
        yield from graphs.findings(value, mode)
        yield from sleeping(value["metadata"]) if mode == "local" else ()


def not_a_service(document: Document) -> Iterator[Said]:
    """What keeps a document from being an InferenceService with a name."""
    for key, wanted in zip(("apiVersion", "kind"), SERVICE):
        if document.value.get(key) != wanted:
            yield Said((key,), f"{document.value.get(key)!r:.80} is not '{wanted}'")
    metadata = document.value.get("metadata") or {}
    if not isinstance(metadata, dict):
        yield Said(("metadata",), f"{metadata!r:.60} is not a mapping")
    elif not isinstance(metadata.get("name"), str):
        yield Said(("metadata", "name"), f"{metadata.get('name')!r:.60} is not a name")


def _about(document: Document, mode_of: ModeOf, also: Refusals, known: Sequence[Runtime]) -> Iterator[Said]:
    version, kind = document.kind
    if (version, kind) == SERVICE:
        wrong = list(not_a_service(document))
        found = wrong or list(service_findings(document, mode_of(document.value), known))
        yield from found
        if not _refused(found):
            yield from also(document)
    elif kind is None:
        yield Said(
            ("kind",), "is missing: what it describes", hint=f"kind: {SERVICE[1]}, apiVersion: {SERVICE[0]}"
        )
    elif (version, kind) == graphs.GRAPH:
        yield from graph_findings(document, mode_of(document.value))
    elif document.kind in KINDS:
        yield from runtime_findings(document, mode_of(document.value))
    elif (version, kind) in kinds.KINDS:
        wrong = _wrong(document)
        yield from wrong
        if not _refused(wrong) and mode_of(document.value) == "local":
            yield reasons.kind(str(kind), here=True)
    elif kind == SERVICE[1] and str(version).startswith(("serving.", _OURS)):
        yield Said(("apiVersion",), f"{version!r} is no more; its fields were others", hint=SERVICE[0])
    elif str(version).startswith("serving.kubeflow.org/"):
        hint = f"write it as kind: {SERVICE[1]}, apiVersion: {SERVICE[0]}"
        yield Said(("apiVersion",), f"{version!r} is no more, nor is {kind!r:.60}", hint=hint)
    elif str(version).startswith(_OURS):
        yield reasons.kind(f"{kind:.60}", here=mode_of(document.value) == "local")
    else:
        yield Said(("kind",), f"{kind!r:.60} is not looked at here", "info")


def _refused(found: Iterable[Said]) -> bool:
    return any(said.level == "error" for said in found)


def _wrong(document: Document) -> list[Said]:
    """What is wrong with one of KServe's other objects."""
    sdk, rule = kinds.KINDS[document.kind]
    wrong = [_without_secrets(said) for said in faults(document.value, sdk)]
    return wrong or [*kinds.metadata(document.value), *rule(document.value)]


def _without_secrets(said: Said) -> Said:
    """About a value in `env`, without the value."""
    _, is_not, kind = said.message.rpartition(" is not ")
    return replace(said, message=f"the value is not {kind}") if "env" in said.place and is_not else said
