"""What a field really does: KServe ignores some that it takes, and local processes can't do everything."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelyard.kube.quantities import quantity
from modelyard_kserve import ports, reasons, serving_runtimes
from modelyard_kserve.commands import COMPONENTS, command_of, container_of, named_in
from modelyard_kserve.documents import Level, Place, Said
from modelyard_kserve.local import resources
from modelyard_kserve.local.runtimes import FORMATS
from modelyard_kserve.local.scaling import Scaling
from modelyard_kserve.own_annotations import REQUIREMENTS
from modelyard_kserve.reasons import WINDOW, ignored
from modelyard_kserve.rules import LEGACY, implementations, modern
from modelyard_kserve.serving_runtimes import PROTOCOLS
from modelyard_kserve.storage.uris import OURS, TYPES, asked_for, scheme_of

#: Fields of the predictor that a local process honours.
_HONOURED = {"model", *LEGACY, "logger", "batcher", "canaryTrafficPercent", "minReplicas", "maxReplicas"}
_HONOURED |= {"name", "timeout", "containerConcurrency", "scaleMetric", "scaleTarget", "storageUris"}
#: Fields that change answers: to ignore them would be a lie.
_REFUSED = {"workerSpec"}
_HONOURED_OF_MODEL = {"modelFormat", "storageUri", "storage", "env", "protocolVersion", "name", "runtime"}
_HONOURED_OF_MODEL |= {"resources", "args"}
_HONOURED_OF_CONTAINERS = {"name", "image", "command", "args", "env", "imagePullPolicy", "ports", "resources"}
_HONOURED_OF_COMPONENTS = _HONOURED - {"model", *LEGACY, "storageUris"} | {"containers"}
#: Rows and milliseconds: what KServe's agent takes for what a batcher does not say.
BATCHER = {"maxBatchSize": 32, "maxLatency": 5000}
#: Seconds, and requests at once: what Knative takes unless its `config-defaults` say more.
_LONGEST_OF_KNATIVE, _MOST_OF_KNATIVE = 600, 1000
#: Characters of a Kubernetes service's name, and of each part of a host's.
_LABEL = 63
_NO_GATEWAY = "there is nothing in front of the pods that would do it"


@dataclass(frozen=True)
class _Effect:
    """A field of a component that a mode of KServe does not do as it seems."""

    field: str
    mode: str
    when: Callable[[Any], bool]
    message: str
    level: Level = "warning"
    hint: str = ""


def _given(value: Any) -> bool:
    return value is not None


_ON_CLUSTERS = (
    _Effect(
        *("minReplicas", "Standard", lambda v: v == 0, "0 becomes 1 in Standard mode: one replica stays"),
        hint="deploy it in Knative mode to scale to zero",
    ),
    _Effect(
        *("scaleMetric", "Standard", lambda v: v in ("concurrency", "rps")),
        "is Knative's; in Standard mode cpu and memory scale",
        hint="scaleMetric: cpu",
    ),
    _Effect(
        *("canaryTrafficPercent", "Standard", lambda v: v not in (None, 100)),
        "has no effect in KServe's Standard mode: every new revision gets all traffic",
        "error",
        "leave it out, or deploy it in Knative mode",
    ),
    _Effect("containerConcurrency", "Standard", bool, f"limits nothing in Standard mode: {_NO_GATEWAY}"),
    _Effect("deploymentStrategy", "Knative", _given, "has no effect in Knative mode: revisions replace pods"),
    _Effect("autoScaling", "Knative", _given, "has no effect in Knative mode", hint="use scaleMetric"),
    _Effect("scaleMetricType", "Knative", _given, "has no effect in Knative mode"),
    _Effect(
        *("timeout", "Knative", lambda v: v > _LONGEST_OF_KNATIVE),
        f"is more than Knative takes by default, {_LONGEST_OF_KNATIVE} s: it refuses the revision",
        hint="take less, or let max-revision-timeout-seconds be raised in the cluster's config-defaults",
    ),
    _Effect(
        *("containerConcurrency", "Knative", lambda v: v > _MOST_OF_KNATIVE),
        f"is more than Knative takes by default, {_MOST_OF_KNATIVE}: it refuses the revision",
        hint="take less, or let container-concurrency-max-limit be raised in the cluster's config-defaults",
    ),
)


def effects(
    value: Mapping[str, Any], mode: str, known: Sequence[serving_runtimes.Runtime] = ()
) -> Iterator[Said]:
    """Everything in an InferenceService that does not do there what it says.

    Args:
        value: the document, which the webhook would take.
        mode: `local`, `Knative` or `Standard`.
        known: the runtimes that it may name.
    """
    spec = value.get("spec") or {}
    yield from _asked_by_transformer(spec)
    if mode == "local":
        yield from _annotations(value)
        yield from _locally(value, known)
        return
    if REQUIREMENTS in (value["metadata"].get("annotations") or {}):
        message = "has no effect on clusters: packages are those of the image"
        yield Said(("metadata", "annotations", REQUIREMENTS), message, "warning")
    if implementations(spec["predictor"]) != ["containers"]:
        _, said = _runtime(("spec", "predictor", "model"), spec["predictor"], value["metadata"], known)
        yield from (one for one in said if one.level == "error")
    yield from _named_on_clusters(value, mode)
    for name in ("predictor", *COMPONENTS):
        component = spec.get(name) or {}
        yield from on_clusters(("spec", name), component, mode)
        yield from _ours_on_clusters(("spec", name), component)
        for number, container in enumerate(component.get("containers") or []):
            yield from ports.on_clusters(("spec", name, "containers", number), container, mode)
        for of_model in ("model", *LEGACY):
            at, model = ("spec", name, of_model), component.get(of_model) or {}
            yield from _protocol(at, model, mode)
            yield from ports.on_clusters(at, model, mode)
            yield from ports.of_model(at, model, mode)
            yield from ports.logged(("spec", name), component, model, mode)
        yield from _batched_on_clusters(("spec", name, "batcher"), component)
    if spec.get("canary") and mode == "Standard":
        yield Said(
            ("spec", "canary"),
            "gets no traffic from KServe 0.20, whatever trafficPercent says",
            hint="leave it out",
        )


def on_clusters(at: Place, component: Mapping[str, Any], mode: str) -> Iterator[Said]:
    """What KServe takes in a component and does not do, and does not say either.

    Example:
        >>> [said.message for said in on_clusters(("spec", "predictor"), {"minReplicas": 0}, "Standard")]
        ['0 becomes 1 in Standard mode: one replica stays']
    """
    for effect in _ON_CLUSTERS:
        value = component.get(effect.field)
        if effect.mode == mode and value is not None and effect.when(value):
            yield Said((*at, effect.field), effect.message, effect.level, effect.hint)


def _named_on_clusters(value: Mapping[str, Any], mode: str) -> Iterator[Said]:
    """Names that KServe's webhook takes, and of which nothing can be made. Those of revisions and pods may be
    longer: Knative and Kubernetes shorten them."""
    name, namespace = value["metadata"]["name"], value["metadata"].get("namespace")
    parts = [part for part in ("predictor", *COMPONENTS) if value["spec"].get(part)]
    service = max((f"{name}-{part}" for part in parts), key=len)
    host = f"{name}-{namespace}" if mode == "Knative" else f"{service}-{namespace}"
    at = ("metadata", "name")
    if len(service) > _LABEL:
        message = f"makes a service '{service}' of {len(service)} characters, which have {_LABEL} at most"
        yield Said(at, message, hint=f"take a name of {_LABEL - len(service) + len(name)} characters at most")
    elif namespace and len(host) > _LABEL:
        message = f"makes a host '{host}' of {len(host)} characters, and DNS takes {_LABEL}"
        hint = "take a shorter name, unless the cluster's domainTemplate makes other hosts"
        yield Said(at, message, "warning", hint)


def _protocol(at: Place, model: Mapping[str, Any], mode: str) -> Iterator[Said]:
    """How a model is to be asked; KServe takes any text, and chooses runtimes by it."""
    said = model.get("protocolVersion")
    if said and said not in PROTOCOLS:
        known = f"known: {', '.join(PROTOCOLS)}"
        message = f"{said!r:.40} is no protocol of KServe's, which finds no runtime for the model then"
        level: Level = "error" if mode == "local" else "warning"
        yield Said((*at, "protocolVersion"), message, level, known)
    elif said == "grpc-v1" and mode == "local":
        message = "is TensorFlow Serving's gRPC, which is not spoken here: V1, V2 and its gRPC are"
        yield Said((*at, "protocolVersion"), message, "warning", "ask with grpc-v2")


def _asked_by_transformer(spec: Mapping[str, Any]) -> Iterator[Said]:
    """A transformer of KServe's asks in V1 unless its own arguments say otherwise: nothing hands the
    predictor's protocol on to it."""
    models = [spec["predictor"].get(name) or {} for name in ("model", *LEGACY)]
    spoken = next((m["protocolVersion"] for m in models if m.get("protocolVersion")), "")
    transformer = spec.get("transformer") or {}
    if spoken not in ("v2", "grpc-v2") or not transformer.get("containers"):
        return
    place, container = container_of(transformer)
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    if not named_in(words, "predictor_protocol")[0]:
        message = f"asks the predictor in V1 though its protocolVersion is {spoken}, unless the class differs"
        at = ("spec", "transformer", "containers", place, "args")
        yield Said(at, message, "info", f"--predictor_protocol={spoken}")


