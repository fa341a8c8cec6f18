"""The side that starts `worker` and listens to it."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelyard import errors
from modelyard.errors import ModelyardError
from modelyard.processes import child_env
from modelyard_kserve.storage import faults
from modelyard_kserve.storage.orders import Fetched, Order, Tell

#: Seconds between two looks at how much has arrived, and without a change after which nothing more will.
_LOOK, _STALLED = 0.25, 300.0
_ENVIRONMENT = {
    "PYTHONSAFEPATH": "1",  # a file of the user's that is called like a library must not stand in for it
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DVC_NO_ANALYTICS": "true",
    "PYTHONUNBUFFERED": "1",
}


def fetch(place: str, order: Order, tell: Tell) -> Fetched:
    """Have the worker carry out an order.

    Args:
        place: `s3`, `azure`, `dvc`, or `library` for what KServe's own library takes.
        order: what is fetched.
        tell: is told of bytes.

    Raises:
        ModelyardError: what the worker says; `model-too-large`; `storage-unreachable`: nothing arrives.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "modelyard_kserve.storage.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libraries write addresses with their secrets there
        env=child_env(_ENVIRONMENT),
        start_new_session=True,  # Ctrl-C is for us
    )
    try:
        sent = {"place": place, "uri": order.uri, "folder": str(order.folder), "known": order.known}
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            line = json.dumps({**sent, "root": str(order.root), "limit": order.limit}) + "\n"
            child.stdin.write(line.encode())
            child.stdin.flush()
        for said in _heard(child, order, tell):
            if "fault" in said:
                raise _rebuilt(said["fault"])
            if "same" in said:
                order.require_room(_size(order.folder))  # some are faster than we look
                return Fetched(said["version"], same=said["same"])
            tell(said["have"], said["total"])
        raise faults.failed(order.uri, f"the process that fetches it ended with status {child.wait()}")
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _heard(child: subprocess.Popen[bytes], order: Order, tell: Tell) -> Iterator[dict[str, Any]]:
    """What the worker says; meanwhile, how much of the model there is."""
    assert child.stdout is not None
    pipe, rest = child.stdout.fileno(), b""
    seen, moved, told = 0, time.monotonic(), False
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if selector.select(_LOOK):
                piece = os.read(pipe, 1 << 16)
                if not piece:
                    return
                moved = time.monotonic()
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    said = json.loads(line)
                    told = told or "have" in said
                    yield said
                continue
            size = _size(order.folder)
            order.require_room(size)
            if size != seen:
                seen, moved = size, time.monotonic()
                if not told:
                    tell(size, None)
            if time.monotonic() - moved > _STALLED:
                raise faults.unreachable(order.uri, f"nothing has arrived for {_STALLED:.0f} seconds")


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - thousands of times
    return total


def _rebuilt(said: dict[str, Any]) -> ModelyardError:
    kind: type[ModelyardError] = getattr(errors, said["kind"])
    return kind(said["code"], said["message"], said["hint"], details=said["details"])
