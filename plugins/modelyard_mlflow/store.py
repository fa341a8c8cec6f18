"""Opening MLflow's stores: quietly, at an absolute address, and initialised by one process only."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
import sys
import threading
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelyard.errors import EnvironmentFault, ModelyardError, UsageError
from modelyard.stages import StageContext
from modelyard.state import fault_of, locked, os_errors
from modelyard_mlflow import database
from modelyard_mlflow.config import MlflowSettings

_PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class Stores:
    """MLflow's own store objects, which cost a third of what its fluent API costs per call."""

    uri: str
    experiment: str
    tracking: Any
    registry: Any

    @cached_property
    def experiment_id(self) -> str:
        """The experiment's id; it is made when it is first needed, so that looking changes nothing."""
        return _experiment_id(self.tracking, self.experiment)


#: The logged models that this process stored: most are registered next, and what they are does not change.
_stored: dict[tuple[str, str], Any] = {}
_REMEMBERED = 100


def remember(stores: Stores, model: Any) -> None:
    """Keep MLflow's entity of a logged model that is complete."""
    _stored[stores.uri, model.model_id] = model
    while len(_stored) > _REMEMBERED:
        _stored.pop(next(iter(_stored)), None)


def logged_model(stores: Stores, model_id: str) -> Any:
    """MLflow's entity of a logged model."""
    return _stored.get((stores.uri, model_id)) or stores.tracking.get_logged_model(model_id)


def open_stores(context: StageContext) -> Stores:
    """The stores that the settings name, initialised.

    Raises:
        EnvironmentFault: `mlflow-store`: MLflow refuses the database or the server can't be reached.
        CorruptStateError: `state-corrupt`: the sqlite file is damaged.
    """
    settings: MlflowSettings = context.settings or MlflowSettings()
    name = settings.experiment or context.project
    if context.target is not None:
        _keep_to_the_server()
        address = context.target.address("mlflow").url_with_login
        _require_reachable(address)
        stores = _open(address, None, name)
        _ask_nothing_of_databricks()
        return stores
    if settings.tracking_uri is not None:
        _require_reachable(settings.tracking_uri)
        return _open(settings.tracking_uri, None, name)
    state = context.state
    with os_errors(state):
        state.mkdir(parents=True, exist_ok=True)
    # MLflow's migrations kill each other when two processes open a new file at once.
    with locked(state / "store.lock", timeout=180, doing="preparing MLflow's database"):
        file = state / database.FILE
        with mlflow_errors("open", str(file)), quiet():
            database.prepare(file)
            database.follow_a_moved_folder(file, artifacts_of(state))
            uri = database.address(file)
        return _open(uri, artifacts_of(state), name, shown=str(file))


def _keep_to_the_server() -> None:
    """A server hands out signed addresses of its S3 as it sees it; from outside its cluster nobody answers
    there, and MLflow's client tries for ever. One that went away it would ask for four minutes."""
    for name in ("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"):
        os.environ.setdefault(name, "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")


def _ask_nothing_of_databricks() -> None:
    """Before each request MLflow looks whether it runs in a notebook of Databricks, and imports IPython for
    that: a fifth of what a request costs."""
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return
    with contextlib.suppress(ImportError, AttributeError):
        from mlflow.tracking.request_header import registry

        providers = registry._request_header_provider_registry._registry
        providers[:] = [each for each in providers if not type(each).__name__.startswith("Databricks")]


def artifacts_of(state: Path) -> str:
    """Where a local store's files go. Resolved, so that a link to the project is not another place."""
    return (state / "artifacts").resolve().as_uri()


def artifacts_at(uri: str, stores: Stores) -> Any:
    """MLflow's access to files; a server's (`mlflow-artifacts:`) are asked of our server, not of the one
    that is MLflow's process-wide setting."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if not sys.stderr.isatty():  # MLflow draws a bar while it moves files, into log files and notebooks, too
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    return get_artifact_repository(uri, tracking_uri=stores.uri)


def switch_telemetry_off() -> None:
    """Before anything of MLflow is imported: its client starts with the import."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


def _open(uri: str, artifacts: str | None, experiment: str, *, shown: str = "") -> Stores:
    with mlflow_errors("open", shown or uri), quiet():
        from mlflow.tracking._model_registry.utils import _get_store as registry_store
        from mlflow.tracking._tracking_service.utils import _get_store as tracking_store

        return Stores(uri, experiment, tracking_store(uri, artifacts), registry_store(uri, uri))


