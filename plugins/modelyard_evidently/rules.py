"""Alert rules: as Prometheus' file, and evaluated on what the exporter says now.

The rules are data. promtool evaluates the very file that Prometheus would load where it is
installed; elsewhere the same expressions are evaluated here, and the alert says so. Windows are
finished spans, so that a condition that holds now has held for the rule's waiting time.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.records import Alert
from modelyard_evidently.exporter import LAST_LOSS, Samples
from modelyard_evidently.expressions import And, Binary, Expression, Metric, Now, Number

#: Enough labels to believe a quality; below it a metric is noise.
MIN_LABELS = 300.0
_MARGIN = 0.05
#: Namespace and project are those of a cluster's monitor; samples without them match, too.
_IDENTITY = ("namespace", "project", "endpoint", "model", "model_version")
_DAY = 86_400.0
_GO_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
#: Labels that Prometheus adds to those of the samples.
_PROMETHEUS = ("__name__", "alertstate", "severity")
#: Minutes in promtool's test before the moment that counts: longer than any rule waits.
_WARM_UP = 30


@dataclass(frozen=True)
class Rule:
    """One alert: `wait` is how long it must hold, `keep` how long it goes on after (hysteresis)."""

    name: str
    severity: str
    expr: Expression
    summary: str
    wait: str = "10m"
    keep: str = "15m"


def _enough_rows(condition: Expression) -> Expression:
    rows = Binary(Metric("modelyard_window_rows"), ">=", Metric("modelyard_window_minimum_rows"))
    return And(condition, _IDENTITY, rows)


def _enough_labels(condition: Expression) -> Expression:
    labelled = Binary(Metric("modelyard_window_labelled_rows"), ">=", Number(MIN_LABELS))
    return And(condition, _IDENTITY, labelled)


def _quality(metric: str) -> tuple[Metric, Metric]:
    chosen = (("metric", metric),)
    return Metric("modelyard_quality", chosen), Metric("modelyard_quality_reference", chosen)


_CALIBRATION, _CALIBRATION_BEFORE = _quality("calibration_error")
_AUC, _AUC_BEFORE = _quality("auc")
_ERROR, _ERROR_BEFORE = _quality("rmse")
_ACCURACY, _ACCURACY_BEFORE = _quality("accuracy")
_WHO = "{{ $labels.model }}/{{ $labels.model_version }}"

RULES = (
    Rule(
        name="ModelyardFeatureDrift",
        severity="warning",
        expr=_enough_rows(
            Binary(Metric("modelyard_feature_drift_score"), ">", Metric("modelyard_feature_drift_threshold"))
        ),
        summary=f"{{{{ $labels.feature }}}} of {_WHO} left its reference",
    ),
    Rule(
        name="ModelyardFeatureMissing",
        severity="warning",
        expr=_enough_rows(
            Binary(
                Binary(
                    Metric("modelyard_feature_missing_ratio"),
                    "-",
                    Metric("modelyard_feature_missing_ratio_reference"),
                ),
                ">",
                Number(_MARGIN),
            )
        ),
        summary=f"{{{{ $labels.feature }}}} of {_WHO} is missing more often than in its reference",
    ),
    Rule(
        name="ModelyardColumnUnscored",
        severity="warning",
        expr=Binary(Metric("modelyard_feature_errors"), "==", Number(1.0)),
        summary=f"{{{{ $labels.feature }}}} of {_WHO} could not be scored",
    ),
    Rule(
        name="ModelyardCalibrationLost",
        severity="critical",
        expr=_enough_labels(Binary(Binary(_CALIBRATION, "-", _CALIBRATION_BEFORE), ">", Number(_MARGIN))),
        summary=f"{_WHO} no longer predicts how often it happens",
    ),
    Rule(
        name="ModelyardRankingLost",
        severity="critical",
        expr=_enough_labels(Binary(Binary(_AUC_BEFORE, "-", _AUC), ">", Number(_MARGIN))),
        summary=f"{_WHO} ranks worse than on its reference",
    ),
    Rule(
        name="ModelyardAccuracyLost",
        severity="critical",
        expr=_enough_labels(Binary(Binary(_ACCURACY_BEFORE, "-", _ACCURACY), ">", Number(_MARGIN))),
        summary=f"{_WHO} decides wrongly more often than on its reference",
    ),
    Rule(
        name="ModelyardErrorGrew",
        severity="critical",
        expr=_enough_labels(Binary(_ERROR, ">", Binary(Number(1.25), "*", _ERROR_BEFORE))),
        summary=f"{_WHO} errs a quarter more than on its reference",
    ),
    # By the monitor's clock, not by event time: who replays the data of 2013 has no dead monitor.
    Rule(
        name="ModelyardMonitorStale",
        severity="warning",
        expr=Binary(
            Binary(Now(), "-", Metric("modelyard_monitor_last_success_timestamp_seconds")),
            ">",
            Number(2 * _DAY),
        ),
        summary="no window was scored for two days",
        keep="",
    ),
    Rule(
        name="ModelyardLogLoss",
        severity="warning",
        expr=Binary(Binary(Now(), "-", Metric(LAST_LOSS)), "<", Number(600.0)),
        summary="prediction events are being lost",
        wait="0s",
        keep="",
    ),
)


def text() -> str:
    """The rule file for Prometheus' `rule_files`."""
    lines = ["groups:", "  - name: modelyard", "    rules:"]
    for rule in RULES:
        lines += [
            f"      - alert: {rule.name}",
            f"        expr: {json.dumps(rule.expr.promql())}",
            f"        for: {rule.wait}",
            *([f"        keep_firing_for: {rule.keep}"] if rule.keep else []),
            "        labels:",
            f"          severity: {rule.severity}",
            "        annotations:",
            f"          summary: {json.dumps(rule.summary)}",
        ]
    return "\n".join(lines) + "\n"


