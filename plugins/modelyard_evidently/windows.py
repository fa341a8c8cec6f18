"""Closed windows of event time, scored from the profile column by column; a bad column hides no other."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from modelyard.records import ColumnScore, Window
from modelyard_evidently import profile as profiles
from modelyard_evidently.log import FEATURE
from modelyard_evidently.quality import quality


def end_of(start: datetime, unit: str) -> datetime:
    """When a window that starts then ends; a month is a calendar month.

    Example:
        >>> end_of(datetime(2013, 12, 1, tzinfo=timezone.utc), "month").isoformat()
        '2014-01-01T00:00:00+00:00'
    """
    if unit == "month":
        return (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    return start + {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}[unit]


def scored(
    endpoint: str,
    model: str,
    version: str,
    start: datetime,
    end: datetime,
    frame: Any,
    profile: Mapping[str, Any] | None,
    min_rows: int,
) -> Window:
    """A window out of its rows.

    Args:
        frame: the rows of one version in the span, with labels, as `log.Reader.frame` gives them.
        profile: the version's reference profile; None: only quality is measured.
        min_rows: smaller windows never count as drifted.
    """
    enough = len(frame) >= min_rows
    columns = (profile or {}).get("columns", ())
    labelled = frame[frame["text"].notna()]
    served = labelled["score"] if labelled["score"].notna().any() else labelled["prediction"]
    return Window(
        endpoint=endpoint,
        model=model,
        version=version,
        start=start.astimezone(timezone.utc),
        end=end.astimezone(timezone.utc),
        rows=len(frame),
        labelled=len(labelled),
        enough=enough,
        columns=tuple(_scored_column(column, frame, enough) for column in columns),
        quality=_quality(labelled, served),
        quality_reference=dict((profile or {}).get("quality", {})),
    )


def _scored_column(column: Mapping[str, Any], frame: Any, enough: bool) -> ColumnScore:
    name = column["name"]
    limit = profiles.threshold(column, len(frame))
    try:
        values = _values(name, frame)
        score = profiles.score(column, values)
        return ColumnScore(
            column=name,
            method=column["method"],
            score=score,
            threshold=limit,
            drifted=enough and score > limit,
            missing_ratio=profiles.missing_ratio(values),
            unseen_ratio=profiles.unseen_ratio(column, values),
        )
    except Exception as fault:  # whatever is wrong with one column, the others are still scored
        return ColumnScore(
            column=name,
            method=column["method"],
            score=None,
            threshold=limit,
            drifted=False,
            missing_ratio=1.0,
            error=f"{type(fault).__name__}: {fault}",
        )


def _values(name: str, frame: Any) -> Any:
    if name == profiles.PREDICTION:
        return frame["score"] if frame["score"].notna().any() else frame["decision"]
    if FEATURE + name not in frame:
        raise ValueError("the column was not sent")
    return frame[FEATURE + name]


def _quality(labelled: Any, served: Any) -> dict[str, float]:
    if not len(labelled):
        return {}
    numeric = labelled["value"].notna().any() and served.notna().any()
    if not numeric:
        return quality(labelled["text"], labelled["decision"])
    decisions = labelled["prediction"] if labelled["score"].notna().any() else None
    return quality(labelled["value"], served, decisions)
