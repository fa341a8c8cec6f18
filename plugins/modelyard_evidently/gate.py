"""The gate `quality`: what `profile.json` says the model did on its reference data."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from modelyard.gates import limits
from modelyard.offers import Candidate
from modelyard.records import GateResult

#: Metrics for which less is better.
LOWER_IS_BETTER = frozenset({"brier", "calibration_error", "mae", "rmse"})


class QualityGate(BaseModel):
    """Settings of the gate `quality`."""

    model_config = ConfigDict(extra="forbid")
    metric: Literal["auc", "brier", "calibration_error", "accuracy", "mae", "rmse"] = Field(
        description="Which metric of the reference profile."
    )
    min: float | None = Field(None, description="At least this.")
    max: float | None = Field(None, description="At most this.")
    tolerance: float | None = Field(
        None, ge=0, description="At most this much worse than the version that holds the alias now."
    )


def check_quality(candidate: Candidate, settings: QualityGate) -> GateResult:
    """Look the metric up in the profile that was stored with the model."""
    file = candidate.path() / "profile.json"
    quality = json.loads(file.read_text())["quality"] if file.exists() else {}
    value = quality.get(settings.metric)
    if value is None:
        return GateResult(
            gate="quality",
            passed=False,
            message=f"the model's profile has no {settings.metric}: log it with reference=...",
        )
    faults = []
    if settings.min is not None and not value >= settings.min:
        faults.append(f"below {settings.min:g}")
    if settings.max is not None and not value <= settings.max:
        faults.append(f"above {settings.max:g}")
    before = candidate.current_run.metrics.get(settings.metric) if candidate.current_run else None
    if settings.tolerance is not None and before is not None:
        worse = value - before if settings.metric in LOWER_IS_BETTER else before - value
        if not worse <= settings.tolerance:
            faults.append(f"worse than the current version's {before:.4g}")
    message = f"{settings.metric} {value:.4g} on {quality.get('rows', 0):.0f} reference rows"
    values = {"metric": settings.metric, "value": value, "current": before, **limits(settings)}
    said = f"{message} is {' and '.join(faults)}" if faults else message
    return GateResult(gate="quality", passed=not faults, message=said, values=values)
