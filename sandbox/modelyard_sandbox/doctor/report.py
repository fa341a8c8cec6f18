"""One file that tells others everything about a sandbox but its secrets."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from modelyard.console import plain
from modelyard.errors import ModelyardError
from modelyard.records import now
from modelyard.state import write_json
from modelyard_sandbox.doctor.facts import Facts
from modelyard_sandbox.doctor.findings import Absent, Finding

#: How many of the last events.
_EVENTS = 300
_PACKAGES = (
    "modelyard",
    "docker",
    "kubernetes",
    "cryptography",
    "pyyaml",
    "mlflow",
    "dvc",
    "boto3",
    "kserve",
)
_ENVIRONMENT = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "KUBECONFIG",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "TMPDIR",
    "MLFLOW_TRACKING_URI",
    "AWS_ENDPOINT_URL",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
)
_INFO = (
    "ServerVersion",
    "OperatingSystem",
    "OSType",
    "Architecture",
    "KernelVersion",
    "NCPU",
    "MemTotal",
    "DockerRootDir",
    "Driver",
    "DriverStatus",
    "CgroupDriver",
    "CgroupVersion",
    "SecurityOptions",
    "DefaultRuntime",
    "Runtimes",
    "MemoryLimit",
    "CpuCfsQuota",
    "PidsLimit",
    "IPv4Forwarding",
    "LiveRestoreEnabled",
    "SystemTime",
    "Containers",
    "ContainersRunning",
    "Images",
    "Warnings",
)


def write(path: Path, facts: Facts, findings: Iterable[Finding]) -> None:
    """Write facts, findings, the last events and versions as JSON, readable by its owner alone.

    Raises:
        EnvironmentFault: it can't be written.
    """
    write_json(path, facts.redactor.value(plain(gathered(facts, findings))), mode=0o600)


def gathered(facts: Facts, findings: Iterable[Finding]) -> dict[str, Any]:
    """Everything that the report holds, secrets still among it."""
    return {
        "written": now(),
        "sandbox": facts.folder.name,
        "findings": [one.to_dict() for one in findings],
        "versions": {
            "python": sys.version.split()[0],
            **{name: version for name in _PACKAGES if (version := _version(name))},
            "kind": _or_why(lambda: facts.machine.said_by("kind", "version").strip()),
            "docker": _or_why(lambda: facts.docker.info.get("ServerVersion")),
            "kubernetes": _or_why(lambda: facts.cluster.api.version()),
        },
        "machine": {
            "platform": platform.platform(),
            "system": facts.machine.system,
            "memory_free": _or_why(lambda: facts.machine.memory_free),
            "proxies": facts.machine.proxies,
            "environment": {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        },
        "docker": {
            "address": facts.docker.address,
            "context": facts.docker.context,
            "contexts": facts.docker.contexts,
            "info": _or_why(lambda: {key: facts.docker.info.get(key) for key in _INFO}),
            "containers": _or_why(lambda: [_container(one) for one in facts.docker.containers]),
            "node": _or_why(lambda: _node(facts)),
        },
        "folder": {
            "path": facts.folder.path,
            "state": _or_why(lambda: facts.sandbox.state),
            "server": _or_why(lambda: facts.sandbox.kubeconfig_value("server")),
        },
        "cluster": _or_why(lambda: facts.cluster.status(facts.offered, facts.docker.engine)),
        "events": facts.sandbox.events[-_EVENTS:],
    }


def _container(found: dict[str, Any]) -> dict[str, Any]:
    return {key.lower(): found.get(key) for key in ("Names", "Image", "State", "Status", "Ports")}


def _node(facts: Facts) -> dict[str, Any]:
    node = facts.docker.node
    return {
        "state": facts.docker.node_state,
        "container": node["State"],
        "image": node["Config"].get("Image"),
        "mounts": [(mount.get("Source"), mount.get("Destination")) for mount in node.get("Mounts") or []],
        "networks": node["NetworkSettings"].get("Networks"),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _or_why(read: Callable[[], Any]) -> Any:
    """What is read, or why it can't be."""
    try:
        return read()
    except (Absent, ModelyardError) as fault:
        return f"({fault})"
