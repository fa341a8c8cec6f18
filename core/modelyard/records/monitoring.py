"""Predictions, drift and quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from modelyard.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Record):
    """One answered request in the prediction log. `rows` counts its instances; `others` are what other
    endpoints answered under the same id, as the steps of a graph do."""

    id: str
    time: datetime
    endpoint: str
    revision: str
    model: str
    version: str
    rows: int
    others: tuple[Prediction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnScore(Record):
    """How far one column of a window lies from the reference profile.

    `score` is None, and `error` says why, when the column could not be scored.
    """

    column: str
    method: str
    score: float | None
    threshold: float
    drifted: bool
    missing_ratio: float = 0.0
    unseen_ratio: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(Record):
    """A closed span of event time of one model version behind an endpoint, scored.

    `quality` and `quality_reference` hold the same metrics (e.g. `auc`, `brier`) over the rows
    whose labels have arrived, and over the reference. `enough` is False below the minimum rows.
    """

    endpoint: str
    model: str
    version: str
    start: datetime
    end: datetime
    rows: int
    labelled: int = 0
    enough: bool = True
    columns: tuple[ColumnScore, ...] = ()
    quality: Mapping[str, float] = field(default_factory=dict)
    quality_reference: Mapping[str, float] = field(default_factory=dict)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the drifted columns, worst first (by score over threshold)."""
        worst = sorted(
            (c for c in self.columns if c.drifted),
            key=lambda c: -(c.score or 0.0) / (c.threshold or 1.0),
        )
        return tuple(c.column for c in worst)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert(Record):
    """A rule that fires. `evaluator` says who evaluated it: `promtool`, `prometheus` or `modelyard`."""

    name: str
    severity: str
    summary: str
    labels: Mapping[str, str]
    evaluator: str
