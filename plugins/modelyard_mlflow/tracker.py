"""The stage `track` on MLflow: one call to create a run, one per batch, never the fluent API."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from modelyard.digests import digest_of, manifest, manifest_digest, model_manifest
from modelyard.errors import ConflictError, ModelyardError, NotFoundError, UsageError
from modelyard.records import DataUse, LoggedModel, Metric, Run, RunContext, RunStatus
from modelyard.s3 import Bucket
from modelyard.stages import StageContext
from modelyard.state import locked, os_errors
from modelyard_mlflow import convert
from modelyard_mlflow.files import bucket_of, downloaded, put, require_same
from modelyard_mlflow.store import (
    Stores,
    artifacts_at,
    experiment_deleted,
    mlflow_errors,
    open_stores,
    quiet,
    remember,
    said_by,
    switch_telemetry_off,
)

_METRICS_AT_ONCE = 1000
_PARAMS_AT_ONCE = 100
_PAGE = 100
#: How often others may be faster.
_RIVALS = 5
_WORK = "model-"
#: What MLflow says of an id that can't be one. The name of a parameter or tag may hold `run_id` too.
_NO_ID = re.compile(r"for parameter '(run|model)_?(id|uuid)'")
_DIGEST, _LINEAGE, _SIGNATURE = "modelyard.digest", "modelyard.lineage_id", "modelyard.signature"


class MlflowTracker:
    """See `modelyard.stages.Tracker`; the promises are written there."""

    def __init__(self, context: StageContext) -> None:
        switch_telemetry_off()
        self._context = context
        self._running: set[str] = set()

    @cached_property
    def _stores(self) -> Stores:
        return open_stores(self._context)

    @cached_property
    def _bucket(self) -> Bucket | None:
        return bucket_of(self._context)

    def start(
        self,
        name: str,
        context: RunContext,
        *,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        at: datetime | None = None,
    ) -> Run:
        """See `Tracker.start`."""
        stores = self._stores
        free = {key: _tag(key, value) for key, value in (tags or {}).items()}
        known = _tags({**free, **convert.context_tags(name, context, parent)})
        with self._failures("start", f"run '{name}'"):
            made = stores.tracking.create_run(
                stores.experiment_id, context.user, _milliseconds(at), known, name
            )
        self._running.add(made.info.run_id)
        return convert.run_of(made)

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Sequence[Metric] = (),
        tags: Mapping[str, str] | None = None,
        data: Sequence[DataUse] = (),
    ) -> None:
        """See `Tracker.log`."""
        store = self._stores.tracking
        from mlflow.entities import Param

        known = [Param(key, _param(key, value)) for key, value in (params or {}).items()]
        measured = [_metric(metric) for metric in metrics]
        free = _tags({key: _tag(key, value) for key, value in (tags or {}).items()})
        with self._failures("log to", f"run {run_id}"):
            for some_metrics, some_params, some_tags in _batches(measured, known, free):
                store.log_batch(run_id, some_metrics, some_params, some_tags)
            if data:
                self._log_inputs(run_id, [convert.dataset_input(use) for use in data])

    def _log_inputs(self, run_id: str, inputs: list[Any]) -> None:
        """MLflow keeps a data set once for all runs of an experiment: of two runs that name a new one at the
        same moment it refuses one. The second time it finds it."""
        from mlflow.exceptions import MlflowException

        for attempt in range(_RIVALS + 1):
            try:
                self._stores.tracking.log_inputs(run_id, inputs)
                return
            except MlflowException as fault:
                if attempt == _RIVALS or not re.search(r"IntegrityError|UniqueViolation", str(fault)):
                    raise

    def metrics(self, run_id: str) -> list[Metric]:
        """See `Tracker.metrics`."""
        with self._failures("read the metrics of", f"run {run_id}"):
            found = self._history(run_id)
        found.sort(key=lambda metric: (metric.step, metric.timestamp))
        return [
            Metric(
                name=metric.key,
                value=convert.unclamped(metric.value),
                step=metric.step,
                time=convert.time_of(metric.timestamp),
            )
            for metric in found
        ]

    def _history(self, run_id: str) -> list[Any]:
        """All values, in MLflow's terms: of a database by one query, of a server name by name."""
        store = self._stores.tracking
        if hasattr(store, "ManagedSessionMaker"):
            from mlflow.store.tracking.dbmodels.models import SqlMetric

            with store.ManagedSessionMaker() as session:
                rows = session.query(SqlMetric).filter(SqlMetric.run_uuid == run_id)
                values = [row.to_mlflow_entity() for row in rows]
            return values if values or self._active(run_id) else []
        found: list[Any] = []
        for name in self._active(run_id).data.metrics:
            token = None
            while True:
                page = store.get_metric_history(run_id, name, page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        return found

    def log_file(self, run_id: str, path: Path, *, folder: str = "") -> None:
        """See `Tracker.log_file`."""
        with self._failures("store a file with", f"run {run_id}"), os_errors(path):
            uri = self._active(run_id).info.artifact_uri
            (file,) = manifest(path)
            place = f"{uri}/{folder}" if folder else uri
            put(self._stores, self._bucket, place, path.parent, [{**file, "path": path.name}])

    def files(self, run_id: str) -> Path:
        """See `Tracker.files`."""
        with self._failures("find the files of", f"run {run_id}"):
            uri = self._active(run_id).info.artifact_uri
        parts = urlsplit(uri)
        state = self._context.state / "files"
        if parts.scheme in ("", "file"):
            folder = Path(unquote(parts.path))
            folder = folder if folder.is_dir() else state / "none"
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        folder = state / digest_of([self._stores.uri, run_id])
        with locked(folder.with_suffix(".lock"), timeout=600, doing=f"downloading the files of {run_id}"):
            shutil.rmtree(folder, ignore_errors=True)  # the run may have stored more since
            folder.mkdir(parents=True)
            with self._failures("download the files of", f"run {run_id}"):
                artifacts_at(uri, self._stores).download_artifacts("", str(folder))
        return folder

    def artifact(self, run_id: str, path: str) -> Path:
        """See `Tracker.artifact`."""
        stores = self._stores
        with self._failures("find what was logged by", f"run {run_id}"):
            outputs = self._active(run_id).outputs
            ids = [model.model_id for model in outputs.model_outputs] if outputs else []
            logged = [stores.tracking.get_logged_model(model_id) for model_id in ids]
        named = [model for model in logged if model.name == path]
        if named:
            return self._model_files(named[-1], f"{path} of run {run_id}")
        found = self.files(run_id) / path
        if not found.resolve().is_relative_to(self.files(run_id).resolve()) or not found.exists():
            there = ", ".join(sorted({model.name for model in logged})) or "none"
            raise NotFoundError(
                "model-files-missing",
                f"run {run_id} logged nothing as '{path}'; its models: {there}",
                f"modelyard runs show {run_id[:8]}",
            )
        return found

    def _model_files(self, model: Any, what: str) -> Path:
        """Of a logged model, which never changes."""
        location = model.artifact_location
        parts = urlsplit(location)
        if parts.scheme in ("", "file"):
            return Path(unquote(parts.path))
        folder = self._context.state / "models" / digest_of([self._stores.uri, model.model_id])
        with self._failures("download", what):
            if not downloaded(artifacts_at(location, self._stores), folder, what):
                raise NotFoundError(
                    "model-files-missing", f"MLflow has no files of {what}", "modelyard runs list"
                )
        return folder

    def log_model(
        self,
        run_id: str,
        model: object,
        *,
        example: object | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> LoggedModel:
        """See `Tracker.log_model`."""
        from modelyard_mlflow.saving import save

        stores = self._stores
        with self._failures("store the model of", f"run {run_id}"), quiet(), self._workplace() as work:
            entity = self._created(stores, run_id)
            try:
                saved = save(
                    model, work / "model", example, run_id=run_id, entity=entity, root=self._context.root
                )
                for name, content in (files or {}).items():
                    (work / "model" / name).write_bytes(content)
                stored = model_manifest(work / "model")
                digest, lineage = manifest_digest(stored), _lineage_in(work / "model")
                put(stores, self._bucket, entity.artifact_location, work / "model", stored)
                tags = _model_tags(digest, lineage, signature=saved.signature is not None)
                stores.tracking.set_logged_model_tags(entity.model_id, tags)
                self._finalised(stores, entity, run_id)
            except BaseException:
                with contextlib.suppress(Exception):
                    stores.tracking.delete_logged_model(entity.model_id)
                raise
        return LoggedModel(uri=f"models:/{entity.model_id}", run_id=run_id, digest=digest, lineage_id=lineage)

    def add_model(self, run_id: str | None, folder: Path) -> LoggedModel:
        """See `Tracker.add_model`."""
        stores = self._stores
        files = model_manifest(folder)
        digest, lineage = manifest_digest(files), _lineage_in(folder)
        tags = _model_tags(digest, lineage, signature=_states_a_signature(folder))
        with self._failures("store a model of", f"run {run_id}"), quiet():
            entity = self._created(stores, run_id, tags)
            try:
                if not put(stores, self._bucket, entity.artifact_location, folder, files):
                    require_same(stores, entity.artifact_location, digest)
                self._finalised(stores, entity, run_id)
            except BaseException:
                with contextlib.suppress(Exception):
                    stores.tracking.delete_logged_model(entity.model_id)
                raise
        return LoggedModel(
            uri=f"models:/{entity.model_id}", run_id=run_id or "", digest=digest, lineage_id=lineage
        )

    def logged_model(self, uri: str) -> LoggedModel:
        """See `Tracker.logged_model`."""
        model_id = uri.removeprefix("models:/")
        with self._failures("find", f"the logged model {uri}", "logged-model-not-found"):
            found = self._stores.tracking.get_logged_model(model_id)
        if str(found.status) != "READY":
            raise NotFoundError(
                "logged-model-not-found", f"the logged model {uri} was never finished", "modelyard runs list"
            )
        tags = found.tags
        return LoggedModel(
            uri=f"models:/{found.model_id}",
            run_id=found.source_run_id or "",
            digest=tags.get(_DIGEST) or "",
            lineage_id=tags.get(_LINEAGE),
        )

    def finish(self, run_id: str, status: RunStatus = "finished", *, at: datetime | None = None) -> None:
        """See `Tracker.finish`."""
        # Reading a run costs as much as ending it; a run that was started here is known to be running.
        if run_id not in self._running and self.get(run_id).status == status:
            return
        with self._failures("end", f"run {run_id}"):
            self._stores.tracking.update_run_info(
                run_id, convert.status_number(status), _milliseconds(at), None
            )
        self._running.discard(run_id)

    def get(self, run_id: str) -> Run:
        """See `Tracker.get`."""
        with self._failures("find", f"run {run_id}"):
            return convert.run_of(self._active(run_id))

    def runs(self, *, name: str | None = None, limit: int = 50) -> list[Run]:
        """See `Tracker.runs`."""
        found: list[Run] = []
        token = None
        while len(found) < limit:
            page = self._page(name, min(_PAGE, limit - len(found)), token)
            found += [convert.run_of(run) for run in page if name is None or run.info.run_name == name]
            token = page.token
            if not token:
                break
        return found[:limit]

    def _page(self, name: str | None, size: int, token: str | None) -> Any:
        stores = self._stores
        from mlflow.entities import ViewType

        with self._failures("list", "the runs"):
            return stores.tracking.search_runs(
                [stores.experiment_id],
                _named(name),
                ViewType.ACTIVE_ONLY,
                size,
                ["attributes.start_time DESC"],
                token,
            )

    def _active(self, run_id: str) -> Any:
        found = self._stores.tracking.get_run(run_id)
        if found.info.lifecycle_stage != "active":
            raise _deleted(f"run {run_id}")
        return found

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        """A folder to write a model in, and an end to those that killed processes left."""
        import psutil  # type: ignore[import-untyped,unused-ignore]

        state = self._context.state
        with os_errors(state):
            state.mkdir(parents=True, exist_ok=True)
            for left in state.glob(f"{_WORK}*"):
                if not psutil.pid_exists(int(left.name.removeprefix(_WORK).partition("-")[0] or 0)):
                    shutil.rmtree(left, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=f"{_WORK}{os.getpid()}-", dir=state))
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)

    def _created(self, stores: Stores, run_id: str | None, tags: Sequence[Any] = ()) -> Any:
        from mlflow.entities import LoggedModelParameter

        experiment_id, params = stores.experiment_id, []
        if run_id is not None:
            run = self._active(run_id)
            experiment_id = run.info.experiment_id
            params = [LoggedModelParameter(key, value) for key, value in run.data.params.items()]
        return stores.tracking.create_logged_model(
            experiment_id=experiment_id, name="model", source_run_id=run_id, tags=list(tags), params=params
        )

    @staticmethod
    def _finalised(stores: Stores, entity: Any, run_id: str | None) -> None:
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        ready = stores.tracking.finalize_logged_model(entity.model_id, LoggedModelStatus.READY)
        remember(stores, ready)
        # The run names the model last: a process killed before leaves a run without a half model.
        if run_id is not None:
            stores.tracking.log_outputs(run_id, [LoggedModelOutput(entity.model_id, 0)])

    @contextmanager
    def _failures(self, doing: str, what: str, code: str = "run-not-found") -> Iterator[None]:
        stores = self._stores  # opened first, because that imports MLflow quietly
        from mlflow.exceptions import MlflowException

        with mlflow_errors(doing, what):
            try:
                yield
            except MlflowException as fault:
                raise _refusal(fault, what, code, stores.experiment) or fault from None


