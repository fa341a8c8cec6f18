"""Fetches a model in a process of its own: the libraries that can do it are heavy, and may hang or die.

    python -m modelyard_kserve.storage.worker

It reads one order from standard input, JSON on a line, because an address may hold a secret and the command
line is everybody's; then it says what it does, line by line. It ends when standard input does: with whoever
started it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard_kserve.storage import faults
from modelyard_kserve.storage.orders import Fetched, Order, Tell


def main() -> int:
    """Carry out the order."""
    said = sys.stdin.buffer.readline()
    given = json.loads(said)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # What the libraries print is not for our parent.
    out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    place = given.pop("place")
    order = Order(**{**given, "folder": Path(given["folder"]), "root": Path(given["root"])})

    def say(**what: Any) -> None:
        out.write(json.dumps(what) + "\n")

    def tell(have: int, total: int | None) -> None:
        say(have=have, total=total)

    try:
        fetched = _fetch_of(place)(order, tell)
    except Exception as fault:  # whatever the library raises, somebody must read it
        error = faults.explained(fault, order.uri, order.folder)
        say(fault={"kind": type(error).__name__, **error.to_dict()})
        return 1
    say(version=fetched.version, same=fetched.same)
    return 0


def _fetch_of(place: str) -> Callable[[Order, Tell], Fetched]:
    if place == "s3":
        from modelyard_kserve.storage.s3 import fetch
    elif place == "dvc":
        from modelyard_kserve.storage.dvcdata import fetch
    elif place == "azure":
        from modelyard_kserve.storage.azure import fetch
    else:
        from modelyard_kserve.storage.library import fetch
    return fetch


def _end_with_parent() -> None:
    """Nobody would use what is fetched from now on. No lock of ours is to be waited for."""
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(3)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads of libraries that still wait for something have nothing to say any more