def firing(found: Samples, endpoint: str, now: float) -> list[Alert]:
    """The alerts of one endpoint, and those of the monitor itself, that fire on these samples.

    Args:
        found: what the exporter and the collector say.
        endpoint: whose alerts.
        now: the time, in seconds since 1970.
    """
    mine = [sample for sample in found if sample[1].get("endpoint", endpoint) == endpoint]
    promtool = shutil.which("promtool")
    said = _by_promtool(promtool, mine, now) if promtool else None
    if said is not None:
        return _alerts(said, "promtool")
    return _alerts(by_hand(mine, now), "modelyard")


def by_hand(found: Samples, now: float) -> list[tuple[str, dict[str, str]]]:
    """Name and labels of what fires, by our own evaluation."""
    said = []
    for rule in RULES:
        holds = rule.expr.at(found, now)
        assert not isinstance(holds, float)
        said += [(rule.name, dict(labels)) for labels in holds]
    return said


def _by_promtool(promtool: str, found: Samples, now: float) -> list[tuple[str, dict[str, str]]] | None:
    """Ask promtool which alerts fire, by a unit test that claims that none does: it prints those it got."""
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [_series(*sample, now) for sample in found],
                "promql_expr_test": [
                    {
                        "expr": 'ALERTS{alertstate="firing"}',
                        "eval_time": f"{_WARM_UP}m",
                        "exp_samples": [],
                    }
                ],
            }
        ],
    }
    with tempfile.TemporaryDirectory(prefix="modelyard-rules-") as folder:
        Path(folder, "rules.yml").write_text(text(), encoding="utf-8")
        Path(folder, "test.yml").write_text(_yaml(test), encoding="utf-8")
        try:
            done = subprocess.run(
                [promtool, "test", "rules", "test.yml"],
                cwd=folder,
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
    return _read(done.returncode, done.stdout + done.stderr)


def _series(name: str, labels: Mapping[str, str], value: float, now: float) -> dict[str, str]:
    # A test begins in 1970; times are moved so that its last minute is now.
    moved = value - now + 60 * _WARM_UP if name.endswith("_timestamp_seconds") else value
    pairs = ",".join(f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in sorted(labels.items()))
    return {"series": f"{name}{{{pairs}}}", "values": f"{moved:.17g}x{2 * _WARM_UP}"}


def _yaml(value: Any) -> str:
    """JSON that YAML reads: with no surrogate pairs, and with nothing that YAML calls unprintable."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda c: f"\\u{ord(c.group()):04x}", text)


def _read(status: int, output: str) -> list[tuple[str, dict[str, str]]] | None:
    """The alerts in promtool's answer; None if it failed itself, and our own evaluation has to do."""
    if status == 0:
        return []
    got = re.search(r"got:(.*)", output, re.DOTALL)
    if got is None:
        return None
    alerts = []
    # Versions differ: ALERTS{alertname=...} and {__name__="ALERTS", alertname=...}.
    for body in re.findall(r"\{((?:[^}\"]|\"(?:\\.|[^\"\\])*\")*)\}", got.group(1)):
        labels = {k: _unescaped(v) for k, v in re.findall(r'(\w+)="((?:\\.|[^"\\])*)"', body)}
        name = labels.pop("alertname")
        alerts.append((name, {k: v for k, v in labels.items() if k not in _PROMETHEUS}))
    return alerts or None


def _alerts(said: list[tuple[str, dict[str, str]]], evaluator: str) -> list[Alert]:
    rules = {rule.name: rule for rule in RULES}
    alerts = []
    for name, labels in said:
        summary = rules[name].summary
        for key, value in labels.items():
            summary = summary.replace("{{ $labels." + key + " }}", value)
        severity = rules[name].severity
        alerts.append(
            Alert(name=name, severity=severity, summary=summary, labels=labels, evaluator=evaluator)
        )
    return sorted(alerts, key=lambda alert: (alert.severity, alert.name, alert.summary))


def _unescaped(text: str) -> str:
    """What Go's `strconv.Quote` wrote."""
    return re.sub(r"\\(x..|u.{4}|U.{8}|.)", _character, text, flags=re.DOTALL)


def _character(escape: re.Match[str]) -> str:
    said = escape.group(1)
    return chr(int(said[1:], 16)) if len(said) > 1 else _GO_ESCAPES.get(said, said)
