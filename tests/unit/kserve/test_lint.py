"""What `endpoints lint` says about KServe's files, and where."""

from __future__ import annotations

import pytest
from tests.unit.kserve.linted import GRAPH, LINE, SERVICE, found, instead_of_model, only, told, with_predictor

from modelyard.errors import ConfigError
from modelyard_kserve.lint import Mode
from modelyard_kserve.manifest import parse

pytest.importorskip("kserve")


def test_a_good_file_is_silent() -> None:
    for mode in ("local", "Knative", "Standard"):
        assert found(SERVICE, mode) == []


def test_everything_that_is_wrong_is_said_at_once() -> None:
    text = SERVICE.replace("storageUri", "storageUrl") + "    minReplica: 1\n    timeout: soon\n"
    said = told(text)
    assert [(level, line) for level, line, _ in said] == [("error", 9), ("error", 10), ("error", 11)]
    assert "did you mean 'storageUri'?" in said[0][2]
    assert "did you mean 'minReplicas'?" in said[1][2]


# -- what the webhook refuses ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("minReplicas: -1", "minReplicas: -1 is less than 0"),
        ("maxReplicas: -2", "maxReplicas: -2 is less than 0"),
        ("minReplicas: 3\n    maxReplicas: 2", "minReplicas: 3 is more than maxReplicas, 2"),
        ("containerConcurrency: -1", "containerConcurrency: is less than 0; 0 means no limit"),
        ("timeout: -1", "timeout: -1 is less than 0; 0 means what is usual"),
        ("canaryTrafficPercent: 101", "canaryTrafficPercent: 101 is not a percentage from 0 to 100"),
        ("logger: {mode: loud}", "logger.mode: 'loud' is not all, request or response"),
        ("scaleMetric: cpu", "scaleMetric: 'cpu' does not scale here; known: concurrency, rps"),
        ("scaleMetric: rps\n    scaleTarget: 0", "scaleTarget: 0 is less than 1"),
        ("workerSpec: {tensorParallelSize: 0}", "workerSpec.tensorParallelSize: 0 is less than 1"),
        (
            "sklearn: {storageUri: s3://a/b}\n    xgboost: {storageUri: s3://a/b}",
            "xgboost: stands beside 'sklearn'; exactly one says what runs",
        ),
        (
            "containers: [{name: kserve-container, image: x}]",
            "containers: stands beside 'model'; exactly one says what runs",
        ),
        (
            "containers: [{name: transformer-container, env: [{name: STORAGE_URI, value: s3://a/b}]}]",
            "containers[0].env[0].name: a transformer beside the predictor gets no model",
        ),
        ("  storage: {key: s3}", ""),
        ("  env: [{value: x}]", "model.env[0].name: None is not a name of an environment variable"),
    ],
    ids=lambda value: value.partition(":")[0].strip() if "\n" not in value else "",
)
def test_every_rule_about_a_component(line: str, said: str) -> None:
    wrong = [one for one in told(with_predictor(line)) if one[0] == "error"]
    assert [message for _, _, message in wrong[:1]] == ([f"spec.predictor.{said}"] if said else [])


@pytest.mark.parametrize(
    ("uri", "known"),
    [
        ("gs://a/b", True),
        ("pvc://claim/model", True),
        ("https://account.blob.core.windows.net/a/b", True),
        ("hf://org/model:main", True),
        ("oci://registry/model:1", True),
        ("models:/late-flights@production", True),
        ("model/here", True),
        ("/mnt/models", True),
        ("ftp://server/model", False),
        ("S4://bucket/model", False),
    ],
)
def test_where_a_model_may_lie(uri: str, known: bool) -> None:
    said = told(SERVICE.replace("s3://models/late-flights", uri))
    assert (said == []) is known
    if not known:
        assert said[0][:2] == ("error", 9)
        assert "is no storage that KServe knows" in said[0][2]


def test_a_runtime_may_bring_its_model_along() -> None:
    text = SERVICE.partition("      storageUri")[0]
    assert found(text) == []
    assert only(text, "local")[2] == "spec.predictor.model.storageUri: is missing: where the model lies"


@pytest.mark.parametrize("uri", ["runs:/0a1b/model", "dvc://models/late?rev=v1"])
def test_what_only_this_project_fetches_is_no_place_for_clusters(uri: str) -> None:
    text = SERVICE.replace("s3://models/late-flights", uri)
    assert found(text, "local") == []
    for mode in ("Knative", "Standard"):
        level, line, said = only(text, mode)
        assert (level, line) == ("error", 9)
        assert "no cluster fetches it" in said


