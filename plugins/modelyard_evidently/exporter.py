"""Finished windows in Prometheus' text format: snake_case, base units, `_total` for counters only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelyard.records import Window

METRICS_FILE = "metrics.prom"
LAST_LOSS = "modelyard_log_last_loss_timestamp_seconds"

_HELP = {
    "modelyard_feature_drift_score": "Distance of a column of the newest window from the reference.",
    "modelyard_feature_drift_threshold": "Distance above which a column counts as drifted.",
    "modelyard_feature_drift_detected": "1 if the column drifted.",
    "modelyard_feature_missing_ratio": "Share of missing values.",
    "modelyard_feature_missing_ratio_reference": "Share of missing values in the reference.",
    "modelyard_feature_unseen_ratio": "Share of categories that the reference did not have.",
    "modelyard_feature_errors": "1 if the column could not be scored.",
    "modelyard_drifted_features_ratio": "Share of columns that drifted.",
    "modelyard_quality": "Quality over the labelled rows of the newest window.",
    "modelyard_quality_reference": "The same metric over the reference.",
    "modelyard_labels_matched_ratio": "Share of rows whose label has arrived.",
    "modelyard_window_rows": "Rows of the newest window.",
    "modelyard_window_minimum_rows": "Rows below which a window is not judged.",
    "modelyard_window_labelled_rows": "Labelled rows of the newest window.",
    "modelyard_window_start_timestamp_seconds": "Start of the newest window.",
    "modelyard_window_end_timestamp_seconds": "End of the newest window.",
    "modelyard_monitor_last_success_timestamp_seconds": "When windows were last scored.",
    "modelyard_promotion_timestamp_seconds": "When an alias moved to a version.",
    "modelyard_deployment_timestamp_seconds": "When an endpoint began to serve a version.",
}

Samples = list[tuple[str, dict[str, str], float]]


@dataclass(frozen=True)
class Finished:
    """A scored window with what rules compare it with."""

    window: Window
    min_rows: int
    missing_reference: Mapping[str, float]


def samples(
    windows: Iterable[Finished], marks: Iterable[Mapping[str, Any]], last_success: float | None
) -> Samples:
    """What the exporter says: the newest windows, marks of promotions and deployments."""
    found: Samples = []
    for finished in windows:
        found += _of_window(finished)
    for mark in marks:
        labels = {key: str(value) for key, value in mark.items() if key not in ("name", "time")}
        found.append((f"modelyard_{mark['name']}_timestamp_seconds", labels, float(mark["time"])))
    if last_success is not None:
        found.append(("modelyard_monitor_last_success_timestamp_seconds", {}, last_success))
    return found


def text(found: Samples) -> str:
    """The exposition, one block per metric."""
    lines: list[str] = []
    for name in _HELP:
        block = [(labels, value) for n, labels, value in found if n == name]
        if block:
            lines += _heading(name)
            lines += [f"{name}{_labels(labels)} {_value(value)}" for labels, value in block]
    return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True)
class Counted:
    """What became of the events of one log, and when the last was lost (seconds since 1970; 0: never)."""

    events: Mapping[str, int]
    last_loss: float
    labels: Mapping[str, str] = field(default_factory=dict)


def counters(counted: Iterable[Counted]) -> str:
    """The collectors' own counters.

    The time is there beside the counter because a rule over `increase()` does not see the first loss:
    a counter that appears with the value 5 has not increased.
    """
    logs = list(counted)
    lines = [
        "# HELP modelyard_log_events_total Payload events by what became of them.",
        "# TYPE modelyard_log_events_total counter",
        *(
            f"modelyard_log_events_total{_labels({**each.labels, 'outcome': outcome})} {count}"
            for each in logs
            for outcome, count in sorted(each.events.items())
        ),
        f"# HELP {LAST_LOSS} When an event was last lost; 0 if none was.",
        f"# TYPE {LAST_LOSS} gauge",
        *(f"{LAST_LOSS}{_labels(each.labels)} {_value(each.last_loss)}" for each in logs),
    ]
    return "".join(f"{line}\n" for line in lines)


def merged(expositions: Iterable[str]) -> str:
    """Several expositions as one: all samples of a metric stand together, as the format wants it."""
    samples: dict[str, list[str]] = {name: [] for name in _HELP}
    for exposition in expositions:
        for line in exposition.split("\n"):
            name = re.split("[{ ]", line, maxsplit=1)[0]
            if name in samples:
                samples[name].append(line)
    return "".join(
        "".join(f"{line}\n" for line in (*_heading(name), *lines)) for name, lines in samples.items() if lines
    )


def _heading(name: str) -> tuple[str, str]:
    return f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge"


def _of_window(finished: Finished) -> Samples:
    window = finished.window
    base = {"endpoint": window.endpoint, "model": window.model, "model_version": window.version}
    found: Samples = []
    for column in window.columns:
        labels = {**base, "feature": column.column, "method": column.method}
        values = {
            "drift_score": column.score,
            "drift_threshold": column.threshold,
            "drift_detected": float(column.drifted),
            "missing_ratio": column.missing_ratio,
            "missing_ratio_reference": finished.missing_reference.get(column.column),
            "unseen_ratio": column.unseen_ratio,
            "errors": float(column.error is not None),
        }
        found += [(f"modelyard_feature_{n}", labels, v) for n, v in values.items() if v is not None]
    if window.columns:
        drifted = sum(column.drifted for column in window.columns) / len(window.columns)
        found.append(("modelyard_drifted_features_ratio", base, drifted))
    for name, quality in (
        ("modelyard_quality", window.quality),
        ("modelyard_quality_reference", window.quality_reference),
    ):
        found += [(name, {**base, "metric": metric}, v) for metric, v in quality.items() if metric != "rows"]
    return [
        *found,
        ("modelyard_window_rows", base, float(window.rows)),
        ("modelyard_window_minimum_rows", base, float(finished.min_rows)),
        ("modelyard_window_labelled_rows", base, float(window.labelled)),
        ("modelyard_labels_matched_ratio", base, window.labelled / window.rows if window.rows else 0.0),
        ("modelyard_window_start_timestamp_seconds", base, window.start.timestamp()),
        ("modelyard_window_end_timestamp_seconds", base, window.end.timestamp()),
    ]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted(labels.items()))
    return "{" + pairs + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _value(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(float(value)) if math.isfinite(value) else ("+Inf" if value > 0 else "-Inf")
