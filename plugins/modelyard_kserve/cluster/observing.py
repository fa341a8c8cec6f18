"""InferenceServices with what KServe and Kubernetes made of them, at one moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from modelyard.errors import NotFoundError
from modelyard.kube import ApiFault, Cluster, Ref
from modelyard_kserve.cluster.manifests import API, KIND, OF_COMPONENT, OF_SERVICE, project_label
from modelyard_kserve.lint import Mode
from modelyard_kserve.own_annotations import PROJECT

_Object = dict[str, Any]
T = TypeVar("T")
#: KServe's words for its modes, old and new.
_MODES: Mapping[str, Mode] = {
    "Knative": "Knative",
    "Serverless": "Knative",
    "Standard": "Standard",
    "RawDeployment": "Standard",
}
_SETTINGS = Ref("v1", "ConfigMap", "kserve", "inferenceservice-config")


@dataclass(frozen=True)
class Seen:
    """One InferenceService.

    Attributes:
        service: the InferenceService.
        mode: how KServe deploys it.
        revisions: its predictor's Knative Revisions, in Standard mode ReplicaSets; newest first.
        pods: of all its components, as far as we may read them.
    """

    service: _Object
    mode: Mode
    revisions: tuple[_Object, ...] = ()
    pods: tuple[_Object, ...] = ()

    @property
    def name(self) -> str:
        """The InferenceService's name."""
        return str(self.service["metadata"]["name"])

    def pods_of(self, revision: Mapping[str, Any]) -> list[_Object]:
        """The pods of one of the revisions."""
        key = "serving.knative.dev/revision" if self.mode == "Knative" else "pod-template-hash"
        labels = revision["metadata"].get("labels") or {}
        wanted = revision["metadata"]["name"] if self.mode == "Knative" else labels.get(key)
        return [pod for pod in self.pods if (pod["metadata"].get("labels") or {}).get(key) == wanted]


class Observer:
    """Looks at the InferenceServices of a project.

    Args:
        cluster: the cluster.
        namespace: where they are.
        project: the project's name.
    """

    def __init__(self, cluster: Cluster, namespace: str, project: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._label = f"{PROJECT}={project_label(project)}"

    def names(self) -> list[str]:
        """The names of the project's InferenceServices, sorted."""
        found = self._cluster.find(
            API, KIND, namespace=self._namespace, labels=self._label, only_metadata=True
        )
        return sorted(service["metadata"]["name"] for service in found)

    def live(self, name: str) -> _Object | None:
        """An InferenceService of the namespace, whosever it is."""
        return self._cluster.get(Ref(API, KIND, self._namespace, name))

    def one(self, name: str) -> Seen | None:
        """One of the project's InferenceServices with everything around it, or None."""
        service = self.live(name)
        key, _, value = self._label.partition("=")
        if service is None or (service["metadata"].get("labels") or {}).get(key) != value:
            return None
        return self._seen(service, f"{OF_SERVICE}={name}")

    def all(self) -> list[Seen]:
        """All of them, sorted by name."""
        found = self._cluster.find(API, KIND, namespace=self._namespace, labels=self._label)
        found.sort(key=lambda service: str(service["metadata"]["name"]))
        return [self._seen(s, f"{OF_SERVICE}={s['metadata']['name']}") for s in found]

    def mode_of(self, service: Mapping[str, Any]) -> Mode:
        """How KServe deploys an InferenceService, or will: once made it keeps its mode."""
        live = service if "status" in service else self.live(str(service["metadata"]["name"])) or {}
        said = (live.get("status") or {}).get("deploymentMode") or (
            service["metadata"].get("annotations") or {}
        ).get("serving.kserve.io/deploymentMode")
        return _MODES.get(said or "", self._default_mode)

    @cached_property
    def _default_mode(self) -> Mode:
        """What the cluster's administrator chose; where we may not read it, Knative if it is there."""
        settings = _unless_forbidden(lambda: self._cluster.get(_SETTINGS), None)
        if settings is not None:
            deploy = json.loads((settings.get("data") or {}).get("deploy") or "{}")
            if (said := deploy.get("defaultDeploymentMode")) in _MODES:
                return _MODES[said]
        try:
            self._cluster.path(Ref("serving.knative.dev/v1", "Revision", self._namespace, "any"))
        except NotFoundError:
            return "Standard"
        return "Knative"

    def _seen(self, service: _Object, labels: str) -> Seen:
        mode = self.mode_of(service)
        kind = ("serving.knative.dev/v1", "Revision") if mode == "Knative" else ("apps/v1", "ReplicaSet")
        revisions = self._find(*kind, labels=f"{labels},{OF_COMPONENT}=predictor")
        revisions.sort(key=number_of, reverse=True)
        pods = self._find("v1", "Pod", labels=labels)
        return Seen(service=service, mode=mode, revisions=tuple(revisions), pods=tuple(pods))

    def _find(self, api_version: str, kind: str, *, labels: str) -> list[_Object]:
        return _unless_forbidden(
            lambda: self._cluster.find(api_version, kind, namespace=self._namespace, labels=labels), []
        )


def number_of(revision: Mapping[str, Any]) -> int:
    """Which one it is, counted from 1."""
    metadata = revision["metadata"]
    said = (metadata.get("labels") or {}).get("serving.knative.dev/configurationGeneration") or (
        metadata.get("annotations") or {}
    ).get("deployment.kubernetes.io/revision", "0")
    return int(said)


def condition(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """One of an object's conditions; empty: nobody said anything about it."""
    conditions: Iterable[Mapping[str, Any]] = (found.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == name), {})


def is_true(found: Mapping[str, Any], name: str) -> bool:
    """Whether a condition is met."""
    return condition(found, name).get("status") == "True"


def _unless_forbidden(read: Callable[[], T], otherwise: T) -> T:
    """What is read, or something else where we lack the right: it explains, but nothing depends on it."""
    try:
        return read()
    except ApiFault as fault:
        if fault.status == 403:
            return otherwise
        raise
