"""Background processes of a project: started once, found again, ended whole.

A process outlives the command that started it. Its record (`.modelyard/services/NAME.json`) holds
its pid and start time, so that a pid that the system gave to somebody else is never taken for
ours. The child waits until its record is on disk before it becomes the service: a starter that
is killed leaves either nothing or a service that the next command finds.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from modelyard.digests import digest_of
from modelyard.errors import EnvironmentFault, ModelyardError, NotFoundError
from modelyard.records import Service, now
from modelyard.stages import ServiceSpec
from modelyard.state import locked, os_errors, read_json, write_json

_HOST = "127.0.0.1"
_LOG_LIMIT = 10_000_000
#: Waits for the word that its record is written, then becomes the service; exits if nobody says it.
_LAUNCHER = """
import os, sys
os.read(0, 1) or sys.exit(1)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
_QUIET = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONUNBUFFERED": "1",
}


def child_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' environment for a child, with the telemetry of every tool switched off."""
    return {**os.environ, **_QUIET, **(extra or {})}


class ProcessServices:
    """The background processes of one project; see `modelyard.stages.Services`.

    Args:
        state: the project's `.modelyard` folder.
    """

    def __init__(self, state: Path) -> None:
        self._records = state / "services"
        self._logs = state / "logs"

    # -- asking -----------------------------------------------------------------------------

    def all(self) -> list[Service]:
        """Every process that was ever started and not forgotten, by name; one with a damaged record
        is shown as died."""
        found = []
        for file in sorted(self._records.glob("*.json")):
            try:
                service = self.get(file.stem)
            except ModelyardError as fault:
                service = Service(
                    name=file.stem, status="died", log=self._log(file.stem), message=fault.message
                )
            if service is not None:
                found.append(service)
        return found

    def get(self, name: str) -> Service | None:
        """The process as it is now, or None if it was never started.

        Raises:
            CorruptStateError: `state-corrupt`: its record is damaged.
        """
        record = read_json(self._file(name))
        return None if record is None else self._service(name, record)

    def logs(self, name: str, *, lines: int = 100) -> Iterator[str]:
        """The last lines of its log, oldest first."""
        yield from _tail(self._log(name), lines)

    def follow(self, name: str, *, lines: int = 10) -> Iterator[str]:
        """The last lines, then what it writes, until the caller has enough."""
        path = self._log(name)
        position = path.stat().st_size if path.exists() else 0
        yield from _tail(path, lines)
        while True:
            size = path.stat().st_size if path.exists() else 0
            if size < position:
                position = 0  # the log was turned over
            if size > position:
                with path.open("rb") as file:
                    file.seek(position)
                    text = file.read()
                position += len(text)
                yield from text.decode(errors="replace").splitlines()
            time.sleep(0.2)

    # -- starting and ending ------------------------------------------------------------------

    def start(self, spec: ServiceSpec) -> Service:
        """Start it and wait until it is ready; one that runs with the same spec is left alone.

        Raises:
            EnvironmentFault: `service-died`, `service-not-ready`, with its last lines in `details`.
        """
        digest = digest_of([spec.argv, dict(spec.env), spec.health, spec.port])
        with locked(
            self._records / f"{spec.name}.lock", timeout=spec.ready_timeout + 30, doing="starting it"
        ):
            record = read_json(self._file(spec.name))
            if record and record["spec"] == digest and _alive(record):
                if not record["ready"]:  # whoever started it was killed while waiting
                    self._await(spec, record)
                return self._service(spec.name, record)
            if record:
                self._end(record)
            record = self._spawn(spec, digest, record["port"] if record else None)
            self._await(spec, record)
            return self._service(spec.name, record)

    def stop(self, name: str, *, grace: float = 10.0) -> None:
        """End it and its children: TERM, then KILL after `grace` seconds."""
        with locked(self._records / f"{name}.lock", timeout=60, doing="stopping it"):
            record = read_json(self._file(name))
            if record is None:
                return
            self._end(record, grace)
            write_json(self._file(name), {**record, "stopped": True}, mode=0o600)

    def forget(self, name: str) -> None:
        """End it and remove its record; its log stays."""
        self.stop(name)
        with contextlib.suppress(FileNotFoundError):
            self._file(name).unlink()

    # -- the steps ----------------------------------------------------------------------------

    def _spawn(self, spec: ServiceSpec, digest: str, remembered: int | None) -> dict[str, Any]:
        port = _free_port(remembered) if spec.port else None
        argv = [part.replace("{port}", str(port)) for part in spec.argv]
        log = self._opened_log(spec.name)
        record: dict[str, Any] = {
            "spec": digest,
            "argv": argv,
            "health": spec.health,
            "port": port,
            "started": now().isoformat(),
            "stopped": False,
            "ready": False,
        }
        with log:
            log.write(f"--- {record['started']} starting {spec.name}\n".encode())
            log.flush()
            # Bytes of ours between spawn and record: the launcher waits, so nothing can be lost.
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, *argv],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_env(spec.env),
                start_new_session=True,
            )
        assert process.stdin is not None
        try:
            record |= {"pid": process.pid, "identity": _identity(process.pid)}
            write_json(self._file(spec.name), record, mode=0o600)
            process.stdin.write(b"g")
            process.stdin.close()
        except BaseException:
            process.kill()
            process.wait()
            raise
        _children[process.pid] = process
        return record

    def _await(self, spec: ServiceSpec, record: dict[str, Any]) -> None:
        deadline = time.monotonic() + spec.ready_timeout
        settled = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            if not _alive(record):
                raise self._failed("service-died", f"{spec.name} ended while it was starting", spec.name)
            if spec.health is None:
                if time.monotonic() > settled:
                    break
            elif _answers(record["port"], spec.health):
                break
            time.sleep(0.03)
        else:
            self._end(record)
            said = f"{spec.name} was not ready after {spec.ready_timeout:.0f} s"
            raise self._failed("service-not-ready", said, spec.name)
        record["ready"] = True
        write_json(self._file(spec.name), record, mode=0o600)

    def _failed(self, code: str, said: str, name: str) -> EnvironmentFault:
        lines = list(_tail(self._log(name), 20))
        last = next(
            (line for line in reversed(lines) if line.strip() and not line.startswith("---")), ""
        )
        message = f"{said}: {last.strip()}" if last else said
        return EnvironmentFault(code, message, f"modelyard logs {name}", details={"log": lines})

    def _end(self, record: Mapping[str, Any], grace: float = 10.0) -> None:
        pid = record["pid"]
        if not _alive(record):
            if not _exists(pid):  # the leader is gone, but its group may live on under its id
                _signal_group(pid, signal.SIGKILL)
            return
        family = _descendants(pid)
        _signal_group(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while _alive(record) and time.monotonic() < deadline:
            time.sleep(0.02)
        _signal_group(pid, signal.SIGKILL)
        for process in family:
            with contextlib.suppress(Exception):  # psutil checks that the pid is still the same process
                process.kill()
        deadline = time.monotonic() + 5
        while _alive(record) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _service(self, name: str, record: Mapping[str, Any]) -> Service:
        alive = _alive(record)
        status = "running" if alive else "stopped" if record["stopped"] else "died"
        message = ""
        if status == "died":
            last = [line for line in _tail(self._log(name), 5) if line.strip()]
            message = last[-1].strip()[:200] if last else "it left no word"
        port = record["port"]
        return Service(
            name=name,
            status=status,  # type: ignore[arg-type]
            pid=record["pid"] if alive else None,
            port=port,
            url=f"http://{_HOST}:{port}" if port and alive else None,
            log=self._log(name),
            started=datetime.fromisoformat(record["started"]) if alive else None,
            message=message,
        )

    def _opened_log(self, name: str) -> Any:
        path = self._log(name)
        with os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > _LOG_LIMIT:
                path.replace(path.with_suffix(".log.1"))
            return path.open("ab")

    def _file(self, name: str) -> Path:
        if not name or "/" in name or name.startswith("."):
            raise NotFoundError(
                "service-not-found", f"there is no background process '{name}'", "modelyard logs"
            )
        return self._records / f"{name}.json"

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


#: Children of this process: they must be waited for, or they stay as zombies that look alive.
_children: dict[int, subprocess.Popen[bytes]] = {}


def _alive(record: Mapping[str, Any]) -> bool:
    child = _children.get(record["pid"])
    if child is not None and child.poll() is not None:
        del _children[record["pid"]]
    return bool(_identity(record["pid"]) == record["identity"])


def _identity(pid: int) -> str | None:
    """Boot and start time of the process, or None: what makes a pid unique."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        # A zombie still has an entry; it is dead.
        return None if fields[0] in "ZX" else f"{_boot()}:{fields[19]}"
    import psutil  # type: ignore[import-untyped,unused-ignore]

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _descendants(pid: int) -> list[Any]:
    """Children of children too: some start sessions of their own and leave the group."""
    import psutil  # type: ignore[import-untyped,unused-ignore]

    try:
        family: list[Any] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return family


def _free_port(remembered: int | None) -> int:
    for wanted in (remembered or 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise EnvironmentFault(
        "no-port", f"no free port on {_HOST}", "close some programs, then run this again"
    )


def _answers(port: int | None, path: str) -> bool:
    connection = http.client.HTTPConnection(_HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(path: Path, lines: int) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 400 * max(lines, 1)))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]
