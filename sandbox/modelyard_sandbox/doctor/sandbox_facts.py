"""What the sandbox's own folder tells, and its cluster where one runs."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from modelyard.components import Component
from modelyard.errors import CorruptStateError, ModelyardError, NotFoundError
from modelyard.kube import Cluster
from modelyard_sandbox.doctor.docker_facts import DockerFacts
from modelyard_sandbox.doctor.findings import Absent
from modelyard_sandbox.engine import Engine
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.status import SandboxStatus, look

#: How much of the end of the log of events is read.
_TAIL = 300_000


class SandboxFacts:
    """Readings of the sandbox's folder.

    Args:
        folder: the folder; it need not exist.
    """

    def __init__(self, folder: SandboxFolder) -> None:
        self.folder = folder

    @cached_property
    def state(self) -> dict[str, Any]:
        """What was asked for and how far it came; empty if nothing was begun."""
        try:
            return self.folder.state()
        except ModelyardError as fault:
            raise Absent(fault.message) from None

    @property
    def ports(self) -> dict[str, int]:
        """Name -> port on 127.0.0.1."""
        return dict(self.state.get("ports") or {})

    @cached_property
    def secrets(self) -> Mapping[str, str]:
        """Every secret; empty if they can't be read."""
        try:
            return {name: str(value) for name, value in self.folder.secrets().items()}
        except (ModelyardError, AttributeError):
            return {}

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """What the last runs said, oldest first; empty if there was none."""
        try:
            with open(self.folder.path / "events.jsonl", "rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - _TAIL))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:  # the first is cut off, or the last one was not finished
                continue
            if isinstance(event, dict):
                found.append(event)
        return found

    @property
    def last_run(self) -> list[dict[str, Any]]:
        """The events of the last run; empty if there was none."""
        if not self.events:
            return []
        run = self.events[-1].get("run")
        return [event for event in self.events if event.get("run") == run]

    @property
    def last_code(self) -> str:
        """The code of the error that the last run ended with; empty if there was none."""
        codes = [str(event.get("code", "")) for event in self.last_run if event.get("type") == "error"]
        return codes[-1] if codes else ""

    # -- the kubeconfig ---------------------------------------------------------------------

    @cached_property
    def kubeconfig(self) -> str:
        """The kubeconfig's text."""
        try:
            return self.folder.kubeconfig.read_text(errors="replace")
        except FileNotFoundError:
            raise Absent(f"there is no {self.folder.kubeconfig}") from None
        except OSError as fault:
            raise Absent(f"{self.folder.kubeconfig} can't be read: {fault.strerror}") from None

    def kubeconfig_value(self, key: str) -> str:
        """A value of the kubeconfig; empty if it is not there. kind writes each on a line of its own."""
        found = re.search(rf"^[\s-]*{re.escape(key)}:\s*(\S+)", self.kubeconfig, re.MULTILINE)
        return found[1].strip("\"'") if found else ""

    @property
    def client_certificate(self) -> str:
        """The certificate with which we log in, PEM; empty if the kubeconfig holds none."""
        return base64.b64decode(self.kubeconfig_value("client-certificate-data") or "").decode(
            errors="replace"
        )


class ClusterFacts:
    """Readings of the sandbox's cluster; each raises `Absent` where none answers.

    Args:
        sandbox: what the folder tells.
        docker: the engine.
    """

    def __init__(self, sandbox: SandboxFacts, docker: DockerFacts) -> None:
        self._sandbox, self._docker = sandbox, docker
        self._found: dict[tuple[str, ...], list[dict[str, Any]]] = {}

    def connect(self) -> Cluster:
        """The cluster's API, whether it answers or not."""
        if self._docker.node_state != "running":
            raise Absent(
                "the sandbox has no node"
                if self._docker.node_state == "absent"
                else f"the node is {self._docker.node_state}"
            )
        _ = self._sandbox.kubeconfig
        try:
            return Cluster(self._sandbox.folder.kubeconfig)
        except ImportError as fault:
            raise Absent(f"the package `{fault.name}` is not installed") from None

    @cached_property
    def api(self) -> Cluster:
        """The cluster's API, which answers."""
        cluster = self.connect()
        if not self.answers:
            raise Absent("the API server does not answer")
        return cluster

    @cached_property
    def answers(self) -> bool:
        """Whether the API server answers and says that it is ready."""
        return self.connect().ready()

    def find(self, api_version: str, kind: str, **how: Any) -> list[dict[str, Any]]:
        """All objects of a kind, read once; none if the cluster does not know the kind."""
        key = (api_version, kind, repr(sorted(how.items())))
        if key not in self._found:
            try:
                self._found[key] = self.api.find(api_version, kind, **how)
            except NotFoundError:
                self._found[key] = []
        return self._found[key]

    @property
    def pods(self) -> list[dict[str, Any]]:
        """Every pod."""
        return self.find("v1", "Pod")

    def status(self, everything: Mapping[str, Component], engine: Engine) -> SandboxStatus:
        """What `sandbox status` says."""
        _ = self.api
        return look(self._sandbox.folder, everything, engine)


def is_corrupt(folder: SandboxFolder) -> CorruptStateError | None:
    """The fault of the state file, if it is damaged."""
    try:
        folder.state()
    except CorruptStateError as fault:
        return fault
    return None


def private(path: Path) -> bool:
    """Whether nobody but its owner can read a file or folder."""
    return not path.stat().st_mode & 0o077
