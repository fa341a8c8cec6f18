"""Imports once, then becomes a model server for whoever asks: a fork costs a tenth of a second, the imports
several.

    python -m modelyard_kserve.local.fork_server --socket PATH --import MODULE

Whoever connects sends one line of JSON, `{"argv": [...], "env": {}, "log": PATH, "name": NAME}`, and gets one
back: the pid of the new process, which waits on that connection for the word that its record is on disk; or
why there is none. It forks only while it has one thread: a lock that another one held would never be released
in the child. It ends when packages were installed since its imports: it may hold what is no longer on disk.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

#: Its exit status when what it imported is no longer what is installed.
STALE = 4
_LONGEST = 64 * 1024


def serve(path: Path, modules: list[str]) -> int:
    """Import, then fork for whoever asks.

    Returns:
        The exit status: `STALE`, or in children that of the model server.
    """
    installed = _installed()
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what a collection touches would be copied for each child
    making = path.with_suffix(".new")
    making.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(making))
        making.chmod(0o600)
        listening.listen()
        making.replace(path)  # it is there once somebody listens
        while True:
            connection, _ = listening.accept()
            with connection:
                if _installed() != installed:
                    _say(connection, {"stale": True})
                    path.unlink(missing_ok=True)
                    return STALE
                wish = _asked(connection)
                if wish is not None and _is_child(connection):
                    listening.close()
                    return _become(connection, wish)


def _asked(connection: socket.socket) -> dict[str, Any] | None:
    """What the controller wants; None: it has gone, or is none."""
    connection.settimeout(5)
    with contextlib.suppress(OSError, ValueError):
        wish = json.loads(connection.makefile("rb").readline(_LONGEST))
        connection.settimeout(None)
        return wish if isinstance(wish, dict) else None
    return None


def _is_child(connection: socket.socket) -> bool:
    """Fork; True in the new process, which is an orphan in a session of its own."""
    threads = _threads()
    if threads != 1:
        _say(connection, {"refused": f"it has {threads} threads, and forking could stop the child for ever"})
        return False
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    return True


def _become(connection: socket.socket, wish: dict[str, Any]) -> int:
    from modelyard_kserve.local import model_server

    _say(connection, {"pid": os.getpid()})
    if not connection.recv(1):
        return 1  # nobody has written down that there is this process
    connection.close()
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(wish["name"])  # as `ps` and `top` show it
    log = os.open(wish["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(wish["env"])
    return model_server.main(wish["argv"])


def _say(connection: socket.socket, said: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(said).encode() + b"\n")


def _threads() -> int:
    import threading

    with contextlib.suppress(OSError):
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    return threading.active_count()


def _installed() -> set[str]:
    """The packages with their versions, as folders of installed packages name them."""
    found: set[str] = set()
    for folder in sys.path:
        if folder.endswith("-packages"):
            with contextlib.suppress(OSError):
                found.update(path.name for path in Path(folder).glob("*-info"))
    return found


def main() -> int:
    """Serve until told to stop."""
    options = argparse.ArgumentParser(prog="fork_server")
    options.add_argument("--socket", type=Path, required=True)
    options.add_argument("--import", dest="modules", action="append", required=True)
    given = options.parse_args()
    return serve(given.socket, given.modules)


if __name__ == "__main__":
    sys.exit(main())
