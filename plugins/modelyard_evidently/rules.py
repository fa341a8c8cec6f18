"""Alert rules: as Prometheus' file, and evaluated on what the exporter says now.

The rules are data. promtool evaluates the very file that Prometheus would load where it is
installed; elsewhere the same conditions are evaluated here, and the alert says so.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelyard.records import Alert
from modelyard_evidently.exporter import Samples

#: Enough labels to believe a quality; below it a metric is noise.
MIN_LABELS = 300
_MARGIN = 0.05
_ON = "on(endpoint, model, model_version)"
_IDENTITY = ("endpoint", "model", "model_version")

Found = Iterator[dict[str, str]]


@dataclass(frozen=True)
class Rule:
    """One alert. `holds` finds the label sets of a snapshot for which `expr` is true."""

    name: str
    severity: str
    expr: str
    summary: str
    wait: str
    keep: str
    holds: Callable[[Samples], Found]


def _drift(found: Samples) -> Found:
    rows = _by_identity(found, "modelyard_window_rows")
    for labels, detected in _by_labels(found, "modelyard_feature_drift_detected").items():
        values = dict(labels)
        if detected == 1 and rows.get(_identity(values), 0) > 0:
            yield values


def _worse(metric: str, lower_is_better: bool) -> Callable[[Samples], Found]:
    def holds(found: Samples) -> Found:
        reference = _by_labels(found, "modelyard_quality_reference")
        labelled = _by_identity(found, "modelyard_window_labelled_rows")
        for labels, value in _by_labels(found, "modelyard_quality").items():
            values = dict(labels)
            if values["metric"] != metric or labels not in reference:
                continue
            worse = value - reference[labels] if lower_is_better else reference[labels] - value
            if worse > _MARGIN and labelled.get(_identity(values), 0) >= MIN_LABELS:
                yield values

    return holds


def _worse_expr(metric: str, lower_is_better: bool) -> str:
    now, before = (f'modelyard_{name}{{metric="{metric}"}}' for name in ("quality", "quality_reference"))
    first, second = (now, before) if lower_is_better else (before, now)
    return f"({first} - {second} > {_MARGIN}) and {_ON} (modelyard_window_labelled_rows >= {MIN_LABELS})"


def _never(_: Samples) -> Found:
    """Needs time to pass: only Prometheus can tell."""
    yield from ()


RULES = (
    Rule(
        name="ModelyardFeatureDrift",
        severity="warning",
        expr=f"(modelyard_feature_drift_detected == 1) and {_ON} (modelyard_window_rows > 0)",
        summary="{{ $labels.feature }} of {{ $labels.model }}/{{ $labels.model_version }} left its reference",
        wait="10m",
        keep="15m",
        holds=_drift,
    ),
    Rule(
        name="ModelyardCalibrationLost",
        severity="critical",
        expr=_worse_expr("calibration_error", lower_is_better=True),
        summary="{{ $labels.model }}/{{ $labels.model_version }} no longer predicts how often it happens",
        wait="10m",
        keep="15m",
        holds=_worse("calibration_error", lower_is_better=True),
    ),
    Rule(
        name="ModelyardRankingLost",
        severity="critical",
        expr=_worse_expr("auc", lower_is_better=False),
        summary="{{ $labels.model }}/{{ $labels.model_version }} ranks worse than on its reference",
        wait="10m",
        keep="15m",
        holds=_worse("auc", lower_is_better=False),
    ),
    Rule(
        name="ModelyardErrorGrew",
        severity="critical",
        expr=(
            'modelyard_quality{metric="rmse"} > 1.25 * modelyard_quality_reference{metric="rmse"}'
            f" and {_ON} (modelyard_window_labelled_rows >= {MIN_LABELS})"
        ),
        summary="{{ $labels.model }}/{{ $labels.model_version }} errs a quarter more than on its reference",
        wait="10m",
        keep="15m",
        holds=lambda found: _rmse(found),
    ),
    Rule(
        name="ModelyardColumnUnscored",
        severity="warning",
        expr="modelyard_feature_errors == 1",
        summary="{{ $labels.feature }} of {{ $labels.model }}/{{ $labels.model_version }} could not be scored",
        wait="10m",
        keep="15m",
        holds=lambda found: _unscored(found),
    ),
    # By the clock of the monitor, not by event time: a replay of old data is not a dead monitor.
    Rule(
        name="ModelyardMonitorStale",
        severity="warning",
        expr="time() - modelyard_monitor_last_success_timestamp_seconds > 2 * 86400",
        summary="no window was scored for two days",
        wait="10m",
        keep="0s",
        holds=_never,
    ),
    Rule(
        name="ModelyardLogLoss",
        severity="warning",
        expr='increase(modelyard_log_events_total{outcome="dropped"}[10m]) > 0',
        summary="prediction events are being lost",
        wait="0m",
        keep="0s",
        holds=_never,
    ),
)


def _unscored(found: Samples) -> Found:
    for labels, value in _by_labels(found, "modelyard_feature_errors").items():
        if value == 1:
            yield dict(labels)


def _rmse(found: Samples) -> Found:
    reference = _by_labels(found, "modelyard_quality_reference")
    labelled = _by_identity(found, "modelyard_window_labelled_rows")
    for labels, value in _by_labels(found, "modelyard_quality").items():
        values = dict(labels)
        grew = values["metric"] == "rmse" and value > 1.25 * reference.get(labels, value)
        if grew and labelled.get(_identity(values), 0) >= MIN_LABELS:
            yield values


def text() -> str:
    """The rule file for Prometheus' `rule_files`."""
    lines = ["groups:", "  - name: modelyard", "    rules:"]
    for rule in RULES:
        lines += [
            f"      - alert: {rule.name}",
            f"        expr: {json.dumps(rule.expr)}",
            f"        for: {rule.wait}",
            *([f"        keep_firing_for: {rule.keep}"] if rule.keep != "0s" else []),
            "        labels:",
            f"          severity: {rule.severity}",
            "        annotations:",
            f"          summary: {json.dumps(rule.summary)}",
        ]
    return "\n".join(lines) + "\n"


