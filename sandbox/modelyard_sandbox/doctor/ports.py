"""The sandbox's ports: which of them others have taken, and who."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped,unused-ignore]

from modelyard_sandbox.ports import is_free

if TYPE_CHECKING:
    from modelyard_sandbox.doctor.facts import Facts


def taken(facts: Facts) -> dict[str, str]:
    """Names of ports that the sandbox remembers and others have, with who has them. The node must
    not run."""
    published = _published(facts)
    return {
        name: holder
        for name, port in facts.sandbox.ports.items()
        if (holder := published.get(port) or ("" if is_free(port) else _holder(port)))
    }


def _published(facts: Facts) -> dict[int, str]:
    """Ports that other containers publish, also where the engine is in a machine of its own."""
    found: dict[int, str] = {}
    for one in facts.docker.containers:
        name = one["Names"][0].lstrip("/")
        for port in one.get("Ports") or []:
            if name != facts.folder.node_name and port.get("PublicPort"):
                found[int(port["PublicPort"])] = f"the container {name}"
    return found


def _holder(port: int) -> str:
    """The process that listens on a port, as far as we may know."""
    try:
        sockets: list[Any] = psutil.net_connections("tcp")
        pids = [s.pid for s in sockets if s.status == psutil.CONN_LISTEN and s.laddr.port == port and s.pid]
        return f"{psutil.Process(pids[0]).name()} (process {pids[0]})" if pids else "another process"
    except (psutil.Error, OSError):
        return "another process"
