"""The system's side of background processes: start one, know it again, end it with all it started."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from modelyard.errors import EnvironmentFault

HOST = "127.0.0.1"
#: Environment variable that a service and everything below it carries: the path of its record.
MARK = "MODELYARD_SERVICE"

# Says the pid of an orphan, which waits for the word that its record is on disk, then becomes the service;
# it ends if nobody says it. An orphan, so that nothing changes for it when whoever started it ends: some
# programs, Envoy among them, watch their parent. Python ignores SIGPIPE, and what is ignored stays ignored in
# the program that it becomes.
_LAUNCHER = """
import os, signal, sys
said = int(sys.argv.pop(1))
pid = os.fork()
if pid:
    os.write(said, str(pid).encode())
    os._exit(0)
os.close(said)
os.setsid()
os.read(0, 1) or sys.exit(1)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
try:
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as fault:
    sys.exit(f"{sys.argv[1]} can't be run: {fault.strerror}")
"""


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: IO[bytes],
    remember: Callable[[int, str], None],
) -> None:
    """Start `argv` as an orphan in a session of its own; it runs only once `remember(pid, identity)` has
    returned. Killed anywhere in between, we leave either nothing or a process that was remembered.
    """
    told, say = os.pipe()
    with os.fdopen(told, "rb") as pids:
        try:
            launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(say), *argv],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                pass_fds=[say],
                start_new_session=True,
            )
        finally:
            os.close(say)
        # Without the word, in whatever way we leave, it ends by itself.
        with launcher:
            pid = int(pids.read() or 0)
            launcher.wait()  # now it is an orphan
            if not pid:
                raise OSError("the system starts no more processes")
            remember(pid, identity(pid) or "")
            assert launcher.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it died already, and that will be seen
                launcher.stdin.write(b"g")
                launcher.stdin.flush()


def identity(pid: int) -> str | None:
    """What makes a pid unique, the boot and its start time; None if it is gone or a zombie."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"
    import psutil  # type: ignore[import-untyped,unused-ignore]

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return None


def family(mark: str, leader: int | None = None) -> dict[int, str]:
    """The service with everything that it started: pid -> identity.

    Members carry the mark, belong to the leader's process group, or descend from a member; those with
    the mark of another service are a family of their own. We are never a member.

    Args:
        mark: value of `MARK`.
        leader: the service's own pid, if it is known to be alive.
    """
    import psutil

    marks: dict[int, str | None] = {}
    parents: dict[int, int] = {}
    for process in psutil.process_iter(["ppid", "environ"]):
        parents[process.pid] = process.info["ppid"] or 0
        marks[process.pid] = (process.info["environ"] or {}).get(MARK)
    members = {pid for pid, found in marks.items() if found == mark}
    if leader is not None:
        members |= {leader} | {p for p, found in marks.items() if found is None and _group(p) == leader}
    size = -1
    while size != len(members):
        size = len(members)
        members |= {p for p, parent in parents.items() if parent in members and marks[p] in (None, mark)}
    members -= {os.getpid()}
    return {pid: found for pid in members if (found := identity(pid)) is not None}


def end(mark: str, leader: int | None, grace: float) -> None:
    """End the family: TERM, after `grace` seconds KILL; returns when it is gone (or can't be killed)."""
    members = family(mark, leader)
    _signal(members, signal.SIGTERM)
    _wait(members, grace)
    # What was started or orphaned meanwhile is still marked; what is not marked was seen before.
    for _ in range(3):
        members = {**members, **family(mark)}
        _signal(members, signal.SIGKILL)
        if _wait(members, 2):
            break


def kill(pid: int, known: str) -> None:
    """KILL one process, and nothing that it started; returns when it is gone."""
    _signal({pid: known}, signal.SIGKILL)
    _wait({pid: known}, 5)


def free_port(remembered: int | None) -> int:
    """The remembered port if nobody listens there, else another one."""
    for wanted in (remembered or 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise EnvironmentFault("no-port", f"no free port on {HOST}", "close some programs, then run this again")


def answers(port: int, path: str) -> bool:
    """Whether a GET is answered with 200 now."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _signal(members: Mapping[int, str], number: int) -> None:
    for pid, known in members.items():
        if identity(pid) == known:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def _wait(members: Mapping[int, str], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(identity(pid) == known for pid, known in members.items()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