def test_a_secret_of_the_cluster_is_not_here() -> None:
    text = SERVICE + "      storage: {key: mine, parameters: {region: eu-1, type: s3}}\n"
    assert found(text, "Knative") == []
    assert [(level, said.partition(": ")[0]) for level, _, said in told(text, "local")] == [
        ("warning", "spec.predictor.model.storage.key"),
        ("warning", "spec.predictor.model.storage.parameters.region"),
    ]


def test_storage_says_the_address_if_it_needs_no_secret() -> None:
    bare = SERVICE.partition("      storageUri")[0]
    named = bare + "      storage: {path: late, parameters: {type: s3, bucket: models}}\n"
    assert found(named, "local") == found(named, "Standard") == []
    level, _, said = only(bare + "      storage: {key: mine, path: late}\n", "local")
    assert level == "error"
    assert "leaves it to a secret of the cluster" in said


def test_several_places_need_a_container() -> None:
    text = with_predictor("storageUris: [{uri: s3://a/b, mountPath: /mnt/a}]")
    assert found(text, "Knative") == []
    level, _, said = only(text, "local")
    assert level == "error"
    assert said.startswith("spec.predictor.storageUris: mounts places side by side")


def test_storage_by_key_goes_with_s3_alone() -> None:
    text = SERVICE.replace("s3://", "gs://") + "      storage: {key: mine}\n"
    assert only(text)[2] == (
        "spec.predictor.model.storageUri: 'gs://models/late-flights' can't stand beside "
        "'storage', only s3:// and hdfs:// can"
    )


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ("serving.kserve.io/autoscalerClass: vpa", "'vpa' is no autoscaler"),
        ("serving.kserve.io/targetUtilizationPercentage: '0'", "'0' is not a whole number from 1 to 100"),
        ("serving.kserve.io/targetUtilizationPercentage: many", "'many' is not a whole number"),
    ],
)
def test_annotations_that_scale(annotation: str, said: str) -> None:
    text = SERVICE.replace("metadata:\n", f"metadata:\n  annotations: {{{annotation}}}\n")
    assert said in only(text)[2]


def test_knative_scales_by_cpu_where_its_class_says_so() -> None:
    text = with_predictor("scaleMetric: cpu\n    scaleTarget: 80")
    annotated = text.replace(
        "metadata:\n",
        "metadata:\n  annotations: {autoscaling.knative.dev/class: hpa.autoscaling.knative.dev}\n",
    )
    assert found(annotated) == []
    assert "is not a percentage from 1 to 100" in only(annotated.replace("80", "120"))[2]


@pytest.mark.parametrize(
    ("canaries", "said"),
    [
        ("[{trafficPercent: 10}]", "spec.canary[0].predictor.name: is missing"),
        (
            "[{predictor: {name: a}}, {predictor: {name: a}}]",
            "spec.canary[1].predictor.name: 'a' stands there twice",
        ),
        (
            "[{predictor: {name: a, maxReplicas: 3}}]",
            "spec.canary[0].predictor.maxReplicas: is not for canaries",
        ),
        (
            "[{predictor: {name: a}, trafficPercent: 101}]",
            "spec.canary[0].trafficPercent: 101 is not a percentage",
        ),
        ("[{predictor: {name: a, timeout: -1}}]", "spec.canary[0].predictor.timeout: -1 is less than 0"),
        (
            "[{predictor: {name: a}, trafficPercent: 60}, {predictor: {name: b}, trafficPercent: 60}]",
            "spec.canary: their trafficPercent is 120 together",
        ),
    ],
)
def test_canaries_beside_the_predictor(canaries: str, said: str) -> None:
    model = ", sklearn: {storageUri: s3://a/b}"
    text = f"{SERVICE}  canary: {canaries}\n".replace("name: a", "name: a" + model).replace(
        "name: b", "name: b" + model
    )
    assert told(text, "Standard")[0][2].startswith(said)


def test_a_component_that_runs_nothing() -> None:
    assert only(instead_of_model("    minReplicas: 1\n"))[2] == "spec.predictor.model: is missing"
    said = only(SERVICE + "  transformer: {minReplicas: 1}\n")
    assert said == ("error", LINE, "spec.transformer.containers: is missing")


