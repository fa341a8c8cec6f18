"""What lint says about files as KServe's documentation shows them: all is read, nothing passed over."""

from __future__ import annotations

import pytest

from modelyard.records import Finding
from modelyard_kserve.lint import Mode, lint
from modelyard_kserve.manifest import parse

pytest.importorskip("kserve")

SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris}
spec:
  predictor:
"""
#: The line on which a predictor's fields begin.
LINE = 6


def service(*lines: str, **metadata: str) -> str:
    said = "".join(f", {key}: {value}" for key, value in metadata.items())
    return SERVICE.replace("iris}", f"iris{said}}}") + "".join(f"    {line}\n" for line in lines)


def found(text: str, mode: Mode = "local") -> list[Finding]:
    return lint(text, "iris.yaml", lambda _: mode)


def only(text: str, mode: Mode = "local") -> Finding:
    (one,) = found(text, mode)
    return one


MODEL = "model: {modelFormat: {name: sklearn}, storageUri: s3://models/iris}"


@pytest.mark.parametrize("scheme", ["oci", "oci+fetch", "oci+native"])
def test_an_image_is_fetched_however_a_pod_would_get_it(scheme: str) -> None:
    text = service(MODEL.replace("s3://models/iris", f"{scheme}://registry/iris:1"))
    for mode in ("local", "Knative", "Standard"):
        assert found(text, mode) == []
    assert parse(text, "iris.yaml").storage_uri == "oci://registry/iris:1"


@pytest.mark.parametrize(
    ("storage", "uri"),
    [
        ("{key: minio, path: iris, parameters: {bucket: models}}", "s3://models/iris"),
        ("{key: minio, path: /iris/1, parameters: {bucket: models, type: s3}}", "s3://models/iris/1"),
        ("{path: iris, parameters: {bucket: models, type: gs}}", "gs://models/iris"),
        ("{key: hdfs, path: /models/iris, parameters: {type: webhdfs}}", "webhdfs://models/iris"),
    ],
)
def test_storage_without_an_address_is_one(storage: str, uri: str) -> None:
    text = service("sklearn:", f"  storage: {storage}")
    assert [one.level for one in found(text)] == (["warning"] if "key" in storage else [])
    assert parse(text, "iris.yaml").storage_uri == uri


@pytest.mark.parametrize(
    ("storage", "field", "said"),
    [
        (
            "{key: minio, path: iris}",
            "storageUri",
            "'storage' without parameters.bucket leaves it to a secret",
        ),
        ("{key: minio, parameters: {bucket: models}}", "storageUri", "'storage' without path leaves it"),
        (
            "{path: iris, parameters: {type: azure}}",
            "storage.parameters.type",
            "'azure' is no type of storage",
        ),
    ],
)
def test_storage_that_only_a_cluster_can_read(storage: str, field: str, said: str) -> None:
    (one,) = (one for one in found(service("sklearn:", f"  storage: {storage}")) if one.level == "error")
    assert one.field == f"spec.predictor.sklearn.{field}"
    assert said in one.message


def test_a_model_that_only_its_arguments_name_is_to_be_an_address() -> None:
    text = service("model: {modelFormat: {name: huggingface}, args: [--model_id=facebook/opt-125m]}")
    said = {one.field.rpartition(".")[2]: one for one in found(text)}
    assert said["storageUri"].hint == "storageUri: hf://facebook/opt-125m"
    assert "of them only --model_name is read" in said["args"].message


@pytest.mark.parametrize("args", ["[--model_name, flowers]", "[--model_name=flowers]"])
def test_another_name_of_the_model_is_read(args: str) -> None:
    text = service(MODEL[:-1] + f", args: {args}}}")
    assert found(text) == []
    assert parse(text, "iris.yaml").alias == "flowers"
    assert parse(service(MODEL), "iris.yaml").alias == ""


def test_a_runtime_is_named_and_another_server_answers() -> None:
    one = only(service(MODEL[:-1] + ", runtime: kserve-mlserver}"))
    assert (one.level, one.field) == ("info", "spec.predictor.model.runtime")
    assert one.message.startswith("'kserve-mlserver' is not known here: 'sklearn' is served")


def test_a_format_without_a_server_says_what_else_can_be_done() -> None:
    one = only(service("paddle: {storageUri: s3://models/resnet}"))
    assert (one.level, one.field, one.line) == ("error", "spec.predictor.paddle", LINE)
    assert "is not served here" in one.message
    assert "a class of the project" in one.hint


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nodeSelector: {gpu: t4}", "it is about pods of a cluster"),
        ("serviceAccountName: sa", "it is about pods of a cluster"),
        (
            "autoScaling: {metrics: [{type: Resource, resource: {name: cpu}}]}",
            "scaleMetric and scaleTarget scale",
        ),
    ],
)
def test_what_is_not_done_says_why(line: str, why: str) -> None:
    one = only(service(MODEL, line))
    assert (one.level, one.line) == ("warning", LINE + 1)
    assert why in one.message


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("ports: [{name: h2c, containerPort: 9000}]", "the one port of the project's endpoints"),
        ("livenessProbe: {httpGet: {path: /v1/models/iris}}", "started again when it hangs or ends"),
        ("runtimeVersion: 2.6.2-gpu", "no image is run here"),
    ],
)
def test_what_is_not_done_for_a_model_says_why(field: str, why: str) -> None:
    one = only(service(MODEL[:-1] + f", {field}}}"))
    assert one.level == "warning"
    assert why in one.message


@pytest.mark.parametrize(
    ("annotation", "hint"),
    [
        ("autoscaling.knative.dev/target: '10'", "use scaleTarget"),
        ("autoscaling.knative.dev/minScale: '1'", "use minReplicas"),
        ("autoscaling.knative.dev/class: kpa.autoscaling.knative.dev", ""),
        ("serving.kserve.io/targetUtilizationPercentage: '80'", "use scaleTarget"),
    ],
)
def test_annotations_that_scale_on_clusters(annotation: str, hint: str) -> None:
    text = service(MODEL, annotations=f"{{{annotation}}}")
    assert found(text, "Knative") == []
    one = only(text)
    assert (one.level, one.line, one.hint) == ("warning", 3, hint)
    assert only(service(MODEL, annotations=f"{{{annotation}, prometheus.io/scrape: 'true'}}")) == one


def test_a_logger_says_what_it_does_not_keep() -> None:
    one = only(service(MODEL, "logger: {mode: all, metadataHeaders: [x-a], storage: {path: /logs, key: s}}"))
    assert (one.level, one.field) == ("warning", "spec.predictor.logger.storage")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://logs", "'s3' is no http or https"),
        ("http://dumper.default.svc.cluster.local", "is an address of a cluster"),
        ("http://dumper.default.svc:80/", "is an address of a cluster"),
        ("http://127.0.0.1:9000/svc", ""),
        ("https://collector.example.com/a.svc", ""),
    ],
)
def test_a_logger_sends_nothing_into_a_cluster(url: str, said: str) -> None:
    text = service(MODEL, f"logger: {{mode: all, url: '{url}'}}")
    assert found(text, "Knative") == []
    assert [said in one.message for one in found(text)] == ([True] if said else [])


def test_a_transformer_in_the_predictors_pod_is_refused_and_a_helper_named() -> None:
    transformer, helper = "{name: transformer-container, image: x}", "{name: agent, image: x}"
    for model in (MODEL, "containers: [{name: kserve-container, command: [python, -m, ours]}, OTHER]"):
        beside = ["containers: [OTHER]"] if model == MODEL else []
        lines = [line.replace("OTHER", transformer) for line in (model, *beside)]
        one = only(service(*lines))
        assert (one.level, one.hint) == ("error", "write it as spec.transformer.containers")
        one = only(service(*[line.replace(transformer, helper) for line in lines]))
        assert (one.level, one.message) == (
            "warning",
            "is not started here: only the container that answers is",
        )


def test_of_an_older_way_beside_model_kserve_drops_model() -> None:
    text = service("sklearn: {storageUri: s3://models/older}", MODEL)
    for mode in ("local", "Knative", "Standard"):
        one = only(text, mode)
        assert (one.level, one.field, one.line) == ("warning", "spec.predictor.model", LINE + 1)
        assert "'sklearn' beside it says what runs" in one.message
    assert parse(text, "iris.yaml").storage_uri == "s3://models/older"


@pytest.mark.parametrize(
    ("text", "level", "field", "said"),
    [
        (
            service(MODEL, "autoScaling: {keda: {pollingInterval: 30}}"),
            "warning",
            "spec.predictor.autoScaling.keda",
            "is newer than KServe 0.21, which drops it",
        ),
        (
            service("catboost: {storageUri: s3://a/b}"),
            "error",
            "spec.predictor.catboost",
            "is newer than KServe",
        ),
        (
            service(MODEL) + "  explainer: {alibi: {type: AnchorTabular}}\n",
            "error",
            "spec.explainer.alibi",
            "is a kind of explainer that KServe gave up",
        ),
        (service(MODEL) + "  logger: {mode: all}\n", "error", "spec.logger", "it belongs below 'predictor'"),
        (service("storageUri: s3://a/b"), "error", "spec.predictor.storageUri", "it belongs below 'model'"),
        (
            service(MODEL).replace("spec:\n  predictor:", "predictor:"),
            "error",
            "predictor",
            "it belongs below 'spec'",
        ),
    ],
)
def test_fields_of_other_versions_and_in_other_places(text: str, level: str, field: str, said: str) -> None:
    first = found(text, "Standard")[0]
    assert (first.level, first.field) == (level, field)
    assert said in first.message


def test_graphs_of_the_first_version_say_what_they_are_now() -> None:
    text = """\
