"""InferenceGraphs as files: what is refused, what is said of them, and what an endpoint is made of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from modelyard.errors import ConfigError, ConflictError
from modelyard.records import Finding
from modelyard_kserve import manifest as manifests
from modelyard_kserve.lint import Mode, lint
from modelyard_kserve.local import told
from modelyard_kserve.local.desired import Desired, Wanted
from modelyard_kserve.local.graph import board, shown
from modelyard_kserve.manifest import Manifest

pytest.importorskip("kserve")

HEAD = (
    "apiVersion: serving.kserve.io/v1alpha1\nkind: InferenceGraph\nmetadata: {name: graph}\nspec:\n  nodes:\n"
)
#: In the shapes of KServe's documentation and of its end-to-end tests.
PUBLISHED = {
    "a pipeline with resources": """\
    root:
      routerType: Sequence
      steps:
      - serviceName: cat-dog-classifier
        name: cat_dog_classifier # step name
      - serviceName: dog-breed-classifier
        name: dog_breed_classifier
        data: $request
        condition: "[@this].#(predictions.0==\\"dog\\")"
  resources:
    requests: {cpu: 100m, memory: 256Mi}
    limits: {cpu: 1, memory: 1Gi}
""",
    "classes of predictions": """\
    root:
      routerType: Sequence
      steps:
      - {serviceName: preprocessor, name: preprocess_step}
      - {serviceName: classifier, name: classify, data: $response}
      - serviceName: text-classifier
        condition: "[@this].#(predictions.0.class==\\"news\\")"
      - serviceName: entities
        condition: "[@this].#(outputs.0.data.1>=0)"
""",
    "a switch": """\
    root:
      routerType: Switch
      steps:
      - name: "rootStep1"
        nodeName: node1
        condition: "[@this].#(decision_picker==ERROR)"
        dependency: Hard
      - name: "rootStep2"
        serviceName: success
        condition: "[@this].#(decision_picker==SUCCESS)"
    node1:
      routerType: Ensemble
      steps:
      - {name: node1Step1, serviceName: success, dependency: Soft}
      - {name: node1Step2, serviceName: error, dependency: Hard}
""",
    "a splitter": """\
    root:
      routerType: Splitter
      steps:
      - {serviceName: sklearn-iris, weight: 20}
      - {serviceUrl: "http://xgb.default.svc.cluster.local/v1/models/xgb:predict", weight: 80}
  timeout: 60
  routerTimeouts: {serverWrite: 30, serviceClient: 10}
  minReplicas: 1
  maxReplicas: 3