RUNS = "{name: kserve-container, command: [python, -m, ours]}"


@pytest.mark.parametrize(
    ("component", "said"),
    [
        (f"transformer: {{containers: [{RUNS}], minReplicas: 0, maxReplicas: 3, timeout: 9}}", None),
        (f"explainer: {{containers: [{RUNS}], containerConcurrency: 1}}", None),
        (
            "transformer: {containers: [{name: kserve-container, image: theirs}]}",
            ("error", "spec.transformer.containers[0].command: is missing"),
        ),
        (
            "explainer: {art: {type: SquareAttack, storageUri: s3://a/b}}",
            ("error", "spec.explainer.art: is not run here: it is an image of KServe's"),
        ),
        (
            f"transformer: {{containers: [{RUNS}], batcher: {{maxBatchSize: 8}}}}",
            ("warning", "spec.transformer.batcher: gathers nothing for programs"),
        ),
        (
            f"transformer: {{containers: [{RUNS}], canaryTrafficPercent: 20}}",
            ("warning", "spec.transformer.canaryTrafficPercent: has no effect here"),
        ),
        (f"transformer: {{containers: [{RUNS}], logger: {{mode: all}}}}", None),
        (
            f"explainer: {{containers: [{RUNS}], logger: {{mode: all}}}}",
            ("warning", "spec.explainer.logger: logs nothing here: explanations are no predictions"),
        ),
        (
            f"transformer: {{containers: [{RUNS}], dnsPolicy: Default}}",
            ("warning", "spec.transformer.dnsPolicy: has no effect on local processes"),
        ),
    ],
)
def test_what_a_component_does_locally(component: str, said: tuple[str, str] | None) -> None:
    text = SERVICE.replace("s3://models/late-flights", "file:///models") + f"  {component}\n"
    if said is None:
        assert told(text, "local") == []
    else:
        level, line, sentence = only(text, "local")
        assert (level, line) == (said[0], LINE)
        assert sentence.startswith(said[1])


def test_two_loggers_would_log_each_prediction_twice() -> None:
    text = with_predictor("logger: {mode: all}")
    text += f"  transformer: {{containers: [{RUNS}], logger: {{mode: all}}}}\n"
    level, _, sentence = only(text, "local")
    assert level == "warning"
    assert sentence.startswith("spec.transformer.logger: logs nothing here: the predictor's logs")


# -- what a field does there ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "mode", "level", "said"),
    [
        ("minReplicas: 0", "Standard", "warning", "0 becomes 1"),
        ("minReplicas: 0", "Knative", None, ""),
        ("scaleMetric: rps", "Standard", "warning", "is Knative's"),
        ("canaryTrafficPercent: 20", "Standard", "error", "has no effect in KServe's Standard mode"),
        ("canaryTrafficPercent: 20", "Knative", None, ""),
        ("canaryTrafficPercent: 20", "local", None, ""),
        ("containerConcurrency: 4", "Standard", "warning", "limits nothing"),
        ("containerConcurrency: 0", "Standard", None, ""),
        ("deploymentStrategy: {type: Recreate}", "Knative", "warning", "has no effect in Knative mode"),
        ("deploymentStrategy: {type: Recreate}", "Standard", None, ""),
        ("scaleMetricType: Utilization", "Knative", "warning", "has no effect in Knative mode"),
        ("autoScaling: {metrics: []}", "Knative", "warning", "has no effect in Knative mode"),
        ("scaleTarget: 30", "local", None, ""),
        ("maxReplicas: 3", "local", None, ""),
        ("timeout: 86400", "local", None, ""),
        ("timeout: 86401", "local", "error", "86401 s is more than a day"),
        ("timeout: 86401", "Standard", None, ""),
        ("timeout: 600", "Knative", None, ""),
        ("timeout: 601", "Knative", "warning", "is more than Knative takes by default, 600 s"),
        ("containerConcurrency: 1001", "Knative", "warning", "is more than Knative takes by default, 1000"),
        ("  protocolVersion: grpc-v2", "local", None, ""),
        ("  protocolVersion: grpc-v1", "Knative", None, ""),
        ("  protocolVersion: grpc-v1", "local", "warning", "which is not spoken here"),
        (
            "  protocolVersion: v9",
            "local",
            "error",
            "'v9' is no protocol of KServe's, which finds no runtime",
        ),
        ("  protocolVersion: v9", "Knative", "warning", "'v9' is no protocol of KServe's"),
        ("  protocolVersion: V2", "Standard", "warning", "'V2' is no protocol of KServe's"),
        ("deploymentStrategy: {type: Recreate}", "local", "warning", "has no effect on local processes"),
        ("batcher: {maxBatchSize: 8, maxLatency: 20, timeout: 9}", "local", None, ""),
        ("batcher: {maxBatchSize: 8, maxLatency: 20}", "Knative", None, ""),
        ("batcher: {maxBatchSize: 8}", "local", "warning", "a request that comes alone waits 5 s for others"),
        ("batcher: {maxBatchSize: 8}", "Knative", "warning", "a request that comes alone waits 5 s"),
        (
            "batcher: {maxLatency: 9000, timeout: 9}",
            "local",
            "error",
            "9 s is no less than an answer may take",
        ),
        ("batcher: {maxBatchSize: 0, maxLatency: 20}", "local", "error", "0 is not more than 0"),
        ("batcher: {maxBatchSize: 8, maxLatency: -1}", "Knative", "error", "-1 is not more than 0"),
        ("batcher: {maxLatency: 20, timeout: 9}", "Knative", "warning", "never reaches KServe's agent"),
    ],
)
def test_what_a_field_does_there(line: str, mode: Mode, level: str | None, said: str) -> None:
    text = with_predictor(line)
    if level is None:
        assert found(text, mode) == []
    else:
        (one,) = found(text, mode)
        assert (one.level, one.line) == (level, LINE)
        assert said in one.message