def firing(found: Samples, endpoint: str) -> list[Alert]:
    """The alerts of an endpoint that would fire if things stayed as the samples say."""
    promtool = shutil.which("promtool")
    if promtool:
        said = _by_promtool(promtool, found)
        if said is not None:
            return _alerts(said, endpoint, "promtool")
    return _alerts(_by_ourselves(found), endpoint, "modelyard")


def _by_ourselves(found: Samples) -> list[tuple[str, dict[str, str]]]:
    return [(rule.name, labels) for rule in RULES for labels in rule.holds(found)]


def _by_promtool(promtool: str, found: Samples) -> list[tuple[str, dict[str, str]]] | None:
    """Ask promtool which alerts fire, by a unit test that claims that none does: it prints those it got."""
    series = [
        {"series": f"{name}{_selector(labels)}", "values": f"{value!r}x60"} for name, labels, value in found
    ]
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [
                    {"expr": 'ALERTS{alertstate="firing"}', "eval_time": "30m", "exp_samples": []}
                ],
            }
        ],
    }
    with tempfile.TemporaryDirectory(prefix="modelyard-rules-") as folder:
        Path(folder, "rules.yml").write_text(text())
        Path(folder, "test.yml").write_text(json.dumps(test))  # JSON is YAML
        done = subprocess.run(
            [promtool, "test", "rules", "test.yml"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    output = done.stdout + done.stderr
    if done.returncode == 0:
        return []
    got = re.search(r"got:(.*)", output)
    if got is None:
        return None  # promtool itself failed: fall back to our own evaluation
    alerts = []
    for body in re.findall(r"ALERTS\{((?:[^}\"]|\"(?:\\.|[^\"\\])*\")*)\}", got.group(1)):
        labels = {k: _unescaped(v) for k, v in re.findall(r'(\w+)="((?:\\.|[^"\\])*)"', body)}
        name = labels.pop("alertname")
        alerts.append((name, labels))
    return alerts


def _alerts(said: list[tuple[str, dict[str, str]]], endpoint: str, evaluator: str) -> list[Alert]:
    rules = {rule.name: rule for rule in RULES}
    alerts = []
    for name, labels in said:
        if labels.get("endpoint") != endpoint:
            continue
        labels = {k: v for k, v in labels.items() if k not in ("alertstate", "severity", "__name__")}
        summary = rules[name].summary
        for key, value in labels.items():
            summary = summary.replace("{{ $labels." + key + " }}", value)
        alerts.append(
            Alert(
                name=name, severity=rules[name].severity, summary=summary, labels=labels, evaluator=evaluator
            )
        )
    return sorted(alerts, key=lambda alert: (alert.severity, alert.name, alert.summary))


def _by_labels(found: Samples, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {tuple(sorted(labels.items())): value for n, labels, value in found if n == name}


def _by_identity(found: Samples, name: str) -> dict[tuple[str, ...], float]:
    return {_identity(labels): value for n, labels, value in found if n == name}


def _identity(labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(labels.get(key, "") for key in _IDENTITY)


def _selector(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{key}={json.dumps(value)}" for key, value in sorted(labels.items())) + "}"


def _unescaped(text: str) -> str:
    return text.replace(r"\"", '"').replace(r"\\", "\\")
