"""Background processes of a project: started once, found again, ended whole.

A process outlives the command that started it. Its record (`.modelyard/services/NAME.json`) holds
its pid and start time, so that a pid that the system gave to somebody else is never taken for
ours. The child waits until its record is on disk before it becomes the service: a starter that
is killed leaves either nothing or a service that the next command finds.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import modelyard
from modelyard import _spawn
from modelyard.digests import digest_of
from modelyard.errors import CorruptStateError, EnvironmentFault, NotFoundError
from modelyard.records import Service, ServiceStatus, now
from modelyard.stages import ServiceSpec
from modelyard.state import locked, os_errors, read_json, write_json

#: For services that start processes of their own: see `modelyard._spawn`.
MARK, family, identity, spawn = _spawn.MARK, _spawn.family, _spawn.identity, _spawn.spawn
_LOG_LIMIT = 10_000_000
#: Seconds from TERM to KILL: more than services give those that they started, and a busy machine adds.
_GRACE = 20.0
_FIELDS = {"argv", "health", "identity", "mark", "pid", "port", "ready", "spec", "started", "stopped"}
_QUIET = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "EVIDENTLY_DISABLE_TELEMETRY": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "NML_DISABLE_USAGE_LOGGING": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
}


def child_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' environment for a child, with the telemetry of every tool switched off.

    Example:
        >>> child_env({"DEPTH": "6"})["MLFLOW_DISABLE_TELEMETRY"]
        'true'
    """
    return {**os.environ, **_QUIET, **(extra or {})}


