"""The tracker: one JSON file per run, one folder per model."""

import json
import pickle
import shutil
import time
import uuid
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from modelyard import state
from modelyard.digests import model_digest
from modelyard.errors import ConflictError, NotFoundError, UsageError
from modelyard.records import LoggedModel, Metric, Run, now


class AcmeTracker:
    def __init__(self, folder):
        self._folder = folder

    def start(self, name, context, *, parent=None, tags=None, at=None):
        run = Run(
            id=f"{time.time_ns():020d}-{uuid.uuid4().hex[:6]}",
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

    def log(self, run_id, *, params=None, metrics=(), tags=None, data=()):
        with self._changing(run_id):
            run = self.get(run_id)
            params = {name: str(value) for name, value in (params or {}).items()}
            changed = [name for name in params if run.params.get(name, params[name]) != params[name]]
            if changed:
                raise ConflictError("param-changed", f"'{changed[0]}' of {run_id} has another value already")
            self._write(
                replace(
                    run,
                    params={**run.params, **params},
                    metrics={**run.metrics, **{metric.name: metric.value for metric in metrics}},
                    tags={**run.tags, **(tags or {})},
                    data=(*run.data, *data),
                )
            )
            for metric in metrics:
                values = {**metric.to_dict(), "value": repr(metric.value)}
                state.append_line(self._history(run_id), json.dumps(values).encode())

    def metrics(self, run_id):
        self.get(run_id)
        history = self._history(run_id)
        lines = history.read_text(encoding="utf-8").splitlines() if history.exists() else []
        found = map(json.loads, lines)
        return [Metric.from_dict({**values, "value": float(values["value"])}) for values in found]

    def log_file(self, run_id, path, *, folder=""):
        self.get(run_id)
        target = self._folder / "files" / run_id / folder
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)

    def files(self, run_id):
        folder = self._folder / "files" / self.get(run_id).id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def artifact(self, run_id, path):
        models = self.get(run_id).models
        if path == "model" and models:
            return Path(url2pathname(urlsplit(models[-1]).path))
        file = self.files(run_id) / path
        if not file.exists():
            raise NotFoundError("model-files-missing", f"run {run_id} logged nothing as {path}")
        return file

    def log_model(self, run_id, model, *, example=None, files=None):
        self.get(run_id)
        try:
            content = pickle.dumps(model)
        except Exception:
            raise UsageError("model-not-serialisable", f"can't pickle a {type(model).__name__}") from None
        folder = self._folder / "models" / uuid.uuid4().hex
        for name, its_content in {"model.pkl": content, **(files or {})}.items():
            state.write_bytes(folder / name, its_content)
        return self._stored(run_id, folder)

    def add_model(self, run_id, folder):
        if run_id is not None:
            self.get(run_id)
        copy = self._folder / "models" / uuid.uuid4().hex
        shutil.copytree(folder, copy)
        return self._stored(run_id, copy)

    def _stored(self, run_id, folder):
        lineage = folder / "lineage.json"
        logged = LoggedModel(
            uri=folder.as_uri(),
            run_id=run_id or "",
            digest=model_digest(folder),
            lineage_id=json.loads(lineage.read_bytes())["id"] if lineage.exists() else None,
        )
        state.write_json(folder.with_suffix(".json"), logged.to_dict())
        if run_id is not None:
            with self._changing(run_id):
                run = self.get(run_id)
                self._write(replace(run, models=(*run.models, logged.uri)))
        return logged

    def logged_model(self, uri):
        found = state.read_json(self._folder / "models" / f"{uri.rpartition('/')[2]}.json")
        if found is None:
            raise NotFoundError("logged-model-not-found", f"nobody logged a model {uri}")
        return LoggedModel.from_dict(found)

    def finish(self, run_id, status="finished", *, at=None):
        with self._changing(run_id):
            run = self.get(run_id)
            if run.status != status:
                self._write(replace(run, status=status, ended=at or now()))

    def get(self, run_id):
        found = state.read_json(self._file(run_id))
        if found is None:
            raise NotFoundError("run-not-found", f"there is no run '{run_id}'", "modelyard runs list")
        metrics = {name: float(text) for name, text in found["metrics"].items()}
        return replace(Run.from_dict(found), metrics=metrics)

    def runs(self, *, name=None, limit=50):
        ids = sorted((file.stem for file in (self._folder / "runs").glob("*.json")), reverse=True)
        return [run for run in map(self.get, ids) if name in (None, run.name)][:limit]

    def _file(self, run_id):
        return self._folder / "runs" / f"{run_id}.json"

    def _history(self, run_id):
        return self._folder / "runs" / f"{run_id}.metrics"

    def _changing(self, run_id):
        return state.locked(self._folder / "runs.lock", doing=f"log into {run_id}")

    def _write(self, run):
        metrics = {name: repr(value) for name, value in run.metrics.items()}  # JSON has no NaN
        state.write_json(self._file(run.id), {**run.to_dict(), "metrics": metrics})
