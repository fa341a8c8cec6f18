"""The table `[providers.evidently]`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class EvidentlySettings(BaseModel):
    """How predictions are watched."""

    model_config = ConfigDict(extra="forbid")
    window: Literal["hour", "day", "week", "month"] = Field("day", description="Span of a window (UTC).")
    min_rows: int = Field(300, ge=1, description="Smaller windows never count as drifted.")
    drift_floor: float = Field(
        0.1, gt=0, description="No threshold is lower, however steady the reference is."
    )
