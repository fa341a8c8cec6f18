"""What `endpoints lint` says to names, annotations of ours, and protocols."""

from __future__ import annotations

import pytest
from tests.unit.kserve.linted import GRAPH, LINE, SERVICE, found, instead_of_model, only, told, with_predictor

from modelyard.errors import ConfigError
from modelyard_kserve.lint import Mode
from modelyard_kserve.manifest import parse

pytest.importorskip("kserve")


def test_a_token_is_asked_for_by_local_processes_alone() -> None:
    def annotated(value: str) -> str:
        return SERVICE.replace("spec:", f"  annotations: {{modelyard.dev/token: '{value}'}}\nspec:")

    assert found(annotated("true"), "local") == []
    assert found(annotated("false"), "Knative") == []
    level, line, said = only(annotated("true"))
    assert (level, line) == ("error", 5)
    assert "on a cluster nothing would ask for it" in said
    assert "is neither 'true' nor 'false'" in only(annotated("yes"), "local")[2]


def annotated(annotations: str) -> str:
    return SERVICE.replace("spec:", f"  annotations: {{{annotations}}}\nspec:", 1)


@pytest.mark.parametrize("mode", ["local", "Knative", "Standard"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("modelyard.dev/tokn", "unknown annotation; did you mean 'modelyard.dev/token'?"),
        ("modelyard.dev/Token", "unknown annotation; did you mean 'modelyard.dev/token'?"),
        ("Modelyard.dev/token", "unknown annotation; did you mean 'modelyard.dev/token'?"),
        ("modelyard.io/token", "unknown annotation; did you mean 'modelyard.dev/token'?"),
        ("modelyard.dev/requirement", "unknown annotation; did you mean 'modelyard.dev/requirements'?"),
        (
            "modelyard.dev/zzz",
            "unknown annotation; known: modelyard.dev/token, modelyard.dev/trust, modelyard.dev/requirements",
        ),
    ],
)
def test_an_annotation_of_ours_that_nobody_reads_is_wrong(mode: Mode, name: str, said: str) -> None:
    text = annotated(f"{name}: 'true'")
    assert only(text, mode) == ("error", 5, f"metadata.annotations.{name}: {said}")
    with pytest.raises(ConfigError, match=r"line 5: metadata\.annotations"):
        parse(text, "dienst.yaml", mode_of=lambda _: mode)


@pytest.mark.parametrize("mode", ["local", "Knative", "Standard"])
def test_an_annotation_of_ours_stands_in_one_place(mode: Mode) -> None:
    label = SERVICE.replace("spec:", "  labels: {modelyard.dev/token: 'true'}\nspec:", 1)
    below = with_predictor("annotations: {modelyard.dev/trusts: sha256}").replace(
        "\n      annot", "\n    annot"
    )
    for text, line in ((label, 5), (below, LINE)):
        (wrong,) = [one for one in found(text, mode) if one.level == "error"]
        assert (wrong.line, wrong.message) == (line, "is not read here, only below metadata.annotations")
        assert wrong.hint.startswith("did you mean 'modelyard.dev/t")


def test_a_graph_has_fewer_annotations() -> None:
    def with_annotation(text: str) -> str:
        return GRAPH.replace("{name: by-breed}", f"{{name: by-breed, annotations: {{{text}}}}}")

    said = told(with_annotation("modelyard.dev/tokn: 'true'"))
    assert [text for _, _, text in said if text.endswith("did you mean 'modelyard.dev/token'?")]
    said = told(with_annotation("modelyard.dev/requirements: own"), "local")
    assert [text for _, _, text in said if text.endswith("unknown annotation; known: modelyard.dev/token")]


def test_what_others_annotate_is_theirs() -> None:
    assert found(annotated("modelyards.example.com/cost: a, sidecar.istio.io/inject: 'false'"), "local") == []


def test_the_older_ways_to_write_a_model_say_its_protocol_too() -> None:
    text = instead_of_model("    sklearn: {storageUri: s3://a/b, protocolVersion: v9}\n")
    assert only(text, "local")[0] == "error"
    assert only(text, "Standard")[2].startswith("spec.predictor.sklearn.protocolVersion: 'v9'")


@pytest.mark.parametrize("mode", ["local", "Knative", "Standard"])
def test_a_transformer_is_not_told_the_predictors_protocol(mode: Mode) -> None:
    def around(args: str) -> str:
        command = f"command: [python, -m, halves], args: [{args}]"
        return f"{SERVICE}  transformer: {{containers: [{{name: kserve-container, {command}}}]}}\n"

    text = around("").replace("name: sklearn}", "name: sklearn}\n      protocolVersion: v2")
    (said,) = found(text, mode)
    assert (said.level, said.hint) == ("info", "--predictor_protocol=v2")
    assert found(around(""), mode) == []
    assert found(text.replace("args: []", "args: [--predictor_protocol, v2]"), mode) == []


def test_the_version_of_a_format_chooses_nothing_here() -> None:
    text = SERVICE.replace("name: sklearn", "name: sklearn, version: '0'")
    level, _, said = only(text, "local")
    assert (level, "what is installed loads the model" in said) == ("info", True)
    assert found(text, "Knative") == []


@pytest.mark.parametrize(
    ("mode", "length", "namespace", "said"),
    [
        ("Knative", 53, "", ""),
        ("Knative", 54, "", "of 64 characters, which have 63 at most"),
        ("Standard", 54, "", "of 64 characters, which have 63 at most"),
        ("Knative", 50, "models", ""),
        ("Knative", 53, "other-models", "of 66 characters, and DNS takes 63"),
        ("Standard", 50, "models", "of 67 characters, and DNS takes 63"),
        ("local", 63, "models", ""),
    ],
)
def test_names_of_which_nothing_can_be_made(mode: Mode, length: int, namespace: str, said: str) -> None:
    name = length * "a" + (f"\n  namespace: {namespace}" if namespace else "")
    text = SERVICE.replace("name: late-flights", f"name: {name}", 1)
    if not said:
        assert found(text, mode) == []
    else:
        assert said in only(text, mode)[2]


def test_with_a_transformer_names_are_shorter() -> None:
    text = SERVICE.replace("late-flights", 52 * "a", 1)
    around = f"{text}  transformer: {{containers: [{{name: kserve-container, image: x}}]}}\n"
    assert found(text) == []
    (one,) = found(around)
    assert (one.level, one.hint) == ("error", "take a name of 51 characters at most")
