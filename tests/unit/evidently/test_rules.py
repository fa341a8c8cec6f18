"""The alert rules: Prometheus' own tool and our evaluation say the same of the same samples."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest

from modelyard_evidently import exporter, rules

NOW = 1_780_000_000.0
DAY = 86_400.0
#: Labels that would break quoting anywhere on the way.
MODEL = {"endpoint": "späte-flüge", "model": 'a"b\\c {d}, e=1', "model_version": "7"}
OTHER = {"endpoint": "other", "model": "m", "model_version": "1"}

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def window(rows: float = 1000, labelled: float = 1000, who: dict[str, str] = MODEL) -> exporter.Samples:
    return [
        ("modelyard_window_rows", who, rows),
        ("modelyard_window_minimum_rows", who, 300.0),
        ("modelyard_window_labelled_rows", who, labelled),
    ]


def feature(name: str, value: float, column: str = "temp") -> tuple[str, dict[str, str], float]:
    return (f"modelyard_feature_{name}", {**MODEL, "feature": column, "method": "wasserstein"}, value)


def quality(metric: str, now: float, before: float, who: dict[str, str] = MODEL) -> exporter.Samples:
    labels = {**who, "metric": metric}
    return [("modelyard_quality", labels, now), ("modelyard_quality_reference", labels, before)]


def drift(score: float) -> exporter.Samples:
    return [feature("drift_score", score), feature("drift_threshold", 0.2)]


SCORED = [("modelyard_monitor_last_success_timestamp_seconds", {}, NOW - 3 * DAY)]
#: Rule -> samples with which it fires, and with which it does not.
CASES: dict[str, tuple[exporter.Samples, list[exporter.Samples]]] = {
    "ModelyardFeatureDrift": (
        window() + drift(0.3),
        [window() + drift(0.2), window(rows=299) + drift(0.3), drift(0.3), window(who=OTHER) + drift(0.3)],
    ),
    "ModelyardFeatureMissing": (
        [*window(), feature("missing_ratio", 0.2), feature("missing_ratio_reference", 0.1)],
        [[*window(), feature("missing_ratio", 0.2), feature("missing_ratio_reference", 0.19)]],
    ),
    "ModelyardColumnUnscored": ([feature("errors", 1.0)], [[feature("errors", 0.0)]]),
    "ModelyardCalibrationLost": (
        window() + quality("calibration_error", 0.1, 0.02),
        [
            window() + quality("calibration_error", 0.05, 0.02),
            window(labelled=299) + quality("calibration_error", 0.1, 0.02),
        ],
    ),
    "ModelyardRankingLost": (
        window() + quality("auc", 0.6, 0.7),
        [window() + quality("auc", 0.66, 0.7), window() + quality("auc", 0.8, 0.7)],
    ),
    "ModelyardAccuracyLost": (
        window() + quality("accuracy", 0.8, 0.9),
        [window() + quality("accuracy", 0.86, 0.9), window(labelled=10) + quality("accuracy", 0.1, 0.9)],
    ),
    "ModelyardErrorGrew": (
        window() + quality("rmse", 13.0, 10.0),
        [window() + quality("rmse", 12.0, 10.0), window() + quality("mae", 13.0, 10.0)],
    ),
    "ModelyardMonitorStale": (SCORED, [[(SCORED[0][0], {}, NOW - DAY)]]),
    "ModelyardLogLoss": (
        [(exporter.LAST_LOSS, {}, NOW - 60)],
        [[(exporter.LAST_LOSS, {}, 0.0)], [(exporter.LAST_LOSS, {}, NOW - 3600)]],
    ),
}


def named(found: list[tuple[str, dict[str, str]]] | None) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    assert found is not None, "promtool itself failed"
    return sorted((name, tuple(sorted(labels.items()))) for name, labels in found)


def asked_of_promtool(samples: exporter.Samples) -> list[tuple[str, dict[str, str]]] | None:
    tool = shutil.which("promtool")
    assert tool is not None
    return rules._by_promtool(tool, samples, NOW)


def test_every_rule_has_its_cases() -> None:
    assert set(CASES) == {rule.name for rule in rules.RULES}


@promtool
def test_the_file_is_one_that_prometheus_loads(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(rules.text(), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"SUCCESS: {len(rules.RULES)} rules found" in done.stdout


@pytest.mark.parametrize("name", CASES)
def test_a_rule_fires_when_it_should_and_only_then(name: str) -> None:
    fires, quiet = CASES[name]
    assert [found for found, _ in rules.by_hand(fires, NOW)] == [name]
    for samples in quiet:
        assert rules.by_hand(samples, NOW) == []


@promtool
@pytest.mark.parametrize("name", CASES)
def test_promtool_says_the_same(name: str) -> None:
    fires, quiet = CASES[name]
    assert named(asked_of_promtool(fires)) == named(rules.by_hand(fires, NOW))
    for samples in quiet:
        assert asked_of_promtool(samples) == []


@promtool
def test_everything_at_once_is_told_apart() -> None:
    samples = [sample for fires, _ in CASES.values() for sample in fires]
    samples = list(
        {(name, *sorted(labels.items())): (name, labels, v) for name, labels, v in samples}.values()
    )
    assert named(asked_of_promtool(samples)) == named(rules.by_hand(samples, NOW))
    assert len(rules.by_hand(samples, NOW)) == len(CASES)


@pytest.mark.parametrize("found", [True, False], ids=["promtool", "alone"])
def test_alerts_say_who_found_them_and_name_what_it_is_about(
    found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if found and shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    if not found:
        monkeypatch.setenv("PATH", "/nonexistent")
    samples = window() + drift(0.3) + quality("auc", 0.6, 0.7) + window(who=OTHER)
    said = rules.firing(samples, MODEL["endpoint"], NOW)
    assert [(a.severity, a.name) for a in said] == [
        ("critical", "ModelyardRankingLost"),
        ("warning", "ModelyardFeatureDrift"),
    ]
    assert said[1].summary == f"temp of {MODEL['model']}/7 left its reference"
    assert {a.evaluator for a in said} == {"promtool" if found else "modelyard"}


def test_the_alerts_of_another_endpoint_are_not_ours() -> None:
    samples = window() + quality("auc", 0.6, 0.7) + window(who=OTHER) + quality("auc", 0.6, 0.7, OTHER)
    (alert,) = rules.firing(samples, "other", NOW)
    assert alert.labels["endpoint"] == "other"


NAMES = [
    "🌡",
    'a"b',
    "a\\b",
    "a{b}, c=1",
    "a\nb\tc",
    "a\x7fb\x0bc\x1b",
    "a\u200b\u2028\x85",
    "\\ud83d",
    "got:",
    "$x {{ y }}",
]


@promtool
def test_promtool_reads_every_name_that_a_column_may_have() -> None:
    """Names go through PromQL's quotes and YAML's on the way there, and through Go's on the way back."""
    samples = [feature("errors", 1.0, name) for name in NAMES]
    found = asked_of_promtool(samples)
    assert named(found) == named(rules.by_hand(samples, NOW))
    assert {labels["feature"] for _, labels in found or ()} == set(NAMES)