def _ours_on_clusters(at: Place, component: Mapping[str, Any]) -> Iterator[Said]:
    for name in ("model", *LEGACY):
        uri = (component.get(name) or {}).get("storageUri") or ""
        if scheme_of(uri) in OURS:
            message = f"{scheme_of(uri)}: is this project's own; no cluster fetches it"
            hint = "register the model: storageUri: models:/NAME/VERSION"
            yield Said((*at, name, "storageUri"), message, hint=hint)


def _batched(at: Place, batcher: Mapping[str, Any]) -> Iterator[Said]:
    """What is so everywhere."""
    for name in ("maxBatchSize", "maxLatency", "timeout"):
        if batcher.get(name) is not None and batcher[name] < 1:
            message = f"{batcher[name]} is not more than 0"
            yield Said((*at, name), message, hint="leave it out for KServe's default")
    if batcher.get("maxLatency") is None:
        message = (
            f"is missing, so a request that comes alone waits {BATCHER['maxLatency'] / 1000:g} s for others"
        )
        yield Said((*at, "maxLatency"), message, "warning", "say the milliseconds: maxLatency: 20")


def _batched_on_clusters(at: Place, component: Mapping[str, Any]) -> Iterator[Said]:
    batcher, model = component.get("batcher"), component.get("model") or {}
    if batcher is None:
        return
    yield from _batched(at, batcher)
    if batcher.get("timeout"):
        yield Said((*at, "timeout"), "never reaches KServe's agent, so it has no effect", "warning")
    if model.get("protocolVersion") in ("v2", "grpc-v2"):
        message = "gathers requests of V1 (:predict) only; those of V2 pass it by"
        yield Said(at, message, "warning", "ask with V1")


