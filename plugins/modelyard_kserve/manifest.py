"""An InferenceService file that is to be applied: read, checked, understood."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelyard.digests import digest_of
from modelyard.errors import ConfigError
from modelyard.kube.quantities import quantity
from modelyard.manifests import text_of
from modelyard_kserve import graphs
from modelyard_kserve.commands import COMPONENTS, command_of, container_of, named_in
from modelyard_kserve.documents import Document, Place, Said, Unreadable, documents, dotted, invalid
from modelyard_kserve.effects import BATCHER, window_of
from modelyard_kserve.lint import (
    Mode,
    ModeOf,
    graph_findings,
    not_a_service,
    runtime_findings,
    service_findings,
)
from modelyard_kserve.local.desired import Component
from modelyard_kserve.local.graph.spec import graph_of
from modelyard_kserve.local.resources import limits_of
from modelyard_kserve.local.scaling import TARGETS, Scaling
from modelyard_kserve.own_annotations import REQUIREMENTS
from modelyard_kserve.rules import modern
from modelyard_kserve.serving_runtimes import KINDS as RUNTIMES
from modelyard_kserve.serving_runtimes import Runtime, among, chosen, container_of_model, runs_here
from modelyard_kserve.storage.uris import asked_for, plain


@dataclass(frozen=True)
class Logger:
    """`spec.predictor.logger`, or that of the transformer, then `component` says so."""

    mode: str
    url: str | None
    metadata_headers: tuple[str, ...]
    component: str = ""


#: Seconds: Knative's longest answer.
_TIMEOUT = 300.0
#: Seconds that Envoy waits longer than a graph's router, which can say why there is no answer.
_ANSWERED = 2.0
#: What a replica asks for unless the manifest says otherwise: what KServe's runtimes ask for.
_ASKED = {"cpu": "1", "memory": "2Gi"}


@dataclass(frozen=True)
class Manifest:
    """What an InferenceService file asks for.

    Attributes:
        text: the file as it was.
        document: its values.
        mode: how it is deployed.
        canary: percent for the newest revision, or None.
        scaling: how many replicas there are.
        timeout: seconds that an answer may take.
        concurrency: requests that a replica works on at once; 0: as many as come.
        env: environment of the model server.
        limits: of its processor, memory and GPUs.
        batcher: `maxBatchSize` and `maxLatency`; empty: requests are not gathered.
        protocol: `protocolVersion`: on which path a graph asks it.
        graph: an InferenceGraph's values; empty: it is an InferenceService.
        own_requirements: it runs with the packages that the model lists.
        command: what a custom predictor runs; empty: a model of ours to load.
        components: its `transformer` and `explainer`, whose files are not looked at yet.
        spec_digest: identifies everything that makes a new revision when it changes.
        notes: what the file says that this target does not do.
        canaries: predictors beside the one.
        alias: another name of the model: KServe's argument `--model_name`.
    """

    text: str
    document: Mapping[str, Any]
    mode: Mode
    name: str
    namespace: str
    storage_uri: str
    model_format: str
    canary: int | None
    scaling: Scaling
    timeout: float
    concurrency: int
    logger: Logger | None
    env: Mapping[str, str]
    spec_digest: str
    notes: tuple[str, ...] = field(default=())
    command: tuple[str, ...] = ()
    own_requirements: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    protocol: str = ""
    graph: Mapping[str, Any] = field(default_factory=dict)
    components: Mapping[str, Component] = field(default_factory=dict)
    batcher: Mapping[str, int] = field(default_factory=dict)
    canaries: tuple[CanaryManifest, ...] = ()
    alias: str = ""


@dataclass(frozen=True)
class CanaryManifest:
    """One of `spec.canary`: its predictor as a manifest, and its percent of the traffic."""

    manifest: Manifest
    percent: int


def locally(_: Mapping[str, Any]) -> Mode:
    """Everything is deployed as processes of this machine."""
    return "local"


def read(
    file: Path, *, namespace: str = "", mode_of: ModeOf = locally, known: Sequence[Runtime] = ()
) -> Manifest:
    """Read an InferenceService file; see `parse`.

    Raises:
        ConfigError: `manifest-invalid`, with file, line and field.
    """
    return parse(text_of(file), str(file), namespace=namespace, mode_of=mode_of, known=known)


def parse(
    text: str,
    where: str,
    *,
    namespace: str = "",
    mode_of: ModeOf = locally,
    known: Sequence[Runtime] = (),
) -> Manifest:
    """The manifest in a text.

    Args:
        text: YAML with one InferenceService, and ServingRuntimes beside it.
        where: names it in messages.
        known: other runtimes; of two that are called the same the one in the text counts.
        namespace: the only one that it may name; empty: any.
        mode_of: says how it will be deployed; what is refused and noted depends on that.

    Raises:
        ConfigError: `manifest-invalid`.
    """
    try:
        found = documents(text, where)
    except Unreadable as fault:
        raise invalid(f"{where}, line {fault.line}", str(fault)) from None
    beside = [one for one in found if one.kind in RUNTIMES]
    if len(found) - len(beside) != 1:
        raise invalid(where, f"it holds {len(found)} documents, not one InferenceService")
    (document,) = (one for one in found if one not in beside)
    if document.kind == graphs.GRAPH:
        return _graph(document, text, namespace, mode_of(document.value))
    for said in not_a_service(document):
        raise _refused(document, said)
    mode = mode_of(document.value)
    for runtime in beside:
        if mode != "local":
            message = "is not applied to clusters from here: kubectl apply -f FILE"
            raise _refused(runtime, Said(("kind",), message))
        _notes(runtime, runtime_findings(runtime, mode))
    known = [*among(beside), *known] if mode == "local" else ()
    notes = _notes(document, service_findings(document, mode, known))
    for said in beyond_kserve(document, namespace) if mode != "local" else ():
        raise _refused(document, said)
    value = _with_model(document.value)
    value, used = _with_containers(value, known)
    predictor = value["spec"]["predictor"]
    made = _of_predictor(document, value, predictor, ("spec", "predictor"), mode)
    canaries = []
    for place, one in enumerate(value["spec"].get("canary") or () if mode == "local" else ()):
        at = ("spec", "canary", place, "predictor")
        canary = _of_predictor(document, value, one["predictor"], at, mode)
        canaries.append(CanaryManifest(canary, one.get("trafficPercent") or 0))
    return replace(
        made,
        # What is remembered has the runtimes that it uses and no others, so that it means the same later.
        text="\n---\n".join(map(json.dumps, (document.value, *used))) if beside or used else text,
        namespace=value["metadata"].get("namespace") or namespace or "default",
        notes=notes,
        canaries=tuple(canaries),
    )


def _notes(document: Document, findings: Iterable[Said]) -> tuple[str, ...]:
    """What is to be known of a document; what is wrong with it is raised."""
    notes = []
    for said in findings:
        if said.level == "error":
            raise _refused(document, said)
        if said.level == "warning":
            notes.append(f"{dotted(said.place)} {said.message}")
    return tuple(notes)


def _of_predictor(
    document: Document, value: Mapping[str, Any], predictor: Mapping[str, Any], at: Place, mode: Mode
) -> Manifest:
    """What one predictor of the document asks for."""
    model = predictor.get("model")
    command: tuple[str, ...] = ()
    if not model and mode == "local":
        model, command = _custom(predictor)
    if not model:
        raise _refused(document, Said((*at, *_NO_MODEL.place[2:]), _NO_MODEL.message))
    storage_uri = (asked_for(model) if mode == "local" else model.get("storageUri")) or ""
    if not storage_uri and not command:  # KServe takes images that bring their model along
        raise _refused(document, Said((*at, *_NO_ADDRESS.place[2:]), _NO_ADDRESS.message))
    spec = value["spec"]
    components = {
        kind: _component(document, spec[kind], ("spec", kind))
        for kind in COMPONENTS
        if mode == "local" and spec.get(kind)
    }
    return Manifest(
        text="",
        document=value,
        mode=mode,
        name=value["metadata"]["name"],
        namespace="",
        storage_uri=storage_uri,
        model_format=model["modelFormat"]["name"],
        canary=predictor.get("canaryTrafficPercent"),
        scaling=_scaling(document, predictor, model, at),
        timeout=_timeout(predictor),
        concurrency=predictor.get("containerConcurrency") or 0,
        logger=_logger(spec),
        env=_env(model),
        spec_digest=_spec_digest(spec, predictor),
        command=command,
        protocol=model.get("protocolVersion") or predictor.get("protocolVersion") or "",
        limits=limits_of(model) if mode == "local" else {},
        components=components,
        batcher=_batcher(predictor.get("batcher")),
        alias=named_in(model.get("args"))[0],
        own_requirements=REQUIREMENTS in (value["metadata"].get("annotations") or {}),
    )


def _graph(document: Document, text: str, namespace: str, mode: Mode) -> Manifest:
    """What an InferenceGraph asks for: one process, which routes."""
    if mode != "local":
        message = "is not applied to clusters from here: kubectl apply -f FILE"
        raise _refused(document, Said(("kind",), message))
    notes = _notes(document, graph_findings(document, mode))
    value, spec = document.value, document.value["spec"]
    least = 1 if spec.get("minReplicas") is None else spec["minReplicas"]
    metric = spec.get("scaleMetric") or "concurrency"
    return Manifest(
        text=text,
        document=value,
        mode=mode,
        name=value["metadata"]["name"],
        namespace=value["metadata"].get("namespace") or namespace or "default",
        storage_uri="",
        model_format="",
        canary=None,
        scaling=Scaling(
            least=least,
            most=max(least, spec.get("maxReplicas") or 1),
            metric=metric,
            target=float(spec.get("scaleTarget") or TARGETS[metric]),
            window=window_of(value["metadata"]),
        ),
        timeout=graph_of(spec).seconds + _ANSWERED,
        concurrency=0,
        logger=None,
        env={},
        spec_digest=digest_of(spec),
        notes=notes,
        graph=value,
    )


_NO_ADDRESS = Said(("spec", "predictor", "model", "storageUri"), "is missing: where the model lies")
_NO_MODEL = Said(("spec", "predictor", "model"), "is missing: a container's image is not ours to verify")


def _spec_digest(spec: Mapping[str, Any], predictor: Mapping[str, Any]) -> str:
    alone = {k: v for k, v in predictor.items() if k != "canaryTrafficPercent"}
    around = {kind: spec[kind] for kind in COMPONENTS if spec.get(kind)}
    return digest_of([alone, around] if around else alone)


def _component(document: Document, component: Mapping[str, Any], at: Place) -> Component:
    model, command = _custom(component)
    return Component(
        command=shlex.join(command),
        storage_uri=model["storageUri"] or "",
        env=_env(model),
        limits=limits_of(model),
        timeout=float(component.get("timeout") or _TIMEOUT),
        concurrency=component.get("containerConcurrency") or 0,
        scaling=_scaling(document, component, model, at),
    )


def _custom(predictor: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A container as a model: `STORAGE_URI` in its environment is what KServe fetches for it."""
    _, container = container_of(predictor)
    uri = next((v.get("value") for v in container.get("env") or [] if v["name"] == "STORAGE_URI"), None)
    model = {"modelFormat": {"name": ""}, "storageUri": plain(uri or ""), "env": container.get("env")}
    model["resources"] = container.get("resources")
    return model, command_of(container)


