"""What routers have to know of the project: where Envoy is, and what its endpoints are asked on.

The controller writes it and routers follow it, so that an endpoint that comes, goes or is asked by another
protocol needs no new router.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelyard.state import write_json
from modelyard_kserve.local import tokens
from modelyard_kserve.local.desired import Desired

#: Below the folder of sockets.
FILE = "graphs.json"
_HERE = ("127.0.0.1", "localhost", "::1")


def written(file: Path, endpoints: Iterable[Desired], port: int, state: Path, before: Any) -> Any:
    """Write the board if there is a graph and something is not as before; returns what stands there."""
    there = list(endpoints)
    graphs = [one for one in there if one.newest.graph]
    if not graphs:
        return None
    said = {
        "port": port,
        "endpoints": {f"{one.namespace}/{one.name}": asked_on(one) for one in there},
        "tokens": {f"{g.namespace}/{g.name}": tokens.read(state) for g in graphs if g.guarded},
    }
    if said != before:
        write_json(file, said, mode=0o600)
    return said


def asked_on(endpoint: Desired) -> str:
    """The path on which an endpoint takes predictions, by its protocol, as KServe fills it in."""
    if endpoint.newest.graph:
        return "/"
    by_v2 = endpoint.protocol in ("v2", "grpc-v2")
    return f"/v2/models/{endpoint.name}/infer" if by_v2 else f"/v1/models/{endpoint.name}:predict"


def own_endpoint(url: str, known: Iterable[str]) -> str | None:
    """Which endpoint of the project a URL means: by Envoy's path, or by a host name that KServe gives it.

    Args:
        url: any.
        known: the project's endpoints, as NAMESPACE/NAME.

    Example:
        >>> own_endpoint("http://iris.default.svc.cluster.local/v1/models/iris:predict", ["default/iris"])
        'default/iris'
        >>> own_endpoint("http://127.0.0.1:8080/serving/team/iris/v1/models/iris:predict", ["team/iris"])
        'team/iris'
        >>> own_endpoint("https://iris.example.com/v1", ["default/iris"]) is None
        True
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    for one in known:
        namespace, _, name = one.partition("/")
        here = parts.hostname in _HERE and f"{parts.path}/".startswith(f"/serving/{one}/")
        if here or parts.hostname in _hosts(namespace, name):
            return one
    return None


def path_of(url: str, endpoint: str) -> str:
    """What a URL that means an endpoint asks of it: path and query."""
    parts = urlsplit(url)
    path = parts.path.removeprefix(f"/serving/{endpoint}") if parts.hostname in _HERE else parts.path
    return (path or "/") + (f"?{parts.query}" if parts.query else "")


def _hosts(namespace: str, name: str) -> set[str]:
    inside = {f"{one}.{namespace}" for one in (name, f"{name}-predictor")}
    suffixes = ("", ".svc", ".svc.cluster.local")
    return {host + suffix for host in inside for suffix in suffixes} | {f"{name}-{namespace}.example.com"}


class Board:
    """Follows the controller's file.

    Args:
        file: where it lies.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: tuple[int, int] | None = None
        self._said: Mapping[str, Any] = {}

    def look(self) -> Mapping[str, Any]:
        """What stands there now; what stood there last, while nothing can be read."""
        with contextlib.suppress(OSError, ValueError):
            status = self._file.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._said = json.loads(self._file.read_text(encoding="utf-8"))
                self._stamp = stamp
        return self._said
