"""The alert rules: Prometheus' own tool and our evaluation say the same of the same samples."""

from __future__ import annotations

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
