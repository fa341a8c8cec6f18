"""A port-forward: a port of this machine that leads to a Service of a cluster.

    python -m modelyard.kube.forward --service NAMESPACE/NAME:PORT --port PORT [--kubeconfig FILE]

Each connection looks for a ready pod anew, so that pods may come and go. The port is bound before
anything heavy is imported: callers wait instead of being refused.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import threading
from pathlib import Path
from typing import Any

_CHUNK = 1 << 16


def main() -> int:
    """Forward until told to stop."""
    options = argparse.ArgumentParser(prog="forward")
    options.add_argument("--service", required=True)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--kubeconfig", type=Path)
    options.add_argument("--context")
    given = options.parse_args()
    listener = socket.create_server(("127.0.0.1", given.port), backlog=128)
    from modelyard.kube.api import Cluster
    from modelyard.kube.services import parse

    place = parse(given.service)
    cluster = Cluster(given.kubeconfig, given.context)
    while True:
        caller, _ = listener.accept()
        threading.Thread(target=_serve, args=(cluster, place, caller), daemon=True).start()


def _serve(cluster: Any, place: Any, caller: socket.socket) -> None:
    """Carry bytes both ways until one side has enough."""
    try:
        pod, port = cluster.pod_behind(place.namespace, place.name, place.port)
        pod_side = cluster.connect(place.namespace, pod, port)
    except Exception as fault:  # whatever it is, it concerns this caller alone
        print(f"forward: {place.namespace}/{place.name}: {' '.join(str(fault).split())[:300]}", flush=True)
        caller.close()
        return
    back = threading.Thread(target=_carry, args=(pod_side, caller), daemon=True)
    back.start()
    _carry(caller, pod_side)
    back.join()
    for side in (caller, pod_side):
        with contextlib.suppress(OSError):
            side.close()


def _carry(source: Any, sink: Any) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    sys.exit(main())
