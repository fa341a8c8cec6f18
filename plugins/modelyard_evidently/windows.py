"""Closed windows of event time, scored from the profile column by column; a bad column hides no other."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from modelyard.records import ColumnScore, Window
from modelyard_evidently import calibration, scoring
from modelyard_evidently import profile as profiles
from modelyard_evidently.log import FEATURE
from modelyard_evidently.quality import quality


class Span(NamedTuple):
    """Which rows a window is of."""

    endpoint: str
    model: str
    version: str
    start: datetime
    unit: str

    @property
    def end(self) -> datetime:
        """When it ends."""
        return end_of(self.start, self.unit)


def end_of(start: datetime, unit: str) -> datetime:
    """When a window that starts then ends; a month is a calendar month.

    Example:
        >>> end_of(datetime(2013, 12, 1, tzinfo=timezone.utc), "month").isoformat()
        '2014-01-01T00:00:00+00:00'
    """
    if unit == "month":
        return (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    return start + {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}[unit]


def scored(span: Span, frame: Any, profile: Mapping[str, Any] | None, min_rows: int) -> Window:
    """A window out of its rows.

    Args:
        span: which rows they are.
        frame: the rows with labels, as `log.Reader.frame` gives them.
        profile: the version's reference profile; None: only quality is measured.
        min_rows: smaller windows never count as drifted.
    """
    known = profile or {}
    enough = len(frame) >= min_rows
    labelled = frame[frame["text"].notna()]
    return Window(
        endpoint=span.endpoint,
        model=span.model,
        version=span.version,
        start=span.start.astimezone(timezone.utc),
        end=span.end.astimezone(timezone.utc),
        rows=len(frame),
        labelled=len(labelled),
        enough=enough,
        columns=tuple(_scored(c, frame, known, span.unit, enough) for c in known.get("columns", ())),
        quality=_quality(labelled, known),
        quality_reference=dict(known.get("quality", {})),
    )


def _scored(
    column: Mapping[str, Any], frame: Any, profile: Mapping[str, Any], unit: str, enough: bool
) -> ColumnScore:
    name, method = column["name"], column["method"]
    limit, missing, unseen = 0.0, 1.0, 0.0
    try:
        limit = calibration.threshold(column, unit, len(frame))
        values = values_of(column, frame, profile)
        missing = float(values.isna().mean())
        if "error" in column:
            raise ValueError(f"it has no profile: {column['error']}")
        unseen = profiles.unseen_ratio(column, values)
        score = scoring.score(column, values)
        return ColumnScore(
            column=name,
            method=method,
            score=score,
            threshold=limit,
            drifted=enough and score > limit,
            missing_ratio=missing,
            unseen_ratio=unseen,
        )
    except Exception as fault:  # whatever is wrong with one column, the others are still scored
        said = str(fault) if isinstance(fault, ValueError) else f"{type(fault).__name__}: {fault}"
        return ColumnScore(
            column=name,
            method=method,
            score=None,
            threshold=limit,
            drifted=False,
            missing_ratio=missing,
            unseen_ratio=unseen,
            error=said,
        )


def values_of(column: Mapping[str, Any], frame: Any, profile: Mapping[str, Any]) -> Any:
    """The values of a profiled column in a frame of the log.

    Raises:
        ValueError: the frame does not hold what the reference holds.
    """
    if column["role"] == "feature":
        if FEATURE + column["name"] not in frame:
            raise ValueError("the column was not sent")
        return frame[FEATURE + column["name"]]
    if not profile["probabilities"]:
        served = decisions(frame, profile)
        return (
            frame["prediction"]
            if served is None and column["kind"] == "numeric"
            else (frame["decision"] if served is None else served)
        )
    chances = probabilities(frame)
    if chances is None:
        raise ValueError("the endpoint answers with classes, the reference holds probabilities")
    return chances


def decisions(frame: Any, profile: Mapping[str, Any]) -> Any:
    """The served classes by their names, or None if the model has none.

    An answer in probabilities is logged as the place of the largest. That answers are such is seen by
    their score (two classes), or by one that is no name of a class.
    """
    names = profile.get("classes")
    if profile.get("task") != "classes" or not names:
        return None
    named = {str(place): name for place, name in enumerate(names)}
    by_place = frame["score"].notna() | (not frame["decision"].dropna().isin(names).all())
    return frame["decision"].where(~by_place, frame["decision"].map(named).fillna(frame["decision"]))


def probabilities(frame: Any) -> Any:
    """The served probabilities, or None if the endpoint answered with classes or numbers."""
    if frame["score"].notna().any():
        return frame["score"]
    answers = frame["prediction"]
    plain = answers.dropna().isin((0.0, 1.0)).all() or not answers.dropna().between(0, 1).all()
    return None if plain else answers


def _quality(labelled: Any, profile: Mapping[str, Any]) -> dict[str, float]:
    task = profile.get("task")
    if not len(labelled):
        return {}
    if (named := decisions(labelled, profile)) is not None:
        return quality(labelled["text"], named, task="classes")
    if task == "classes" or not (labelled["value"].notna().any() and labelled["prediction"].notna().any()):
        return quality(labelled["text"], labelled["decision"], task="classes")
    if task == "regression":
        return quality(labelled["value"], labelled["prediction"], task="regression")
    chances = probabilities(labelled)
    if chances is None:
        return quality(labelled["value"], labelled["prediction"], task=task)
    served = labelled["prediction"] if labelled["score"].notna().any() else None
    return quality(labelled["value"], chances, served, task=task)
