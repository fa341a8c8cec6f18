"""What runs in the cluster; every check is skipped where none answers."""

from __future__ import annotations

import difflib
import http.client
import re
from collections.abc import Iterable, Mapping
from typing import Any

from modelyard.kube.explain import waits_for
from modelyard_sandbox.doctor.facts import Facts
from modelyard_sandbox.doctor.findings import Absent, Answer, check, error, ok, warning
from modelyard_sandbox.images import present
from modelyard_sandbox.lock import Lock
from modelyard_sandbox.oci import normal

#: Kubernetes' limit for the annotations of one object, and when one comes near to it.
_ANNOTATIONS, _MANY = 262_144, 200_000
_S3 = "serving.kserve.io/s3-"
_S3_KEYS = frozenset(
    f"{_S3}{name}"
    for name in (
        "endpoint",
        "usehttps",
        "region",
        "verifyssl",
        "usevirtualbucket",
        "useaccelerate",
        "useanoncredential",
        "cabundle",
        "cabundle-configmap",
    )
)
_NO_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})


@check("api", "the API server")
def api(facts: Facts) -> Answer:
    """The node runs, but nobody answers."""
    cluster = facts.cluster.connect()
    if not facts.cluster.answers:
        return error(
            f"the node runs, but {cluster.address} does not say that it is ready",
            "wait a minute after a start; else: modelyard sandbox stop, then start",
        )
    return ok(f"{cluster.address} is ready, Kubernetes {cluster.version()}")


@check("components", "components")
def components(facts: Facts) -> Answer:
    """What `sandbox status` says of them."""
    found = facts.cluster.status(facts.offered, facts.docker.engine)
    said = {part.name: f"{part.name} is {part.state}: {part.reason}" for part in found.components}
    broken = [part for part in found.components if part.state in ("failed", "degraded")]
    if broken:
        fix = f"modelyard sandbox logs {broken[0].name}, then modelyard sandbox up"
        return error("; ".join(said[part.name] for part in broken), fix)
    starting = [part.name for part in found.components if part.state == "installing"]
    if starting or found.message:
        return warning(
            "; ".join([*(said[name] for name in starting), found.message]).strip("; "), "modelyard sandbox up"
        )
    return ok(", ".join(part.name for part in found.components) + " are ready")


@check("image-pulls", "images that pods wait for")
def image_pulls(facts: Facts) -> Answer:
    """Offline nothing can be pulled; references by digest are pulled even where the image is there."""
    waiting = {}
    for pod in facts.cluster.pods:
        for status in _statuses(pod):
            reason = ((status.get("state") or {}).get("waiting") or {}).get("reason")
            if reason in _NO_IMAGE:
                waiting[_name(pod)] = f"{status.get('image')} ({reason})"
    if not waiting:
        return ok(f"none of {len(facts.cluster.pods)} pods waits for one")
    by_digest = any("@sha256:" in image for image in waiting.values())
    said = "; ".join(f"{pod} waits for {image}" for pod, image in list(waiting.items())[:5])
    return error(
        said + ("; what is named by digest alone can't come from a bundle" if by_digest else ""),
        "modelyard sandbox up loads what the sandbox knows; name and load your own images by tag",
    )


@check("node-images", "images in the node")
def node_images(facts: Facts) -> Answer:
    """Loading can lose some: what runs now would not start again."""
    if facts.docker.node_state != "running":
        raise Absent(f"the node is {facts.docker.node_state}")
    needed = {normal(image) for pod in facts.cluster.pods for image in _images(pod)}
    there = {normal(name) for name in present(facts.docker.engine.container(facts.folder.node_name))}
    digests = {name.partition("@")[2] for name in there if "@" in name}
    missing = sorted(
        image for image in needed if image not in there and image.partition("@")[2] not in digests - {""}
    )
    store = "containerd" if "containerd" in str(facts.docker.info.get("DriverStatus")) else "Docker's own"
    if missing:
        return warning(
            f"the node lacks {', '.join(missing[:5])} (Docker's images are in {store} store)",
            "modelyard sandbox up loads them (not `kind load`, which loses digests)",
        )
    return ok(f"all {len(needed)} that pods run are in the node (Docker's are in {store} store)")


