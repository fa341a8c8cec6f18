"""Endpoints that ask for GPUs, on a machine whose nvidia-smi lists two."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import EnvironmentFault

#: Answers with the GPUs that it sees.
MODEL = """
import os
class Model:
    def predict(self, rows):
        return [os.environ["CUDA_VISIBLE_DEVICES"]] * len(rows)
"""
#: Some seconds more than a replica without a GPU waits before it looks again.
SOON = 60


@pytest.fixture
def gpus(new_project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes an endpoint with a GPU, and its project."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-aa-1)'\necho 'GPU 1: A (UUID: GPU-bb-2)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "seeing_package.py").write_text(MODEL)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.pkl").write_bytes(b"cseeing_package\nModel\n)R.")
    project = new_project(trust_pickle=True)

    def apply(name: str, **env: str) -> Any:
        variables = {"PYTHONPATH": str(tmp_path), **env}
        given = [{"name": key, "value": value} for key, value in variables.items()]
        limits = {"limits": {"nvidia.com/gpu": 1}}
        return project.apply(name, str(tmp_path / "model"), env=given, resources=limits)

    yield project, apply
    project.down()


def seen(endpoint: Any) -> str:
    return str(endpoint.predict([[0]]).predictions[0])


NONE_LEFT = "it asks for 1 of nvidia.com/gpu; this machine has 2, of which other models have 2"


def test_two_endpoints_never_have_one_gpu_and_who_lacks_one_gets_the_next_that_is_free(
    gpus: Any, within: Any
) -> None:
    project, apply = gpus
    first, second = apply("first"), apply("second")
    held = {name: seen(one) for name, one in (("first", first), ("second", second))}
    assert set(held.values()) == {"GPU-aa-1", "GPU-bb-2"}
    # Who is killed gives its own back, and has one again.
    (killed,) = project.family("first")
    killed.kill()
    assert within(SOON, lambda: project.model_servers("first").get(1, killed) != killed)
    assert within(SOON, lambda: project.server.get("first").ready)
    assert seen(project.server.get("first")) == held["first"]
    # Without a controller they have theirs still, and the next one adopts them.
    project.kill("controller")
    project.up()
    assert within(SOON, lambda: project.server.get("first").ready and project.server.get("second").ready)
    assert {name: seen(project.server.get(name)) for name in held} == held
    with pytest.raises(EnvironmentFault, match=NONE_LEFT):
        apply("third")
    told = project.server.explain("third").endpoint
    assert NONE_LEFT in told.revisions[0].message
    assert NONE_LEFT in next(one.message for one in told.conditions if one.type == "Ready")
    project.server.delete("second")
    assert within(SOON, lambda: project.server.get("third").ready), "nobody told it that one is free"
    assert seen(project.server.get("third")) == held["second"]


def test_a_revision_that_was_replaced_keeps_no_gpu_from_others(gpus: Any, within: Any) -> None:
    project, apply = gpus
    apply("moves")
    assert seen(apply("moves", OTHER="1")) in ("GPU-aa-1", "GPU-bb-2")
    assert within(SOON, lambda: len(project.family("moves")) == 1)
    assert apply("beside").ready