def _refusal(fault: Any, what: str, code: str, experiment: str) -> ModelyardError | None:
    """What MLflow's refusal means; None if it is a failure of the store."""
    said = said_by(fault, 300)
    named = what.removeprefix("the ")
    if fault.error_code == "RESOURCE_DOES_NOT_EXIST" or _NO_ID.search(said):
        return NotFoundError(code, f"there is no {named}", "modelyard runs list")
    if "Changing param values" in said:
        return ConflictError(
            "param-changed",
            f"{what} has that parameter already, with another value: {said}",
            "log it under another name, or start another run",
        )
    if fault.error_code != "INVALID_PARAMETER_VALUE":
        return None
    if "must be in the 'active' state" in said:
        return experiment_deleted(experiment) if said.startswith("The experiment") else _deleted(named)
    return UsageError("log-refused", f"MLflow refuses what {what} logs: {said}")


def _deleted(what: str) -> NotFoundError:
    return NotFoundError("run-not-found", f"{what} was deleted in MLflow", "modelyard runs list")


def _batches(metrics: list[Any], params: list[Any], tags: list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Pieces within MLflow's limits: 1000 items, of them at most 1000 metrics, 100 params, 100 tags."""
    while metrics or params or tags:
        room = _METRICS_AT_ONCE - min(len(params), _PARAMS_AT_ONCE) - min(len(tags), _PARAMS_AT_ONCE)
        yield metrics[:room], params[:_PARAMS_AT_ONCE], tags[:_PARAMS_AT_ONCE]
        metrics, params, tags = metrics[room:], params[_PARAMS_AT_ONCE:], tags[_PARAMS_AT_ONCE:]


def _param(key: str, value: object) -> str:
    text = str(value)
    if len(text) > convert.PARAM_LIMIT:
        raise UsageError(
            "param-too-long",
            f"parameter '{key}' has {len(text)} characters; MLflow keeps {convert.PARAM_LIMIT}",
            "write it to a file and log that: run.log_file(path)",
        )
    return text


def _tag(key: str, value: object) -> str:
    """MLflow would cut it, and say so only in its log."""
    text = str(value)
    if len(text) > convert.TAG_LIMIT:
        raise UsageError(
            "log-refused",
            f"tag '{key}' has {len(text)} characters; MLflow keeps {convert.TAG_LIMIT}",
            "write it to a file and log that: run.log_file(path)",
        )
    return text


def _metric(metric: Metric) -> Any:
    from mlflow.entities import Metric as MlflowMetric

    return MlflowMetric(metric.name, float(metric.value), _milliseconds(metric.time), metric.step)


def _tags(values: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(key, str(value)) for key, value in values.items()]


def _named(name: str | None) -> str:
    """MLflow's filter has no escape: a name with both quotes is filtered by the caller alone."""
    if name is None or ("'" in name and '"' in name):
        return ""
    quote = '"' if "'" in name else "'"
    return f"attributes.run_name = {quote}{name}{quote}"


def _model_tags(digest: str, lineage: str | None, *, signature: bool) -> list[Any]:
    from mlflow.entities import LoggedModelTag

    tags = {_DIGEST: digest, _LINEAGE: lineage or "", _SIGNATURE: str(signature).lower()}
    return [LoggedModelTag(key, value) for key, value in tags.items() if value]


def _lineage_in(folder: Path) -> str | None:
    file = folder / "lineage.json"
    if not file.is_file():
        return None
    record = json.loads(file.read_bytes())
    return str(record.get("id") or digest_of(record))


def _states_a_signature(folder: Path) -> bool:
    file = folder / "MLmodel"
    return file.is_file() and any(line.startswith(b"signature:") for line in file.read_bytes().splitlines())


def _milliseconds(moment: datetime | None) -> int:
    return round(moment.timestamp() * 1000) if moment else int(time.time() * 1000)
