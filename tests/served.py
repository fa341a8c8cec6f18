"""Servers as tests start them: on a free port of this machine, with a log, ended in the end."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_PATIENCE = 180.0


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@contextlib.contextmanager
def serving(
    command: Sequence[str], folder: Path, env: Mapping[str, str], log: Path, answers: Callable[[], bool]
) -> Iterator[int]:
    """Start a server, wait until it answers, and end it after the block; gives its process id.

    Args:
        command, folder, env: what is run, where, and with which environment.
        log: takes what it prints; it is what a failure says.
        answers: whether it answers; an OSError means that it does not yet.
    """
    with open(log, "wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _try(answers):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def _try(answers: Callable[[], bool]) -> bool:
    try:
        return answers()
    except OSError:
        return False
