"""The listening threads of this process, one per place on disk, found again by later instances."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from modelyard.testing.contexts import serve

_LISTENERS: dict[Path, ThreadingHTTPServer] = {}
_LOCK = threading.Lock()


def listen(place: Path, handle: Callable[[BaseHTTPRequestHandler, bytes], None]) -> str:
    """The URL of the listener of that place, started if it is not there."""
    with _LOCK:
        if place not in _LISTENERS:
            _LISTENERS[place] = serve(handle)
        return f"http://127.0.0.1:{_LISTENERS[place].server_address[1]}"


def url_of(place: Path) -> str | None:
    """The URL of the listener of that place, or None."""
    server = _LISTENERS.get(place)
    return None if server is None else f"http://127.0.0.1:{server.server_address[1]}"


def close(place: Path) -> None:
    """End the listener of that place, if there is one."""
    with _LOCK:
        server = _LISTENERS.pop(place, None)
    if server is not None:
        server.shutdown()
        server.server_close()


def close_below(root: Path) -> None:
    """End every listener whose place lies below the folder."""
    for place in [place for place in list(_LISTENERS) if root in place.parents]:
        close(place)
