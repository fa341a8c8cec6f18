"""Ports of this machine: chosen free when the sandbox is made, then remembered."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from modelyard.components import Component
from modelyard.errors import EnvironmentFault
from modelyard_sandbox.folder import SandboxFolder

#: The name under which the API server's port is remembered.
API_PORT = "api"


def choose_ports(folder: SandboxFolder, everything: Iterable[Component]) -> dict[int, int]:
    """NodePort -> port on 127.0.0.1 for all components that there are (one that joins later needs no new
    node), and -1 -> that of the API server. Chosen free, then remembered.

    Raises:
        EnvironmentFault: `no-free-port`; `port-not-mapped`: a component came after the node was made.
    """
    node_ports = {port.name: port.node_port for c in everything for port in c.ports}
    known: dict[str, int] = dict(folder.state().get("ports") or {})
    for name, wanted in {**node_ports, API_PORT: 36443}.items():
        if name not in known:
            known[name] = _free_port(wanted, set(known.values()))
    folder.remember(ports=known)
    return {**{node_ports[name]: known[name] for name in node_ports}, -1: known[API_PORT]}


def _free_port(wanted: int, taken: set[int]) -> int:
    candidates = (*range(wanted, wanted + 200, 7), *range(20000, 29000, 13))
    free: int | None = next((port for port in candidates if port not in taken and is_free(port)), None)
    if free is None:
        raise EnvironmentFault("no-free-port", "no port is free on 127.0.0.1", "end something that listens")
    return free


def is_free(port: int) -> bool:
    """Whether a port on 127.0.0.1 can be listened on, as Docker does it: connections that have ended and
    are still remembered by the system do not matter."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