def _batched_locally(at: Place, predictor: Mapping[str, Any], is_container: bool) -> Iterator[Said]:
    batcher, most = predictor.get("batcher"), predictor.get("containerConcurrency")
    if batcher is None:
        return
    if is_container:
        message = "gathers nothing for programs of one's own here: they answer each request by itself"
        yield Said(at, message, "warning")
        return
    yield from _batched(at, batcher)
    waits = (batcher.get("maxLatency") or BATCHER["maxLatency"]) / 1000
    timeouts = [seconds for seconds in (batcher.get("timeout"), predictor.get("timeout")) if seconds]
    if timeouts and waits >= min(timeouts):
        message = f"{waits:g} s is no less than an answer may take, so who asks alone gets none"
        yield Said((*at, "maxLatency"), message, hint="wait less, or take a longer timeout")
    if most == 1:
        message = "lets one request in at a time, so the batcher waits for others that can't come"
        yield Said((*at[:-1], "containerConcurrency"), message, "warning", "leave one of them out")


def sleeping(metadata: Mapping[str, Any]) -> Iterator[Said]:
    """What annotations of a service or a graph say about scaling here: only when it goes to sleep."""
    said = (metadata.get("annotations") or {}).get(WINDOW)
    if said is not None and not 6 <= (seconds_of(said) or 0) <= 3600:
        message = f"{said!r} is no time from 6s to 1h, after which an idle model is ended"
        yield Said(("metadata", "annotations", WINDOW), message, hint="write it as in 90s")
    yield from reasons.scaling(metadata)


def window_of(metadata: Mapping[str, Any]) -> float:
    """Seconds that nobody may ask before the last replica is ended, and over which load is averaged."""
    said = (metadata.get("annotations") or {}).get(WINDOW)
    return seconds_of(said or "") or Scaling.window


def _annotations(value: Mapping[str, Any]) -> Iterator[Said]:
    yield from sleeping(value["metadata"])
    own = (value["metadata"].get("annotations") or {}).get(REQUIREMENTS)
    if own not in (None, "own"):
        message = f"{own!r:.40} is not 'own', which gives the model the packages that it lists"
        yield Said(("metadata", "annotations", REQUIREMENTS), message, hint="leave it out for the project's")


