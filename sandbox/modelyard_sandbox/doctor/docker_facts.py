"""The Docker engine, and the node in it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelyard.errors import ModelyardError
from modelyard_sandbox.doctor.findings import Absent
from modelyard_sandbox.doctor.machine import Machine, docker_folder
from modelyard_sandbox.engine import Engine
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.node import Node, NodeState

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")
#: Where engines put their sockets that are not the default one, below the home folder.
_SOCKETS = (
    ".docker/run/docker.sock",
    ".docker/desktop/docker.sock",
    ".colima/default/docker.sock",
    ".orbstack/run/docker.sock",
    ".rd/docker.sock",
)


class DockerFacts:
    """Readings of the engine; each raises `Absent` where no engine answers.

    Args:
        machine: this machine.
        folder: the sandbox whose node may be there.
    """

    def __init__(self, machine: Machine, folder: SandboxFolder) -> None:
        self._machine, self._folder = machine, folder
        self.engine = Engine()
        self._default = f"unix://{machine.root / 'var/run/docker.sock'}"

    # -- which engine -----------------------------------------------------------------------

    @cached_property
    def contexts(self) -> dict[str, str]:
        """The contexts of the `docker` command: name -> address of the engine."""
        found = {"default": self._default}
        for file in sorted((docker_folder() / "contexts" / "meta").glob("*/meta.json")):
            try:
                about = json.loads(file.read_text())
                found[about["Name"]] = about["Endpoints"]["docker"]["Host"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found

    @property
    def context(self) -> str:
        """The name of the context that the `docker` command takes."""
        chosen = os.environ.get("DOCKER_CONTEXT") or self._machine.docker_config.get("currentContext")
        return str(chosen or "default")

    @property
    def address(self) -> str:
        """The engine's address."""
        return os.environ.get("DOCKER_HOST") or self.contexts.get(self.context, self._default)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the address leads to another machine."""
        return not is_here(self.address)

    def others(self) -> Iterator[tuple[str, str]]:
        """Other engines on this machine that have a socket: name, address."""
        run = os.environ.get("XDG_RUNTIME_DIR")
        sockets = [Path.home() / name for name in _SOCKETS] + ([Path(run) / "docker.sock"] if run else [])
        named = {address: name for name, address in self.contexts.items()}
        known = [*self.contexts.values(), *(f"unix://{socket}" for socket in sockets)]
        for address in dict.fromkeys(known):
            is_socket = address.startswith("unix://") and Path(address.removeprefix("unix://")).is_socket()
            if is_socket and address != self.address:
                yield named.get(address, ""), address

    # -- what it says -----------------------------------------------------------------------

    @cached_property
    def fault(self) -> str:
        """Why no engine answers; empty if one does."""
        if self.is_elsewhere:
            return f"{self.address} is another machine"
        try:
            _ = self.engine.client
        except ImportError as fault:
            return f"the package `{fault.name}` is not installed"
        except ModelyardError as fault:
            return fault.message
        except Exception as fault:  # a context that the SDK can't read, a socket kind that it can't speak to
            return f"{self.address}: {fault}"
        return ""

    @property
    def client(self) -> Any:
        """The SDK's client."""
        if self.fault:
            raise Absent("no Docker engine answers")
        return self.engine.client

    @cached_property
    def _info(self) -> tuple[dict[str, Any], float, float]:
        began = time.time()
        _ = self.client
        return self.engine.info, began, time.time()

    @property
    def info(self) -> dict[str, Any]:
        """What the engine says about itself and its machine."""
        return self._info[0]

    @property
    def clock_ahead(self) -> float:
        """Seconds that the engine's clock is ahead of ours; 0 while it may be right."""
        info, began, ended = self._info
        try:
            theirs = seconds_of(info["SystemTime"])
        except (KeyError, ValueError):
            raise Absent("the engine does not say what time it is") from None
        return theirs - ended if theirs > ended else min(0.0, theirs - began)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What program the engine is, in which versions."""
        found: dict[str, Any] = self.client.version()
        return found

    @property
    def is_here(self) -> bool:
        """Whether containers share our kernel: what `/proc` says holds for them, too."""
        theirs = (self.info.get("KernelVersion"), self.info.get("Name"))
        try:
            return theirs == (self._machine.kernel, self._machine.hostname)
        except Absent:  # this is no Linux: the engine is in a virtual machine
            return False

    @cached_property
    def containers(self) -> list[dict[str, Any]]:
        """Every container, as the list shows it."""
        found: list[dict[str, Any]] = self.client.api.containers(all=True)
        return found

    @property
    def nodes(self) -> dict[str, str]:
        """The nodes of all kind clusters: container name -> state."""
        label = "io.x-k8s.kind.cluster"
        ours = (one for one in self.containers if label in (one.get("Labels") or {}))
        return {one["Names"][0].lstrip("/"): str(one.get("State")) for one in ours}

    @cached_property
    def network(self) -> dict[str, Any]:
        """The network that kind's nodes share."""
        found = self.client.api.networks(names=["kind"])
        exact = [one for one in found if one.get("Name") == "kind"]
        if not exact:
            raise Absent("kind has not made its network yet")
        return dict(exact[0])

    @property
    def networks(self) -> list[IPv4Network]:
        """The IPv4 addresses of that network."""
        configured = (self.network.get("IPAM") or {}).get("Config") or []
        subnets = [str(one.get("Subnet", "")) for one in configured]
        return [IPv4Network(subnet) for subnet in subnets if "." in subnet]

    # -- the node ---------------------------------------------------------------------------

    @cached_property
    def node_state(self) -> NodeState:
        """What there is of the sandbox's node."""
        _ = self.client
        return Node(self._folder, self.engine).state()

    @cached_property
    def node(self) -> dict[str, Any]:
        """The node's container."""
        _ = self.client
        container = self.engine.container(self._folder.node_name)
        if container is None:
            raise Absent("the sandbox has no node")
        found: dict[str, Any] = container.attrs
        return found

    def in_node(self, *argv: str) -> str:
        """What a command prints that reads something inside of the node."""
        if self.node_state != "running":
            raise Absent(f"the node is {self.node_state}")
        container = self.engine.container(self._folder.node_name)
        status, said = container.exec_run(list(argv)) if container is not None else (1, b"it is gone")
        text = bytes(said).decode(errors="replace")
        if status:
            raise Absent(f"`{' '.join(argv)}` fails in the node: {' '.join(text.split())[:200]}")
        return text