@check("webhooks", "webhooks")
def webhooks(facts: Facts) -> Answer:
    """One that nobody answers lets nothing of its kind be made: no endpoints available."""
    group = "admissionregistration.k8s.io/v1"
    wanted: dict[tuple[str, str], str] = {}
    for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        for found in facts.cluster.find(group, kind):
            for hook in found.get("webhooks") or []:
                if service := (hook.get("clientConfig") or {}).get("service"):
                    wanted[service["namespace"], service["name"]] = found["metadata"]["name"]
    ready = set()
    for part in facts.cluster.find("discovery.k8s.io/v1", "EndpointSlice"):
        service_name = (part["metadata"].get("labels") or {}).get("kubernetes.io/service-name", "")
        if any(
            (one.get("conditions") or {}).get("ready") is not False for one in part.get("endpoints") or []
        ):
            ready.add((part["metadata"]["namespace"], service_name))
    silent = {service: name for service, name in wanted.items() if service not in ready}
    if silent:
        said = "; ".join(f"{name}: nobody answers for {space}/{at}" for (space, at), name in silent.items())
        return error(said, "modelyard sandbox up; it waits until webhooks take what they are made for")
    return ok(f"{len(wanted)} services, each with somebody who answers")


@check("definitions", "definitions of kinds")
def definitions(facts: Facts) -> Answer:
    """A definition that is not established yet: no matches for kind."""
    known = _definitions(facts)
    waiting = [found["metadata"]["name"] for found in known if not _is_true(found, "Established")]
    if waiting:
        return error(f"not established: {', '.join(waiting)}", "modelyard sandbox up")
    return ok(f"all {len(known)} are established")


@check("annotations", "annotations of definitions")
def copies(facts: Facts) -> Answer:
    """`kubectl apply` keeps a copy in an annotation, which has a limit; we apply on the server's side."""
    sizes = {
        found["metadata"]["name"]: sum(
            len(key) + len(value) for key, value in (found["metadata"].get("annotations") or {}).items()
        )
        for found in _definitions(facts)
    }
    name = max(sizes, key=lambda one: sizes[one], default="")
    if sizes.get(name, 0) > _MANY:
        return warning(
            f"{name} has {sizes[name]} bytes of annotations; {_ANNOTATIONS} are the limit",
            f"kubectl annotate crd {name} kubectl.kubernetes.io/last-applied-configuration-, and apply with "
            "--server-side",
        )
    return ok(f"{sizes.get(name, 0)} bytes at most; {_ANNOTATIONS} are the limit")


@check("helm", "Helm in the cluster")
def helm(facts: Facts) -> Answer:
    """A release that hangs: another operation is in progress."""
    found = facts.cluster.find("v1", "Secret", labels="owner=helm", only_metadata=True)
    labels = [one["metadata"].get("labels") or {} for one in found]
    hanging = sorted(
        {one.get("name", "") for one in labels if str(one.get("status", "")).startswith("pending")}
    )
    if hanging:
        return warning(
            f"releases of Helm that hang: {', '.join(hanging)}",
            f"helm rollback {hanging[0]}; the sandbox itself uses no Helm",
        )
    return ok(f"{len({one.get('name') for one in labels})} releases of Helm, none hangs")


@check("namespaces", "namespaces that end")
def namespaces(facts: Facts) -> Answer:
    """Something in them waits for a webhook, an API or a finalizer that is gone."""
    for found in facts.cluster.find("v1", "Namespace"):
        if found.get("status", {}).get("phase") == "Terminating":
            why = [
                " ".join(str(c.get("message", "")).split())
                for c in found["status"].get("conditions") or []
                if c.get("status") == "True"
            ]
            return error(
                f"{found['metadata']['name']} does not end: {'; '.join(why)[:300] or 'it says nothing yet'}",
                "remove the finalizers that are named, or make the node anew (data stays): modelyard sandbox "
                "down, then up",
            )
    return ok("none is ending")


@check("tag-resolving", "Knative without registries")
def tag_resolving(facts: Facts) -> Answer:
    """Knative looks tags up in their registry for each revision: offline nothing would start."""
    found = [
        one
        for one in facts.cluster.find("v1", "ConfigMap", namespace="knative-serving")
        if one["metadata"]["name"] == "config-deployment"
    ]
    if not found:
        raise Absent("Knative is not part of this sandbox")
    for revision in facts.cluster.find("serving.knative.dev/v1", "Revision"):
        for condition in revision.get("status", {}).get("conditions") or []:
            said = str(condition.get("message", ""))
            if condition.get("status") == "False" and "resolve image to digest" in said:
                return error(
                    f"{_name(revision)}: {said[:300]}",
                    "take an image that the node has, or its registry into registries-skipping-tag-resolving",
                )
    skipped = set(
        re.split(r"[\s,]+", (found[0].get("data") or {}).get("registries-skipping-tag-resolving", ""))
    )
    references = list(Lock.load().images)
    for runtime in facts.cluster.find("serving.kserve.io/v1alpha1", "ClusterServingRuntime"):
        references += [c["image"] for c in runtime["spec"].get("containers") or [] if "image" in c]
    missing = sorted({normal(one).partition("/")[0] for one in references} - skipped)
    if missing:
        return warning(
            f"config-deployment in knative-serving has tags looked up at {', '.join(missing)}",
            "modelyard sandbox up",
        )
    return ok("config-deployment in knative-serving skips every registry of the stack")


