"""State files: written whole or not at all, one writer at a time, safe against kill -9.

`write_bytes` goes through a temporary file, fsync and rename, so that a reader sees the old
content or the new, never a torn one. `locked` serialises writers across processes and says who
holds the lock when it has to give up.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelyard.errors import ConflictError, CorruptStateError, EnvironmentFault


def write_bytes(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write the file atomically and durably, making its folder if needed.

    Args:
        path: the file.
        content: all of it.
        mode: its rights, less those that the user's umask takes away.

    Raises:
        EnvironmentFault: `disk-full`, `read-only` or `write-failed`; the old file is untouched.
    """
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def write_json(path: Path, value: Any, *, mode: int = 0o666) -> None:
    """Write JSON atomically, in a form that people can read and diff."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode(), mode=mode)


def read_json(path: Path) -> Any:
    """Read a state file; None if there is none.

    Raises:
        CorruptStateError: `state-corrupt`: it is not JSON; it is left as it is.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, UnicodeDecodeError) as fault:
        raise CorruptStateError(
            "state-corrupt",
            f"{path} is damaged ({fault})",
            f"look at it, then move it away: mv '{path}' '{path}.bad'",
        ) from None
    except OSError as fault:
        raise fault_of(fault, path) from fault


@contextlib.contextmanager
def locked(path: Path, *, timeout: float = 30.0, doing: str = "") -> Iterator[None]:
    """Hold the lock file `path` while the block runs; the system frees it if we die.

    Args:
        path: the lock file, by custom `<resource>.lock`; it stays behind, empty locks cost nothing.
        timeout: seconds to wait for another process.
        doing: what the holder does, for the message that others get.

    Raises:
        ConflictError: `locked`, with the holder's pid and what it does.
    """
    import filelock

    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path, timeout=timeout)
        try:
            lock.acquire()
        except filelock.Timeout:
            note = path.with_suffix(".holder")
            holder = note.read_text() if note.exists() else "another process"
            raise ConflictError(
                "locked", f"{path} is held by {holder}", "wait for it to end, then run this again"
            ) from None
    try:
        with contextlib.suppress(OSError):
            path.with_suffix(".holder").write_text(f"process {os.getpid()} ({doing or 'modelyard'})")
        yield
    finally:
        lock.release()


def append_line(path: Path, line: bytes) -> None:
    """Append one line durably: it is on disk when this returns. A half line that an earlier crash
    left at the end is cut off first; the caller holds the lock of the file.

    Raises:
        EnvironmentFault: `disk-full`, `read-only` or `write-failed`; the file is as before.
    """
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            end = _end_of_whole_lines(file)
            file.truncate(end)
            try:
                file.write(line.rstrip(b"\n") + b"\n")
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise
        sync_folder(path.parent)


def _end_of_whole_lines(file: Any) -> int:
    end: int = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + int(found) + 1
        end = start
    return 0


def sync_folder(folder: Path) -> None:
    """Make a rename or a new file in the folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors about `path` into an `EnvironmentFault`."""
    try:
        yield
    except OSError as fault:
        raise fault_of(fault, path) from fault


def fault_of(fault: OSError, path: Path) -> EnvironmentFault:
    """The `EnvironmentFault` that says what the system said about the path."""
    where = fault.filename or path
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentFault(
            "disk-full", f"no space left on the disk of {where}", "free some space, then run this again"
        )
    if fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EnvironmentFault(
            "read-only",
            f"{where} can't be written ({os.strerror(fault.errno)})",
            f"check the rights of the folder: ls -ld '{Path(where).parent}'",
        )
    return EnvironmentFault("write-failed", f"{where}: {fault.strerror or fault}", "modelyard doctor")
