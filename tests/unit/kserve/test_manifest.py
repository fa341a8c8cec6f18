"""InferenceService files: what is refused, where exactly, and what is understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from modelyard.errors import ConfigError, EnvironmentFault
from modelyard_kserve.local.scaling import Scaling
from modelyard_kserve.manifest import Manifest, parse, read

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
#: Where further lines of `model` and of `predictor` come to stand in what the helpers below make.
LINE = 11


def in_model(line: str) -> str:
    return f"{GOOD}      {line}\n"


def in_predictor(line: str) -> str:
    return f"{GOOD}    {line}\n"


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "dienst.yaml")
    assert caught.value.code == "manifest-invalid"
    assert caught.value.message.startswith("dienst.yaml")
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value.message


def test_a_small_file_is_understood() -> None:
    made = parse(GOOD, "dienst.yaml")
    assert (made.name, made.namespace, made.storage_uri) == (
        "late-flights",
        "default",
        "models:/late-flights/1",
    )
    assert (made.model_format, made.canary, made.logger, made.env, made.notes) == (
        "mlflow",
        None,
        None,
        {},
        (),
    )
    assert made.text == GOOD


def test_logger_canary_and_environment_are_understood() -> None:
    made = parse(
        in_model("env: [{name: PREDICT_PROBA, value: 'true'}, {name: EMPTY}]")
        + "    canaryTrafficPercent: 0\n"
        + "    logger: {mode: request, url: 'http://127.0.0.1:1', metadataHeaders: [X-Event-Time]}\n",
        "dienst.yaml",
    )
    assert made.canary == 0
    assert made.env == {"PREDICT_PROBA": "true", "EMPTY": ""}
    assert made.logger is not None
    assert (made.logger.mode, made.logger.url, made.logger.metadata_headers) == (
        "request",
        "http://127.0.0.1:1",
        ("X-Event-Time",),
    )


# -- unknown fields and wrong types ---------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "meant", "line"),
    [
        (GOOD.replace("spec:", "spce:"), "spce", "spec", 5),
        (GOOD.replace("name: late", "nmae: late"), "metadata.name", "", 3),
        (GOOD.replace("  name: l", "  lables: {a: b}\n  name: l"), "metadata.lables", "labels", 4),
        (GOOD.replace("  predictor:", "  predicter:"), "spec.predicter", "predictor", 6),
        (
            in_predictor("canaryTraficPercent: 5"),
            "spec.predictor.canaryTraficPercent",
            "canaryTrafficPercent",
            LINE,
        ),
        (in_model("storageUrl: x"), "spec.predictor.model.storageUrl", "storageUri", LINE),
        (
            GOOD.replace("        name: m", "        nam: m"),
            "spec.predictor.model.modelFormat.nam",
            "name",
            9,
        ),
        (
            in_model("env:\n      - name: A\n      - nam: B"),
            "spec.predictor.model.env[1].nam",
            "name",
            LINE + 2,
        ),
        (
            in_model("livenessProbe:\n        httpGet:\n          prot: 80"),
            "spec.predictor.model.livenessProbe.httpGet.prot",
            "port",
            LINE + 2,
        ),
        (in_predictor("logger: {mod: all}"), "spec.predictor.logger.mod", "mode", LINE),
    ],
    ids=lambda value: value if isinstance(value, str) and "\n" not in value else "",
)
def test_an_unknown_field_is_named_with_its_line_and_the_nearest_name(
    text: str, path: str, meant: str, line: int
) -> None:
    said = refused(text)
    assert f"line {line}: {path}: " in said
    assert not meant or f"did you mean '{meant}'?" in said


def test_a_field_that_is_like_no_other_is_answered_with_the_known_ones() -> None:
    said = refused(in_predictor("zzzzzz: 1"))
    assert f"line {LINE}: spec.predictor.zzzzzz: unknown field; known: activeDeadlineSeconds" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (in_predictor("minReplicas: two"), "spec.predictor.minReplicas: 'two' is not an integer"),
        (in_predictor("canaryTrafficPercent: true"), "canaryTrafficPercent: True is not an integer"),
        (in_predictor("canaryTrafficPercent: 1.5"), "canaryTrafficPercent: 1.5 is not an integer"),
        (in_predictor("hostNetwork: 1"), "spec.predictor.hostNetwork: 1 is not true or false"),
        (in_predictor("tolerations: {key: a}"), "spec.predictor.tolerations: {'key': 'a'} is not a list"),
        (in_predictor("annotations: [a]"), "spec.predictor.annotations: ['a'] is not a mapping"),
        (in_predictor("annotations: {day: 2013-01-01}"), "spec.predictor.annotations.day: datetime.date"),
        (in_predictor("logger: all"), "spec.predictor.logger: 'all' is not a mapping"),
        (
            in_model("env: [{name: DEPTH, value: 6}]"),
            "spec.predictor.model.env[0].value: the value is",
        ),
        (in_model("args: [a, 1]"), "spec.predictor.model.args[1]: 1 is not text"),
        (in_model("args: [a, null]"), "spec.predictor.model.args[1]: is empty"),
        (
            in_predictor("logger: {metadataHeaders: [null]}"),
            "spec.predictor.logger.metadataHeaders[0]: is empty",
        ),
        (GOOD.replace("models:/late-flights/1", "[1]"), "spec.predictor.model.storageUri: [1] is not text"),
    ],
    ids=lambda value: value.partition(":")[0] if "\n" not in value else "",
)
def test_a_value_of_the_wrong_type_is_named(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize("amounts", ["{cpu: 1, memory: 2Gi}", "{cpu: 500m}", "{cpu: 0.5}"])
def test_amounts_may_be_numbers_as_in_kubernetes(amounts: str) -> None:
    made = parse(in_model(f"resources: {{limits: {amounts}, requests: {amounts}}}"), "dienst.yaml")
    assert made.notes == ()
    assert made.limits["cpu"] in (0.5, 1.0)


# -- files that are no InferenceService -----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it holds 0 documents"),
        ("# only a comment\n", "it holds 0 documents"),
        ("---\n---\n", "it holds 0 documents"),
        (f"{GOOD}---\n{GOOD}", "it holds 2 documents"),
        ("[1, 2]", "it is not a mapping"),
        ("just text", "it is not a mapping"),
        (
            GOOD.replace("InferenceService", "Deployment"),
            "line 2: kind: 'Deployment' is not 'InferenceService'",
        ),
        (GOOD.replace("v1beta1", "v1alpha1"), "line 1: apiVersion: 'serving.kserve.io/v1alpha1' is not"),
        (GOOD.replace("kind: InferenceService\n", ""), "kind: None is not 'InferenceService'"),
        (
            GOOD.replace("metadata:\n  name: late-flights", "metadata: x"),
            "line 3: metadata: 'x' is not a mapping",
        ),
        (GOOD.replace("metadata:\n  name: late-flights\n", ""), "metadata.name: None is not a name"),
    ],
)
def test_a_file_that_is_no_inference_service_is_refused(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize(
    "name", ["Late", "1st", "late-", "late_flights", "5", "''", "a" * 64, "late flights"]
)
def test_a_name_that_the_cluster_would_refuse_is_refused(name: str) -> None:
    assert "line 4: metadata.name: " in refused(GOOD.replace("late-flights\nspec", f"{name}\nspec"))


@pytest.mark.parametrize(
    "text",
    [
        "a: b: c",
        "{unclosed: [",
        "\tkey: 1",
        "x: !!python/object/apply:os.getpid []",
        "? [a]\n: b",
        "a: *gone",
        "a: &a [*a]",
        "\x00",
        "[" * 5000,
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{c}: &{c} [{', '.join(10 * [f'*{chr(ord(c) - 1)}'])}]\n" for c in "bcdefgh"),
    ],
)
def test_broken_yaml_is_one_sentence(text: str) -> None:
    refused(text)


def test_a_key_that_stands_there_twice_is_refused() -> None:
    """YAML takes the last, kubectl neither; whoever wrote both meant one of them."""
    said = refused(in_model("env: [{name: A}]\n      modelFormat: {name: mlflow}"))
    assert "'modelFormat' stands on line" in said
    assert f"line {LINE + 1}: " in said


def test_json_is_read_as_json() -> None:
    value = yaml.safe_load(GOOD)
    value["metadata"]["annotations"] = {"by": "\U0001f680"}
    read = parse(json.dumps(value, indent="\t"), "dienst.json")
    assert read.document == value


@pytest.mark.parametrize("namespace", ["Team", "a b", "a*", "''", "a/b", "n" * 64])
def test_a_namespace_that_the_cluster_would_refuse_is_refused(namespace: str) -> None:
    text = GOOD.replace("late-flights\nspec", f"late-flights\n  namespace: {namespace}\nspec")
    assert "line 5: metadata.namespace: " in refused(text)


def test_an_empty_first_document_does_not_shift_the_lines() -> None:
    assert parse(f"---\n---\n{GOOD}", "dienst.yaml").name == "late-flights"
    said = refused(f"---\n# made by a template\n---\n{in_model('storageUrl: x')}")
    assert f"line {LINE + 3}: spec.predictor.model.storageUrl" in said


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "dienst.yaml"
    file.write_bytes(GOOD.encode() + b"# \xff\xfe")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        read(file)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="Is a directory"):
        read(tmp_path)


# -- rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.partition("spec:")[0], "spec.predictor: is missing"),
        (GOOD.partition("  predictor:")[0], "line 5: spec.predictor: is missing"),
        (
            GOOD.partition("    model:")[0] + "    minReplicas: 1\n",
            "line 6: spec.predictor.model: is missing",
        ),
        (
            GOOD.partition("    model:")[0] + "    paddle: {storageUri: x}\n",
            "line 7: spec.predictor.paddle: 'paddle' is not served here",
        ),
        (
            GOOD.replace("models:/late-flights/1", "''"),
            "line 10: spec.predictor.model.storageUri: is missing",
        ),
        (GOOD.partition("      storageUri")[0], "line 7: spec.predictor.model.storageUri: is missing"),
        (
            GOOD.replace("name: mlflow", "name: pmml"),
            "modelFormat.name: 'pmml' is not served here; known: huggingface, lightgbm, mlflow, onnx",
        ),
        (GOOD.replace("        name: mlflow\n", ""), "modelFormat.name: is missing: what kind"),
        (
            in_predictor("canaryTrafficPercent: 101"),
            "canaryTrafficPercent: 101 is not a percentage from 0 to 100",
        ),
        (
            in_predictor("canaryTrafficPercent: -1"),
            "canaryTrafficPercent: -1 is not a percentage from 0 to 100",
        ),
        (
            in_predictor("minReplicas: 3\n    maxReplicas: 2"),
            f"line {LINE}: spec.predictor.minReplicas: 3 is more than",
        ),
        (in_predictor("batcher: {maxBatchSize: 0}"), "spec.predictor.batcher.maxBatchSize: 0 is not more"),
        (in_predictor("workerSpec: {}"), "spec.predictor.workerSpec: would change answers"),
        (
            in_predictor("logger: {mode: some}"),
            "spec.predictor.logger.mode: 'some' is not all, request or response",
        ),
        (
            GOOD + "  transformer: {containers: [{name: a, image: b}]}\n",
            "line 11: spec.transformer.containers[0].command: is missing",
        ),
        (
            GOOD + "  explainer: {containers: [{name: a, image: b}]}\n",
            "line 11: spec.explainer.containers[0].command: is missing",
        ),
        (
            GOOD + "  canary: [{predictor: {name: next}}]\n",
            "line 11: spec.canary[0].predictor.model: is missing",
        ),
        (
            GOOD
            + "    canaryTrafficPercent: 5\n  canary: [{predictor: {name: n, sklearn: {storageUri: m}}}]\n",
            "line 12: spec.canary: stands beside spec.predictor.canaryTrafficPercent",
        ),
        (in_model("env: [{value: x}]"), "spec.predictor.model.env[0].name: None is not a name"),
        (in_model("env: [{name: A}, null]"), "spec.predictor.model.env[1]: is empty"),
        (
            in_model("env: [{name: 'A=B', value: x}]"),
            "spec.predictor.model.env[0].name: 'A=...' is not",
        ),
    ],
)
def test_every_rule_says_which_field_breaks_it(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("deploymentStrategy: {}", "deploymentStrategy has no effect on local processes"),
        ("containers: [{name: a, image: b}]", "containers[0] is not started here: only the container"),
        ("  args: [--workers, '2']", "model.args has no effect on local processes"),
        (
            "  env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: s, key: k}}}]",
            "model.env[0].valueFrom sets nothing here: only a cluster knows the value of TOKEN",
        ),
    ],
)
def test_what_local_processes_do_not_do_is_noted(line: str, note: str) -> None:
    made = parse(in_predictor(line), "dienst.yaml")
    (said,) = made.notes
    assert said.startswith(f"spec.predictor.{note}")
    assert made.env == {}, "a value that only the cluster knows must not become an empty one"


@pytest.mark.parametrize(("window", "idle"), [("6s", 6.0), ("1m30s", 90.0), ("1h", 3600.0)])
def test_how_long_nobody_may_ask_is_said_as_in_knative(window: str, idle: float) -> None:
    annotated = f"  annotations: {{autoscaling.knative.dev/window: {window}}}\nspec:"
    made = parse(in_predictor("minReplicas: 0\n    timeout: 5").replace("spec:", annotated), "dienst.yaml")
    assert (made.scaling.least, made.scaling.window, made.timeout, made.notes) == (0, idle, 5.0, ())
    usual = parse(GOOD, "dienst.yaml")
    assert (usual.scaling, usual.timeout, usual.concurrency) == (Scaling(), 300.0, 0)


@pytest.mark.parametrize(
    ("lines", "scaling"),
    [
        ("minReplicas: 3", Scaling(least=3, most=3)),
        ("maxReplicas: 4", Scaling(least=1, most=4)),
        ("maxReplicas: 4\n    scaleTarget: 5", Scaling(most=4, target=5)),
        ("maxReplicas: 4\n    containerConcurrency: 2", Scaling(most=4, target=2)),
        ("maxReplicas: 4\n    scaleMetric: rps", Scaling(most=4, metric="rps", target=200)),
        ("scaleMetric: cpu\n    scaleTarget: 50", Scaling(metric="cpu", target=50)),
    ],
)
def test_how_many_replicas_are_asked_for(lines: str, scaling: Scaling) -> None:
    made = parse(in_predictor(lines), "dienst.yaml")
    assert (made.scaling, made.notes) == (scaling, ())


def test_what_a_replica_asks_for_is_what_percent_are_of() -> None:
    asks = "      resources: {requests: {cpu: 250m, memory: 1Gi}}\n"
    made = parse(GOOD + asks, "dienst.yaml")
    assert (made.scaling.cpu, made.scaling.memory) == (0.25, 2**30)
    with pytest.raises(ConfigError, match=r"model\.resources\.requests: 'plenty' is not a quantity"):
        parse(GOOD + asks.replace("250m", "plenty"), "dienst.yaml")


@pytest.mark.parametrize("window", ["5s", "soon", "2h", "''"])
def test_a_window_that_knative_would_not_take_is_refused(window: str) -> None:
    annotated = f"  annotations: {{autoscaling.knative.dev/window: {window}}}\nspec:"
    assert "is no time from 6s to 1h" in refused(GOOD.replace("spec:", annotated))


def test_the_older_ways_to_name_the_format_mean_the_same() -> None:
    older = GOOD.partition("    model:")[0] + "    sklearn: {storageUri: models:/late-flights/1}\n"
    made = parse(older, "dienst.yaml")
    newer = parse(GOOD.replace("name: mlflow", "name: sklearn"), "dienst.yaml")
    assert (made.model_format, made.storage_uri) == ("sklearn", "models:/late-flights/1")
    assert made.document == newer.document
    assert made.spec_digest == newer.spec_digest


# -- what makes a revision ------------------------------------------------------------------


def digest(text: str) -> str:
    made: Manifest = parse(text, "dienst.yaml")
    return made.spec_digest


def test_the_traffic_split_is_no_part_of_a_revision() -> None:
    assert digest(GOOD) == digest(in_predictor("canaryTrafficPercent: 20")) == digest(f"# note\n{GOOD}")


@pytest.mark.parametrize("line", ["minReplicas: 2", "logger: {mode: all}", "  env: [{name: A, value: b}]"])
def test_everything_else_of_the_predictor_is(line: str) -> None:
    assert digest(in_predictor(line)) != digest(GOOD)


@pytest.mark.parametrize(
    "env",
    [
        "[{name: PIN, value: 4711}]",
        "[{name: PIN, value: [4711]}]",
        "{PIN: '4711'}",
        "['PIN=4711']",
        "[{name: PIN=4711}]",
        "[{name: PIN, valu: '4711'}]",
        "[{name: PIN, value: '4711]",
        "[{name: PIN, value: @4711}]",
    ],
)
def test_no_message_repeats_what_may_be_a_secret(env: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(
            "apiVersion: serving.kserve.io/v1beta1\n"
            "kind: InferenceService\n"
            "metadata: {name: late-flights}\n"
            "spec:\n  predictor:\n    model:\n"
            "      modelFormat: {name: mlflow}\n"
            "      storageUri: models:/late-flights/1\n"
            f"      env: {env}\n",
            "dienst.yaml",
        )
    assert refused.value.code == "manifest-invalid"
    assert "line " in refused.value.message
    assert "4711" not in refused.value.message


def test_what_a_batcher_does_not_say_is_as_kserves_agent_has_it() -> None:
    assert parse(GOOD, "dienst.yaml").batcher == {}
    empty = parse(in_predictor("batcher: {}"), "dienst.yaml")
    assert (empty.batcher, empty.timeout) == ({"maxBatchSize": 32, "maxLatency": 5000}, 300.0)
    assert len(empty.notes) == 1
    assert "waits 5 s for others" in empty.notes[0]
    said = parse(in_predictor("batcher: {maxBatchSize: 8, maxLatency: 20, timeout: 9}"), "dienst.yaml")
    assert (said.batcher, said.timeout) == ({"maxBatchSize": 8, "maxLatency": 20}, 9.0)
    assert said.notes == ()
