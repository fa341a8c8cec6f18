"""The table `[providers.evidently]`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Unit = Literal["hour", "day", "week", "month"]


class EvidentlySettings(BaseModel):
    """How predictions are watched."""

    model_config = ConfigDict(extra="forbid")
    window: Unit = Field("day", description="Span of a window (UTC; weeks begin on Monday).")
    min_rows: int = Field(300, ge=1, description="Smaller windows never count as drifted.")
    lateness: float = Field(
        0, ge=0, description="Minutes after its end for which a window stays open for late rows."
    )
    drift_floor: float = Field(
        0.1, gt=0, description="No threshold is lower, however steady the reference is."
    )