class ProcessServices:
    """The background processes of one project; see `modelyard.stages.Services`.

    Args:
        state: the project's `.modelyard` folder, or that of one of its targets.
        root: the folder in which processes run; default: the one above `state`.
    """

    def __init__(self, state: Path, *, root: Path | None = None) -> None:
        self._root = root or state.absolute().parent
        self._records = state / "services"
        self._logs = state / "logs"

    # -- asking -----------------------------------------------------------------------------

    def all(self) -> list[Service]:
        """Every process that was ever started and not forgotten, by name; one with a damaged record
        says so in its message."""
        found = []
        for file in sorted(self._records.glob("*.json")):
            try:
                service = self.get(file.stem)
            except CorruptStateError as fault:
                service = self._damaged(file.stem, fault)
            if service is not None:
                found.append(service)
        return found

    def get(self, name: str) -> Service | None:
        """The process as it is now, or None if it was never started.

        Raises:
            CorruptStateError: `state-corrupt`: its record is damaged.
        """
        record = self._read(name)
        return None if record is None else self._service(name, record)

    def logs(self, name: str, *, lines: int = 100) -> Iterator[str]:
        """The last lines of its log, oldest first."""
        yield from _tail(self._log(name), lines)

    def follow(self, name: str, *, lines: int = 10) -> Iterator[str]:
        """The last lines, then whole lines as it writes them, until the caller has enough."""
        path = self._log(name)
        seen, position, rest = _inode(path), _start_of_last(path, lines), b""
        while True:
            if _inode(path) != seen:  # the log was turned over
                seen, position, rest = _inode(path), 0, b""
            if seen is not None:
                new = _bytes_from(path, position)
                position += len(new)
                *whole, rest = (rest + new).split(b"\n")
                yield from (line.decode(errors="replace") for line in whole)
            time.sleep(0.2)

    # -- starting and ending ------------------------------------------------------------------

    def start(self, spec: ServiceSpec) -> Service:
        """Start it and wait until it is ready; one that runs with the same spec is left alone, unless it is
        of another version of Modelyard: it may not read what this one writes. The message says so when
        somebody else had taken its port.

        Raises:
            EnvironmentFault: `service-died`, `service-not-ready`, with its last lines in `details`.
        """
        digest = digest_of([modelyard.__version__, spec.argv, dict(spec.env), spec.health, spec.port])
        with self._locked(spec.name, spec.ready_timeout + 30, "starting"):
            record = self._read(spec.name)
            if record and record["spec"] == digest and _alive(record):
                if not record["ready"]:  # whoever started it was killed while waiting
                    self._await(spec, record)
                return self._service(spec.name, record)
            if not spec.adopts:
                self._end(spec.name, record)
            elif record and _alive(record):  # it alone: asked to end, it would end its children
                _spawn.kill(record["pid"], record["identity"])
            wanted = record["port"] if record else None
            record = self._started(spec, digest, wanted)
            service = self._service(spec.name, record)
            if wanted in (None, service.port):
                return service
            note = f"port {wanted} was taken: it answers on {service.port} now"
            return replace(service, message=note)

    def stop(self, name: str, *, grace: float = _GRACE) -> None:
        """End it and all it started: TERM, then KILL after `grace` seconds. A damaged record does not
        hinder that, and stays as it is."""
        if self._lock(name).exists():
            with self._locked(name, 90, "stopping"):
                self._stop(name, grace)

    def forget(self, name: str) -> None:
        """End it and remove its record; its log stays."""
        if self._lock(name).exists() or self._file(name).exists():
            # In one: the record of one that is started meanwhile must stay.
            with self._locked(name, 90, "stopping"):
                self._stop(name)
                with os_errors(self._file(name)):
                    self._file(name).unlink(missing_ok=True)

    # -- the steps ----------------------------------------------------------------------------

    def _started(self, spec: ServiceSpec, digest: str, port: int | None) -> dict[str, Any]:
        for attempt in range(3):
            record = self._spawn(spec, digest, port)
            try:
                self._await(spec, record)
            except EnvironmentFault as fault:
                port = record["port"]
                stolen = fault.code == "service-died" and port and _spawn.free_port(port) != port
                if attempt < 2 and stolen:  # somebody took it between our look and the service's bind
                    continue
                raise
            return record
        raise AssertionError("unreachable")

    def _spawn(self, spec: ServiceSpec, digest: str, remembered: int | None) -> dict[str, Any]:
        mark = self._mark(spec.name)
        port = None
        if spec.port:
            left = spec.adopts and remembered and _spawn.family(mark)  # they hold the port
            port = remembered if left else _spawn.free_port(remembered)
        record: dict[str, Any] = {
            "spec": digest,
            "argv": [part.replace("{port}", str(port)) for part in spec.argv],
            "health": spec.health,
            "mark": mark,
            "port": port,
            "started": now().isoformat(),
            "stopped": False,
            "ready": False,
        }

        def remember(pid: int, identity: str) -> None:
            record.update(pid=pid, identity=identity)
            write_json(self._file(spec.name), record, mode=0o600)

        self._turn_over(spec.name)
        self._note(spec.name, "starting")
        env = {**child_env(spec.env), _spawn.MARK: mark}
        with self._opened_log(spec.name) as log:
            _spawn.spawn(record["argv"], env=env, cwd=self._root, log=log, remember=remember)
        return record

    def _await(self, spec: ServiceSpec, record: dict[str, Any]) -> None:
        deadline = time.monotonic() + spec.ready_timeout
        settled = time.monotonic() + 0.3
        while True:
            ready = (
                time.monotonic() > settled
                if spec.health is None
                else _spawn.answers(record["port"], spec.health)
            )
            # Asked after the answer: that may have come from somebody else who took the port.
            if not _alive(record):
                self._end(spec.name, record)
                raise self._failed("service-died", f"{spec.name} ended while it was starting", spec.name)
            if ready:
                break
            if time.monotonic() > deadline:
                self._end(spec.name, record)
                said = f"{spec.name} was not ready after {spec.ready_timeout:g} s"
                raise self._failed("service-not-ready", said, spec.name)
            time.sleep(0.03)
        record["ready"] = True
        write_json(self._file(spec.name), record, mode=0o600)

    def _stop(self, name: str, grace: float = _GRACE) -> None:
        try:
            record = self._read(name)
        except CorruptStateError:
            self._end(name, None, grace)
            return
        if record is None:
            return
        ran = _alive(record)
        self._end(name, record, grace)
        if ran or not record["stopped"]:
            write_json(self._file(name), {**record, "stopped": True}, mode=0o600)
            self._note(name, "stopped")

    def _end(self, name: str, record: Mapping[str, Any] | None, grace: float = _GRACE) -> None:
        """Also without a record: somebody may have removed it while the process ran."""
        leader = record["pid"] if record and _alive(record) else None
        mark = record["mark"] if record else self._mark(name)
        _spawn.end(mark, leader, grace if leader else 1.0)  # orphans have nothing left to finish

    def _failed(self, code: str, said: str, name: str) -> EnvironmentFault:
        last = self._last_word(name)
        return EnvironmentFault(
            code,
            f"{said}: {last}" if last else said,
            f"modelyard logs {name}",
            details={"log": _tail(self._log(name), 20)},
        )

    def _last_word(self, name: str) -> str:
        said = [line.strip() for line in _tail(self._log(name), 20) if not line.startswith("--- ")]
        return next((line for line in reversed(said) if line), "")[:200]

    # -- records and logs -----------------------------------------------------------------------

    def _read(self, name: str) -> dict[str, Any] | None:
        file = self._file(name)
        record = read_json(file)
        if record is None or (isinstance(record, dict) and record.keys() >= _FIELDS):
            return record
        raise CorruptStateError(
            "state-corrupt",
            f"{file} is damaged (it is no record of a background process)",
            f"look at it, then move it away: mv '{file}' '{file}.bad'",
        )

    def _service(self, name: str, record: Mapping[str, Any]) -> Service:
        alive = _alive(record)
        status: ServiceStatus = "running" if alive else "stopped" if record["stopped"] else "died"
        message = "" if record["ready"] else "not ready yet"
        if status == "died":
            message = self._last_word(name) or "it left no word"
        port = record["port"]
        return Service(
            name=name,
            status=status,
            pid=record["pid"] if alive else None,
            port=port,
            url=f"http://{_spawn.HOST}:{port}" if port and alive else None,
            log=self._log(name),
            started=datetime.fromisoformat(record["started"]) if alive else None,
            message="" if status == "stopped" else message,
        )

    def _damaged(self, name: str, fault: CorruptStateError) -> Service:
        runs = bool(_spawn.family(self._mark(name)))
        return Service(
            name=name,
            status="running" if runs else "died",
            log=self._log(name),
            message=f"{fault.message}; {fault.hint}",
        )

    def _turn_over(self, name: str) -> None:
        path = self._log(name)
        with os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size > _LOG_LIMIT:
                path.replace(path.with_name(f"{name}.log.1"))

    def _note(self, name: str, what: str) -> None:
        with os_errors(self._log(name)), self._opened_log(name) as log:
            log.write(f"--- {now().isoformat(timespec='seconds')} {what} {name}\n".encode())

    def _opened_log(self, name: str) -> IO[bytes]:
        with os_errors(self._log(name)):
            self._logs.mkdir(parents=True, exist_ok=True)
            return self._log(name).open("ab")

    def _locked(self, name: str, timeout: float, doing: str) -> contextlib.AbstractContextManager[None]:
        return locked(self._lock(name), timeout=timeout, doing=f"{doing} {name}")

    def _lock(self, name: str) -> Path:
        return self._file(name).with_name(f"{name}.lock")

    def _file(self, name: str) -> Path:
        if not name or "/" in name or name.startswith("."):
            raise NotFoundError(
                "service-not-found", f"there is no background process '{name}'", "modelyard logs"
            )
        return self._records / f"{name}.json"

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _mark(self, name: str) -> str:
        return str(self._file(name).resolve())


def _alive(record: Mapping[str, Any]) -> bool:
    found = _spawn.identity(record["pid"])
    return found is not None and found == record["identity"]


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _tail(path: Path, lines: int) -> list[str]:
    text = _bytes_from(path, _start_of_last(path, lines))
    return text.decode(errors="replace").splitlines()[-lines:] if lines > 0 else []


def _bytes_from(path: Path, position: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read()
    except OSError:
        return b""


def _start_of_last(path: Path, lines: int) -> int:
    """Where the last lines of a file begin, looking back at most a megabyte."""
    try:
        with path.open("rb") as file:
            size, text = file.seek(0, os.SEEK_END), b""
            while text.count(b"\n") <= lines and len(text) < min(size, 1 << 20):
                file.seek(size - min(size, max(2 * len(text), 8192)))
                text = file.read(size - file.tell())
    except OSError:
        return 0
    start = len(text) - text.endswith(b"\n")
    for _ in range(lines):
        start = text.rfind(b"\n", 0, max(start, 0))
    return size - len(text) + start + 1 if lines > 0 else size
