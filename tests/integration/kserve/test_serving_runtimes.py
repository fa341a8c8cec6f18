"""Models that a ServingRuntime's program serves: KServe's documents, without its images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.integration.programs import answering

from modelyard.errors import ConfigError, ModelyardError

#: Speaks V2 without any framework; says what it was started with.
PROGRAM = answering(
    """{
        "said": sys.argv[1:],
        "files": sorted(path.name for path in pathlib.Path(os.environ["MODELS"]).iterdir()),
        **{name: os.environ.get(name) for name in ("TONE", "PLACE", "LIMIT")},
    }"""
)
RUNTIME = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "ServingRuntime",
    "metadata": {"name": "ours"},
    "spec": {
        "supportedModelFormats": [{"name": "prophet", "version": "1", "autoSelect": True}],
        "protocolVersions": ["v2"],
        "containers": [
            {
                "name": "kserve-container",
                "command": ["python", "program.py"],
                "args": ["--name={{.Name}}", "--dir=/mnt/models/weights", "--tone=$(TONE)"],
                "env": [
                    {"name": "MODELS", "value": "/mnt/models"},
                    {"name": "TONE", "value": "low"},
                    {"name": "PLACE", "value": "{{.Namespace}}/{{.Name}}"},
                ],
                "resources": {"limits": {"memory": "2Gi"}},
            }
        ],
    },
}


def service(name: str, folder: Path, **model: Any) -> dict[str, Any]:
    given = {"modelFormat": {"name": "prophet"}, "protocolVersion": "v2", "storageUri": str(folder)}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"model": {**given, **model}}},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "weights").write_text("1")
    return made


@pytest.fixture
def apply(project: Any) -> Any:
    (project.context.root / "program.py").write_text(PROGRAM)

    def do(*documents: dict[str, Any]) -> Any:
        file = project.context.root / f"{documents[-1]['metadata']['name']}.yaml"
        file.write_text("\n---\n".join(json.dumps(one) for one in documents))
        return project.server.apply(file)

    return do


@pytest.fixture
def ask(post: Any) -> Any:
    def asked(endpoint: Any) -> Any:
        path = f"/v2/models/{endpoint.name}/infer"
        status, headers, text = post(endpoint.url, path, json.dumps({"inputs": []}).encode())
        assert status == 200, text
        return {**json.loads(text), "revision": headers["X-Modelyard-Revision"]}

    return asked


def test_one_file_with_a_runtime_and_a_model_is_served_by_its_program(
    project: Any, apply: Any, ask: Any, folder: Path
) -> None:
    changes = {"args": ["--more"], "env": [{"name": "TONE", "value": "high"}]}
    endpoint = apply(RUNTIME, service("one", folder, runtime="ours", **changes))
    assert ask(endpoint) == {
        "said": ["--name=one", f"--dir={folder}/weights", "--tone=high", "--more"],
        "files": ["weights"],
        "TONE": "high",
        "PLACE": "default/one",
        "LIMIT": None,
        "revision": "one-00001",
    }
    assert endpoint.message == ""
    assert endpoint.storage_uri == str(folder)
    # Later files may name it; and take it by its format.
    later = apply(service("two", folder, runtime="ours"))
    assert ask(later)["said"][0] == "--name=two"
    taken = apply(service("three", folder))
    assert ask(taken)["said"][0] == "--name=three"
    # It goes with the last endpoint that uses it; each remembers its own.
    project.server.delete("one")
    assert ask(project.server.reconcile("two"))["revision"] == "two-00001"
    for name in ("two", "three"):
        project.server.delete(name)
    with pytest.raises(ConfigError, match="'prophet' is not served here"):
        apply(service("four", folder, runtime="ours"))


def test_another_runtime_is_another_revision(apply: Any, ask: Any, folder: Path, project: Any) -> None:
    assert ask(apply(RUNTIME, service("moved", folder)))["revision"] == "moved-00001"
    assert ask(apply(RUNTIME, service("moved", folder)))["revision"] == "moved-00001"
    changed = json.loads(json.dumps(RUNTIME).replace('"low"', '"deep"'))
    endpoint = apply(changed, service("moved", folder))
    assert (ask(endpoint)["TONE"], ask(endpoint)["revision"]) == ("deep", "moved-00002")
    # Without it the file means the one that was applied last.
    assert ask(apply(service("moved", folder)))["revision"] == "moved-00002"
    project.server.delete("moved")


def test_programs_of_others_need_the_same_consent_as_in_containers(
    project: Any, apply: Any, folder: Path
) -> None:
    strange = json.loads(json.dumps(RUNTIME).replace('["python", "program.py"]', '["sh", "-c", "id"]'))
    with pytest.raises(ModelyardError) as caught:
        apply(strange, service("strange", folder))
    assert caught.value.code == "custom-untrusted"
    assert "runs no file of the project" in caught.value.message
    assert project.server.endpoints() == []


def test_a_program_that_is_killed_is_started_again_with_the_same_model(
    project: Any, apply: Any, ask: Any, folder: Path, within: Any
) -> None:
    endpoint = apply(RUNTIME, service("back", folder))
    (before,) = project.family("back")
    before.kill()
    assert within(60, lambda: project.model_servers("back").get(1, before) != before)
    assert within(60, lambda: project.server.get("back").ready)
    assert ask(endpoint)["files"] == ["weights"]
    project.down()
    project.up()
    assert within(60, lambda: project.server.get("back").ready)
    assert ask(endpoint)["files"] == ["weights"]
    project.server.delete("back")
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("change", "model", "said"),
    [
        ({}, {"modelFormat": {"name": "sklearn"}}, "does not support specified framework/version"),
        ({}, {"modelFormat": {"name": "prophet", "version": "2"}}, "does not support specified framework/"),
        ({}, {"protocolVersion": "v1"}, "does not support specified protocol version"),
        ({"disabled": True}, {}, "is disabled"),
    ],
)
def test_what_does_not_go_together_is_said_in_kserves_words(
    project: Any, apply: Any, folder: Path, change: dict[str, Any], model: dict[str, Any], said: str
) -> None:
    runtime = {**RUNTIME, "spec": {**RUNTIME["spec"], **change}}  # type: ignore[dict-item]
    with pytest.raises(ConfigError) as caught:
        apply(runtime, service("unfit", folder, runtime="ours", **model))
    assert (
        f"spec.predictor.model.runtime: specified runtime ours {said.removeprefix('specified runtime ours ')}"
        in (caught.value.message)
    )
    assert project.server.endpoints() == []