def test_the_batcher_passes_v2_by_on_clusters_and_not_here() -> None:
    text = with_predictor("  protocolVersion: v2\n    batcher: {maxBatchSize: 8, maxLatency: 20}")
    assert only(text)[0] == "warning"
    assert "those of V2 pass it by" in only(text)[2]
    assert found(text, "local") == []


def test_a_batcher_has_nothing_to_gather_from_one_request_at_a_time() -> None:
    text = with_predictor("batcher: {maxLatency: 20}\n    containerConcurrency: 1")
    (level, line, said) = only(text, "local")
    assert (level, line) == ("warning", LINE + 1)
    assert "waits for others that can't come" in said


def test_a_batcher_gathers_nothing_for_ones_own_programs() -> None:
    text = instead_of_model(
        "    batcher: {maxLatency: 20}\n"
        "    containers: [{name: kserve-container, command: [python, -m, ours]}]\n"
    )
    (level, _, said) = only(text, "local")
    assert level == "warning"
    assert "they answer each request by itself" in said


def test_of_a_container_local_processes_run_the_command_alone() -> None:
    text = instead_of_model("    containers: [{name: kserve-container, image: ours}]\n")
    assert found(text) == []
    (one,) = found(text, "local")
    assert (one.level, one.field) == ("error", "spec.predictor.containers[0].command")
    assert "images are not run here" in one.message
    text = instead_of_model(
        "    containers:\n    - {name: helper, image: x}\n"
        "    - {name: kserve-container, image: ours, command: [python, -m, ours], workingDir: /x}\n"
    )
    assert [(one.level, one.field) for one in found(text, "local")] == [
        ("warning", "spec.predictor.containers[0]"),
        ("warning", "spec.predictor.containers[1].image"),
        ("warning", "spec.predictor.containers[1].workingDir"),
    ]


# -- other kinds, other files ---------------------------------------------------------------

RUNTIME = """\
apiVersion: serving.kserve.io/v1alpha1
kind: ClusterServingRuntime
metadata: {name: ours.v1}
spec:
  supportedModelFormats:
  - {name: sklearn, version: "1", autoSelect: true, priority: 1}
  protocolVersions: [v1, v2]
  containers:
  - name: kserve-container
    image: ours
    args: ["--model_name={{.Name}}"]
    resources: {limits: {cpu: "1", memory: 2Gi}}
"""
MODEL = """\
apiVersion: serving.kserve.io/v1alpha1
kind: TrainedModel
metadata: {name: first}
spec:
  inferenceService: many
  model: {framework: sklearn, storageUri: "gs://models/first", memory: 256Mi}
"""


