"""A run while it runs: what `with yard.run(...) as run:` gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from modelyard import lineage
from modelyard.buffer import LogBuffer
from modelyard.digests import canonical_json, digest_of
from modelyard.errors import NotFoundError, UsageError
from modelyard.output import Output, file_of
from modelyard.records import DataRef, DataUse, LoggedModel, Metric, ModelVersion, Run, RunStatus, now
from modelyard.stages import Reference

if TYPE_CHECKING:
    from typing_extensions import Self

    from modelyard.yard import Yard

PROFILE_FILE = "profile.json"


class ActiveRun:
    """Collects what a run logs; leaving the `with` block ends the run, as failed after an exception."""

    def __init__(self, yard: Yard, run: Run, params: Mapping[str, object]) -> None:
        self._yard = yard
        self._run = run
        self._latest: dict[str, Metric] = {}
        self._listeners: list[Callable[[Sequence[Metric]], None]] = []
        self._buffer = LogBuffer(yard.tracker, run.id)
        self._output = Output(file_of(yard.state, run.id))
        yard.plugins.tell("modelyard_after_run_start", yard=yard, run=self)
        self.log_params(params)

    def __repr__(self) -> str:
        return f"<run {self.id[:8]} '{self._run.name}', {self._run.status}>"

    def _repr_html_(self) -> str:
        return self.record._repr_html_()

    @property
    def id(self) -> str:
        """The run's id."""
        return self._run.id

    @property
    def record(self) -> Run:
        """The run with what this process logged so far, whether it is stored already or not."""
        return replace(self._run, metrics={name: metric.value for name, metric in self._latest.items()})

    @property
    def yard(self) -> Yard:
        """The project that the run belongs to."""
        return self._yard

    def listen(self, listener: Callable[[Sequence[Metric]], None]) -> None:
        """Tell `listener` of all metrics from now on, at once and in the thread that logs them; with none
        once the run has ended."""
        self._listeners.append(listener)

    def __enter__(self) -> Self:
        self._output.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None
    ) -> None:
        self._output.end(fault)
        status: RunStatus = "finished" if kind is None else "failed"
        if kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit)):
            status = "killed"
        try:
            self._buffer.flush()
        except BaseException:
            status = "failed"  # what it logged was refused: it must not look like a whole one
            raise
        finally:
            self._yard.tracker.finish(self.id, status)
            self._run = replace(self._run, status=status, ended=now())
            for listener in self._listeners:
                listener(())
            self._yard.plugins.tell("modelyard_after_run", yard=self._yard, run=self.record)

    def use(self, data: DataRef | str, *, role: str = "train") -> DataRef:
        """Note that the run reads a data version, e.g. as `train`, `valid` or `test`.

        Raises:
            NotFoundError: `data-not-found`: no data set of that name or path.
        """
        ref = data if isinstance(data, DataRef) else self._yard.data.get(data)
        use = DataUse(role=role, ref=ref)
        self._yard.tracker.log(self.id, data=[use])
        self._run = replace(self._run, data=(*self._run.data, use))
        return ref

    def log(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Metrics; the same name with rising steps makes a curve.

        They are written together with what else is logged within the second, so that a call in a
        training loop costs next to nothing.

        Raises:
            UsageError: `metric-not-a-number`.
        """
        logged = [Metric(name=k, value=_number(k, v), step=step, time=now()) for k, v in metrics.items()]
        self._buffer.add(metrics=logged)
        for metric in logged:
            if metric.step >= self._latest.get(metric.name, metric).step:
                self._latest[metric.name] = metric
        for listener in self._listeners:
            listener(logged)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Parameters; they can't change once logged (`param-changed`, said at the next call)."""
        self._buffer.add(params=params)
        known = {name: str(value) for name, value in params.items()}
        self._run = replace(self._run, params={**self._run.params, **known})

    def tag(self, tags: Mapping[str, str]) -> None:
        """Free words on the run."""
        self._buffer.add(tags=tags)
        self._run = replace(self._run, tags={**self._run.tags, **tags})

    def log_file(self, path: str | Path, *, folder: str = "") -> None:
        """Keep a copy of a file with the run.

        Raises:
            NotFoundError: `file-not-found`.
        """
        if not Path(path).is_file():
            raise NotFoundError("file-not-found", f"there is no file {path}")
        self._yard.tracker.log_file(self.id, Path(path), folder=folder)

    @overload
    def log_model(
        self, model: object, *, name: str, example: object = ..., reference: Reference | None = ...
    ) -> ModelVersion: ...

    @overload
    def log_model(
        self,
        model: object,
        *,
        name: None = ...,
        example: object = ...,
        reference: Reference | None = ...,
    ) -> LoggedModel: ...

    def log_model(
        self,
        model: object,
        *,
        name: str | None = None,
        example: object = None,
        reference: Reference | None = None,
    ) -> ModelVersion | LoggedModel:
        """Store a fitted model with its signature, lineage and reference profile.

        Args:
            model: the fitted model.
            name: register it under this name at once; without one, `yard.models.register` does later.
            example: a few rows of input, for the signature.
            reference: labelled data that it is judged against in production; predictions are made
                here if they are not given. Log it to see drift and quality later.

        Raises:
            UsageError: `model-not-serialisable`.
        """
        self._buffer.flush()
        files = {lineage.LINEAGE_FILE: self._lineage()}
        if reference is not None:
            files[PROFILE_FILE] = self._profile(model, reference)
        logged = self._yard.tracker.log_model(self.id, model, example=example, files=files)
        self._run = replace(self._run, models=(*self._run.models, logged.uri))
        return logged if name is None else self._yard.models.register(name, logged)

    def _lineage(self) -> bytes:
        record = lineage.describe(self._yard.tracker.get(self.id))
        return canonical_json({**record, "id": digest_of(record)})

    def _profile(self, model: object, reference: Reference) -> bytes:
        if reference.predictions is None:
            reference = replace(reference, predictions=predictions_of(model, reference.features))
        if reference.classes is None:
            reference = replace(reference, classes=_classes_of(model))
        profile = self._yard.monitor_provider.profile(reference)
        return json.dumps(profile, allow_nan=False).encode()


def predictions_of(model: Any, features: Any) -> Any:
    """What the model says: the probability of 1 (or True) where its classes are 0 and 1, else `predict`."""
    classes = _classes_of(model)
    if hasattr(model, "predict_proba") and (classes is None or set(classes) <= {0, 1}):
        probabilities = model.predict_proba(features)
        if getattr(probabilities, "ndim", 1) == 2 and probabilities.shape[1] == 2:
            return probabilities[:, 1]
    return model.predict(features)


def _classes_of(model: Any) -> list[Any] | None:
    classes: Any = getattr(model, "classes_", None)
    if getattr(classes, "ndim", None) != 1:
        return None  # no classifier, or one that answers several questions at once
    named: list[Any] = classes.tolist()
    return named


def _number(name: str, value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UsageError("metric-not-a-number", f"metric '{name}' is {value!r:.60}, not a number") from None