def _with_model(value: Mapping[str, Any]) -> dict[str, Any]:
    """The document with `model` instead of the older ways to write it, as KServe itself reads them."""
    spec = dict(value["spec"])
    spec["predictor"] = modern(spec["predictor"])
    if spec.get("canary"):
        spec["canary"] = [{**one, "predictor": modern(one["predictor"])} for one in spec["canary"]]
    return {**value, "spec": spec}


def _with_containers(
    value: Mapping[str, Any], known: Sequence[Runtime]
) -> tuple[dict[str, Any], list[Runtime]]:
    """The document with containers instead of the models that runtimes run here, and those runtimes."""
    spec, used = dict(value["spec"]), []

    def run(predictor: dict[str, Any]) -> dict[str, Any]:
        model: Mapping[str, Any] = predictor.get("model") or {}
        namespace = value["metadata"].get("namespace") or "default"
        runtime = chosen(model, namespace, known) if model else None
        if runtime is None or not runs_here(runtime):
            return predictor
        used.append(runtime)
        rest = {key: said for key, said in predictor.items() if key != "model"}
        container = container_of_model(runtime, model, value["metadata"])
        return {**rest, "containers": [container], "protocolVersion": model.get("protocolVersion")}

    spec["predictor"] = run(spec["predictor"])
    if spec.get("canary"):
        spec["canary"] = [{**one, "predictor": run(one["predictor"])} for one in spec["canary"]]
    return {**value, "spec": spec}, [one for place, one in enumerate(used) if one not in used[:place]]