def has_container(address: str, name: str) -> bool:
    """Whether the engine at an address, other than ours, has a container of that name."""
    return _asked(address, lambda client: bool(client.containers.get(name)))


def answers(address: str) -> bool:
    """Whether an engine answers at an address."""
    return _asked(address, lambda client: bool(client.ping()))


def _asked(address: str, question: Callable[[Any], bool]) -> bool:
    import docker
    import docker.errors

    try:
        with contextlib.closing(docker.DockerClient(base_url=address, timeout=3)) as client:
            return question(client)
    except (docker.errors.DockerException, OSError):
        return False


def is_here(address: str) -> bool:
    """Whether an engine's address is on this machine.

    Example:
        >>> is_here("unix:///var/run/docker.sock"), is_here("tcp://127.0.0.1:2375"), is_here("ssh://me@far")
        (True, True, False)
    """
    parts = urlsplit(address)
    if parts.scheme in ("unix", "npipe", "fd", "http+unix"):
        return True
    if parts.scheme == "ssh" or not parts.hostname:
        return False
    if parts.hostname == "localhost":
        return True
    try:
        return ip_address(parts.hostname).is_loopback
    except ValueError:
        return False


def seconds_of(time: str) -> float:
    """RFC 3339, as Docker writes it (with nanoseconds), in seconds since 1970.

    Example:
        >>> seconds_of("1970-01-01T00:01:00.5Z")
        60.5
    """
    found = _TIME.fullmatch(time)
    if found is None:
        raise ValueError(f"{time!r} is no time")
    whole, fraction, zone = found.groups()
    seconds = datetime.fromisoformat(whole + (zone if zone != "Z" else "+00:00")).timestamp()
    return seconds + float(f"0{fraction or '.0'}")
