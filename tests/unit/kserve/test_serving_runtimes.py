"""Which ServingRuntime runs a model, what container that makes, and what lint says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelyard_kserve.lint import lint
from modelyard_kserve.manifest import parse
from modelyard_kserve.serving_runtimes import Unfit, chosen, container_of_model, runs_here

COMMAND = ["python", "serve.py"]


def runtime(name: str, *formats: dict[str, Any], kind: str = "ServingRuntime", **spec: Any) -> dict[str, Any]:
    container = {"name": "kserve-container", "image": "x", "command": COMMAND}
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"supportedModelFormats": list(formats), "containers": [container], **spec},
    }


def auto(name: str = "prophet", **more: Any) -> dict[str, Any]:
    return {"name": name, "autoSelect": True, **more}


def model(name: str = "prophet", version: str | None = None, **more: Any) -> dict[str, Any]:
    return {"modelFormat": {"name": name, **({"version": version} if version else {})}, **more}


def service(**said: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "late"},
        "spec": {"predictor": {"model": {"storageUri": "models:/late/1", **said}}},
    }


def name_of(found: Any) -> str | None:
    return found and str(found["metadata"]["name"])


@pytest.mark.parametrize(
    ("known", "taken"),
    [
        ([runtime("a", {"name": "prophet"})], None),
        ([runtime("a", auto("other"))], None),
        ([runtime("a", auto(), disabled=True)], None),
        ([runtime("a", auto(), multiModel=True)], None),
        ([runtime("a", auto(), protocolVersions=["v2"])], None),
        ([runtime("b", auto()), runtime("a", auto())], "a"),
        ([runtime("a", auto()), runtime("b", auto(priority=1))], "b"),
        ([runtime("a", auto(priority=1)), runtime("b", auto(priority=2))], "b"),
        ([runtime("a", auto(), protocolVersions=["v2", "grpc-v2", "v1"]), runtime("b", auto())], "a"),
        ([runtime("a", auto(priority=9), kind="ClusterServingRuntime"), runtime("b", auto())], "b"),
        ([runtime("a", auto(priority=9), containers=[{"name": "kserve-container", "image": "x"}])], None),
    ],
)
def test_the_one_that_kserve_would_take_is_taken_by_itself(
    known: list[dict[str, Any]], taken: str | None
) -> None:
    assert name_of(chosen(model(), "default", known)) == taken


def test_versions_and_namespaces_count() -> None:
    first, second = runtime("a", auto(version="1")), runtime("b", auto(version="2"))
    assert name_of(chosen(model(version="2"), "default", [first, second])) == "b"
    assert chosen(model(version="3"), "default", [first, second]) is None
    first["metadata"]["namespace"] = "elsewhere"
    assert chosen(model(version="1"), "default", [first]) is None
    assert name_of(chosen(model(version="1"), "elsewhere", [first])) == "a"
    everywhere = runtime("a", {"name": "prophet"}, kind="ClusterServingRuntime")
    assert chosen(model(runtime="a"), "elsewhere", [everywhere, first]) is first
    assert chosen(model(runtime="a"), "default", [everywhere, first]) is everywhere
    assert chosen(model(runtime="unknown"), "default", [everywhere]) is None


def test_only_commands_of_this_machine_run() -> None:
    def one(*command: str) -> dict[str, Any]:
        return runtime("a", containers=[{"name": "kserve-container", "command": list(command)}])

    here = [one("python", "-m", "x"), one("./serve.sh"), one("/usr/bin/no_such"), one("no_such_tool")]
    assert [runs_here(each) for each in here] == [True, True, False, False]
    assert not runs_here(runtime("a", containers=[{"name": "helper", "command": ["python"]}]))
    assert not runs_here(runtime("a", workerSpec={}))


def test_the_model_adds_to_the_runtimes_container() -> None:
    made = runtime("a")
    made["spec"]["containers"][0] |= {
        "args": ["--name={{.Name}}", "{{ .Labels.team }}", '{{index .Annotations "a/b"}}'],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}},
    }
    said = model(
        storageUri="s3://models/late",
        args=["--more={{.Namespace}}"],
        env=[{"name": "B", "value": "3"}],
        resources={"limits": {"cpu": "4"}},
        runtimeVersion="7",
    )
    metadata = {"name": 'la"te', "labels": {"team": "ops"}, "annotations": {"a/b": "c"}}
    assert container_of_model(made, said, metadata) == {
        "name": "kserve-container",
        "image": "x",
        "command": COMMAND,
        "args": ['--name=la"te', "ops", "c", "--more=default"],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "3"},
            {"name": "STORAGE_URI", "value": "s3://models/late"},
        ],
        "resources": {"limits": {"cpu": "4", "memory": "1Gi"}, "requests": {"cpu": "1"}},
    }


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("{{.Labels.team}}", "asks for metadata.labels.team, which the file does not say"),
        ("{{if .Name}}x{{end}}", "asks for {{if .Name}}, which is nothing that is filled in"),
    ],
)
def test_a_placeholder_that_can_not_be_filled_in_is_named(word: str, said: str) -> None:
    made = runtime("a")
    made["spec"]["containers"][0]["args"] = [word]
    with pytest.raises(Unfit) as caught:
        container_of_model(made, model(), {"name": "late"})
    assert said in str(caught.value)


def test_a_text_is_remembered_with_the_runtimes_that_it_uses() -> None:
    used, other = runtime("a", auto()), runtime("b", auto("other"))
    text = "\n---\n".join(map(json.dumps, [other, service(**model()), used]))
    made = parse(text, "x.yaml")
    assert made.command == tuple(COMMAND)
    assert made.storage_uri == "models:/late/1"
    assert "prophet" in made.text
    assert '"b"' not in made.text
    assert parse(made.text, "x") == made
    other_version = json.dumps(used).replace("serve.py", "serve2.py")
    assert (
        parse(f"{json.dumps(service(**model()))}\n---\n{other_version}", "x").spec_digest != made.spec_digest
    )
    assert parse(json.dumps(service(**model())), "x", known=[used]).command == tuple(COMMAND)


FORMAT, RUNTIME = "spec.predictor.model.modelFormat.name", "spec.predictor.model.runtime"
IMAGE = [{"name": "kserve-container", "image": "x"}]


@pytest.mark.parametrize(
    ("known", "said", "mode", "found"),
    [
        ([runtime("a", auto())], model(), "local", []),
        ([runtime("a", {"name": "prophet"})], model(runtime="a", args=["x"]), "local", []),
        ([], model(), "local", [("error", FORMAT, "'prophet' is not served")]),
        ([], model("sklearn", runtime="a"), "local", [("info", RUNTIME, "'a' is not known")]),
        (
            [runtime("a", {"name": "sklearn"}, containers=IMAGE)],
            model("sklearn", runtime="a"),
            "local",
            [
                ("warning", "spec.containers", "run nothing here: none is a command of this machine"),
                ("warning", RUNTIME, "'a' has no command of this machine: 'sklearn' is served"),
            ],
        ),
        ([runtime("a", {"name": "sklearn"}, containers=IMAGE)], model("sklearn", runtime="a"), "Knative", []),
        (
            [runtime("a", {"name": "sklearn"}, containers=IMAGE)],
            model("xgboost", runtime="a"),
            "Standard",
            [("error", RUNTIME, "specified runtime a does not support specified framework")],
        ),
        (
            [runtime("a", auto(priority=0))],
            model("sklearn", runtime="a"),
            "local",
            [
                ("error", "spec.supportedModelFormats[0].priority", "0 is less than 1"),
                ("info", RUNTIME, "'a' is not known here"),
            ],
        ),
    ],
)  # fmt: skip
def test_lint_says_what_runs_a_model_there(
    known: list[dict[str, Any]], said: dict[str, Any], mode: Any, found: list[tuple[str, str, str]]
) -> None:
    text = "\n---\n".join(map(json.dumps, [*known, service(**said)]))
    told = lint(text, "x.yaml", lambda _: mode)
    assert [(one.level, one.field) for one in told] == [(level, field) for level, field, _ in found]
    for one, (_, _, words) in zip(told, found):
        assert one.message.startswith(words)
