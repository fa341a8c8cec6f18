"""The stage `serving`: InferenceServices as background processes of the project."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from modelyard import console
from modelyard.errors import (
    ConflictError,
    CorruptStateError,
    EnvironmentFault,
    NotFoundError,
    UsageError,
)
from modelyard.records import Endpoint, Explanation, Finding, RequestStats
from modelyard.stages import Progress, ServiceSpec, StageContext, unseen
from modelyard.state import locked, write_json
from modelyard_kserve import manifest as manifests
from modelyard_kserve import revising
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.counted import by_envoy
from modelyard_kserve.lint import lint, mode_named
from modelyard_kserve.local import access_log, tokens, told
from modelyard_kserve.local import desired as states
from modelyard_kserve.local.addresses import cluster_of
from modelyard_kserve.local.admin import Admin
from modelyard_kserve.local.conditions import events
from modelyard_kserve.local.desired import Desired, Wanted
from modelyard_kserve.local.graph import shown
from modelyard_kserve.local.parts import entry_of
from modelyard_kserve.local.replicas import RECORDS
from modelyard_kserve.manifest import Manifest
from modelyard_kserve.serving_runtimes import Runtime, in_text
from modelyard_kserve.storage import uris
from modelyard_kserve.storage.findings import addresses
from modelyard_kserve.trust import advice

#: The background process behind all endpoints of a project.
SERVICE = "serving"
#: Seconds after which Envoy's threads have added up how long their first requests took.
_MERGED_WITHIN = 1.2
#: Seconds that a deleted endpoint's processes may take to end.
_ENDED_WITHIN = 20.0
#: Why nothing is known of a revision: its controller hangs, or is of a version before that of the command.
_NOT_LOOKED = "its controller has not taken notice; what keeps it, modelyard logs serving may say"
#: Seconds after which a controller that has not is no longer waited for, however long models may load.
_LOOKS_WITHIN = 60.0
#: Lines of the log that go with a failed revision.
_LAST_LINES = 15
#: Revisions that are remembered; older ones can't get traffic any more.
_KEPT = 10


class KserveServer:
    """See `modelyard.stages.Server`; the promises are written there."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._settings: KserveSettings = context.settings or KserveSettings()  # type: ignore[call-arg,unused-ignore]
        self._folder = context.state / "endpoints"

    # -- asking -----------------------------------------------------------------------------

    def endpoints(self) -> list[Endpoint]:
        """See `Server.endpoints`."""
        return [self._listed(name) for name in self._names()]

    def get(self, name: str) -> Endpoint:
        """See `Server.get`."""
        return self._endpoint(self._desired(name))

    def logs(self, name: str, *, lines: int = 100) -> Iterator[str]:
        """See `Server.logs`."""
        self._desired(name)
        return self._context.services.logs(f"endpoint-{name}", lines=lines)

    def access_log(self, name: str, *, lines: int = 100) -> Iterator[str]:
        """See `Server.access_log`; Envoy writes it."""
        self._desired(name)
        file = self._context.state.parent / "logs" / access_log.FILE
        if not self._settings.access_log and not file.exists():
            raise UsageError(
                "no-access-log",
                "requests are not logged here",
                "[providers.kserve] access_log = true in modelyard.toml, then modelyard up",
            )
        return iter(access_log.lines(file, name, lines))

    def explain(self, name: str) -> Explanation:
        """See `Server.explain`."""
        wanted = self._desired(name)
        endpoint = self._endpoint(wanted)
        newest = endpoint.revisions[0]
        return Explanation(
            endpoint=endpoint,
            replicas=told.replicas_of(endpoint, states.observed(self._at(name))),
            events=tuple(events(self._at(name))),
            logs={
                revision.name: tuple(self.logs(name, lines=_LAST_LINES))
                for revision in endpoint.revisions
                if revision.failed
            },
            advice=advice(newest.message, wanted.revision(newest.number).digest) if newest.failed else "",
        )

    def token(self, name: str, *, anew: bool = False) -> str:
        """See `Server.token`; all endpoints of a project that ask for one have the same."""
        if not self._desired(name).guarded:
            raise UsageError(
                "no-token",
                f"'{name}' asks for no token",
                f"in its file: metadata.annotations {tokens.ANNOTATION}: 'true'",
            )
        made = tokens.make(self._context.state, anew=anew)
        states.ring(self._context.state)
        return made

    def statistics(self, name: str) -> list[RequestStats]:
        """See `Server.statistics`; Envoy counts."""
        wanted = self._desired(name)
        service = self._context.services.get(SERVICE)
        if service is None or service.status != "running":
            return []
        names = {cluster_of(one.name, entry_of(one)): one.name for one in wanted.everything}
        admin = Admin(states.run_folder(self._context.state) / "admin.sock")
        try:
            found = by_envoy(admin.answered(), names)
            if any(one.requests and one.p50 is None for one in found):
                time.sleep(_MERGED_WITHIN)
                found = by_envoy(admin.answered(), names)
        except OSError as fault:
            raise EnvironmentFault(
                "endpoint-unreachable",
                f"Envoy does not say what it counted: {fault}",
                "modelyard logs serving",
            ) from None
        return [replace(one, revision=names[one.revision]) for one in found]

    def services(self) -> Sequence[ServiceSpec]:
        """See `Server.services`: one controller for all of them."""
        return [self._spec()] if self._names() else []

    # -- changing ---------------------------------------------------------------------------

    def apply(
        self,
        manifest: Path,
        *,
        text: str | None = None,
        wait: bool = True,
        trust: bool = False,
        progress: Progress = unseen,
    ) -> Endpoint:
        """See `Server.apply`."""
        known = self._runtimes()
        if text is None:
            read = manifests.read(manifest, known=known)
        else:
            read = manifests.parse(text, str(manifest), known=known)
        return self._applied(read, wait, trust=trust, progress=progress)

    def lint(self, text: str, where: str, *, mode: str | None = None) -> list[Finding]:
        """See `Server.lint`."""
        found = mode_named(mode or "local")
        said = lint(text, where, lambda _: found, known=self._runtimes() if found == "local" else ())
        if found == "local":
            wrong = {(one.line, one.field) for one in said}
            said += [a for a in addresses(text, where, self._settings) if (a.line, a.field) not in wrong]
        return said

    def reconcile(self, name: str, *, wait: bool = True) -> Endpoint:
        """See `Server.reconcile`."""
        wanted = self._desired(name)
        manifest = manifests.parse(wanted.manifest, f"the applied file of '{name}'")
        return self._applied(manifest, wait, keep_split=True)

    def traffic(self, name: str, canary: int) -> Endpoint:
        """See `Server.traffic`."""
        with self._locked(name):
            wanted = self._desired(name)
            before = self._before(wanted) if canary != 100 else wanted.rolled_out
            changed = replace(wanted, canary=canary, rolled_out=before, generation=wanted.generation + 1)
            states.save(self._at(name), changed)
        return self._started(changed, wait=True)

    def delete(self, name: str) -> None:
        """See `Server.delete`."""
        with self._locked(name):
            with suppress(CorruptStateError):  # it goes away, whatever it says
                self._desired(name)
            (self._at(name) / states.DESIRED).unlink()
            states.ring(self._context.state)
            if self._names():
                self._gone(name)
            else:
                self._context.services.forget(SERVICE)
            shutil.rmtree(self._at(name))  # now that its controller writes there no more

    # -- the steps --------------------------------------------------------------------------

    def _gone(self, name: str) -> None:
        """Until the controller has ended the endpoint's processes."""
        records = states.run_folder(self._context.state) / RECORDS
        deadline = time.monotonic() + _ENDED_WITHIN
        while any(records.glob(f"{name}.*.json")) and time.monotonic() < deadline:
            service = self._context.services.get(SERVICE)
            if service is None or service.status != "running":
                return  # the next one ends what it finds
            time.sleep(0.05)

    def _applied(
        self,
        manifest: Manifest,
        wait: bool,
        *,
        keep_split: bool = False,
        trust: bool = False,
        progress: Progress = unseen,
    ) -> Endpoint:
        # To fetch may take long, and others wait for the lock; what an alias means is asked while they do.
        predictors = (manifest, *(canary.manifest for canary in manifest.canaries))
        fetched = [revising.fetched(one, self._context, console.doing) for one in predictors]
        components = revising.around(manifest, self._context, console.doing)
        with self._locked(manifest.name):
            found, *beside = (
                files or revising.found(one, self._context) for files, one in zip(fetched, predictors)
            )
            console.doing(f"waiting for {manifest.name} to load")
            notes = (*manifest.notes, *filter(None, [found.note]))
            manifest = replace(manifest, storage_uri=uris.shown(manifest.storage_uri), notes=notes)
            before = states.load(self._at(manifest.name))
            _require_same_namespace(manifest, before)
            shown.require_possible(manifest, before, self._others(), self._settings.graph_headers)
            settled = before.settled(self._ready(before)) if before else None
            revision = revising.revision(manifest, settled, found, components, self._context, trust=trust)
            canaries = revising.canaries(
                manifest, settled, revision.number, beside, components, self._context, trust=trust
            )
            if keep_split and settled and revision is settled.newest:
                # Nothing moved: what `traffic` said since is still so.
                manifest = replace(manifest, canary=settled.canary)
            made = revising.desired(manifest, settled, revision, guarded=self._guarded(manifest))
            wanted = revising.beside(made, canaries, settled)
            if self._failed(wanted):  # perhaps the package that it lacked is there now
                wanted = replace(wanted, generation=wanted.generation + 1)
            if wanted != before:
                states.save(self._at(manifest.name), wanted)
        return self._started(wanted, wait, progress)

    @staticmethod
    def _before(wanted: Desired) -> int:
        """The revision that shares traffic with the newest: the one rolled out before it."""
        if wanted.canaries:
            raise UsageError(
                "split-by-file",
                f"the canaries of '{wanted.name}' stand in its file, with what they get",
                "change their trafficPercent there, and apply it",
            )
        if wanted.rolled_out != wanted.newest.number:
            return wanted.rolled_out
        if len(wanted.revisions) < 2:
            raise UsageError(
                "no-canary",
                f"'{wanted.name}' has one revision, so there is nothing to split",
                "apply a file with another model first",
            )
        return wanted.revisions[-2].number

    def _guarded(self, manifest: Manifest) -> bool:
        """Whether callers need the token; there is one then."""
        asked = tokens.asked_for(manifest.document, by_all=self._settings.token)
        if asked:
            tokens.make(self._context.state)
        return asked

    def _started(self, wanted: Desired, wait: bool, progress: Progress = unseen) -> Endpoint:
        progress(self._endpoint(wanted))
        try:
            service = self._context.services.start(self._spec())
        except EnvironmentFault:
            self._require_unchanged(wanted)
            raise
        endpoint = self._awaited(wanted, progress) if wait else self._endpoint(wanted)
        return replace(endpoint, message="; ".join(filter(None, [service.message, endpoint.message])))

    def _awaited(self, wanted: Desired, progress: Progress = unseen) -> Endpoint:
        self._await(wanted, progress)
        with self._locked(wanted.name):
            current = self._desired(wanted.name)
            settled = current.settled(self._ready(current))
            if settled != current:
                settled = replace(settled, generation=current.generation + 1)
                states.save(self._at(wanted.name), settled)
        return self.get(wanted.name)

    def _await(self, wanted: Desired, progress: Progress) -> None:
        """Until every revision that is to get traffic is ready, or one failed."""
        began, patience = time.monotonic(), self._settings.ready_timeout  # of one that loads
        waiting, message = wanted.newest, _NOT_LOOKED
        look = 0.0
        while time.monotonic() - began < (
            patience if message != _NOT_LOOKED else min(_LOOKS_WITHIN, patience)
        ):
            if time.monotonic() > look:
                self._require_unchanged(wanted)
                self._require_gateway(wanted)
                progress(self._endpoint(wanted))
                look = time.monotonic() + 0.5
            seen = states.observed(self._at(wanted.name))
            if seen["generation"] >= wanted.generation:
                states_of = {number: seen["revisions"].get(str(number), {}) for number in wanted.needed}
                missing = [number for number, state in states_of.items() if not state.get("ready")]
                if not missing and seen.get("routed"):
                    return
                waiting = wanted.revision(max(missing or wanted.needed))
                keeps = states_of[waiting.number] if missing else _ingress(seen)
                message = keeps.get("message", "")
                if keeps.get("failed") or keeps.get("status") == "False":
                    break
            time.sleep(0.02)
        else:
            message = f"not ready after {time.monotonic() - began:.0f} s ({message})"
        raise EnvironmentFault(
            "revision-failed",
            f"revision {waiting.name} with {waiting.model}/{waiting.version}: {message}",
            self._further(waiting, message, wanted.name),
        )

    @staticmethod
    def _further(waiting: Wanted, message: str, name: str) -> str:
        """What to do about a revision that does not become ready."""
        if consent := advice(message, waiting.digest):
            return consent
        if _NOT_LOOKED in message:
            return "modelyard down, then modelyard up: models, revisions and logs stay"
        return f"modelyard endpoints show {name}"

    def _require_unchanged(self, wanted: Desired) -> None:
        """A revision that another command replaced before it was ready will never be."""
        current = states.load(self._at(wanted.name))
        if current is not None and current.created != wanted.created:
            current = None  # and made anew
        if current is None or not wanted.needed <= {revision.number for revision in current.wanted}:
            by = "deleted" if current is None else f"changed to {current.newest.name}"
            raise ConflictError(
                "endpoint-changed",
                f"'{wanted.name}' was {by} by another command before {wanted.newest.name} was ready",
                "modelyard endpoints list",
            )

    def _require_gateway(self, wanted: Desired) -> None:
        service = self._context.services.get(SERVICE)
        if service is None or service.status != "running":
            raise EnvironmentFault(
                "revision-failed",
                f"the controller ended before {wanted.newest.name} was ready",
                "modelyard up",
            )

    def _runtimes(self) -> list[Runtime]:
        """Those that endpoints use: they were applied with one, and go with the last. Of two that are called
        the same the one counts that was applied last."""
        there = [one for name in self._names() if (one := self._undamaged(name)) is not None]
        there.sort(key=lambda one: one.newest.created, reverse=True)
        return [runtime for one in there for runtime in in_text(one.manifest)]

    def _failed(self, wanted: Desired) -> bool:
        seen = states.observed(self._at(wanted.name))["revisions"]
        return bool(seen.get(str(wanted.newest.number), {}).get("failed"))

    def _spec(self) -> ServiceSpec:
        state = self._context.state
        argv = [sys.executable, "-m", "modelyard_kserve.local.controller"]
        argv += ["--state", str(state), "--port", "{port}", "--root", str(self._context.root)]
        argv += ["--logs", str(state.parent / "logs")]
        argv += ["--access-log"] if self._settings.access_log else []
        self._say_sink()
        return ServiceSpec(name=SERVICE, argv=tuple(argv), health="/healthz", adopts=True)

    def _say_sink(self) -> None:
        """Where payload events go; a monitor that was started anew may have another port."""
        logged = [w for name in self._names() if (w := self._undamaged(name)) and w.logger]
        if any(not wanted.logger.get("url") for wanted in logged if wanted.logger):
            write_json(self._context.state / "sink.json", {"url": self._context.event_sink()}, mode=0o600)

    def _listed(self, name: str) -> Endpoint:
        """The endpoint; one with a damaged file says so, and does not hide the others."""
        try:
            return self.get(name)
        except CorruptStateError as fault:
            changed = (self._at(name) / states.DESIRED).stat().st_mtime
            return Endpoint(
                name=name,
                url=None,
                ready=False,
                storage_uri="",
                created=datetime.fromtimestamp(changed, timezone.utc),
                message=f"{fault.message}; {fault.hint}",
            )

    def _endpoint(self, wanted: Desired) -> Endpoint:
        service = self._context.services.get(SERVICE)
        running = service is not None and service.status == "running"
        url = f"{service.url}{_path(wanted)}" if service is not None and running else None
        token_file = tokens.file_of(self._context.state)
        made = told.endpoint_of(wanted, states.observed(self._at(wanted.name)), url, token_file)
        return shown.with_steps(made, wanted, self._others) if wanted.newest.graph else made

    def _others(self) -> shown.Known:
        """What graphs may ask: every endpoint, and whether it answers."""
        there = [one for name in self._names() if (one := self._undamaged(name)) is not None]
        seen = {one.name: states.observed(self._at(one.name)) for one in there}
        return {
            f"{one.namespace}/{one.name}": (one, told.endpoint_of(one, seen[one.name], "here", None))
            for one in there
        }

    def _ready(self, wanted: Desired | None) -> dict[int, bool]:
        if wanted is None:
            return {}
        seen = states.observed(self._at(wanted.name))["revisions"]
        return {r.number: bool(seen.get(str(r.number), {}).get("ready")) for r in wanted.everything}

    def _desired(self, name: str) -> Desired:
        found = states.load(self._at(name)) if name and "/" not in name else None
        if found is None:
            there = ", ".join(self._names()) or "none yet"
            raise NotFoundError(
                "endpoint-not-found",
                f"there is no endpoint '{name}'; there are: {there}",
                "modelyard endpoints apply -f FILE",
            )
        return found

    def _undamaged(self, name: str) -> Desired | None:
        """None for an endpoint with a damaged file: `endpoints` says so, and the others live on."""
        with suppress(CorruptStateError):
            return self._desired(name)
        return None

    def _names(self) -> list[str]:
        return sorted(file.parent.name for file in self._folder.glob(f"*/{states.DESIRED}"))

    def _at(self, name: str) -> Path:
        return self._folder / name

    def _locked(self, name: str) -> AbstractContextManager[None]:
        return locked(self._folder / f"{name}.lock", doing=f"changing endpoint {name}")


def _require_same_namespace(manifest: Manifest, before: Desired | None) -> None:
    """Refuse a name that an endpoint of another namespace has: it would end that one."""
    if before is not None and before.namespace != manifest.namespace:
        raise ConflictError(
            "endpoint-elsewhere",
            f"'{manifest.name}' is an endpoint in '{before.namespace}', and a project has one of each name: "
            f"none can be in '{manifest.namespace}' beside it",
            f"choose another name, or first: modelyard endpoints delete {manifest.name}",
        )


def _ingress(seen: Mapping[str, Any]) -> Mapping[str, Any]:
    """The condition of the gateway; nothing while it is not known."""
    return next((one for one in seen.get("conditions") or () if one["type"] == "IngressReady"), {})


def _path(wanted: Desired) -> str:
    return f"/serving/{wanted.namespace}/{wanted.name}"
