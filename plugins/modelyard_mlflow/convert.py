"""MLflow's entities to records and back, and the tags for what MLflow has no field for."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar

from modelyard.records import Code, DataRef, DataUse, Environment, Record, Run, RunContext, RunStatus

R = TypeVar("R", bound=Record)

#: MLflow truncates or refuses longer values.
PARAM_LIMIT = 6000
TAG_LIMIT = 8000
_LARGEST = sys.float_info.max
ROLE_TAG = "mlflow.data.context"
_CONTEXT_TAG = "modelyard.context"
_STATUS_TO: dict[RunStatus, str] = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    "killed": "KILLED",
}
_STATUS_FROM: dict[str, RunStatus] = {
    "RUNNING": "running",
    "SCHEDULED": "running",
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "killed",
}


def status_number(status: RunStatus) -> int:
    """MLflow's number for a status."""
    from mlflow.entities import RunStatus as MlflowStatus

    return int(MlflowStatus.from_string(_STATUS_TO[status]))


def context_tags(name: str, context: RunContext, parent: str | None) -> dict[str, str]:
    """The tags of a new run: MLflow's own where it has one, so that its interface shows them."""
    code, environment = context.code, context.environment
    known = {"code": code.to_dict(), "environment": environment.to_dict() if environment else None}
    tags = {
        "mlflow.runName": name,
        "mlflow.user": context.user,
        "mlflow.source.name": code.entry_point,
        "mlflow.source.type": "NOTEBOOK" if code.entry_point.endswith(".ipynb") else "LOCAL",
        "mlflow.source.git.commit": code.commit or "",
        "mlflow.source.git.branch": code.branch or "",
        "mlflow.source.git.repoURL": code.repository or "",
        "mlflow.parentRunId": parent or "",
        _CONTEXT_TAG: json.dumps(known),
    }
    return {key: value[:TAG_LIMIT] for key, value in tags.items() if value}


def run_of(found: Any) -> Run:
    """The record of an MLflow run, ours or one that plain MLflow made."""
    info, tags = found.info, dict(found.data.tags)
    context = _json(tags.pop(_CONTEXT_TAG, None))
    code = _record(Code, context.get("code")) or _foreign_code(tags)
    environment = _record(Environment, context.get("environment"))
    outputs = getattr(found.outputs, "model_outputs", None) or []
    return Run(
        id=info.run_id,
        name=info.run_name or "",
        status=_STATUS_FROM[info.status],
        started=time_of(info.start_time),
        ended=time_of(info.end_time) if info.end_time else None,
        user=tags.get("mlflow.user") or info.user_id or "",
        params=dict(found.data.params),
        metrics={name: unclamped(value) for name, value in found.data.metrics.items()},
        data=tuple(_data_use(item) for item in getattr(found.inputs, "dataset_inputs", None) or []),
        code=code,
        environment=environment,
        tags={key: value for key, value in tags.items() if not key.startswith(("mlflow.", "modelyard."))},
        models=tuple(f"models:/{output.model_id}" for output in outputs),
    )


def dataset_input(use: DataUse) -> Any:
    """A data version as MLflow's dataset input; its digest field takes 36 characters, as DVC's has."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    ref = use.ref
    return DatasetInput(
        Dataset(
            # MLflow keeps one input per name and digest: without the role a second role would be lost.
            name=f"{ref.name} ({use.role})",
            digest=ref.version[:36],
            source_type=ref.scheme,
            source=json.dumps(ref.to_dict()),
            schema=None,
            profile=json.dumps({"size": ref.size, "files": ref.files}),
        ),
        [InputTag(ROLE_TAG, use.role)],
    )


def _data_use(item: Any) -> DataUse:
    dataset = item.dataset
    role = next((tag.value for tag in item.tags if tag.key == ROLE_TAG), "")
    source = _json(dataset.source)
    ours = _record(DataRef, source)
    if ours is not None:
        return DataUse(role=role, ref=ours)
    # Logged by plain MLflow: keep what there is.
    path = str(source.get("uri") or source.get("path") or dataset.name)
    ref = DataRef(
        name=dataset.name,
        scheme=dataset.source_type,
        path=path,
        version=dataset.digest,
        digest="",
        size=0,
        files=0,
    )
    return DataUse(role=role, ref=ref)


def _foreign_code(tags: Mapping[str, str]) -> Code:
    return Code(
        commit=tags.get("mlflow.source.git.commit"),
        branch=tags.get("mlflow.source.git.branch"),
        repository=tags.get("mlflow.source.git.repoURL"),
        entry_point=tags.get("mlflow.source.name", ""),
    )


def unclamped(value: float) -> float:
    """MLflow writes infinities as the largest number that its column takes."""
    return math.copysign(math.inf, value) if abs(value) >= _LARGEST else value


def _record(kind: type[R], values: object) -> R | None:
    """The record, or None where somebody else wrote the tag: one such run must not hide the others."""
    try:
        return kind.from_dict(values) if isinstance(values, dict) else None
    except (TypeError, ValueError, AttributeError):
        return None


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def time_of(milliseconds: int) -> datetime:
    """MLflow's milliseconds as a time."""
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
