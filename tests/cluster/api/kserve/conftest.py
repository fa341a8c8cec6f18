"""KServe and Knative as far as a project sees them: their definitions, and controllers that only pretend."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelyard.errors import ModelyardError
from modelyard.kube import ApiFault, Cluster, Ref
from modelyard.records import ModelVersion
from modelyard.targets import Address, Target
from modelyard.testing.contexts import make_context
from modelyard_kserve.cluster.provider import ClusterServer
from modelyard_kserve.config import KserveSettings

SERVICES = ("serving.kserve.io/v1beta1", "InferenceService")
REVISIONS = ("serving.knative.dev/v1", "Revision")
_WANTED = {
    "kserve-v0.20.0-crds.yaml": ("inferenceservices", "clusterservingruntimes", "clusterstoragecontainers"),
    "knative-serving-v1.21.yaml": ("revisions",),
}


@pytest.fixture(scope="package")
def kserve_cluster(light_cluster: Cluster, manifests: Path) -> Cluster:
    """The cluster with the definitions of KServe's and Knative's kinds."""
    kind = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    applied = []
    for file, wanted in _WANTED.items():
        for found in yaml.load_all((manifests / file).read_text(), yaml.CSafeLoader):
            if found and found["kind"] == kind[1] and found["spec"]["names"]["plural"] in wanted:
                applied.append(Ref(*kind, "", light_cluster.apply(found)["metadata"]["name"]))
    deadline = time.monotonic() + 60
    while not (all(_is_established(light_cluster.get(ref)) for ref in applied) and _serves(light_cluster)):
        assert time.monotonic() < deadline, "the definitions are not established"
        time.sleep(0.1)
    return light_cluster


def _is_established(definition: Mapping[str, Any] | None) -> bool:
    conditions = ((definition or {}).get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _serves(cluster: Cluster) -> bool:
    """For a moment after a definition is established its objects can't be listed."""
    try:
        cluster.find(*SERVICES)
        cluster.find(*REVISIONS)
    except ModelyardError:
        return False
    return True


@dataclass
class Controllers:
    """What KServe and Knative do with the InferenceServices of a namespace, as far as we look at it.

    `outcome` says by version how its pods end: empty means well, anything else is the sentence with which
    the model server ends. The split follows KServe's Go code (createKnativeService, PropagateStatus).
    """

    cluster: Cluster
    namespace: str
    outcome: dict[str, str] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    faults: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Follow the InferenceServices until stopped."""
        while not self.stopped.wait(0.1):
            try:
                for service in self.cluster.find(*SERVICES, namespace=self.namespace):
                    self._reconcile(service)
            except ApiFault as fault:
                if fault.status not in (404, 409):  # deleted, or changed, meanwhile
                    self.faults.append(fault.message)
            except Exception:
                self.faults.append(traceback.format_exc())
        self.ended.set()

    def revisions(self, name: str) -> list[dict[str, Any]]:
        """The Revisions of an InferenceService, oldest first."""
        label = f"serving.kserve.io/inferenceservice={name}"
        found = self.cluster.find(*REVISIONS, namespace=self.namespace, labels=label)
        return sorted(found, key=lambda r: str(r["metadata"]["name"]))

    def _reconcile(self, service: Mapping[str, Any]) -> None:
        metadata, predictor = service["metadata"], service["spec"]["predictor"]
        name = metadata["name"]
        template = {k: v for k, v in metadata["annotations"].items() if not k.startswith("kubectl.")}
        revisions = self.revisions(name)
        if not revisions or _without_noise(revisions[-1]) != template:
            self._make(name, metadata["labels"], template, len(revisions) + 1)
            revisions = self.revisions(name)
        ready = [r["metadata"]["name"] for r in revisions if _ready(r)]
        latest = ready[-1] if ready else ""
        component = dict(((service.get("status") or {}).get("components") or {}).get("predictor") or {})
        rolled, canary = component.get("latestRolledoutRevision", ""), predictor.get("canaryTrafficPercent")
        traffic = [{"latestRevision": True, "revisionName": latest, "percent": 100}]
        if canary is not None and rolled:
            traffic[0]["percent"] = canary
            if canary < 100:
                rest = {"revisionName": rolled, "latestRevision": False, "percent": 100 - canary}
                traffic.append({**rest, "tag": "prev"})
        if latest and rolled != latest and traffic[0]["percent"] == 100:
            component |= {"previousRolledoutRevision": rolled, "latestRolledoutRevision": latest}
        elif latest and rolled == latest and len(traffic) > 1 and component.get("previousRolledoutRevision"):
            component["latestRolledoutRevision"] = component["previousRolledoutRevision"]
        newest = revisions[-1]["metadata"]["name"]
        component |= {"latestCreatedRevision": newest, "latestReadyRevision": latest, "traffic": traffic}
        component = {key: value for key, value in component.items() if value}
        if not latest:
            component.pop("traffic", None)
        good = latest == newest
        status = {
            "deploymentMode": "Knative",
            "components": {"predictor": component},
            "modelStatus": {"transitionStatus": "UpToDate" if good else "InProgress"},
            "conditions": [
                _condition("PredictorReady", good),
                _condition("PredictorRouteReady", bool(latest)),
                _condition("RoutesReady", bool(latest)),
                _condition("Ready", good),
            ],
        }
        if latest:
            status["url"] = f"http://{name}-predictor.{self.namespace}.modelyard.localhost"
        if _known(service.get("status"), status):
            return
        ref = Ref(*SERVICES, self.namespace, name)
        self.cluster.patch(ref, {"status": status}, part="status")

    def _make(self, name: str, labels: Mapping[str, str], annotations: dict[str, str], number: int) -> None:
        revision = f"{name}-predictor-{number:05d}"
        said = self.outcome.get(annotations["modelyard.dev/version"], "")
        marks = {**labels, "serving.kserve.io/inferenceservice": name, "component": "predictor"}
        own = {**marks, "serving.knative.dev/configurationGeneration": str(number)}
        metadata = {"name": revision, "namespace": self.namespace, "labels": own, "annotations": annotations}
        spec = {"containers": [{"image": "none"}]}
        self.cluster.create(
            {"apiVersion": REVISIONS[0], "kind": REVISIONS[1], "metadata": metadata, "spec": spec}
        )
        ref = Ref(*REVISIONS, self.namespace, revision)
        if said:
            self._make_crashed_pod(revision, {**marks, "serving.knative.dev/revision": revision}, said)
        ready = _condition("Ready", not said)
        self.cluster.patch(ref, {"status": {"conditions": [ready]}}, part="status")

    def _make_crashed_pod(self, revision: str, labels: Mapping[str, str], said: str) -> None:
        pod = f"{revision}-deployment-0"
        metadata = {"name": pod, "namespace": self.namespace, "labels": dict(labels)}
        spec = {"containers": [{"name": "kserve-container", "image": "none"}], "schedulerName": "nobody"}
        self.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        container = {
            "name": "kserve-container",
            "image": "none",
            "imageID": "",
            "ready": False,
            "restartCount": 1,
            "state": {"terminated": {"exitCode": 3, "reason": "Error", "message": said}},
        }
        status = {"phase": "Running", "containerStatuses": [container]}
        self.cluster.patch(Ref("v1", "Pod", self.namespace, pod), {"status": status}, part="status")


def _condition(kind: str, is_true: bool) -> dict[str, str]:
    return {"type": kind, "status": "True" if is_true else "Unknown"}


def _ready(revision: Mapping[str, Any]) -> bool:
    conditions = (revision.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _without_noise(revision: Mapping[str, Any]) -> dict[str, str]:
    return dict(revision["metadata"]["annotations"])


def _known(now: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    return now is not None and all(now.get(key) == value for key, value in wanted.items())


@pytest.fixture
def controllers(kserve_cluster: Cluster, namespace: str) -> Iterator[Controllers]:
    """The pretended controllers, at work on the test's namespace."""
    made = Controllers(kserve_cluster, namespace)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    yield made
    made.stopped.set()
    thread.join(20)
    assert not made.faults


