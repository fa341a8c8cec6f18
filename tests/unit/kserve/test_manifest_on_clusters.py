"""The same InferenceService file, read for a cluster: what is taken there, refused there, and noted."""

from __future__ import annotations

from functools import partial

import pytest

from modelyard.errors import ConfigError
from modelyard_kserve.lint import lint
from modelyard_kserve.manifest import Manifest, Mode, beyond_kserve, parse

pytest.importorskip("kserve")

GOOD = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: late-flights
spec:
  predictor:
    model:
      modelFormat:
        name: mlflow
      storageUri: models:/late-flights/1
"""


def read(text: str, mode: Mode, namespace: str = "team") -> Manifest:
    return parse(text, "dienst.yaml", namespace=namespace, mode_of=lambda _: mode)


@pytest.mark.parametrize("mode", ["Knative", "Standard"])
@pytest.mark.parametrize(
    "more",
    [
        "    batcher: {maxBatchSize: 8, maxLatency: 20}\n",
        "    minReplicas: 2\n    maxReplicas: 5\n",
        "  transformer:\n    containers: [{name: kserve-container, image: ours}]\n",
        "      env: [{name: KEY, valueFrom: {secretKeyRef: {name: s, key: k}}}]\n",
    ],
)
def test_a_cluster_does_what_local_processes_do_not(mode: Mode, more: str) -> None:
    assert read(GOOD + more, mode).notes == ()


def test_other_formats_are_for_the_clusters_runtimes() -> None:
    assert read(GOOD.replace("mlflow", "xgboost"), "Knative").model_format == "xgboost"
    with pytest.raises(ConfigError, match=r"modelFormat\.name: is missing"):
        read(GOOD.replace("        name: mlflow\n", ""), "Knative")


def test_a_typing_mistake_is_found_before_the_cluster_drops_it() -> None:
    with pytest.raises(ConfigError, match=r"line 11: .*did you mean 'minReplicas'"):
        read(GOOD + "    minReplica: 2\n", "Knative")


@pytest.mark.parametrize("percent", [0, 20])
def test_a_canary_is_refused_where_it_has_no_effect(percent: int) -> None:
    text = f"{GOOD}    canaryTrafficPercent: {percent}\n"
    assert read(text, "Knative").canary == percent
    with pytest.raises(ConfigError, match=r"line 11: .*canaryTrafficPercent: has no effect in KServe's"):
        read(text, "Standard")


def test_all_traffic_for_the_newest_is_what_standard_mode_does_anyway() -> None:
    assert read(f"{GOOD}    canaryTrafficPercent: 100\n", "Standard").canary == 100


@pytest.mark.parametrize(
    ("mode", "said"),
    [("Standard", "gets no traffic from KServe 0.20"), ("Knative", "is for KServe's Standard mode")],
)
def test_canaries_beside_the_predictor_are_refused(mode: Mode, said: str) -> None:
    text = (
        GOOD
        + "  canary:\n  - predictor: {name: next, sklearn: {storageUri: s3://a/b}}\n    trafficPercent: 10\n"
    )
    with pytest.raises(ConfigError, match=f"line 11: spec.canary: {said}"):
        read(text, mode)


def test_what_standard_mode_ignores_is_noted() -> None:
    text = GOOD + "    minReplicas: 0\n    scaleMetric: concurrency\n"
    assert read(text, "Knative").notes == ()
    assert read(text, "Standard").notes == (
        "spec.predictor.minReplicas 0 becomes 1 in Standard mode: one replica stays",
        "spec.predictor.scaleMetric is Knative's; in Standard mode cpu and memory scale",
    )


def test_the_targets_namespace_is_the_only_one() -> None:
    named = GOOD.replace("metadata:\n", "metadata:\n  namespace: other\n")
    assert read(GOOD, "Knative").namespace == "team"
    assert read(named, "Knative", namespace="other").namespace == "other"
    with pytest.raises(ConfigError, match=r"line 4: metadata\.namespace: 'other' is not the target's"):
        read(named, "Knative")


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        (GOOD.replace("metadata:\n", "metadata:\n  namespace: other\n"), 4, "metadata.namespace"),
        (
            GOOD.replace("      storageUri: models:/late-flights/1\n", ""),
            7,
            "spec.predictor.model.storageUri",
        ),
        (
            GOOD.partition("    model:")[0] + "    containers: [{name: kserve-container, image: ours}]\n",
            6,
            "spec.predictor.model",
        ),
    ],
)
def test_what_we_do_not_apply_is_found_before_anything_is(text: str, line: int, field: str) -> None:
    refusals = partial(beyond_kserve, namespace="team")
    (one,) = lint(text, "dienst.yaml", lambda _: "Knative", refusals)
    assert (one.level, one.line, one.field) == ("error", line, field)
    assert lint(text, "dienst.yaml", lambda _: "Knative") == []  # KServe itself takes it
    with pytest.raises(ConfigError, match=f"line {line}: {field}"):
        read(text, "Knative")


def test_who_deploys_is_asked_with_the_document() -> None:
    seen = []

    def mode_of(document: object) -> Mode:
        seen.append(document)
        return "Standard"

    assert parse(GOOD, "dienst.yaml", mode_of=mode_of).mode == "Standard"
    assert seen[0]["metadata"]["name"] == "late-flights"  # type: ignore[index]