@check("mlflow-hosts", "host names of MLflow")
def mlflow_hosts(facts: Facts) -> Answer:
    """MLflow refuses names that it was not told: Invalid Host header."""
    port = facts.sandbox.ports.get("mlflow")
    if port is None or facts.docker.node_state != "running":
        raise Absent("MLflow does not run")
    names = (f"127.0.0.1:{port}", f"localhost:{port}", "mlflow.modelyard.svc:5000")
    answers = {name: _asked(port, name) for name in names}
    if not any(answers.values()):
        raise Absent(f"nobody answers at 127.0.0.1:{port}")
    refused = [name for name, status in answers.items() if status in (400, 403)]
    if refused:
        return error(
            f"MLflow answers {answers[refused[0]]} to the host {', '.join(refused)}", "modelyard sandbox up"
        )
    return ok(f"MLflow takes {', '.join(names)}")


@check("mlflow-drivers", "packages in MLflow's image")
def mlflow_drivers(facts: Facts) -> Answer:
    """Upstream's image lacks the drivers of PostgreSQL and S3."""
    pods = [p for p in facts.cluster.pods if (p["metadata"].get("labels") or {}).get("app") == "mlflow"]
    if not pods:
        raise Absent("MLflow does not run")
    for pod in pods:
        if not waits_for(pod):
            continue
        place, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        for previous in (False, True):
            lines = facts.cluster.api.logs(place, name, previous=previous)
            found = next(
                (re.search(r"No module named '([\w.]+)'", line) for line in lines if "No module" in line),
                None,
            )
            if found:
                return error(
                    f"{_name(pod)}: its image lacks {found[1]}",
                    "take the image that the sandbox brings: modelyard sandbox up",
                )
        return ok(f"{_name(pod)} misses no package; it waits for {waits_for(pod)}")
    return ok(f"{_name(pods[0])} runs")


@check("s3-annotations", "KServe's S3 settings")
def s3_annotations(facts: Facts) -> Answer:
    """A key that is misspelled is ignored without a word, and the default taken."""
    count = 0
    for kind in ("Secret", "ServiceAccount"):
        for found in facts.cluster.find("v1", kind, only_metadata=True):
            for key in found["metadata"].get("annotations") or {}:
                if not re.match(r"serving\.kserve\.[a-z]+/s3|serving\.kubeflow\.org/s3", key):
                    continue
                count += 1
                if key not in _S3_KEYS:
                    near = difflib.get_close_matches(key, _S3_KEYS, n=1)
                    meant = near[0] if near else f"one of {', '.join(sorted(_S3_KEYS))}"
                    return error(
                        f"{kind} {_name(found)}: KServe ignores the annotation {key}", f"it is {meant}"
                    )
    return ok(f"{count} annotations, each of which KServe knows")


def _definitions(facts: Facts) -> list[dict[str, Any]]:
    return facts.cluster.find("apiextensions.k8s.io/v1", "CustomResourceDefinition")


def _is_true(found: Mapping[str, Any], condition: str) -> bool:
    conditions = found.get("status", {}).get("conditions") or []
    return any(c.get("type") == condition and c.get("status") == "True" for c in conditions)


def _statuses(pod: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _images(pod: Mapping[str, Any]) -> list[str]:
    spec = pod.get("spec", {})
    return [c["image"] for c in (*(spec.get("initContainers") or []), *(spec.get("containers") or []))]


def _name(found: Mapping[str, Any]) -> str:
    return f"{found['metadata'].get('namespace', '')}/{found['metadata']['name']}".lstrip("/")


def _asked(port: int, host: str) -> int:
    """The status of MLflow's /health; 0: nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health", headers={"Host": host})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


CHECKS = (
    api,
    components,
    image_pulls,
    node_images,
    webhooks,
    definitions,
    copies,
    helm,
    namespaces,
    tag_resolving,
    mlflow_hosts,
    mlflow_drivers,
    s3_annotations,
)
