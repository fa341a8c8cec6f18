"""What a person may do on a cluster: the rights that a project needs, as a Role and as checks.

Nobody needs to be an administrator: a namespace, and this Role in it, are enough.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args
from urllib.parse import urlsplit

from modelyard.errors import ModelyardError, NotFoundError
from modelyard.kube.api import Cluster
from modelyard.records import Check
from modelyard.targets import ServiceName, Target

ROLE = "modelyard"
_SECONDS = 3.0


@dataclass(frozen=True)
class Right:
    """What must be allowed with one kind of object.

    Attributes:
        group: its API group; empty: Kubernetes' own core.
        kind: its plural, with a subresource after `/`.
        verbs: what must be allowed.
        purpose: what does not work without it.
    """

    group: str
    kind: str
    verbs: tuple[str, ...]
    purpose: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


_READ = ("get", "list")
#: In the namespace where the InferenceServices are.
RIGHTS: tuple[Right, ...] = (
    Right(
        "serving.kserve.io",
        "inferenceservices",
        ("get", "list", "watch", "create", "patch", "delete"),
        "to deploy models",
    ),
    Right("serving.knative.dev", "revisions", _READ, "to see revisions and their traffic"),
    Right("apps", "replicasets", _READ, "to see revisions in KServe's Standard mode"),
    Right("", "pods", _READ, "to say why a model does not start"),
    Right("", "pods/log", ("get",), "to show logs"),
    Right("", "events", ("list",), "to say why a model does not start"),
    Right("", "services", ("get",), "to reach models and services from this machine"),
    Right("discovery.k8s.io", "endpointslices", ("list",), "to reach models and services from this machine"),
    Right("", "pods/portforward", ("get", "create"), "to reach models and services from this machine"),
    Right("", "secrets", ("get", "create", "patch"), "to let models be fetched from S3"),
    Right("", "serviceaccounts", ("get", "create", "patch"), "to let models be fetched from S3"),
)


def role(namespace: str, rights: Iterable[Right] = RIGHTS) -> str:
    """The Role that holds the rights, as YAML for the cluster's administrator.

    Example:
        >>> print(role("team", [Right("apps", "replicasets", ("get",), "to see revisions")]))
        apiVersion: rbac.authorization.k8s.io/v1
        kind: Role
        metadata:
          name: modelyard
          namespace: team
        rules:
          # to see revisions
          - apiGroups: ["apps"]
            resources: ["replicasets"]
            verbs: ["get"]
        <BLANKLINE>
    """
    lines = ["apiVersion: rbac.authorization.k8s.io/v1", "kind: Role", "metadata:"]
    lines += [f"  name: {ROLE}", f"  namespace: {namespace}", "rules:"]
    for right in rights:
        verbs = ", ".join(f'"{verb}"' for verb in right.verbs)
        lines += [f"  # {right.purpose}", f'  - apiGroups: ["{right.group}"]']
        lines += [f'    resources: ["{right.kind}"]', f"    verbs: [{verbs}]"]
    return "\n".join(lines) + "\n"


def missing(cluster: Cluster, namespace: str) -> list[Right]:
    """The rights that we lack in a namespace, each with the verbs that are not allowed.

    Raises:
        EnvironmentFault: the API server does not answer.
    """
    found = []
    for right in RIGHTS:
        kind, _, part = right.kind.partition("/")
        lacking = tuple(
            verb
            for verb in right.verbs
            if not cluster.may(verb, kind, right.group, namespace=namespace, part=part)
        )
        if lacking:
            found.append(Right(right.group, right.kind, lacking, right.purpose))
    return found


def examine_target(target: Target) -> Iterator[Check]:
    """The checks of `modelyard doctor --target NAME`: API server, rights, and the services' addresses."""
    try:
        version = target.cluster.version()
        lacking = missing(target.cluster, target.namespace)
    except ModelyardError as fault:
        yield Check(name="cluster", status="failed", message=fault.message, hint=fault.hint)
        return
    yield Check(name="cluster", status="ok", message=f"{target.cluster.address} answers, {version}")
    if not lacking:
        message = f"all {sum(len(right.verbs) for right in RIGHTS)} that are needed in '{target.namespace}'"
        yield Check(name="rights", status="ok", message=message)
    for right in lacking:
        yield Check(
            name=f"right {right}",
            status="failed",
            message=f"you may not {', '.join(right.verbs)} {right} in '{target.namespace}': it is needed "
            f"{right.purpose}",
            hint="ask the cluster's administrator for the Role that the documentation shows",
        )
    for service in get_args(ServiceName):
        yield _service(target, service)


def _service(target: Target, service: ServiceName) -> Check:
    try:
        address = target.address(service)
    except NotFoundError as fault:
        return Check(name=service, status="warning", message=fault.message, hint=fault.hint)
    except ModelyardError as fault:
        return Check(name=service, status="failed", message=fault.message, hint=fault.hint)
    parts = urlsplit(address.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", port), timeout=_SECONDS).close()
    except OSError as fault:
        return Check(
            name=service,
            status="failed",
            message=f"{address.url} can't be reached: {fault}",
            hint=f"correct [targets.{target.name}.services.{service}] in modelyard.toml",
        )
    return Check(name=service, status="ok", message=f"listens on {address.url}")
