"""The reference tracker: one JSON file per run."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from modelyard import state
from modelyard.digests import digest_of, model_digest
from modelyard.errors import ConflictError, NotFoundError, UsageError
from modelyard.records import DataUse, LoggedModel, Metric, Run, RunContext, RunStatus, now
from modelyard.stages import StageContext
from modelyard.testing.models import ConstantModel


class MemoryTracker:
    """Keeps runs under `runs/`, their files and models under `files/`."""

    def __init__(self, context: StageContext) -> None:
        self._runs = context.state / "runs"
        self._files = context.state / "files"
        self._models = context.state / "models"
        self._lock = context.state / "runs.lock"

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
        with state.locked(self._lock):
            run = Run(
                # Runs of one instant are told apart by their number.
                id=f"{len(self._ids()):06d}-{uuid.uuid4().hex[:8]}",
                name=name,
                status="running",
                started=at or now(),
                user=context.user,
                code=context.code,
                environment=context.environment,
                tags={**({"parent": parent} if parent else {}), **(tags or {})},
            )
            self._write(run)
        return run

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
        with state.locked(self._lock):
            run = self.get(run_id)
            given = {name: str(value) for name, value in (params or {}).items()}
            for name, value in given.items():
                if run.params.get(name, value) != value:
                    raise ConflictError(
                        "param-changed",
                        f"parameter '{name}' of run {run_id} is {run.params[name]} already, not {value}",
                        "log it under another name",
                    )
            run = replace(
                run,
                params={**run.params, **given},
                metrics={**run.metrics, **{metric.name: metric.value for metric in metrics}},
                tags={**run.tags, **(tags or {})},
                data=(*run.data, *(use for use in data if use not in run.data)),
            )
            self._write(run)
            self._write_history(run_id, [*self.metrics(run_id), *metrics])

    def metrics(self, run_id: str) -> list[Metric]:
        """See `Tracker.metrics`."""
        self.get(run_id)
        found = state.read_json(self._history(run_id)) or []
        return [Metric.from_dict({**values, "value": float(values["value"])}) for values in found]

    def log_file(self, run_id: str, path: Path, *, folder: str = "") -> None:
        """See `Tracker.log_file`."""
        target = self._files / self.get(run_id).id / folder
        with state.os_errors(path):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target / path.name)

    def files(self, run_id: str) -> Path:
        """See `Tracker.files`."""
        folder = self._files / self.get(run_id).id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def artifact(self, run_id: str, path: str) -> Path:
        """See `Tracker.artifact`; every model is logged as `model`."""
        models = self.get(run_id).models
        if path == "model" and models:
            return Path(unquote(urlsplit(models[-1]).path))
        file = self.files(run_id) / path
        if not file.exists():
            raise NotFoundError("model-files-missing", f"run {run_id} logged nothing as {path}")
        return file

    def log_model(
        self,
        run_id: str,
        model: object,
        *,
        example: object | None = None,  # noqa: ARG002 - the model knows its columns
        files: Mapping[str, bytes] | None = None,
    ) -> LoggedModel:
        """See `Tracker.log_model`; it takes `ConstantModel`s."""
        if not isinstance(model, ConstantModel):
            raise UsageError(
                "model-not-serialisable",
                f"a {type(model).__name__} can't be stored; this tracker takes ConstantModel",
            )
        self.get(run_id)
        folder = self._models / uuid.uuid4().hex
        model.save(folder)
        for name, content in (files or {}).items():
            state.write_bytes(folder / name, content)
        return self._stored(run_id, folder)

    def add_model(self, run_id: str | None, folder: Path) -> LoggedModel:
        """See `Tracker.add_model`."""
        if run_id is not None:
            self.get(run_id)
        copy = self._models / uuid.uuid4().hex
        with state.os_errors(copy):
            shutil.copytree(folder, copy)
        return self._stored(run_id, copy)

    def _stored(self, run_id: str | None, folder: Path) -> LoggedModel:
        lineage = folder / "lineage.json"
        logged = LoggedModel(
            uri=folder.as_uri(),
            run_id=run_id or "",
            digest=model_digest(folder),
            lineage_id=json.loads(lineage.read_bytes())["id"] if lineage.exists() else None,
        )
        state.write_json(self._note(logged.uri), logged.to_dict())
        if run_id is not None:
            with state.locked(self._lock):
                run = self.get(run_id)
                self._write(replace(run, models=(*run.models, logged.uri)))
        return logged

    def logged_model(self, uri: str) -> LoggedModel:
        """See `Tracker.logged_model`."""
        found = state.read_json(self._note(uri))
        if found is None:
            raise NotFoundError("logged-model-not-found", f"no run logged a model {uri}")
        return LoggedModel.from_dict(found)

    def finish(self, run_id: str, status: RunStatus = "finished", *, at: datetime | None = None) -> None:
        """See `Tracker.finish`."""
        with state.locked(self._lock):
            run = self.get(run_id)
            if run.status != status:
                self._write(replace(run, status=status, ended=at or now()))

    def get(self, run_id: str) -> Run:
        """See `Tracker.get`."""
        found = state.read_json(self._file(run_id)) if run_id in self._ids() else None
        if found is None:
            raise NotFoundError("run-not-found", f"no run '{run_id}'", "modelyard runs list")
        # JSON has no NaN and no infinity, so metrics are kept as text.
        found["metrics"] = {name: float(text) for name, text in found["metrics"].items()}
        return Run.from_dict(found)

    def runs(self, *, name: str | None = None, limit: int = 50) -> list[Run]:
        """See `Tracker.runs`."""
        newest = (self.get(run_id) for run_id in sorted(self._ids(), reverse=True))
        return [run for run in newest if name is None or run.name == name][:limit]

    def _ids(self) -> list[str]:
        return [file.stem for file in self._runs.glob("*.json")]

    def _file(self, run_id: str) -> Path:
        return self._runs / f"{run_id}.json"

    def _history(self, run_id: str) -> Path:
        return self._runs / "metrics" / f"{run_id}.json"

    def _write_history(self, run_id: str, metrics: Sequence[Metric]) -> None:
        state.write_json(self._history(run_id), [{**m.to_dict(), "value": repr(m.value)} for m in metrics])

    def _note(self, uri: str) -> Path:
        return self._models / f"{digest_of(uri)}.json"

    def _write(self, run: Run) -> None:
        content: dict[str, Any] = run.to_dict()
        content["metrics"] = {name: repr(value) for name, value in run.metrics.items()}
        state.write_json(self._file(run.id), content)
