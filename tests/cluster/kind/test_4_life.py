"""Stopped and started, taken down and up again, made smaller, cut off anywhere: the sandbox comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.kind.conftest import BUNDLE, CACHE, WITHOUT, Box

TOOLS = Path(
    os.environ.get("MODELYARD_TEST_CLUSTER_TOOLS")
    or Path(__file__).resolve().parents[4] / "shared" / "tools" / "cluster"
)
GIB = 1 << 30


def test_a_node_that_ends_right_after_its_start_is_said_and_up_heals_it_once_mended(
    box: Box, tmp_path: Path
) -> None:
    """It was killed, and then its first program is broken."""
    program = "/usr/local/bin/entrypoint"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho the entrypoint is broken >&2\nexit 3\n")
    broken.chmod(0o755)

    def docker(*args: str | Path) -> None:
        subprocess.run(["docker", *map(str, args)], capture_output=True, check=True)

    docker("cp", f"{box.node}:{program}", whole)
    docker("kill", box.node)
    docker("cp", broken, f"{box.node}:{program}")
    try:
        said = box.run("start", status=None, timeout=300).stderr
    finally:
        docker("cp", whole, f"{box.node}:{program}")
    assert "the node ended by itself; its last lines: " in said
    assert "the entrypoint is broken [node-ended]" in said
    assert "Traceback" not in said
    assert box.up()["changed"] == ["cluster"]
    assert box.json("status")["state"] == "ready"


def test_a_smaller_profile_takes_away_what_it_lacks(box: Box, measured: list[dict[str, Any]]) -> None:
    result = box.up("--profile", "minimal", *WITHOUT)
    gone = {name for name in result["changed"] if name.startswith("-")}
    assert gone == {"-knative", "-monitor", "-prometheus", "-alertmanager"}
    found = box.json("status")
    assert {part["name"] for part in found["components"]} == {
        "postgres",
        "s3",
        "mlflow",
        "kserve",
        "runtimes",
    }
    assert found["state"] == "ready"
    assert "knative" not in box.kubectl("get", "namespaces,crd", "-o", "name")
    assert box.up()["changed"] == []
    measured.append(
        {
            "id": "P10-minimal",
            "what": "memory of the minimal stack, idle, GiB / goal",
            "ours": found["memory"] / GIB,
            "peer": 1.5,
            "ratio": found["memory"] / GIB / 1.5,
            "goal": 1.0,
            "command": "modelyard sandbox up --profile minimal && modelyard sandbox status --json",
        }
    )


STANDARD = """
import json, urllib.parse
import numpy as np, pandas as pd, tritonclient.grpc as triton
from sklearn.linear_model import LogisticRegression
import modelyard

yard = modelyard.open(target="sandbox-ci")
rows = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 2)), columns=["a", "b"])
with yard.run("small") as run:
    fitted = LogisticRegression().fit(rows, rows.a > 0)
    version = run.log_model(fitted, name="small", example=rows[:5])
endpoint = yard.endpoints.apply("small.yaml")
answer = endpoint.predict([{"a": 3.0, "b": 0.0}, {"a": -3.0, "b": 0.0}])
client = triton.InferenceServerClient(urllib.parse.urlsplit(endpoint.url).netloc)
asked = [triton.InferInput(name, [2], "FP64") for name in "ab"]
for one in asked:
    one.set_data_from_numpy(np.array([3.0, -3.0]))
called = client.infer("small", asked).as_numpy("predict")
client.close()
answers = [[bool(one) for one in found] for found in (answer.predictions, called)]
print(json.dumps([endpoint.url, answer.version, answer.model, answers]))
yard.endpoints.delete("small")
yard.down()
"""
SMALL = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: small}
spec:
  predictor:
    model:
      modelFormat: {name: mlflow}
      storageUri: models:/small/1
      ports: [{name: h2c, protocol: TCP, containerPort: 8081}]
"""