def beyond_kserve(document: Document, namespace: str) -> Iterator[Said]:
    """What KServe takes and we do not apply on a cluster.

    Args:
        document: an InferenceService that KServe takes.
        namespace: the only one that it may name; empty: any.
    """
    said = document.value["metadata"].get("namespace")
    if said and namespace and said != namespace:
        message = f"'{said}' is not the target's namespace, '{namespace}'"
        yield Said(("metadata", "namespace"), message, hint="leave it out here")
    model = _with_model(document.value)["spec"]["predictor"].get("model")
    if not model:
        yield _NO_MODEL
    elif not model.get("storageUri"):  # an image may bring its model along
        yield _NO_ADDRESS


def _scaling(
    document: Document, component: Mapping[str, Any], model: Mapping[str, Any], at: Place
) -> Scaling:
    asked = (model.get("resources") or {}).get("requests") or {}
    try:
        cores, memory = (quantity(asked.get(what, given)) for what, given in _ASKED.items())
    except ValueError as fault:
        what = "model" if component.get("model") else "containers"
        place = (*at, what, "resources", "requests")
        raise _refused(document, Said(place, str(fault))) from None
    least = 1 if component.get("minReplicas") is None else component["minReplicas"]
    metric = component.get("scaleMetric") or "concurrency"
    target = float(component.get("scaleTarget") or TARGETS[metric])
    if metric == "concurrency" and component.get("containerConcurrency"):
        target = min(target, float(component["containerConcurrency"]))
    return Scaling(
        least=least,
        most=max(least, component.get("maxReplicas") or 1),
        metric=metric,
        target=target,
        window=window_of(document.value["metadata"]),
        cpu=cores,
        memory=memory,
    )