""",
}
CHAIN = HEAD + "    root: {routerType: Sequence, steps: [{serviceName: a}, {serviceName: b, name: second}]}\n"


def found(text: str, mode: Mode = "local") -> list[Finding]:
    return lint(text, "graph.yaml", lambda _: mode)


def parsed(text: str = CHAIN) -> Manifest:
    return manifests.parse(text, "graph.yaml")


def desired(manifest: Manifest, **changes: Any) -> Desired:
    """What a command would write."""
    from modelyard_kserve import graphs

    routed = graphs.router(manifest.graph, manifest.namespace, ()) if manifest.graph else ""
    wanted = Wanted(
        number=1,
        name=f"{manifest.name}-00001",
        model=manifest.name,
        version="1",
        path="/p",
        digest="",
        storage_uri=manifest.storage_uri,
        spec_digest=manifest.spec_digest,
        created="2026-01-01T00:00:00+00:00",
        graph=routed,
    )
    made = Desired(
        name=manifest.name,
        namespace=manifest.namespace,
        generation=1,
        manifest=manifest.text,
        storage_uri=manifest.storage_uri,
        canary=None,
        rolled_out=1,
        revisions=(wanted,),
        created=wanted.created,
        protocol=manifest.protocol,
    )
    return replace(made, **changes)


def service(name: str, protocol: str = "") -> Desired:
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": "m"}
    if protocol:
        model["protocolVersion"] = protocol
    value = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"model": model}},
    }
    return desired(parsed(json.dumps(value)))


def known(*endpoints: Desired, ready: bool = True) -> shown.Known:
    seen = {"generation": 1, "revisions": {"1": {"ready": ready, "message": "" if ready else "loading"}}}
    return {
        f"{one.namespace}/{one.name}": (one, told.endpoint_of(one, seen, "here", None)) for one in endpoints
    }


# -- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", PUBLISHED.values(), ids=list(PUBLISHED))
def test_kserves_published_graphs_are_taken(text: str) -> None:
    for mode in ("local", "Knative", "Standard"):
        assert [one for one in found(HEAD + text, mode) if one.level != "info"] == []
    assert parsed(HEAD + text).graph["spec"]["nodes"]["root"]


def test_limits_and_replicas_are_the_files() -> None:
    made = parsed(HEAD + PUBLISHED["a splitter"])
    # Envoy waits a little longer than the router, which can say why there is no answer.
    assert (made.timeout, made.scaling.least, made.scaling.most) == (32.0, 1, 3)
    assert parsed(HEAD + PUBLISHED["a switch"]).timeout == 62.0
    assert (parsed().name, parsed().namespace, parsed().storage_uri) == ("graph", "default", "")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("serviceName: a", "nodeName: root", "'root' leads back to itself: no request would ever end"),
        ("{serviceName: a}", "{serviceUrl: a}", "serviceUrl: 'a' is no http or https address"),
        ("{serviceName: a}", "{serviceUrl: 'http://a:b'}", "is no http or https address"),
        ("name: second", "condition: 'a|b'", "steps[1].condition: pipes ('|') are not understood here"),
        ("name: second", "condition: '@reverse.0'", "the modifier '@reverse' is not understood here"),
        ("name: graph", "name: Graph", "metadata.name"),
        (
            "name: graph",
            "name: graph, annotations: {modelyard.dev/token: maybe}",
            "neither 'true' nor 'false'",
        ),
        ("spec:", "spec:\n  timeout: -1", "spec.timeout: -1 is less than 0"),
        (
            "spec:",
            "spec:\n  routerTimeouts: {serverWrite: 1000000}",
            "serverWrite: 1000000 s is more than a day",
        ),
        ("routerType: Sequence", "routerType: Chain", "none of Sequence"),
        ("steps:", "step:", "did you mean 'steps'?"),
    ],
)
def test_what_can_not_be_is_refused_at_its_line(before: str, after: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(CHAIN.replace(before, after, 1))
    assert refused.value.code == "manifest-invalid"
    assert "graph.yaml, line " in refused.value.message
    assert said in refused.value.message


def test_when_a_graph_goes_to_sleep_is_said_as_for_models() -> None:
    def annotated(name: str, value: str) -> str:
        return CHAIN.replace("{name: graph}", f"{{name: graph, annotations: {{{name}: {value}}}}}")

    assert parsed().scaling.window == 60
    assert parsed(annotated("autoscaling.knative.dev/window", "10m")).scaling.window == 600
    with pytest.raises(ConfigError, match="'3s' is no time from 6s to 1h"):
        parsed(annotated("autoscaling.knative.dev/window", "3s"))
    (said,) = found(annotated("autoscaling.knative.dev/target", "'5'"))
    assert (said.level, said.hint) == ("warning", "use scaleTarget")


def test_nodes_in_a_circle_are_refused() -> None:
    nodes = "    root: {routerType: Sequence, steps: [{nodeName: x}]}\n"
    nodes += "    x: {routerType: Ensemble, steps: [{nodeName: y}, {serviceName: a}]}\n"
    nodes += "    y: {routerType: Sequence, steps: [{serviceName: a}, {nodeName: x}]}\n"
    (one,) = found(HEAD + nodes)
    assert (one.level, one.line, one.field) == ("error", 7, "spec.nodes.x")


@pytest.mark.parametrize(
    ("before", "after", "level", "said"),
    [
        ("name: second", "condition: 'predictions.0==1'", "warning", "compares nothing outside of #(...)"),
        ("serviceName: a", "serviceName: a, condition: x", "warning", "looks at the answer before"),
        ("Sequence", "Switch", "warning", "a step of a switch without one is never asked"),
        (
            "steps:",
            "steps: [{serviceName: x}]}\n    lost: {routerType: Sequence, steps:",
            "warning",
            "no step leads",
        ),
        ("  nodes:", "  nodeName: n1\n  nodes:", "info", "is for clusters"),
        ("  nodes:", "  routerTimeouts: {serverIdle: 9}\n  nodes:", "info", "Envoy's limits"),
    ],
)
def test_what_will_not_be_as_it_seems_is_said(before: str, after: str, level: str, said: str) -> None:
    text = CHAIN.replace(before, after, 1)
    assert any(one.level == level and said in one.message for one in found(text))
    assert all(one.level != "error" for one in found(text))
    if level == "warning":
        assert said in "; ".join(parsed(text).notes)


def test_a_condition_that_only_we_do_not_understand_is_kserves_matter_on_clusters() -> None:
    text = CHAIN.replace("name: second", "condition: 'a|b'")
    assert found(text, "Knative") == []
    with pytest.raises(ConfigError, match="is not applied to clusters from here: kubectl apply"):
        manifests.parse(text, "graph.yaml", mode_of=lambda _: "Knative")


# -- among other endpoints ------------------------------------------------------------------


def test_steps_say_whom_they_ask_and_whether_that_answers() -> None:
    steps = shown.steps_of(desired(parsed()), {**known(service("a")), **known(service("b"), ready=False)})
    assert [(s.node, s.router, s.name, s.target, s.ready, s.message) for s in steps] == [
        ("root", "Sequence", "0", "a", True, ""),
        ("root", "Sequence", "second", "b", False, "'b' is not ready: loading"),
    ]
    assert shown.steps_of(service("a"), {}) == ()


def test_who_is_missing_is_named_until_there_is_one() -> None:
    graph = desired(parsed())
    made = told.endpoint_of(graph, {"generation": 1, "revisions": {"1": {"ready": True}}}, "here", None)
    with_a = shown.with_steps(made, graph, lambda: known(service("a")))
    assert with_a.message == "step second of node root: there is no endpoint 'b' in 'default' yet"
    both = shown.with_steps(made, graph, lambda: known(service("a"), service("b")))
    assert (both.message, both.ready) == ("", True)


def test_a_step_that_asks_for_a_token_which_the_graph_does_not_is_named() -> None:
    guarded = replace(service("a"), guarded=True)
    asks = shown.steps_of(desired(parsed()), known(guarded, service("b")))
    assert "'a' asks for the token, which this graph does not ask for" in asks[0].message
    assert shown.steps_of(desired(parsed(), guarded=True), known(guarded, service("b")))[0].message == ""


@pytest.mark.parametrize(
    "step",
    ["serviceName: graph", "serviceUrl: 'http://graph.default.svc.cluster.local/'", "serviceName: other"],
)
def test_a_graph_that_would_ask_itself_is_refused(step: str) -> None:
    other = desired(
        parsed(CHAIN.replace("name: graph", "name: other").replace("serviceName: b", "serviceName: graph"))
    )
    with pytest.raises(ConfigError) as refused:
        shown.require_possible(parsed(CHAIN.replace("serviceName: a", step)), None, known(other), ())
    assert "the graph 'graph' would ask itself: default/graph -> " in refused.value.message
    shown.require_possible(parsed(), None, known(other), ())


def test_one_name_is_one_kind() -> None:
    a_service = parsed(service("graph").manifest)
    for manifest, before in ((a_service, desired(parsed())), (parsed(), service("graph"))):
        with pytest.raises(ConflictError) as refused:
            shown.require_possible(manifest, before, {}, ())
        assert refused.value.code == "endpoint-kind"


@pytest.mark.parametrize(
    ("protocol", "path"),
    [("", "/v1/models/a:predict"), ("v1", "/v1/models/a:predict"), ("v2", "/v2/models/a/infer")],
)
def test_an_endpoint_is_asked_by_its_protocol(protocol: str, path: str) -> None:
    assert board.asked_on(service("a", protocol)) == path


def test_another_graph_is_another_process() -> None:
    wanted = service("a").newest
    assert replace(wanted, graph="{}").key != wanted.key
