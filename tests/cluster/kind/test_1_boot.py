"""The sandbox after its first `up`, from a bundle, without any network."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.kind.conftest import Box, eventually

GIB = 1 << 30


def _status(url: str, login: tuple[str, str] | None = None) -> int:
    request = urllib.request.Request(url)
    if login:
        import base64

        request.add_header("Authorization", "Basic " + base64.b64encode(":".join(login).encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as fault:
        return fault.code


def test_every_component_is_ready_and_says_what_it_takes(box: Box) -> None:
    found = eventually(lambda: _with_memory(box), "the memory of every component")
    assert found["state"] == "ready"
    parts = {part["name"]: part for part in found["components"]}
    assert set(parts) == {
        *("postgres", "s3", "mlflow", "knative", "kserve", "runtimes"),
        *("monitor", "prometheus", "alertmanager"),
    }
    assert {part["state"] for part in parts.values()} == {"ready"}
    assert parts["mlflow"]["url"] == f"{box.url('mlflow')}/"


def _with_memory(box: Box) -> Any:
    """The status, once the kubelet has measured every component that has pods."""
    found = box.json("status")
    silent = [part["name"] for part in found["components"] if not part["memory"]]
    return found if silent == ["runtimes"] else None


def test_memory_of_the_whole_stack(box: Box, measured: list[dict[str, Any]]) -> None:
    memory = box.json("status")["memory"]
    measured.append(
        {
            "id": "P10-full",
            "what": "memory of the full stack, idle, without Grafana, GiB / goal",
            "ours": memory / GIB,
            "peer": 3,
            "ratio": memory / GIB / 3,
            "goal": 1.0,
            "command": "modelyard sandbox status --json",
        }
    )
    assert memory <= 3 * GIB


def test_a_second_up_writes_nothing(box: Box, measured: list[dict[str, Any]]) -> None:
    before = box.writes()
    assert before, "the audit log tells nothing"
    result = box.up()
    assert result["changed"] == []
    assert box.writes() == before
    ratio = box.seconds["up"] / box.seconds["first up"]
    measured.append(
        {
            "id": "P10c-second",
            "what": "second up / first, seconds",
            "ours": box.seconds["up"],
            "peer": round(box.seconds["first up"], 1),
            "ratio": ratio,
            "goal": 0.04,
            "command": "modelyard sandbox up",
        }
    )


def test_what_somebody_changed_is_found_and_mended(box: Box) -> None:
    box.kubectl("-n", "modelyard", "set", "image", "deploy/s3", "s3=modelyard.test/none:1")
    box.kubectl("-n", "modelyard", "delete", "service", "mlflow")
    assert box.json("up", "--dry-run")["components"]["s3"].startswith("change")
    assert sorted(box.up()["changed"]) == ["mlflow", "s3"]
    assert _status(f"{box.url('mlflow')}/health") == 200


def test_the_users_kubeconfig_is_not_touched_and_ours_is_private(box: Box) -> None:
    assert not (box.home / ".kube").exists()
    assert not Path("~/.kube/config").expanduser().exists()
    for name in ("kubeconfig", "secrets.json"):
        assert stat.S_IMODE((box.folder / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(box.folder.stat().st_mode) == 0o700


def test_every_port_is_on_this_machine_alone(box: Box) -> None:
    said = json.loads(subprocess.run(["docker", "inspect", box.node], capture_output=True, check=True).stdout)
    bindings = said[0]["HostConfig"]["PortBindings"]
    assert bindings
    assert {one["HostIp"] for many in bindings.values() for one in many} == {"127.0.0.1"}


def test_what_no_service_takes_stays_on_the_node(box: Box) -> None:
    """An address of a Service that kube-proxy does not know: networks that answer for every address, as this
    machine's may, would take the connection."""
    knock = "timeout 1 bash -c '</dev/tcp/10.96.255.254/80'"
    argv = ["docker", "exec", box.node, "bash", "-c", knock]
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 124


def test_no_secret_lies_in_what_people_read(box: Box) -> None:
    secrets = [
        value for name, value in box.secrets.items() if not name.startswith(("authority", "certificate"))
    ]
    assert len(secrets) >= 5
    files = [
        *(box.folder / "manifests").glob("*.yaml"),
        box.folder / "events.jsonl",
        box.folder / "state.json",
    ]
    assert len(files) > 8
    for file in files:
        text = file.read_text()
        assert not [secret for secret in secrets if secret in text], file


def test_mlflow_asks_for_its_password(box: Box) -> None:
    page = f"{box.url('mlflow')}/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert _status(page) == 401
    assert _status(page, ("admin", "password1234")) == 401
    assert _status(page, ("admin", box.secrets["mlflow-password"])) == 200


def test_plain_tools_work_with_what_env_prints(box: Box, tmp_path: Any) -> None:
    script = tmp_path / "plain.py"
    script.write_text(
        "import boto3, mlflow\n"
        "with mlflow.start_run() as run:\n"
        "    mlflow.log_text('hello', 'hello.txt')\n"
        "assert mlflow.artifacts.load_text(f'{run.info.artifact_uri}/hello.txt') == 'hello'\n"
        "s3 = boto3.client('s3')\n"
        "assert {b['Name'] for b in s3.list_buckets()['Buckets']} >= {'mlflow', 'dvc'}\n"
        "s3.put_object(Bucket='dvc', Key='x', Body=b'bytes')\n"
        "assert s3.get_object(Bucket='dvc', Key='x')['Body'].read() == b'bytes'\n"
        "s3.delete_object(Bucket='dvc', Key='x')\n"
    )
    said = box.run("env").stdout
    assert "KUBECONFIG=" in said
    command = f'eval "$1"; "{sys.executable}" "{script}" && kubectl get nodes -o name'
    done = subprocess.run(
        ["bash", "-c", command, "sh", said],
        env=box.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"node/{box.node}")


def test_a_stranger_gets_no_bucket(box: Box) -> None:
    assert _status(f"{box.url('s3')}/mlflow") == 403


def test_logs_of_a_component_are_merged(box: Box) -> None:
    lines = box.json("logs", "knative", "-n", "5")
    assert len({line["pod"] for line in lines}) >= 5
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


@pytest.mark.parametrize("component", ["mlflow", "prometheus", "alertmanager"])
def test_open_names_a_page_that_answers(box: Box, component: str) -> None:
    url = box.run("open", component, "--print-url").stdout.strip()
    login = ("admin", box.secrets["mlflow-password"]) if component == "mlflow" else None
    assert _status(url, login) == 200


def test_doctor_finds_nothing_that_refuses(box: Box) -> None:
    found = box.json("doctor", status=None)
    assert [check for check in found["findings"] if check["level"] == "error"] == []


def test_stop_and_start(box: Box, measured: list[dict[str, Any]]) -> None:
    box.note("stopped")
    box.run("stop")
    assert box.json("status", status=1)["state"] == "stopped"
    box.run("start")
    assert box.json("status")["state"] == "ready"
    assert box.noted("stopped") == "kept"
    took = box.seconds["stop"] + box.seconds["start"]
    measured.append(
        {
            "id": "P10c-start",
            "what": "stop + start to all ready / first up, seconds",
            "ours": took,
            "peer": round(box.seconds["first up"], 1),
            "ratio": took / box.seconds["first up"],
            "goal": 0.5,
            "command": "modelyard sandbox stop && modelyard sandbox start",
        }
    )