@pytest.mark.parametrize("text", [RUNTIME, RUNTIME.replace("Cluster", ""), MODEL, GRAPH])
def test_other_kinds_are_known(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RUNTIME.replace("supportedModelFormats", "supportedFormats"), "spec.supportedFormats: unknown"),
        (RUNTIME.replace("priority: 1", "priority: 0"), "priority: 0 is less than 1"),
        (
            RUNTIME.replace("  protocol", "  - {name: sklearn, autoSelect: true, priority: 2}\n  protocol"),
            "spec.supportedModelFormats[1].priority: 'sklearn' has another priority above, 1",
        ),
        (RUNTIME.partition("  containers")[0], "spec.containers: is missing"),
        (RUNTIME.replace("ours.v1", "Ours"), "metadata.name: 'Ours' is not a name"),
        (MODEL.replace("  inferenceService: many\n", ""), "spec.inferenceService: is missing"),
        (MODEL.replace(", memory: 256Mi", ""), "spec.model.memory: is missing"),
        (MODEL.replace("gs:", "ftp:"), "'ftp' is no storage"),
        (MODEL.replace("first}", "first.one}", 1), "metadata.name: 'first.one' is not a name"),
        (GRAPH.replace("root:", "start:"), "spec.nodes: has no 'root'"),
        (GRAPH.replace("Sequence", "Chain"), "routerType: 'Chain' is none of Sequence"),
        (GRAPH.replace("name: second", "name: first"), "'first' stands there twice"),
        (GRAPH.replace("nodeName: breeds, ", ""), "steps[1]: says nobody to ask"),
        (GRAPH.replace("nodeName: breeds", "nodeName: birds"), "there is no node 'birds'"),
        (GRAPH.replace("nodeName: breeds", "nodeName: breeds, serviceName: c"), "exactly one of nodeName"),
        (GRAPH.replace(", weight: 40", ""), "steps[1].weight: is missing"),
        (GRAPH.replace("40", "30"), "spec.nodes.breeds.steps: their weights are 90 together"),
    ],
)
def test_every_rule_about_another_kind(text: str, said: str) -> None:
    assert any(said in message for _, _, message in told(text))
    assert all(level == "error" for level, _, _ in told(text))


def test_many_documents_have_lines_of_their_own() -> None:
    text = f"{SERVICE}---\n{GRAPH.replace('40', '30')}---\n{with_predictor('minReplicas: -1')}"
    lines = [(one.line, one.field) for one in found(text)]
    start = SERVICE.count("\n") + 1
    assert lines == [
        (start + 13, "spec.nodes.breeds.steps"),
        (start + GRAPH.count("\n") + 1 + LINE, "spec.predictor.minReplicas"),
    ]


def test_other_objects_in_the_file_are_named_and_left_alone() -> None:
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n---\n{SERVICE}"
    assert only(text) == ("info", 2, "kind: 'Secret' is not looked at here")


@pytest.mark.parametrize("kind", ["", "kind: 5\n", "kind: [a]\n"])
@pytest.mark.parametrize("version", ["", "apiVersion: 1\n", "apiVersion: serving.kserve.io/v1beta1\n"])
def test_a_document_that_does_not_say_what_it_is_is_wrong_as_for_apply(version: str, kind: str) -> None:
    text = f"{version}{kind}metadata: {{name: a}}\n"
    level, _, said = only(text)
    assert (level, said) == ("error", "kind: is missing: what it describes")
    with pytest.raises(ConfigError, match=r"is not '(serving|Inference)"):
        parse(text, "dienst.yaml")


def test_the_first_version_of_the_api_is_no_more() -> None:
    old = "apiVersion: serving.kubeflow.org/v1alpha2\nkind: InferenceService\nmetadata: {name: a}\n"
    assert only(old)[2] == "apiVersion: 'serving.kubeflow.org/v1alpha2' is no more; its fields were others"


@pytest.mark.parametrize("text", ["a: b: c", "{unclosed: [", "- a\n- b", "just text", "\x00"])
def test_what_is_no_yaml_of_ours_is_a_finding_like_others(text: str) -> None:
    (one,) = found(text)
    assert (one.level, one.field, one.file) == ("error", "", "dienst.yaml")
    assert "\n" not in one.message


def test_no_finding_repeats_what_may_be_a_secret() -> None:
    for env in ("[{name: PIN, value: 4711}]", "{PIN: '4711'}", "[{name: PIN=4711}]"):
        for one in found(with_predictor(f"  env: {env}")):
            assert "4711" not in one.message
