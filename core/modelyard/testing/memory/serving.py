"""The reference server: answers for constant models from a thread, split between revisions."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

from modelyard import state
from modelyard.errors import ConfigError, EnvironmentFault, ModelyardError, NotFoundError, UsageError
from modelyard.manifests import text_of
from modelyard.records import Endpoint, Event, Explanation, Finding, Replica, RequestStats, Revision, now
from modelyard.stages import Progress, ResolvedModel, ServiceSpec, StageContext, unseen
from modelyard.testing.contexts import answer
from modelyard.testing.memory import inference, listeners
from modelyard.testing.memory.manifests import canary_of, parse_manifest, without_canary
from modelyard.testing.models import ConstantModel

#: Events that are kept.
_EVENTS = 50


class MemoryServer:
    """Keeps endpoints under `endpoints/`; what it wrote there is what its listeners answer from."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._folder = context.state / "endpoints"
        self._lock = context.state / "endpoints.lock"

    def apply(
        self,
        manifest: Path,
        *,
        text: str | None = None,
        wait: bool = True,  # noqa: ARG002
        trust: bool = False,  # noqa: ARG002 - these models hold no code
        progress: Progress = unseen,
    ) -> Endpoint:
        """See `Server.apply`; it is always ready at once."""
        content = parse_manifest(text_of(manifest) if text is None else text, str(manifest))
        name = content["metadata"]["name"]
        with state.locked(self._lock):
            old = state.read_json(self._file(name))
            if old is None:
                old = {"manifest": None, "created": now().isoformat(), "revisions": []}
            self._deploy(name, old, content)
        progress(self.get(name))
        return self.get(name)

    def lint(self, text: str, where: str, *, mode: str | None = None) -> list[Finding]:
        """See `Server.lint`; the first thing that is wrong, without its place."""
        if mode is not None:
            raise UsageError("mode-unknown", f"{mode!r} is no way to deploy here: there is only one")
        try:
            parse_manifest(text, where)
        except ConfigError as fault:
            return [Finding(level="error", file=where, line=1, field="", message=fault.message)]
        return []

    def reconcile(self, name: str, *, wait: bool = True) -> Endpoint:  # noqa: ARG002
        """See `Server.reconcile`."""
        with state.locked(self._lock):
            old = self._read(name)
            self._deploy(name, old, old["manifest"])
        return self.get(name)

    def traffic(self, name: str, canary: int) -> Endpoint:
        """See `Server.traffic`."""
        with state.locked(self._lock):
            content = self._read(name)
            revisions = [Revision.from_dict(each) for each in content["revisions"]]
            self._write(name, {**content, "revisions": self.split(revisions, canary)})
        return self.get(name)

    def endpoints(self) -> list[Endpoint]:
        """See `Server.endpoints`."""
        return [self.get(name) for name in sorted(unquote(f.stem) for f in self._folder.glob("*.json"))]

    def get(self, name: str) -> Endpoint:
        """See `Server.get`."""
        content = self._read(name)
        url = listeners.url_of(self._file(name))
        return Endpoint.from_dict(
            {
                "name": name,
                "url": url,
                "ready": url is not None,
                "storage_uri": content["manifest"]["spec"]["predictor"]["model"]["storageUri"],
                "revisions": content["revisions"],
                "created": content["created"],
                "message": "" if url else "the process that served it has ended",
                "conditions": _conditions(content, url is not None),
            }
        )

    def explain(self, name: str) -> Explanation:
        """See `Server.explain`; its replicas are threads of whoever applied it."""
        endpoint = self.get(name)
        threads = [
            Replica(name="thread", revision=revision.name, ready=endpoint.ready, since=revision.since)
            for revision in endpoint.revisions
            if revision.traffic
        ]
        happened = [Event.from_dict(one) for one in self._read(name).get("events") or ()]
        return Explanation(endpoint=endpoint, replicas=tuple(threads), events=tuple(happened))

    def delete(self, name: str) -> None:
        """See `Server.delete`."""
        with state.locked(self._lock):
            self._read(name)
            listeners.close(self._file(name))
            self._file(name).unlink()
            self._counts(name).unlink(missing_ok=True)

    def logs(self, name: str, *, lines: int = 100) -> Iterator[str]:
        """See `Server.logs`."""
        self._read(name)
        log = self._log(name)
        return iter(log.read_text(encoding="utf-8").splitlines()[-lines:] if log.exists() else [])

    def access_log(self, name: str, *, lines: int = 100) -> Iterator[str]:  # noqa: ARG002
        """See `Server.access_log`; it keeps none."""
        self._read(name)
        raise UsageError("no-access-log", "requests are not logged here", "this server is for tests")

    def token(self, name: str, *, anew: bool = False) -> str:  # noqa: ARG002
        """See `Server.token`; it never asks for one."""
        self._read(name)
        raise UsageError("no-token", f"'{name}' asks for no token", "anybody on this machine may ask")

    def statistics(self, name: str) -> list[RequestStats]:
        """See `Server.statistics`."""
        self._read(name)
        counts = self._counts(name)
        written = counts.read_text(encoding="utf-8").splitlines() if counts.exists() else []
        by_revision: dict[str, list[tuple[int, float]]] = {}
        for revision, status, seconds in map(json.loads, written):
            by_revision.setdefault(revision, []).append((status, seconds))
        return [_stats(revision, answers) for revision, answers in sorted(by_revision.items())]

    def services(self) -> Sequence[ServiceSpec]:
        """See `Server.services`: threads need no processes."""
        return ()

    def split(self, revisions: Sequence[Revision], canary: int) -> list[dict[str, Any]]:
        """The revisions with their shares: the newest has `canary`, the one before the rest."""
        others = revisions[1:]
        stable = max(others, key=lambda revision: revision.traffic, default=None)
        shares = {revisions[0].name: canary if stable else 100}
        if stable:
            shares[stable.name] = 100 - canary
        return [replace(each, traffic=shares.get(each.name, 0)).to_dict() for each in revisions]

    # -- deploying --------------------------------------------------------------------------

    def _deploy(self, name: str, old: Mapping[str, Any], manifest: dict[str, Any]) -> None:
        revisions = [Revision.from_dict(each) for each in old["revisions"]]
        try:
            model = self._loadable(name, manifest)
        except EnvironmentFault as fault:
            if old["manifest"] is not None:
                happened = [*(old.get("events") or ()), _event("Warning", "ModelLoadFailed", fault.message)]
                self._write(name, {**old, "events": happened[-_EVENTS:]})
            raise
        same_spec = old["manifest"] is not None and without_canary(old["manifest"]) == without_canary(
            manifest
        )
        same_model = bool(revisions) and (revisions[0].model, revisions[0].version) == (
            model.version.name,
            model.version.version,
        )
        if same_spec and same_model and old["manifest"] == manifest:
            return
        if not (same_spec and same_model):
            revisions.insert(0, self._revision(name, revisions, model, manifest))
        shares = self.split(revisions, canary_of(manifest))
        happened = [*(old.get("events") or ())]
        if not (same_spec and same_model):
            happened += [_event("Normal", "RevisionReady", f"{revisions[0].name} is ready")]
        self._write(name, {**old, "manifest": manifest, "revisions": shares, "events": happened[-_EVENTS:]})
        self._note(name, f"{revisions[0].name} is ready with {model.version.ref}")
        listeners.listen(self._file(name), lambda request, body: self._answer(name, request, body))

    def _loadable(self, name: str, manifest: Mapping[str, Any]) -> ResolvedModel:
        model = self._context.resolve_model(manifest["spec"]["predictor"]["model"]["storageUri"])
        try:
            ConstantModel.load(model.path)
        except (OSError, ValueError, KeyError) as fault:
            self._note(name, f"{model.version.ref} can't be loaded: {fault}")
            raise EnvironmentFault(
                "revision-failed",
                f"the new revision of '{name}' can't load {model.version.ref}: {fault}",
                f"modelyard endpoints logs {name}",
            ) from None
        return model

    @staticmethod
    def _revision(
        name: str, earlier: Sequence[Revision], model: ResolvedModel, manifest: Mapping[str, Any]
    ) -> Revision:
        number = 1 + max((revision.number for revision in earlier), default=0)
        return Revision(
            name=f"{name}-{number:05d}",
            number=number,
            model=model.version.name,
            version=model.version.version,
            storage_uri=manifest["spec"]["predictor"]["model"]["storageUri"],
            traffic=0,
            ready=True,
            created=now(),
            since=now(),
            trust="registry",
        )

    # -- answering --------------------------------------------------------------------------

    def choose(self, revisions: Sequence[Revision]) -> Revision:
        """The revision that answers one request, by chance according to the shares."""
        return random.choices(revisions, weights=[revision.traffic for revision in revisions])[0]

    def _answer(self, name: str, request: BaseHTTPRequestHandler, body: bytes) -> None:
        began, path = time.perf_counter(), unquote(urlsplit(request.path).path)
        self._note(name, f"{request.command} {path}")
        if request.command == "GET":
            status, content = inference.described(name, path)
            return answer(request, status, json.dumps(content).encode())
        revision = self.choose(self.get(name).revisions)
        model = self._context.resolve_model(f"models:/{revision.model}/{revision.version}")
        status, content = inference.predicted(ConstantModel.load(model.path), name, path, body)
        request_id = inference.request_id(request.headers)
        identity = {
            "X-Modelyard-Model": revision.model,
            "X-Modelyard-Version": revision.version,
            "X-Modelyard-Revision": revision.name,
            "X-Request-Id": request_id,
        }
        answered = json.dumps(content).encode()
        with self._counts(name).open("a", encoding="utf-8") as counts:
            counts.write(json.dumps([revision.name, status, time.perf_counter() - began]) + "\n")
        answer(request, status, answered, {k: quote(v, safe=" /-_.") for k, v in identity.items()})
        if status == 200:
            self._log_prediction(name, revision, request, request_id, body, answered)
        return None

    def _log_prediction(
        self,
        name: str,
        revision: Revision,
        request: BaseHTTPRequestHandler,
        request_id: str,
        asked: bytes,
        answered: bytes,
    ) -> None:
        manifest = self._read(name)["manifest"]
        logger = manifest["spec"]["predictor"].get("logger")
        sink = logger and (logger.get("url") or self._context.event_sink())
        if not sink:
            return
        wanted = logger.get("metadataHeaders", [])
        headers = inference.event_headers(
            endpoint=name,
            namespace=manifest["metadata"].get("namespace", "default"),
            path=urlsplit(request.path).path,
            request_id=request_id,
            revision=revision,
            metadata={name: request.headers[name] for name in wanted if name in request.headers},
        )
        try:
            inference.post_events(sink, headers, asked, answered)
        except (OSError, ModelyardError) as fault:
            self._note(name, f"prediction {request_id} was not logged: {fault}")

    # -- state ------------------------------------------------------------------------------

    def _read(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] | None = state.read_json(self._file(name))
        if content is None:
            raise NotFoundError(
                "endpoint-not-found", f"no endpoint named '{name}'", "modelyard endpoints list"
            )
        return content

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        state.write_json(self._file(name), content)

    def _file(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.json"

    def _log(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.log"

    def _counts(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.counts"

    def _note(self, name: str, line: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._log(name), "a", encoding="utf-8") as log:
            log.write(f"{now().isoformat()} {line}\n")


def _conditions(content: Mapping[str, Any], listening: bool) -> list[dict[str, Any]]:
    """All of them are about whether somebody listens."""
    since = content["revisions"][0]["since"]
    said = {"status": "True", "since": since} if listening else {"status": "False", "reason": "NotRunning"}
    return [{"type": name, **said} for name in ("Ready", "PredictorReady", "RoutesReady")]


def _event(kind: Literal["Normal", "Warning"], reason: str, message: str) -> dict[str, Any]:
    at = now()
    return Event(time=at, first=at, type=kind, reason=reason, message=message).to_dict()


def _stats(revision: str, answers: Sequence[tuple[int, float]]) -> RequestStats:
    seconds = sorted(taken for _, taken in answers)
    return RequestStats(
        revision=revision,
        requests=len(answers),
        refused=sum(400 <= status < 500 for status, _ in answers),
        errors=sum(status >= 500 for status, _ in answers),
        p50=statistics.median(seconds),
        p95=seconds[int(0.95 * (len(seconds) - 1))],
    )
