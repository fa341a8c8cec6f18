"""The stage `serving` on a cluster: InferenceServices that KServe runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from modelyard.digests import model_digest
from modelyard.errors import (
    ConflictError,
    EnvironmentFault,
    ModelyardError,
    NotFoundError,
    UsageError,
)
from modelyard.kube import ApiFault, Ref
from modelyard.manifests import text_of
from modelyard.records import Endpoint, Explanation, Finding, RequestStats, Trust
from modelyard.stages import Progress, ServiceSpec, StageContext, unseen
from modelyard.targets import Target
from modelyard_kserve import manifest as manifests
from modelyard_kserve.cluster import status
from modelyard_kserve.cluster.access import forward_of, url_of
from modelyard_kserve.cluster.explaining import explanation
from modelyard_kserve.cluster.manifests import (
    ACCESS,
    API,
    KIND,
    Identity,
    Served,
    applied_document,
    identity_of,
    inference_service,
    storage_access,
    with_canary,
)
from modelyard_kserve.cluster.observing import Observer, Seen, is_true
from modelyard_kserve.cluster.runtimes import PORT
from modelyard_kserve.cluster.waiting import Wanted, newest, partners, until_settled
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.counted import asked, summed
from modelyard_kserve.lint import lint, mode_named
from modelyard_kserve.manifest import Manifest
from modelyard_kserve.trust import ANNOTATION, trust_of, written

#: Seconds for which a change is tried again that may succeed in a moment, and for which a deletion may take.
_PATIENCE = 60.0
#: The sidecars of KServe and Knative write lines for every request; these are worth reading.
_TROUBLE = ('"severity":"ERROR"', '"severity":"WARN')

_NO_TOKENS = (
    "[providers.kserve] token guards local endpoints only: here the cluster's gateway decides who asks"
)


class ClusterServer:
    """See `modelyard.stages.Server`; the promises are written there."""

    def __init__(self, context: StageContext, target: Target) -> None:
        self._context, self._target = context, target
        self._settings: KserveSettings = context.settings or KserveSettings()  # type: ignore[call-arg,unused-ignore]

    # -- asking -----------------------------------------------------------------------------

    def endpoints(self) -> list[Endpoint]:
        """See `Server.endpoints`."""
        return [self._endpoint(seen) for seen in self._observer.all()]

    def get(self, name: str) -> Endpoint:
        """See `Server.get`."""
        return self._endpoint(self._seen(name))

    def logs(self, name: str, *, lines: int = 100) -> Iterator[str]:
        """See `Server.logs`."""
        seen = self._seen(name)
        written = [line for pod in seen.pods for line in self._lines(pod, lines)]
        return iter([line for _, line in sorted(written)[-lines:]])

    def explain(self, name: str) -> Explanation:
        """See `Server.explain`; events and logs are told as far as the token may read them."""
        seen = self._seen(name)
        return explanation(self._target.cluster, seen, self._endpoint(seen))

    def access_log(self, name: str, *, lines: int = 100) -> Iterator[str]:  # noqa: ARG002
        """See `Server.access_log`; a cluster's gateway has its own."""
        self._seen(name)
        raise UsageError(
            "no-access-log",
            f"requests to '{name}' are not logged by us: on {self._target.name} that is the gateway's part",
            "ask the cluster's administrator, or for Knative see logging.enable-request-log",
        )

    def token(self, name: str, *, anew: bool = False) -> str:  # noqa: ARG002
        """See `Server.token`; a cluster's gateway has its own ways."""
        self._seen(name)
        raise UsageError(
            "no-token",
            f"'{name}' asks for no token of ours: on {self._target.name} its gateway decides who may ask",
            "ask the cluster's administrator",
        )

    def statistics(self, name: str) -> list[RequestStats]:
        """See `Server.statistics`; each pod counts what it answered."""
        pods = [pod for pod in self._seen(name).pods if is_true(pod, "Ready")]
        connect = self._target.cluster.connect
        try:
            return summed(
                asked(partial(connect, pod["metadata"]["namespace"], pod["metadata"]["name"], PORT))
                for pod in pods
            )
        except OSError as fault:
            raise EnvironmentFault(
                "endpoint-unreachable",
                f"a pod of '{name}' does not say what it counted: {fault}",
                f"modelyard endpoints logs {name}",
            ) from None

    def services(self) -> Sequence[ServiceSpec]:
        """See `Server.services`; the cluster keeps its endpoints running by itself."""
        return ()

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
        read = manifests.parse(
            text_of(manifest) if text is None else text,
            str(manifest),
            namespace=self._target.namespace,
            mode_of=self._observer.mode_of,
        )
        return self._applied(read, wait, trust=trust, progress=progress)

    def lint(self, text: str, where: str, *, mode: str | None = None) -> list[Finding]:
        """See `Server.lint`; how it would be deployed is asked of the cluster where nobody says it."""
        if mode is None:
            refusals = partial(manifests.beyond_kserve, namespace=self._target.namespace)
            return lint(text, where, self._observer.mode_of, refusals)
        found = mode_named(mode)
        return lint(text, where, lambda _: found)

    def reconcile(self, name: str, *, wait: bool = True) -> Endpoint:
        """See `Server.reconcile`."""
        seen = self._seen(name)
        text = applied_document(seen.service)
        if text is None:
            raise ConflictError(
                "endpoint-changed",
                f"'{name}' does not say from which file it was made",
                "modelyard endpoints apply -f FILE",
            )
        manifest = manifests.parse(
            text,
            f"the applied file of '{name}'",
            namespace=self._target.namespace,
            mode_of=self._observer.mode_of,
        )
        return self._applied(manifest, wait, keep_split=True)

    def traffic(self, name: str, canary: int) -> Endpoint:
        """See `Server.traffic`."""
        seen = self._seen(name)
        if seen.mode == "Standard":
            raise UsageError(
                "no-canary",
                f"'{name}' is deployed in KServe's Standard mode, where the newest revision gets all traffic",
                "where Knative is: annotate the file with serving.kserve.io/deploymentMode: Knative",
            )
        if canary != 100 and not partners(seen):
            raise UsageError(
                "no-canary",
                f"'{name}' has one revision, so there is nothing to split",
                "apply a file with another model first",
            )
        self._change(with_canary(seen.service, canary))
        return self._settled(name, Wanted(identity_of(seen.service["metadata"]), canary))

    def delete(self, name: str) -> None:
        """See `Server.delete`."""
        self._seen(name)
        self._target.cluster.delete(Ref(API, KIND, self._target.namespace, name))
        deadline = time.monotonic() + _PATIENCE
        while self._observer.live(name) is not None:
            if time.monotonic() > deadline:
                raise EnvironmentFault(
                    "endpoint-not-deleted",
                    f"the cluster has not removed '{name}' for {_PATIENCE:.0f} s",
                    "look whether KServe's controller runs",
                )
            time.sleep(0.2)
        self._context.services.forget(f"forward-{forward_of(name)}")

    # -- the steps --------------------------------------------------------------------------

    def _applied(
        self,
        manifest: Manifest,
        wait: bool,
        *,
        keep_split: bool = False,
        trust: bool = False,
        progress: Progress = unseen,
    ) -> Endpoint:
        before = self._observer.one(manifest.name)
        served = self._served(manifest, before, trust)
        sink, account = self._sink(manifest), self._account(served)
        canary = manifest.canary

        def made(generation: int) -> dict[str, Any]:
            return inference_service(
                manifest,
                served,
                project=self._context.project,
                sink=sink,
                account=account,
                canary=canary,
                generation=generation,
            )

        identity = identity_of(made(1)["metadata"])
        if before is not None and identity_of(before.service["metadata"]).spec == identity.spec:
            identity = self._tried_again(before, identity)
            if keep_split:
                # Nothing moved: what `traffic` said since is still so.
                canary = before.service["spec"]["predictor"].get("canaryTrafficPercent")
        if account:
            for manifest_of_access in storage_access(manifest.namespace, self._target.address("s3")):
                self._change(manifest_of_access)
        self._change(made(identity.generation))
        if not wait:
            return self.get(manifest.name)
        return self._settled(manifest.name, Wanted(identity, canary), progress)

    def _settled(self, name: str, wanted: Wanted, progress: Progress = unseen) -> Endpoint:
        def look() -> Seen | None:
            seen = self._observer.one(name)
            if seen is not None:
                progress(status.endpoint_of(seen, None, self._target.name))
            return seen

        until_settled(
            look,
            wanted,
            cluster=self._target.cluster,
            name=name,
            patience=self._settings.ready_timeout,
        )
        return self.get(name)

    @staticmethod
    def _tried_again(before: Seen, identity: Identity) -> Identity:
        """The same spec, as a new revision if the last one failed: what it lacked may be there now."""
        live = identity_of(before.service["metadata"])
        revision = newest(before, Wanted(live, None))
        failed = revision is not None and (
            status.has_ended(before, revision) or status.seems_hopeless(before, revision)
        )
        return replace(identity, generation=live.generation + (1 if failed else 0))

    def _served(self, manifest: Manifest, before: Seen | None, trust: bool) -> Served:
        uri = manifest.storage_uri
        consented = written(manifest.document)
        if not uri.startswith("models:/"):
            if "://" not in uri or uri.startswith("file://"):
                raise EnvironmentFault(
                    "model-not-reachable",
                    f"{uri} lies on this machine, where no cluster fetches it",
                    "register the model, and name it as models:/NAME/VERSION",
                )
            if trust and not consented:
                raise UsageError(
                    "consent-unclear",
                    f"nobody here knows the files behind {uri}, to which --trust would consent",
                    f"name their digest in the file: metadata.annotations {ANNOTATION}: sha256:...",
                )
            return Served(
                model=manifest.name,
                version="0",
                storage_uri=uri,
                address=uri,
                digest=consented or None,
                trust=self._trust(False, bool(consented)),
            )
        version = self._context.find_model(uri)
        digest = version.digest
        if digest is None:  # nothing says that these are the files that somebody registered
            remembered = written(before.service) if before is not None else ""
            if trust or (remembered and not consented):
                files = model_digest(self._context.resolve_model(uri).path)
                consented = files if trust or files == remembered else ""
            digest = consented or None
        return Served(
            model=version.name,
            version=version.version,
            storage_uri=uri,
            address=self._context.address_of(version),
            digest=digest,
            lineage_id=version.lineage_id,
            trust=self._trust(version.digest is not None, bool(consented)),
        )

    def _trust(self, registered: bool, consented: bool) -> Trust:
        by_settings = self._settings.trust_pickle
        return trust_of(registered=registered, by_settings=by_settings, consented=consented)

    def _sink(self, manifest: Manifest) -> str | None:
        """Where KServe's agent sends the events of the prediction log, if the file does not say."""
        if manifest.logger is None or manifest.logger.url:
            return None
        return self._context.event_sink()  # without a monitor nothing is logged, as on this machine

    def _account(self, served: Served) -> str | None:
        """The ServiceAccount that may read the target's S3; None: the model is elsewhere."""
        if not served.address.startswith("s3://"):
            return None
        try:
            self._target.address("s3")
        except NotFoundError:
            return None  # a bucket of the world outside: the cluster has its own ways to read it
        return ACCESS

    def _change(self, manifest: Mapping[str, Any]) -> None:
        """Apply an object, again while the reason for a refusal passes by itself."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._target.cluster.apply(manifest)
                return
            except ApiFault as fault:
                if not fault.passes or time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def _lines(self, pod: Mapping[str, Any], lines: int) -> Iterator[tuple[str, str]]:
        """What the containers of a pod wrote: moment, and line."""
        metadata = pod["metadata"]
        for container in (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]):
            written = self._target.cluster.logs(
                metadata["namespace"], metadata["name"], container["name"], lines=lines, times=True
            )
            for line in written:
                moment, _, text = line.partition(" ")
                if not moment[:1].isdigit():  # the cluster's own words about a container that is gone
                    continue
                if container["name"] not in status.SIDECARS or any(word in text for word in _TROUBLE):
                    yield moment, f"{metadata['name']}/{container['name']}: {text}"

    # -- what is ----------------------------------------------------------------------------

    @cached_property
    def _observer(self) -> Observer:
        return Observer(self._target.cluster, self._target.namespace, self._context.project)

    def _seen(self, name: str) -> Seen:
        found = self._observer.one(name) if name and "/" not in name else None
        if found is None:
            there = ", ".join(self._observer.names()) or "none yet"
            raise NotFoundError(
                "endpoint-not-found",
                f"there is no endpoint '{name}' on {self._target.name}; there are: {there}",
                "modelyard endpoints apply -f FILE",
            )
        return found

    def _endpoint(self, seen: Seen) -> Endpoint:
        try:
            url, message = url_of(seen, self._target, self._context.services), ""
        except ModelyardError as fault:  # it may work all the same, and the others do
            url, message = None, fault.message
        if self._settings.token:
            message = "; ".join(filter(None, [message, _NO_TOKENS]))
        return status.endpoint_of(seen, url, self._target.name, message)