@promtool
@pytest.mark.parametrize("score", [1e-300, 1e-7, 0.1 + 0.2, 1e20, 1e100])
def test_promtool_reads_every_number_as_it_is(score: float) -> None:
    limit = math.nextafter(score, 0)
    fires = [*window(), feature("drift_score", score), feature("drift_threshold", limit)]
    quiet = [*window(), feature("drift_score", limit), feature("drift_threshold", score)]
    assert named(asked_of_promtool(fires)) == named(rules.by_hand(fires, NOW)) != []
    assert named(asked_of_promtool(quiet)) == named(rules.by_hand(quiet, NOW)) == []


@promtool
@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.name)
def test_an_expression_has_the_value_that_promtool_finds(rule: rules.Rule, tmp_path: Path) -> None:
    """Not only whether it fires: the very samples that are left, with their labels and values."""
    fires, _ = CASES[rule.name]
    # A test's clock begins in 1970: half an hour later the samples have been there for a while.
    moved = [(n, who, v - NOW + 1800 if n.endswith("_timestamp_seconds") else v) for n, who, v in fires]
    held = rule.expr.at(moved, 1800)
    assert not isinstance(held, float)
    assert held
    expected = []
    for labels, value in held.items():
        pairs = ",".join(f"{key}={json.dumps(text)}" for key, text in sorted(labels))
        expected.append({"labels": "{" + pairs + "}", "value": value})
    # Prometheus keeps a metric's name through a comparison; our evaluation has no use for it.
    query = f'label_replace({rule.expr.promql()}, "__name__", "", "__name__", ".*")'
    test = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [rules._series(*sample, NOW) for sample in fires],
                "promql_expr_test": [{"expr": query, "eval_time": "30m", "exp_samples": expected}],
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(rules._yaml(test), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_holds_these_expressions_and_no_others() -> None:
    yaml = pytest.importorskip("yaml")
    (group,) = yaml.safe_load(rules.text())["groups"]
    assert {rule["alert"]: rule["expr"] for rule in group["rules"]} == {
        rule.name: rule.expr.promql() for rule in rules.RULES
    }
