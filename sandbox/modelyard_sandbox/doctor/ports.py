"""The sandbox's ports: which of them others have taken, and who."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped,unused-ignore]

from modelyard_sandbox.ports import is_free

if TYPE_CHECKING:
    from modelyard_sandbox.doctor.facts import Facts


def taken(facts: Facts) -> dict[str, str]:
    """Names of ports that the sandbox remembers and others have, with who has them. A node that a killed
    command left half made has its own."""
    published = _published(facts)
    ours = {port for port, container in published.items() if container == facts.folder.node_name}
    return {
        name: holder
        for name, port in facts.sandbox.ports.items()
        if port not in ours and (holder := _holder(port, published.get(port)))
    }


def _published(facts: Facts) -> dict[int, str]:
    """Ports that other containers publish, also where the engine is in a machine of its own."""
    found: dict[int, str] = {}
    for one in facts.docker.containers:
        name = one["Names"][0].lstrip("/")
        for port in one.get("Ports") or []:
            if port.get("PublicPort"):
                found[int(port["PublicPort"])] = name
    return found


def _holder(port: int, container: str | None) -> str:
    """Who listens on a port, as far as we may know; empty: nobody."""
    if container is not None:
        return f"the container {container}"
    if is_free(port):
        return ""
    try:
        sockets: list[Any] = psutil.net_connections("tcp")
        pids = [s.pid for s in sockets if s.status == psutil.CONN_LISTEN and s.laddr.port == port and s.pid]
        return f"{psutil.Process(pids[0]).name()} (process {pids[0]})" if pids else "another process"
    except (psutil.Error, OSError):
        return "another process"