def _require_reachable(uri: str) -> None:
    """MLflow asks a server that is down for four minutes before it says so."""
    parts = urlsplit(uri)
    proxied = parts.scheme in urllib.request.getproxies() and not _bypasses_proxy(parts.hostname or "")
    if parts.scheme not in ("http", "https") or not parts.hostname or proxied:
        return
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=_PROBE_SECONDS).close()
    except (OSError, ValueError) as fault:
        raise EnvironmentFault(
            "mlflow-store",
            f"the MLflow server {without_credentials(uri)} can't be reached: {fault}",
            "start it, or correct [providers.mlflow] tracking_uri in modelyard.toml",
        ) from None


def _bypasses_proxy(host: str) -> bool:
    return bool(urllib.request.proxy_bypass(host))


def _experiment_id(store: Any, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = store.get_experiment_by_name(name)
    if found is None:
        try:
            return str(store.create_experiment(name, None, []))
        except MlflowException:  # on a server another client may have been faster
            found = store.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise experiment_deleted(name)
    return str(found.experiment_id)


def experiment_deleted(name: str) -> UsageError:
    """What to say when nothing can be logged because MLflow's user deleted the experiment."""
    return UsageError(
        "experiment-deleted",
        f"the experiment '{name}' was deleted in MLflow",
        f'restore it, or name another in modelyard.toml: [providers.mlflow] experiment = "{name}-2"',
    )


@contextlib.contextmanager
def mlflow_errors(doing: str, what: str) -> Iterator[None]:
    """Turn what MLflow and its database raise into one sentence."""
    try:
        yield
    except ModelyardError:
        raise
    except Exception as fault:
        what = without_credentials(what)
        system = _system_fault(fault)
        if system is not None:
            raise fault_of(system, Path(what)) from None
        said = said_by(fault)
        if re.search(r"failed with error code 40[13] ", said):
            raise EnvironmentFault(
                "login-refused",
                f"MLflow refuses the login, so it could not {doing} {what}",
                "correct user and password of the server, or of the target's service mlflow",
            ) from None
        if "no space left" in said.lower() or "disk is full" in said:
            raise EnvironmentFault(
                "disk-full", f"no space left for {what}", "free some space, then run this again"
            ) from None
        if "malformed" in said or "not a database" in said:
            raise database.damaged(Path(what), said) from None
        if "readonly database" in said or "Permission denied" in said:
            raise EnvironmentFault(
                "read-only", f"{what} can't be written: {said[:200]}", "check its rights"
            ) from None
        # The cause would show the address with its password where tracebacks are printed.
        raise EnvironmentFault(
            "mlflow-store", f"MLflow could not {doing} {what}: {said}", "modelyard doctor"
        ) from (fault if said == _one_line(fault) else None)


def said_by(fault: BaseException, limit: int = 400) -> str:
    """What an exception says, in one line, without credentials and without SQL."""
    said = without_credentials(_one_line(fault))
    return re.sub(r"\s*\[SQL: .*|\s*\(Background on this error.*", "", said)[:limit]


def without_credentials(text: str) -> str:
    """The text with user and password taken out of every address.

    Example:
        >>> without_credentials("no answer from https://me:secret@mlflow.example/")
        'no answer from https://***@mlflow.example/'
    """
    return re.sub(r"://[^/\s]*@", "://***@", text)


def _one_line(fault: BaseException) -> str:
    return " ".join(str(fault).split())


def _system_fault(fault: BaseException | None) -> OSError | None:
    """The system's own complaint about disk or rights, however deep MLflow has wrapped it."""
    while fault is not None:
        if isinstance(fault, OSError) and fault.errno in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EACCES,
            errno.EROFS,
        ):
            return fault
        fault = fault.__cause__ or fault.__context__
    return None


class _Quiet:
    """Silence for as long as any thread wants it. What it changes belongs to the whole process: were it
    put back by each thread for itself, one would restore the silence of another, and it would stay."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._wanted == 0:
                self._restore = _silenced()
            self._wanted += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._wanted -= 1
            if self._wanted == 0:
                self._restore.close()


_SILENCE = _Quiet()


def quiet() -> contextlib.AbstractContextManager[None]:
    """Import and call MLflow without telemetry, log lines and warnings reaching the user."""
    return _SILENCE


def _silenced() -> contextlib.ExitStack:
    """Switch it on; closing what is returned switches it off."""
    switch_telemetry_off()
    restore = contextlib.ExitStack()
    for name in ("mlflow", "alembic"):
        logger = logging.getLogger(name)
        restore.callback(logger.setLevel, logger.level)
    restore.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    # Parts of MLflow, imported when they are first used, put a filter of their own before ours.
    warnings.showwarning = _say_nothing
    # MLflow sets its own level while it is imported, so ours must come after.
    import mlflow.utils.logging_utils

    mlflow.utils.logging_utils.disable_logging()
    restore.callback(mlflow.utils.logging_utils.enable_logging)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return restore


def _say_nothing(*_: object, **__: object) -> None:
    pass
