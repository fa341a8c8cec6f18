"""What the machine does to the command line: one sentence each, a code, a status, and nothing is lost."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("evidently", reason="its monitor is the process that is started")


def start(*words: str, cwd: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "modelyard", *words],
        cwd=cwd, env={**os.environ, **env},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def modelyard(*words: str, cwd: Path, typed: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    process = start(*words, cwd=cwd, **env)
    out, err = process.communicate(typed, timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def refused(done: subprocess.CompletedProcess[str], status: int, code: str) -> str:
    """The sentence, after looking that it is one, with its code and what to do next."""
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said.endswith(f"[{code}]")
    assert "\n  next: " in done.stderr
    return said


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "späte flüge"
    assert modelyard("init", str(folder), "--name", "late-flights", cwd=tmp_path).returncode == 0
    yield folder
    modelyard("down", cwd=folder)


def monitor(project: Path) -> dict[str, Any]:
    services = json.loads(modelyard("status", "--json", cwd=project).stdout)["services"]
    (found,) = [service for service in services if service["name"] == "monitor"]
    return dict(found)


def test_a_read_only_folder(read_only_folder: Path) -> None:
    said = refused(modelyard("init", cwd=read_only_folder), 8, "read-only")
    assert str(read_only_folder) in said
    assert list(read_only_folder.iterdir()) == []


def test_a_full_disk(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(124 * 1024))
    with filler.open("ab") as file:  # to the last byte
        while True:
            try:
                os.write(file.fileno(), bytes(4096))
            except OSError:
                break
    refused(modelyard("init", str(small_disk / "p"), cwd=small_disk), 8, "disk-full")
    assert not (small_disk / "p" / "modelyard.toml").exists()
    filler.unlink()
    assert modelyard("init", str(small_disk / "p"), cwd=small_disk).returncode == 0, "the same command again"
    assert (small_disk / "p" / "modelyard.toml").read_text().startswith("# A Modelyard project.")


def test_two_ups_at_once_make_one_process(project: Path) -> None:
    both = [start("up", "--json", cwd=project) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    pids = {json.loads(out)[0]["pid"] for out, _ in said}
    assert len(pids) == 1
    assert psutil.Process(pids.pop()).is_running()


def test_a_port_that_somebody_took(project: Path) -> None:
    assert modelyard("up", cwd=project).returncode == 0
    port = monitor(project)["port"]
    assert modelyard("down", cwd=project).returncode == 0
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        said = modelyard("up", cwd=project)
        assert said.returncode == 0
        now = monitor(project)
    assert f"port {port} was taken: it answers on {now['port']} now" in said.stdout
    assert now["status"] == "running"
    assert now["port"] != port


def test_a_reboot_is_over_with_up(project: Path) -> None:
    assert modelyard("up", cwd=project).returncode == 0
    process = psutil.Process(monitor(project)["pid"])
    process.kill()
    psutil.wait_procs([process], timeout=5)
    shown = modelyard("status", cwd=project)
    assert "died" in shown.stdout
    assert modelyard("up", cwd=project).returncode == 0
    assert monitor(project)["status"] == "running"


def _endpoint(project: Path, name: str) -> Path:
    """Applies an endpoint of a model that lies in the project; where its state is."""
    from modelyard.testing.models import save_mlflow_folder

    pytest.importorskip("kserve")
    if not (project / "constant").exists():
        save_mlflow_folder(project / "constant", 0.5)
    content = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "mlflow"}, "storageUri": "constant"}}},
    }
    (project / f"{name}.yaml").write_text(json.dumps(content))
    done = modelyard("endpoints", "apply", "-f", f"{name}.yaml", cwd=project)
    assert done.returncode == 0, done.stderr
    return project / ".modelyard" / "kserve" / "endpoints" / name / "desired.json"


def test_files_are_linted_from_anywhere_and_nothing_is_applied(project: Path, tmp_path: Path) -> None:
    good = (
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: sunny}\n"
        "spec:\n  predictor:\n    sklearn: {storageUri: model}\n    hostNetwork: true\n"
    )
    (project / "serving").mkdir()
    (project / "serving" / "sunny.yaml").write_text(good)
    (project / "serving" / "torn.yml").write_text("{unclosed: [")
    folder = modelyard("--project", str(project), "endpoints", "lint", "serving", cwd=tmp_path)
    assert folder.returncode == 3
    assert "sunny.yaml:7: warning: spec.predictor.hostNetwork: has no effect on local" in folder.stdout
    assert "torn.yml:1: error: column 13: " in folder.stdout
    assert folder.stdout.endswith("1 error, 1 warning\n")
    asked = ("endpoints", "lint", "-", "--target", "standard", "--json")
    typed = modelyard(*asked, cwd=project, typed=good.replace("hostNetwork: true", "minReplicas: 0"))
    (found,) = json.loads(typed.stdout)
    assert (typed.returncode, found["level"], found["line"]) == (0, "warning", 7)
    assert "0 becomes 1" in found["message"]
    refused(modelyard("endpoints", "lint", "gone.yaml", cwd=project), 4, "manifest-not-found")
    refused(
        modelyard("endpoints", "lint", "-", "--target", "nomad", cwd=project, typed=good), 2, "mode-unknown"
    )
    (project / "latin.yaml").write_bytes(b"name: sp\xe4t")
    refused(modelyard("endpoints", "lint", "latin.yaml", cwd=project), 3, "manifest-invalid")
    assert json.loads(modelyard("endpoints", "list", "--json", cwd=project).stdout) == []


def test_up_is_over_when_every_endpoint_answers(project: Path) -> None:
    _endpoint(project, "sunny")
    assert modelyard("down", cwd=project).returncode == 0
    done = modelyard("up", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "waiting for sunny: loading the model" in done.stdout
    rows = json.dumps([{"temp": 1.0, "wind speed": 2.0}])
    asked = modelyard("endpoints", "invoke", "sunny", "-f", "-", cwd=project, typed=rows)
    assert asked.stdout.startswith("0.5\n"), asked.stderr
    assert modelyard("endpoints", "delete", "sunny", cwd=project).returncode == 0
    assert "sunny" not in modelyard("status", cwd=project).stdout


def test_an_endpoint_that_can_not_come_up_hinders_no_other(project: Path) -> None:
    _endpoint(project, "sunny")
    damaged = _endpoint(project, "cloudy")
    assert modelyard("down", cwd=project).returncode == 0
    whole = damaged.read_text()
    damaged.write_text(whole[:100])
    said = refused(modelyard("up", cwd=project), 8, "endpoint-not-ready")
    assert "'cloudy' is not ready: " in said
    assert f"{damaged} is damaged" in said
    assert "sunny" not in said
    listed = {e["name"]: e for e in json.loads(modelyard("endpoints", "list", "--json", cwd=project).stdout)}
    assert listed["sunny"]["ready"]
    damaged.write_text(whole)
    (project / "constant" / "MLmodel").write_text("flavors: {}\n")
    assert modelyard("down", cwd=project).returncode == 0
    said = refused(modelyard("up", cwd=project), 8, "endpoint-not-ready")
    assert "'cloudy' is not ready: " in said
    assert "'sunny' is not ready: " in said


def test_a_damaged_journal_of_the_demo(project: Path) -> None:
    journal = project / ".modelyard" / "demo.json"
    journal.write_text('{"format": 1, "fa')
    said = refused(modelyard("demo", str(project), cwd=project), 9, "state-corrupt")
    assert str(journal) in said
    assert journal.read_text() == '{"format": 1, "fa'


def test_no_git_on_the_path(project: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = modelyard("doctor", cwd=project, PATH=str(tmp_path / "bin"))
    assert "warn  git: not found" in done.stdout
    assert done.returncode == 0


def test_a_mistyped_endpoint_takes_no_labels(project: Path) -> None:
    (project / "l.csv").write_text("prediction_id,row,label\na,0,1\n")
    for words in (("labels", "flihgts", "l.csv"), ("windows", "flihgts")):
        said = refused(modelyard("monitor", *words, cwd=project), 4, "endpoint-not-found")
        assert "'flihgts'" in said


def test_labels_as_excel_writes_them_and_as_nobody_should(tmp_path: Path) -> None:
    from modelyard.cli.monitor import read_labels
    from modelyard.errors import UsageError

    text = "prediction_id,row,label\nä,0,1\n"
    (tmp_path / "l.csv").write_text(text, encoding="utf-8-sig")
    assert [label.prediction_id for label in read_labels(tmp_path / "l.csv")] == ["ä"]
    (tmp_path / "l.csv").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        list(read_labels(tmp_path / "l.csv"))


def test_a_closed_output_does_not_stop_the_work(project: Path) -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m modelyard plugins list >&-",
        shell=True, cwd=project, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_put_together_wrongly_is_json_too(project: Path) -> None:
    done = modelyard("runs", "show", "--json", cwd=project)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "usage")
    assert "Usage: modelyard runs show" in done.stderr


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    refused(modelyard("init", "x", cwd=tmp_path), 2, "not-a-folder")


def test_a_traced_hook_is_named_with_its_plugin(project: Path) -> None:
    done = modelyard("gates", "list", cwd=project, MODELYARD_TRACE="1")
    assert "trace: modelyard_gates() -> core" in done.stderr
    assert "trace:" not in done.stdout