def _timeout(predictor: Mapping[str, Any]) -> float:
    """Seconds that an answer may take: who waits for others waits for their answer as well."""
    batch = (predictor.get("batcher") or {}).get("timeout")
    asked = float(predictor.get("timeout") or _TIMEOUT)
    return min(asked, float(batch)) if batch else asked


def _batcher(batcher: Mapping[str, Any] | None) -> dict[str, int]:
    """With what KServe's agent takes for what is not said."""
    if batcher is None:
        return {}
    return {name: batcher.get(name) or default for name, default in BATCHER.items()}


def _logger(spec: Mapping[str, Any]) -> Logger | None:
    """The predictor's, else the transformer's: with both, each prediction would be in the log twice."""
    for kind in ("predictor", "transformer"):
        logger = (spec.get(kind) or {}).get("logger")
        if logger is not None:
            headers = tuple(logger.get("metadataHeaders") or ())
            component = kind if kind in COMPONENTS else ""
            return Logger(logger.get("mode") or "all", logger.get("url"), headers, component)
    return None


def _env(model: Mapping[str, Any]) -> dict[str, str]:
    """What stands in the file; the values of secrets and config maps are the cluster's."""
    plain = [item for item in model.get("env") or [] if not item.get("valueFrom")]
    return {item["name"]: item.get("value") or "" for item in plain}


def _refused(document: Document, said: Said) -> ConfigError:
    where = f"{document.where}, line {document.line(said.place)}"
    hint = f"; {said.hint}" if said.hint else ""
    return invalid(where, f"{dotted(said.place)}: {said.message}{hint}")