def seconds_of(duration: str) -> float | None:
    """A duration as Go writes it; None: it is none.

    Example:
        >>> seconds_of("1m30s"), seconds_of("6s"), seconds_of("soon")
        (90.0, 6.0, None)
    """
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", str(duration))
    if found is None or not duration:
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _locally(value: Mapping[str, Any], known: Sequence[serving_runtimes.Runtime]) -> Iterator[Said]:
    spec, metadata = value["spec"], value["metadata"]
    for kind in COMPONENTS:
        if spec.get(kind):
            yield from _component_locally(("spec", kind), spec[kind], spec)
    canaries = spec.get("canary") or []
    if canaries and spec["predictor"].get("canaryTrafficPercent") is not None:
        message = "stands beside spec.predictor.canaryTrafficPercent, which says something else"
        yield Said(("spec", "canary"), message, hint="leave one of them out")
    yield from _predictor_locally(("spec", "predictor"), spec["predictor"], metadata, known)
    for place, canary in enumerate(canaries):
        at: Place = ("spec", "canary", place, "predictor")
        yield from _predictor_locally(at, canary["predictor"], metadata, known)


def _predictor_locally(
    at: Place,
    predictor: Mapping[str, Any],
    metadata: Mapping[str, Any],
    known: Sequence[serving_runtimes.Runtime],
) -> Iterator[Said]:
    if predictor.get("storageUris"):
        message = "mounts places side by side into a container, which local processes don't have"
        yield Said((*at, "storageUris"), message, hint="name one place: spec.predictor.model.storageUri")
    for refused in sorted(_REFUSED & predictor.keys()):
        yield Said((*at, refused), "would change answers and is not done by local processes")
    (name,) = implementations(predictor)
    runtime, said = (None, []) if name == "containers" else _runtime((*at, name), predictor, metadata, known)
    yield from said
    yield from _batched_locally((*at, "batcher"), predictor, name == "containers" or runtime is not None)
    yield from reasons.logger((*at, "logger"), predictor.get("logger") or {})
    if name == "containers":
        yield from _container_locally(at, predictor)
    elif runtime is not None:
        yield from _run_locally((*at, name), predictor[name])
    else:
        yield from _model_locally((*at, name), name, predictor[name])
        yield from reasons.beside(at, predictor.get("containers") or [], None)
    here = _HONOURED | _REFUSED | {"containers"}
    yield from (ignored((*at, key)) for key in predictor if key not in here)


def _component_locally(at: Place, component: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Said]:
    if implementations(component) != ["containers"]:
        message = "is not run here: it is an image of KServe's"
        hint = "write it as a class of the project: containers with a command"
        yield Said((*at, *implementations(component)), message, hint=hint)
        return
    for refused in sorted(_REFUSED & component.keys()):
        yield Said((*at, refused), "would change answers and is not done by local processes")
    yield from _container_locally(at, component)
    yield from _batched_locally((*at, "batcher"), component, True)
    if component.get("canaryTrafficPercent") is not None:
        message = "has no effect here: a transformer or explainer is part of its predictor's revision"
        hint = "use spec.predictor.canaryTrafficPercent"
        yield Said((*at, "canaryTrafficPercent"), message, "warning", hint)
    if component.get("logger"):
        both = spec["predictor"].get("logger")
        if at[-1] == "explainer":
            message = "logs nothing here: explanations are no predictions"
            yield Said((*at, "logger"), message, "warning")
        elif both:
            message = "logs nothing here: the predictor's logs each prediction already"
            yield Said((*at, "logger"), message, "warning", "leave one of them out")
        else:
            yield from reasons.logger((*at, "logger"), component["logger"])
    known = _HONOURED_OF_COMPONENTS | _REFUSED
    yield from (ignored((*at, key)) for key in component if key not in known)


def _model_locally(at: Place, name: str, model: Mapping[str, Any]) -> Iterator[Said]:
    format_ = name if name != "model" else model["modelFormat"]["name"]
    if format_ not in FORMATS:
        place = (*at, "modelFormat", "name") if name == "model" else at
        hint = "or serve it by a class of the project: containers with a command"
        yield Said(place, f"{format_!r} is not served here; known: {', '.join(FORMATS)}", hint=hint)
    if (model.get("modelFormat") or {}).get("version"):
        message = "is not looked at here: what is installed loads the model, of whatever version it is"
        yield Said((*at, "modelFormat", "version"), message, "info")
    yield from _protocol(at, model, "local")
    if named_in(model.get("args"))[1]:
        yield ignored((*at, "args"))
    yield from _storage_locally(at, model)
    yield from _variables_locally(at, model)
    yield from _limits_locally(at, model)
    yield from (ignored((*at, key)) for key in model if key not in _HONOURED_OF_MODEL)


