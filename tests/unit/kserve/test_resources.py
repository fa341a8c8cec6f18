"""Limits of processes: what they mean, and GPUs that one model has for itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard_kserve.local.resources import limits_of
from modelyard_kserve.manifest import parse

FILE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: late-flights}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      storageUri: models:/late-flights/1
      resources: {limits: %s}
"""
TAKE = """
import os, sys, time
from modelyard.errors import ModelyardError
from modelyard_kserve.local.resources import take
try:
    take(int(sys.argv[1]), int(sys.argv[2]))
except ModelyardError as fault:
    print(fault.message, flush=True)
else:
    try:
        held = bytearray(300 * 1024 * 1024)
        print(os.environ.get("CUDA_VISIBLE_DEVICES"), len(held), flush=True)
    except MemoryError:
        print("MemoryError", flush=True)
sys.stdin.read()
"""


def test_requests_are_nobodys_to_keep() -> None:
    assert limits_of({"resources": {"requests": {"cpu": 1}}}) == {}
    assert parse(FILE % "{cpu: 2, memory: 1Gi}", "x").limits == {"cpu": 2.0, "memory": 2.0**30}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("{memory: lots}", "limits.memory: 'lots' is not a quantity, as 500m or 2Gi are"),
        ("{nvidia.com/gpu: 0.5}", "0.5 is no whole number"),
    ],
)
def test_limits_that_are_none_are_refused(limits: str, said: str) -> None:
    from modelyard.errors import ConfigError

    with pytest.raises(ConfigError) as caught:
        parse(FILE % limits, "x")
    assert said in caught.value.message


def test_other_limits_limit_nothing() -> None:
    assert parse(FILE % "{example.org/fpga: 1}", "x").notes == (
        "spec.predictor.model.resources.limits.example.org/fpga limits nothing here",
    )


class Taker:
    """A process that keeps to limits until it is ended."""

    def __init__(self, memory: int, gpus: int, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(memory), str(gpus)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )
        assert self._process.stdout is not None
        self.said = self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def two_gpus(tmp_path: Path) -> dict[str, str]:
    """A machine whose nvidia-smi lists two."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-aa-1)'\necho 'GPU 1: A (UUID: GPU-bb-2)'\n")
    tool.chmod(0o755)
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.mark.skipif(sys.platform != "linux", reason="the system limits no memory of a process")
def test_memory_beyond_the_limit_is_refused_to_the_process() -> None:
    for memory, said in ((0, "None 314572800"), (2**30, "None 314572800"), (200 * 2**20, "MemoryError")):
        taker = Taker(memory, 0, {"CUDA_VISIBLE_DEVICES": "None"})
        taker.kill()
        assert taker.said == said


def test_a_gpu_has_one_model_until_that_ends(two_gpus: dict[str, str]) -> None:
    first, second = Taker(0, 1, two_gpus), Taker(0, 1, two_gpus)
    third = Taker(0, 1, two_gpus)
    for taker in (first, third):
        taker.kill()
    fourth, fifth = Taker(0, 1, two_gpus), Taker(0, 3, two_gpus)
    for taker in (second, fourth, fifth):
        taker.kill()
    assert [one.said.split()[0] for one in (first, second, fourth)] == ["GPU-aa-1", "GPU-bb-2", "GPU-aa-1"]
    assert third.said == "it asks for 1 of nvidia.com/gpu; this machine has 2, of which other models have 2"
    assert fifth.said == "it asks for 3 of nvidia.com/gpu; this machine has 2, of which other models have 2"


@pytest.mark.parametrize(
    ("only", "wanted", "said"),
    [
        ("1", 1, "GPU-bb-2"),
        ("GPU-bb-2", 1, "GPU-bb-2"),
        ("GPU-b", 1, "GPU-bb-2"),
        ("1, 0", 2, "GPU-bb-2,GPU-aa-1"),
        ("1,-1,0", 2, "it asks for 2 of nvidia.com/gpu; this machine has 1"),
        ("7,0", 1, "it asks for 1 of nvidia.com/gpu; this machine has 0"),
        ("", 1, "it asks for 1 of nvidia.com/gpu; this machine has 0"),
        ("NoDevFiles", 1, "it asks for 1 of nvidia.com/gpu; this machine has 0"),
        ("GPU-", 1, "it asks for 1 of nvidia.com/gpu; this machine has 0"),
    ],
)
def test_gpus_that_are_not_for_us_stay_with_others(
    two_gpus: dict[str, str], only: str, wanted: int, said: str
) -> None:
    taker = Taker(0, wanted, {**two_gpus, "CUDA_VISIBLE_DEVICES": only})
    taker.kill()
    assert taker.said.removesuffix(" 314572800") == said


MIG = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aa-1)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6-1)
  MIG 3g.20gb     Device  1: (UUID: MIG-GPU-aa-1/2/0)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bb-2)
"""


@pytest.mark.parametrize(
    ("only", "wanted", "said"),
    [
        (None, 3, "MIG-c6-1,MIG-GPU-aa-1/2/0,GPU-bb-2"),
        ("MIG-GPU-aa-1/2/0", 1, "MIG-GPU-aa-1/2/0"),
        ("MIG-c6-1,1", 2, "MIG-c6-1,GPU-bb-2"),
        ("0", 1, "MIG-c6-1"),
        ("0", 2, "it asks for 2 of nvidia.com/gpu; this machine has 1"),
        ("GPU-aa-1", 1, "it asks for 1 of nvidia.com/gpu; this machine has 0"),
    ],
)
def test_parts_of_a_gpu_are_had_instead_of_it(
    two_gpus: dict[str, str], only: str | None, wanted: int, said: str
) -> None:
    tool = Path(two_gpus["PATH"].split(os.pathsep)[0]) / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{MIG}END\n")
    taker = Taker(0, wanted, {**two_gpus, **({} if only is None else {"CUDA_VISIBLE_DEVICES": only})})
    second = Taker(0, 1, {**two_gpus, "CUDA_VISIBLE_DEVICES": only or "0"})
    for one in (taker, second):
        one.kill()
    assert taker.said.removesuffix(" 314572800") == said
    if said.startswith(("MIG", "GPU")):
        assert "of which other models have" in second.said


def test_a_driver_that_does_not_answer_is_a_sentence(
    two_gpus: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelyard.errors import ConfigError
    from modelyard_kserve.local import resources

    tool = Path(two_gpus["PATH"].split(os.pathsep)[0]) / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexec sleep 20\n")
    monkeypatch.setenv("PATH", two_gpus["PATH"])
    monkeypatch.setenv("XDG_CACHE_HOME", two_gpus["XDG_CACHE_HOME"])
    monkeypatch.setattr(resources, "_SECONDS", 0.3)
    with pytest.raises(ConfigError, match=r"nvidia-smi does not say what there is: .* timed out"):
        resources.take(0, 1)


def test_a_machine_without_a_gpu_says_so(two_gpus: dict[str, str]) -> None:
    taker = Taker(0, 1, {**two_gpus, "PATH": "/nowhere"})
    taker.kill()
    assert taker.said == "it asks for 1 of nvidia.com/gpu; this machine has 0"
