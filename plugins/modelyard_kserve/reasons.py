"""Why fields that clusters honour do nothing among the processes of one machine, and what does it here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from modelyard_kserve.documents import Place, Said

#: Knative's annotation: how long nobody may ask before a model with `minReplicas: 0` is ended.
WINDOW = "autoscaling.knative.dev/window"
_KNATIVES = "autoscaling.knative.dev/"
#: What scales on clusters -> the field that scales here.
_SCALED_BY = {
    f"{_KNATIVES}target": "scaleTarget",
    f"{_KNATIVES}target-utilization-percentage": "scaleTarget",
    f"{_KNATIVES}metric": "scaleMetric",
    f"{_KNATIVES}min-scale": "minReplicas",
    f"{_KNATIVES}minScale": "minReplicas",
    f"{_KNATIVES}max-scale": "maxReplicas",
    f"{_KNATIVES}maxScale": "maxReplicas",
    "serving.kserve.io/targetUtilizationPercentage": "scaleTarget",
}
_PODS = "it is about pods of a cluster"
_NO_IMAGE = "no image is run here"
_LOADED = "a replica is asked once its model is loaded, and started again when it hangs or ends"
_WHY = {
    **dict.fromkeys(("image", "imagePullPolicy", "imagePullSecrets", "runtimeVersion"), _NO_IMAGE),
    **dict.fromkeys(("readinessProbe", "livenessProbe", "startupProbe"), _LOADED),
    **dict.fromkeys(("volumeMounts", "volumeDevices", "securityContext"), "it is about containers"),
    "args": "they are for the server in KServe's image; of them only --model_name is read",
    "autoScaling": "minReplicas, maxReplicas, scaleMetric and scaleTarget scale here",
    "command": "the model is served by this project's own server",
    "containers": "what stands beside a model is not started",
    "envFrom": "only a cluster knows these values",
    "initContainers": _PODS,
    "ports": "HTTP and gRPC come through the one port of the project's endpoints",
    "workingDir": "the command runs in the project's folder",
    "scaleMetricType": "scaleTarget is a percentage for cpu and memory",
}
#: What a logger says to the prediction log here.
_LOGGED = ("mode", "url", "metadataHeaders")


def ignored(at: Place) -> Said:
    """About a field that does nothing here.

    Example:
        >>> ignored(("spec", "predictor", "nodeSelector")).message
        'has no effect on local processes: it is about pods of a cluster'
    """
    return Said(at, f"has no effect on local processes: {_WHY.get(str(at[-1]), _PODS)}", "warning")


def scaling(metadata: Mapping[str, Any]) -> Iterator[Said]:
    """About annotations and labels that change how a service is scaled or reached on a cluster."""
    for name in metadata.get("annotations") or {}:
        if name in _SCALED_BY or (name.startswith(_KNATIVES) and name != WINDOW):
            field = _SCALED_BY.get(name)
            message = "has no effect on local processes: fields of the component scale here"
            yield Said(("metadata", "annotations", name), message, "warning", f"use {field}" if field else "")


def logger(at: Place, said: Mapping[str, Any]) -> Iterator[Said]:
    """About a logger, whose predictions go into the project's prediction log."""
    for name in said:
        if name not in _LOGGED:
            message = "has no effect on local processes: the prediction log keeps what is logged"
            yield Said((*at, name), message, "warning")
    url = said.get("url") or ""
    hint = "leave it out: then the project's prediction log gets everything"
    if url and not url.startswith(("http://", "https://")):
        message = f"{url.partition('://')[0]!r:.40} is no http or https: nothing can be sent there from here"
        yield Said((*at, "url"), message, "warning", hint)
    elif re.match(r"https?://[^/:]+\.svc(\.cluster\.local)?(:\d+)?(/|$)", url):
        yield Said((*at, "url"), "is an address of a cluster, which is not here", "warning", hint)


def runtime(at: Place, name: str, format_: str, *, known: bool) -> Said:
    """About the (Cluster)ServingRuntime that a model names, which runs nothing here.

    Args:
        at: where it is named.
        name, format_: of the runtime, and of the model.
        known: its document is there, without a command of this machine.
    """
    ours = f"'{format_}' is served by this project's own server"
    if known:
        return Said(at, f"'{name:.60}' has no command of this machine: {ours}", "warning")
    return Said(at, f"'{name:.60}' is not known here: {ours}", "info")


def beside(at: Place, containers: Collection[Mapping[str, Any]], main: int | None) -> Iterator[Said]:
    """About containers beside the one that answers.

    Args:
        at: where the component lies.
        containers: those of the component.
        main: the one that answers; None: a model does.
    """
    for number, container in enumerate(containers):
        place = (*at, "containers", number)
        if number == main:
            continue
        if container.get("name") == "transformer-container":
            message = "would change answers and is not started beside the predictor by local processes"
            yield Said(place, message, hint="write it as spec.transformer.containers")
        else:
            yield Said(place, "is not started here: only the container that answers is", "warning")


#: Kinds of KServe's that are not for the processes of one machine: why, and what is.
_KINDS = {
    "TrainedModel": (
        "a model loaded into another service's server",
        "write an InferenceService for it: it shares its imports with the others",
    ),
    "LLMInferenceService": (
        "a large language model on several pods of a cluster",
        "serve a small one: kind InferenceService, modelFormat {name: huggingface}",
    ),
    "StorageContainer": (
        "what fetches models into pods; here kserve-storage does, by the environment's login",
        "",
    ),
    "ModelCache": ("models on the disks of a cluster's nodes; here every fetched model is kept", ""),
    "ModelNamespaceCache": ("models on the disks of a cluster's nodes; here every fetched model is kept", ""),
    "NodeGroup": ("disks of a cluster's nodes", ""),
    "KernelCache": ("kernels on the disks of a cluster's nodes", ""),
}


def kind(name: str, *, here: bool) -> Said:
    """About a document of KServe's that is no InferenceService and no InferenceGraph.

    Args:
        name: its kind.
        here: it would be for the processes of this machine.
    """
    if not here:
        return Said(("kind",), f"'{name}' is for KServe on a cluster and not looked at here", "info")
    what, hint = next((said for end, said in _KINDS.items() if name.endswith(end)), ("for a cluster", ""))
    return Said(("kind",), f"'{name}' does nothing for local processes: it is {what}", "warning", hint)