def test_in_standard_mode_the_same_file_answers_through_a_forward(box: Box, tmp_path: Path) -> None:
    """The profile `minimal`: no Knative, so no gateway. On the port for gRPC everything is answered."""
    (tmp_path / "small.py").write_text(STANDARD)
    (tmp_path / "small.yaml").write_text(SMALL)
    for command in (["-m", "modelyard", "init", "."], ["small.py"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=box.env,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    url, version, model, answers = json.loads(done.stdout.splitlines()[-1])
    assert url.startswith("http://127.0.0.1:")
    assert (version, model, answers) == ("1", "small", [[True, False]] * 2)


def test_another_version_backs_the_database_up_first(box: Box) -> None:
    """As if this sandbox had been made by an older modelyard."""
    inventory = "inventory-postgres"
    box.kubectl(
        "-n", "modelyard", "patch", "configmap", inventory, "--type=merge", "-p", '{"data":{"version":"16"}}'
    )
    assert box.up()["changed"] == ["postgres"]
    dumps = list((box.folder / "data" / "postgres" / "backups").glob("*.sql.gz"))
    assert len(dumps) == 1
    text = subprocess.run(["zcat", str(dumps[0])], capture_output=True, text=True, check=True).stdout
    assert "CREATE DATABASE mlflow" in text
    assert "PostgreSQL database cluster dump complete" in text


def test_down_and_up_keep_the_data(box: Box) -> None:
    box.note("taken-down")
    secrets, ports = box.secrets, box.state["ports"]
    said = box.run("down").stdout
    assert "postgres" in said
    assert "s3" in said
    assert box.json("status", status=4)["state"] == "absent"
    box.up("--profile", "minimal", *WITHOUT, "--bundle", str(BUNDLE), "--offline")
    box.seconds["minimal up"] = box.seconds["up"]
    assert (box.secrets, box.state["ports"]) == (secrets, ports)
    assert box.noted("taken-down") == "kept"


def test_cut_off_in_each_phase_up_converges(box: Box) -> None:
    """Killed with -9, once with Ctrl-C, a while after a phase began; the next one goes on."""
    box.run("down")
    for phase, after, how in (
        ("preflight", 0.0, signal.SIGKILL),
        ("images", 0.5, signal.SIGKILL),
        ("cluster", 4.0, signal.SIGINT),
        ("cluster", 11.0, signal.SIGKILL),
        ("components", 3.0, signal.SIGKILL),
        ("health", 0.0, signal.SIGKILL),
    ):
        _cut_off(box, phase, after, how)
    box.up("--profile", "minimal", *WITHOUT, "--bundle", str(BUNDLE), "--offline")
    assert box.json("status")["state"] == "ready"
    assert box.up()["changed"] == []
    assert box.noted("taken-down") == "kept"


def _cut_off(box: Box, phase: str, after: float, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "modelyard", "sandbox", "up", "--json", "--name", box.name]
    command += ["--profile", "minimal", "--bundle", str(BUNDLE), "--offline"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=box.env, stdout=pipe, stderr=pipe, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if (event["type"], event["phase"]) == ("phase.started", phase):
                break
        else:
            pytest.fail(f"{phase} never began: {process.communicate(timeout=60)[1]}")
        time.sleep(after)
        process.send_signal(how)
        _, said = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == (130 if how == signal.SIGINT else -how), said
    assert "Traceback" not in said


def test_how_long_it_takes_beside_a_plain_script(box: Box, measured: list[dict[str, Any]]) -> None:
    """The peer installs less (no MLflow, PostgreSQL, S3, monitoring), one after the other."""
    if not (TOOLS / "up").is_file():
        pytest.skip(f"the peer is not there: {TOOLS / 'up'}")
    box.run("down")
    began = time.monotonic()
    try:
        subprocess.run(
            [str(TOOLS / "up"), str(CACHE), "peer", "Knative"], capture_output=True, timeout=600, check=True
        )
        peer = time.monotonic() - began
    finally:
        subprocess.run(
            ["kind", "delete", "cluster", "--name", "peer"], env=box.env, capture_output=True, check=False
        )
    full, minimal = box.seconds["first up"], box.seconds["minimal up"]
    for name, ours, goal in (("full", full, 1.3), ("minimal", minimal, 0.7)):
        measured.append(
            {
                "id": f"P10b-{name}",
                "what": f"up, {name}, from a bundle / tools/cluster/up CACHE NAME Knative, seconds",
                "ours": ours,
                "peer": round(peer, 1),
                "ratio": ours / peer,
                "goal": goal,
                "command": f"modelyard sandbox up --profile {name} --bundle FILE --offline",
            }
        )