def _runtime(
    at: Place,
    predictor: Mapping[str, Any],
    metadata: Mapping[str, Any],
    known: Sequence[serving_runtimes.Runtime],
) -> tuple[serving_runtimes.Runtime | None, list[Said]]:
    """The runtime that runs the model here, and what is to be said of that."""
    model = modern(predictor)["model"]
    try:
        runtime = serving_runtimes.chosen(model, metadata.get("namespace") or "default", known)
        if runtime is not None and serving_runtimes.runs_here(runtime):
            serving_runtimes.container_of_model(runtime, model, metadata)
            return runtime, []
    except serving_runtimes.Unfit as fault:
        return None, [Said((*at, "runtime"), str(fault))]
    if not model.get("runtime"):
        return None, []
    place, format_ = (*at, "runtime"), model["modelFormat"]["name"]
    return None, [reasons.runtime(place, model["runtime"], format_, known=runtime is not None)]


def _run_locally(at: Place, model: Mapping[str, Any]) -> Iterator[Said]:
    """A model that a runtime's program runs."""
    if asked_for(model) or model.get("storage"):
        yield from _storage_locally(at, model)
    yield from _variables_locally(at, model)
    yield from _limits_locally(at, model)
    known = _HONOURED_OF_MODEL | _HONOURED_OF_CONTAINERS
    yield from (ignored((*at, key)) for key in model if key not in known)


def _container_locally(at: Place, predictor: Mapping[str, Any]) -> Iterator[Said]:
    place, container = container_of(predictor)
    yield from reasons.beside(at, predictor["containers"], place)
    at = (*at, "containers", place)
    if not command_of(container):
        message = "is missing: images are not run here, only their command is"
        yield Said((*at, "command"), message, hint='say it, as in command: ["python", "-m", "my_model"]')
        return
    if container.get("image"):
        message = "is not used here: the command runs in the project, with what is installed there"
        yield Said((*at, "image"), message, "warning")
    yield from _variables_locally(at, container)
    yield from _limits_locally(at, container)
    yield from (ignored((*at, key)) for key in container if key not in _HONOURED_OF_CONTAINERS)


def _variables_locally(at: Place, container: Mapping[str, Any]) -> Iterator[Said]:
    for number, variable in enumerate(container.get("env") or []):
        if variable.get("valueFrom"):
            message = f"sets nothing here: only a cluster knows the value of {variable['name']}"
            yield Said((*at, "env", number, "valueFrom"), message, "warning")


def _limits_locally(at: Place, container: Mapping[str, Any]) -> Iterator[Said]:
    """A process keeps some limits, in its own way; what it requests, nobody has to keep for it."""
    at = (*at, "resources", "limits")
    for name, said in ((container.get("resources") or {}).get("limits") or {}).items():
        if name not in resources.KNOWN:
            yield Said((*at, name), "limits nothing here", "warning")
            continue
        try:
            if name == resources.GPU and quantity(said) % 1:
                raise ValueError(f"{said!r:.40} is no whole number")
            quantity(said)
        except ValueError as fault:
            yield Said((*at, name), str(fault))
        if name == "cpu":
            message = "is how many threads libraries start here, and no limit of the processor's time"
            yield Said((*at, name), message, "info")
        if name == "memory" and sys.platform != "linux":
            yield Said((*at, name), "limits nothing on this system", "warning")
        elif name == "memory":
            message = "is what the process may reserve here, with its libraries; more is refused to it"
            yield Said((*at, name), message, "info")


def _storage_locally(at: Place, model: Mapping[str, Any]) -> Iterator[Said]:
    storage, uri = model.get("storage") or {}, asked_for(model)
    said = storage.get("parameters") or {}
    if said.get("type") not in (None, *TYPES):
        message = f"{said['type']!r:.40} is no type of storage; known: {', '.join(TYPES)}"
        yield Said((*at, "storage", "parameters", "type"), message)
    elif not uri:
        message = "is missing: where the model lies"
        if storage:
            lacking = "path" if not storage.get("path") else "parameters.bucket"
            message += f"; 'storage' without {lacking} leaves it to a secret of the cluster, not here"
        named = named_in(model.get("args"), "model_id")[0]
        hint = f"storageUri: hf://{named}" if named else ""
        yield Said((*at, "storageUri"), message, hint="storageUri: s3://BUCKET/PATH" if storage else hint)
    elif storage.get("key"):
        message = f"names a secret of the cluster; here {scheme_of(uri)}:// takes the environment's login"
        yield Said((*at, "storage", "key"), message, "warning")
    for name in said:
        if name not in ("type", "bucket"):
            hint = "set it in the environment, e.g. AWS_ENDPOINT_URL, AWS_DEFAULT_REGION"
            yield Said((*at, "storage", "parameters", name), "has no effect here", "warning", hint)
