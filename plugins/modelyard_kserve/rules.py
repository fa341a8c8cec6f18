"""What KServe's admission webhook refuses in an InferenceService, without a cluster.

Checked after the schema: types and names of fields are right by then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from modelyard_kserve.documents import Place, Said, said_of_name

#: Older ways to write `model`: the field's name is the format's.
LEGACY = (
    *("sklearn", "xgboost", "lightgbm", "onnx", "tensorflow", "pytorch", "triton", "paddle", "pmml"),
    *("huggingface",),
)
#: The component's own container, beside which others are helpers.
MAIN_CONTAINER = "kserve-container"
_TRANSFORMER_CONTAINER = "transformer-container"
_STORAGE = re.compile(
    r"(gs|s3|pvc|file|https?|hdfs|webhdfs|oci(\+fetch|\+native)?|hf|modelscope|git|models|runs|dvc):/.*|(?!.*://).+",
    re.DOTALL,
)
#: Schemes that `storage` (credentials by key) goes with.
_WITH_STORAGE = ("s3://", "hdfs://", "webhdfs://")
_CLASSES = ("hpa", "keda", "external", "none")
_HPA_METRICS, _KPA_METRICS = ("cpu", "memory"), ("concurrency", "rps")
_SCALED_BY = "serving.kserve.io/autoscalerClass"
_KNATIVES_CLASS = "autoscaling.knative.dev/class"
_UTILIZATION = "serving.kserve.io/targetUtilizationPercentage"
#: Seconds: what Envoy could be told is more, but nobody waits a day.
_LONGEST_ANSWER = 86_400
#: What a canary of Standard mode may not say: its replicas are fixed.
_NOT_IN_CANARIES = ("maxReplicas", "scaleTarget", "scaleMetric", "autoScaling", "workerSpec")


def inference_service(value: Mapping[str, Any], mode: str) -> Iterator[Said]:
    """Everything that the webhook would refuse.

    Args:
        value: the document.
        mode: `local`, `Knative` or `Standard`.
    """
    yield from _metadata(value["metadata"])
    spec = value.get("spec") or {}
    if not spec.get("predictor"):
        yield Said(("spec", "predictor"), "is missing")
        return
    for name in ("predictor", "transformer", "explainer"):
        if spec.get(name):
            at = ("spec", name)
            yield from _implementation(at, spec[name])
            yield from _component(at, spec[name], value["metadata"], mode)
    yield from _canaries(spec, value["metadata"], mode)


def implementations(component: Mapping[str, Any]) -> list[str]:
    """The fields that say what a component runs; exactly one is right.

    KServe makes `model` of the older ways to write it, and drops one that stands beside.

    Example:
        >>> implementations({"model": {"modelFormat": {"name": "sklearn"}}, "minReplicas": 1})
        ['model']
        >>> implementations({"sklearn": {}, "containers": [{"name": "kserve-container"}]})
        ['sklearn', 'containers']
        >>> implementations({"sklearn": {}, "model": {}})
        ['sklearn']
    """
    older = [name for name in (*LEGACY, "art") if component.get(name) is not None]
    found = older or [name for name in ("model",) if component.get(name) is not None]
    containers = component.get("containers") or []
    own = [one for one in containers if one.get("name") == MAIN_CONTAINER]
    if own or (len(containers) == 1 and not found):
        found.append("containers")
    return found


def modern(predictor: Mapping[str, Any]) -> dict[str, Any]:
    """The predictor with `model` instead of the older ways to write it, as KServe itself reads them.

    Example:
        >>> modern({"sklearn": {"storageUri": "s3://models/late"}, "minReplicas": 1})["model"]
        {'modelFormat': {'name': 'sklearn'}, 'storageUri': 's3://models/late'}
    """
    (name,) = implementations(predictor)
    if name not in LEGACY:
        return dict(predictor)
    rest = {key: value for key, value in predictor.items() if key != name}
    return {**rest, "model": {"modelFormat": {"name": name}, **predictor[name]}}


def _metadata(metadata: Mapping[str, Any]) -> Iterator[Said]:
    yield from said_of_name(metadata)
    annotations = metadata.get("annotations") or {}
    scaled_by = annotations.get(_SCALED_BY)
    if scaled_by is not None and scaled_by not in _CLASSES:
        at = ("metadata", "annotations", _SCALED_BY)
        yield Said(at, f"{scaled_by!r} is no autoscaler; known: {', '.join(_CLASSES)}")
    share = annotations.get(_UTILIZATION)
    if share is not None and not (re.fullmatch(r"\d{1,3}", str(share)) and 1 <= int(share) <= 100):
        at = ("metadata", "annotations", _UTILIZATION)
        yield Said(at, f"{share!r} is not a whole number from 1 to 100")


def _implementation(at: Place, component: Mapping[str, Any]) -> Iterator[Said]:
    found = implementations(component)
    if not found:
        wanted = "model" if at[-1] == "predictor" else "containers"
        yield Said((*at, wanted), "is missing")
    elif len(found) > 1:
        yield Said((*at, found[1]), f"stands beside '{found[0]}'; exactly one says what runs")
    if component.get("model") is not None and "model" not in found:
        message = f"is dropped by KServe without a word: {found[0]!r} beside it says what runs"
        yield Said((*at, "model"), message, "warning", "leave one of them out")
    for name in found[:1]:
        if name != "containers":
            yield from _model((*at, name), component[name], legacy=name != "model")
    for number, container in enumerate(component.get("containers") or []):
        yield from _container((*at, "containers", number), container)


def _model(at: Place, model: Mapping[str, Any], *, legacy: bool) -> Iterator[Said]:
    if not legacy and not (model.get("modelFormat") or {}).get("name"):
        yield Said((*at, "modelFormat", "name"), "is missing: what kind of model it is")
    yield from env_names(at, model.get("env"))
    uri, storage = model.get("storageUri"), model.get("storage")
    if uri and storage and not uri.startswith(_WITH_STORAGE):
        yield Said(
            (*at, "storageUri"), f"{uri!r:.80} can't stand beside 'storage', only s3:// and hdfs:// can"
        )
    elif uri:
        yield from storage_uri((*at, "storageUri"), uri)


def storage_uri(at: Place, uri: str) -> Iterator[Said]:
    """What is wrong with an address of a model."""
    if not _STORAGE.fullmatch(uri):
        known = (
            "s3://, gs://, https://, hf://, oci://, pvc://, hdfs://, file://, models:/NAME/VERSION, "
            "for processes of this machine also runs:/RUN_ID/PATH and dvc://PATH, a folder"
        )
        yield Said(at, f"{uri.split('://')[0]!r:.40} is no storage that KServe knows; known: {known}")


def env_names(at: Place, env: Any) -> Iterator[Said]:
    """Variables without a name that an environment takes."""
    for number, item in enumerate(env or []):
        name = item.get("name")
        if not name or "=" in name:
            shown = f"'{name.partition('=')[0]}=...'" if name else name  # the rest may be a secret
            place = (*at, "env", number, "name")
            yield Said(place, f"{shown} is not a name of an environment variable")


def _container(at: Place, container: Mapping[str, Any]) -> Iterator[Said]:
    yield from env_names(at, container.get("env"))
    for number, variable in enumerate(container.get("env") or []):
        if variable.get("name") == "STORAGE_URI" and container.get("name") == _TRANSFORMER_CONTAINER:
            yield Said((*at, "env", number, "name"), "a transformer beside the predictor gets no model")


def _component(
    at: Place, component: Mapping[str, Any], metadata: Mapping[str, Any], mode: str
) -> Iterator[Said]:
    least, most = component.get("minReplicas"), component.get("maxReplicas")
    for name, number in (("minReplicas", least), ("maxReplicas", most)):
        if number is not None and number < 0:
            yield Said((*at, name), f"{number} is less than 0")
    if least is not None and most and least > most:
        yield Said((*at, "minReplicas"), f"{least} is more than maxReplicas, {most}")
    if (component.get("containerConcurrency") or 0) < 0:
        yield Said((*at, "containerConcurrency"), "is less than 0; 0 means no limit")
    yield from seconds((*at, "timeout"), component.get("timeout"), mode)
    canary = component.get("canaryTrafficPercent")
    if canary is not None and not 0 <= canary <= 100:
        yield Said((*at, "canaryTrafficPercent"), f"{canary} is not a percentage from 0 to 100")
    logging = component.get("logger") or {}
    if logging.get("mode") not in (None, "all", "request", "response"):
        yield Said((*at, "logger", "mode"), f"{logging['mode']!r} is not all, request or response")
    yield from _scaling(at, component, metadata.get("annotations") or {}, mode)
    workers = component.get("workerSpec") or {}
    for name in ("pipelineParallelSize", "tensorParallelSize"):
        if workers.get(name) is not None and workers[name] < 1:
            yield Said((*at, "workerSpec", name), f"{workers[name]} is less than 1")


def seconds(at: Place, said: int | None, mode: str) -> Iterator[Said]:
    """What is wrong with the seconds that an answer may take; a gateway of ours would take no more at all."""
    if said is not None and said < 0:
        yield Said(at, f"{said} is less than 0; 0 means what is usual")
    elif mode == "local" and said is not None and said > _LONGEST_ANSWER:
        yield Said(at, f"{said} s is more than a day, {_LONGEST_ANSWER} s, the longest answer here")


def _scaling(
    at: Place, component: Mapping[str, Any], annotations: Mapping[str, Any], mode: str
) -> Iterator[Said]:
    metrics: tuple[str, ...] = (*_KPA_METRICS, *_HPA_METRICS)
    if mode == "Knative":
        by_hpa = str(annotations.get(_KNATIVES_CLASS, "")).startswith("hpa.")
        metrics = _HPA_METRICS if by_hpa else _KPA_METRICS
    metric = component.get("scaleMetric")
    if metric is not None and metric not in metrics:
        yield Said((*at, "scaleMetric"), f"{metric!r} does not scale here; known: {', '.join(metrics)}")
    target = component.get("scaleTarget")
    if target is None:
        return
    if target < 1:
        yield Said((*at, "scaleTarget"), f"{target} is less than 1")
    elif (metric or metrics[0]) == "cpu" and target > 100:
        yield Said((*at, "scaleTarget"), f"{target} is not a percentage from 1 to 100")


def _canaries(spec: Mapping[str, Any], metadata: Mapping[str, Any], mode: str) -> Iterator[Said]:
    canaries = spec.get("canary") or []
    if canaries and mode == "Knative":
        hint = "use spec.predictor.canaryTrafficPercent"
        yield Said(("spec", "canary"), f"is for KServe's Standard mode; {hint}")
        return
    seen = {(spec["predictor"]).get("name")}
    for number, canary in enumerate(canaries):
        at = ("spec", "canary", number)
        predictor = canary.get("predictor") or {}
        name = predictor.get("name")
        if not name:
            yield Said((*at, "predictor", "name"), "is missing: canaries are told apart by it")
        elif name in seen:
            yield Said((*at, "predictor", "name"), f"{name!r} stands there twice")
        seen.add(name)
        yield from _implementation((*at, "predictor"), predictor)
        yield from _component((*at, "predictor"), predictor, metadata, mode)
        for refused in _NOT_IN_CANARIES:
            if predictor.get(refused) is not None:
                yield Said((*at, "predictor", refused), "is not for canaries: their replicas are fixed")
        percent = canary.get("trafficPercent")
        if percent is not None and not 0 <= percent <= 100:
            yield Said((*at, "trafficPercent"), f"{percent} is not a percentage from 0 to 100")
    total = sum(canary.get("trafficPercent") or 0 for canary in canaries)
    if total > 100:
        yield Said(("spec", "canary"), f"their trafficPercent is {total} together, more than 100")