apiVersion: serving.kserve.io/v1alpha1
kind: InferenceGraph
metadata: {name: pets}
spec:
  nodes:
    root:
      routerType: Splitter
      routes: [{service: cats, weight: 20}]
"""
    one = only(text)
    assert (one.level, one.line, one.field) == ("error", 8, "spec.nodes.root.routes")
    assert one.hint == "steps: [{serviceName: NAME}]"


TRAINED = """\
apiVersion: serving.kserve.io/v1alpha1
kind: TrainedModel
metadata: {name: first}
spec:
  inferenceService: many
  model: {framework: sklearn, storageUri: "gs://models/first", memory: 256Mi}
"""
LARGE = """\
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata: {name: llama}
spec: {model: {uri: "hf://meta-llama/Llama-2-7b-hf"}}
"""


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (TRAINED, "a model loaded into another service's server"),
        (LARGE, "a large language model on several pods"),
        (LARGE.replace("LLMInferenceService", "ClusterStorageContainer"), "what fetches models into pods"),
        (LARGE.replace("LLMInferenceService", "LocalModelCache"), "models on the disks of a cluster's nodes"),
        (LARGE.replace("LLMInferenceService", "SomethingNew"), "for a cluster"),
    ],
)
def test_kinds_that_only_clusters_know_say_so_here(text: str, what: str) -> None:
    one = only(text)
    assert (one.level, one.line, one.field) == ("warning", 2, "kind")
    assert "does nothing for local processes" in one.message
    assert what in one.message
    assert [said.level for said in found(text, "Knative")] in ([], ["info"])


def test_what_kubeflow_called_otherwise_is_no_more() -> None:
    one = only("apiVersion: serving.kubeflow.org/v1alpha1\nkind: KFService\nmetadata: {name: a}\n")
    assert (one.level, one.line) == ("error", 1)
    assert "nor is 'KFService'" in one.message
    assert one.hint.startswith("write it as kind: InferenceService")