@dataclass
class Shelf:
    """A registry of records alone: nothing can be fetched from it."""

    aliases: dict[str, str] = field(default_factory=dict)

    def find(self, uri: str) -> ModelVersion:
        """What `models:/NAME/VERSION` or `models:/NAME@ALIAS` means now."""
        rest = uri.removeprefix("models:/")
        name, at, alias = rest.partition("@")
        name, version = (name, self.aliases[alias]) if at else tuple(rest.rsplit("/", 1))
        return ModelVersion(
            name=name,
            version=version,
            uri=f"models:/m-{version}",
            created=datetime(2026, 1, 1, tzinfo=timezone.utc),
            digest=version * 64,
            lineage_id="ab" * 32,
        )


@pytest.fixture
def shelf() -> Shelf:
    """The project's registry."""
    return Shelf()


OpenServer = Callable[..., ClusterServer]


@pytest.fixture
def open_server(kserve_cluster: Cluster, namespace: str, shelf: Shelf, tmp_path: Path) -> OpenServer:
    """Opens the server of a project, whose target is the test's namespace."""
    addresses = {
        "gateway": Address(url="http://127.0.0.1:31080"),
        "s3": Address(
            url="http://127.0.0.1:1", inside="http://s3.modelyard.svc:7070", user="yard", password="geheim"
        ),
    }

    def opened(project: str = "late-flights") -> ClusterServer:
        target = Target(
            "team",
            namespace=namespace,
            kubeconfig=kserve_cluster.kubeconfig,
            find=lambda name: addresses[name],
        )
        folder = tmp_path / project
        folder.mkdir(exist_ok=True)
        context = replace(
            make_context(
                folder,
                provider="kserve",
                settings=KserveSettings(ready_timeout=60),
                event_sink=lambda: "http://monitor.modelyard.svc:8080/events/late-flights",
            ),
            project=project,
            target=target,
            find_model=shelf.find,
            address_of=lambda version: f"s3://mlflow/{version.name}/{version.version}",
        )
        return ClusterServer(context, target)

    return opened


WriteFile = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Writes an InferenceService file for a version of a model."""

    def written(name: str, uri: str, *, canary: int | None = None, **predictor: Any) -> Path:
        model = {"modelFormat": {"name": "mlflow"}, "storageUri": uri}
        whole = {"model": model, "logger": {"mode": "all", "metadataHeaders": ["x-event-time"]}, **predictor}
        if canary is not None:
            whole["canaryTrafficPercent"] = canary
        document = {
            "apiVersion": SERVICES[0],
            "kind": SERVICES[1],
            "metadata": {"name": name},
            "spec": {"predictor": whole},
        }
        file = tmp_path / f"{name}.yaml"
        file.write_text(json.dumps(document))
        return file

    return written
