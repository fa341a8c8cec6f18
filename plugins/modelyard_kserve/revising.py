"""What a command makes of a manifest: the revision that it asks for, and the endpoint as it shall be."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from modelyard.digests import model_digest
from modelyard.errors import ConfigError
from modelyard.records import Trust, now
from modelyard.stages import StageContext
from modelyard_kserve import graphs
from modelyard_kserve.commands import own_code
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.local.desired import Canary, Component, Desired, Wanted
from modelyard_kserve.manifest import Manifest
from modelyard_kserve.storage import Resolved, resolve
from modelyard_kserve.storage.uris import shown
from modelyard_kserve.trust import trust_of, written

#: Revisions that are remembered; older ones can't get traffic any more.
_KEPT = 10


def found(
    manifest: Manifest, context: StageContext, progress: Callable[[str], None] = lambda _: None
) -> Resolved:
    """The files that are to be served: those of the model, or of a program without one.

    Raises:
        ModelyardError: see `modelyard_kserve.storage.resolve`.
    """
    if manifest.graph:
        return Resolved(context.root, "")  # it has no files
    if manifest.storage_uri:
        return resolve(manifest.storage_uri, context, progress)
    code = own_code(manifest.command, context.root)
    return Resolved(code or context.root, model_digest(code) if code else "")


def fetched(manifest: Manifest, context: StageContext, progress: Callable[[str], None]) -> Resolved | None:
    """As `found`; None for a registered model, which is asked for when nobody else changes the endpoint."""
    return None if manifest.storage_uri.startswith("models:/") else found(manifest, context, progress)


def around(
    manifest: Manifest, context: StageContext, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Component]:
    """The components of the manifest with the files that they run.

    Raises:
        ModelyardError: see `modelyard_kserve.storage.resolve`.
    """
    made = {}
    for kind, component in manifest.components.items():
        code = own_code(shlex.split(component.command), context.root)
        digest = model_digest(code) if code else ""
        files = Resolved(code or context.root, digest)
        if component.storage_uri:
            files = resolve(component.storage_uri, context, progress)
        made[kind] = replace(
            component,
            code=digest,
            path=str(files.path),
            digest=files.digest,
            storage_uri=shown(component.storage_uri),
        )
    return made


def revision(
    manifest: Manifest,
    before: Desired | None,
    files: Resolved,
    components: Mapping[str, Component],
    context: StageContext,
    *,
    trust: bool,
) -> Wanted:
    """The revision that the manifest asks for: the newest one again if nothing of it changed.

    Args:
        manifest: what is applied.
        before: the endpoint as it was to be.
        files: what is served.
        components: what stands around it.
        context: the provider's.
        trust: somebody consents to these files.

    Raises:
        ConfigError: `custom-untrusted`: it runs others' code, and nobody consented to that.
    """
    number = max(one.number for one in before.everything) + 1 if before else 1
    made = _made(manifest, before, files, components, context, number, trust=trust)
    newest = before.newest if before else None
    same = newest is not None and _identity(newest) == _identity(made)
    return newest if same and newest is not None else made


def _identity(revision: Wanted) -> tuple[Any, ...]:
    said = (revision.spec_digest, revision.consent_in_file, revision.components)
    return (revision.key, revision.model, revision.version, *said)


def canaries(
    manifest: Manifest,
    before: Desired | None,
    newest: int,
    found: Sequence[Resolved],
    components: Mapping[str, Component],
    context: StageContext,
    *,
    trust: bool,
) -> tuple[Canary, ...]:
    """The revisions of `spec.canary`, each the one that was there if nothing of it changed.

    Args:
        manifest: what is applied.
        before: the endpoint as it was to be.
        newest: the number of the revision that the predictor asks for; theirs follow.
        found: their files.
        components: what stands around each of them.
        context: the provider's.
        trust: somebody consents to these files.

    Raises:
        ConfigError: as `revision`.
    """
    known = {one.revision.key: one.revision for one in before.canaries} if before else {}
    last = max([newest, *(r.number for r in before.everything)] if before else [newest])
    made = []
    for one, files in zip(manifest.canaries, found):
        asked = replace(one.manifest, storage_uri=shown(one.manifest.storage_uri))
        fresh = _made(asked, before, files, components, context, last + 1, trust=trust)
        same = known.get(fresh.key)
        if same is None or (same.model, same.version, same.components) != (
            fresh.model,
            fresh.version,
            fresh.components,
        ):
            last += 1
            same = fresh
        made.append(Canary(same, one.percent, max(one.manifest.scaling.least, 1)))
    return tuple(made)


def beside(made: Desired, others: tuple[Canary, ...], before: Desired | None) -> Desired:
    """The endpoint with its canaries."""
    if made.canaries == others:
        return made
    generation = made.generation if before is None or made != before else made.generation + 1
    return replace(made, canaries=others, generation=generation)


def desired(manifest: Manifest, before: Desired | None, revision: Wanted, *, guarded: bool) -> Desired:
    """The endpoint as it shall be; the same object if nothing changes. `guarded`: callers need the token."""
    logger = None if manifest.logger is None else asdict(manifest.logger)
    if logger is not None:
        logger["metadata_headers"] = list(logger["metadata_headers"])
    if before is None:
        return Desired(
            name=manifest.name,
            namespace=manifest.namespace,
            generation=1,
            manifest=manifest.text,
            storage_uri=manifest.storage_uri,
            canary=manifest.canary,
            rolled_out=revision.number,
            revisions=(revision,),
            created=now().isoformat(),
            notes=manifest.notes,
            logger=logger,
            scaling=manifest.scaling,
            guarded=guarded,
            protocol=manifest.protocol,
        )
    revisions = before.revisions
    if revision is not before.newest:
        revisions = (*[r for r in revisions if r.number != revision.number], revision)
        kept = {r.number for r in revisions[-_KEPT:]} | {before.rolled_out}
        revisions = tuple(r for r in revisions if r.number in kept)
    changed = replace(
        before,
        namespace=manifest.namespace,
        manifest=manifest.text,
        storage_uri=manifest.storage_uri,
        canary=manifest.canary,
        revisions=revisions,
        notes=manifest.notes,
        logger=logger,
        scaling=manifest.scaling,
        guarded=guarded,
        protocol=manifest.protocol,
    )
    return before if changed == before else replace(changed, generation=before.generation + 1)


def _made(
    manifest: Manifest,
    before: Desired | None,
    files: Resolved,
    components: Mapping[str, Component],
    context: StageContext,
    number: int,
    *,
    trust: bool,
) -> Wanted:
    settings: KserveSettings = context.settings or KserveSettings()  # type: ignore[call-arg,unused-ignore]
    trusted = trust or settings.trust_pickle or _consented(manifest, before, "")
    code = _own_code(manifest.command, context.root, trusted=trusted)
    for component in components.values():
        _own_code(shlex.split(component.command), context.root, trusted=trusted)
    trusted_by: Trust = ""
    for_good = trust or _consented(manifest, before, files.digest)
    in_file = bool(files.digest) and written(manifest.document) == files.digest
    if not manifest.graph:
        trusted_by = trust_of(
            registered=files.trusted, by_settings=settings.trust_pickle, consented=for_good or in_file
        )
    return Wanted(
        number=number,
        name=f"{manifest.name}-{number:05d}",
        model=files.model or manifest.name,
        version=manifest.spec_digest[:8] if manifest.graph else files.version,
        path=str(files.path),
        digest=files.digest,
        storage_uri=manifest.storage_uri,
        spec_digest=manifest.spec_digest,
        created=now().isoformat(),
        env=dict(manifest.env),
        trust_pickle=bool(trusted_by),
        trusted_by=trusted_by,
        consent_in_file=trusted_by == "consent" and not for_good,
        timeout=manifest.timeout,
        concurrency=manifest.concurrency,
        model_format=manifest.model_format,
        own_requirements=manifest.own_requirements,
        limits=dict(manifest.limits),
        batcher=dict(manifest.batcher),
        command=shlex.join(manifest.command),
        code=model_digest(code) if code else "",
        graph=graphs.router(manifest.graph, manifest.namespace, settings.graph_headers)
        if manifest.graph
        else "",
        components=dict(components),
        alias=manifest.alias,
    )


def _own_code(command: Sequence[str], root: Path, *, trusted: bool) -> Path | None:
    """The project's code that a command runs; code of others runs if somebody said so."""
    if not command:
        return None
    code = own_code(command, root)
    if code is None and not trusted:
        raise ConfigError(
            "custom-untrusted",
            f"'{shlex.join(command)[:200]}' runs no file of the project",
            "put the code into the project's folder, or consent to this command: endpoints apply --trust",
        )
    return code


def _consented(manifest: Manifest, before: Desired | None, digest: str) -> bool:
    """Whether somebody consented to the files for good; where there are none, to what the file says."""
    said = [one for one in before.revisions if one.trusted_by == "consent"] if before else []
    earlier = [one for one in said if not one.consent_in_file]
    if not digest:
        return any(one.spec_digest == manifest.spec_digest for one in earlier)
    return any(one.digest == digest for one in earlier)
