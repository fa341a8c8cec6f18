"""The sandbox's folder and node, spoilt one by one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelyard_sandbox import certificates


def test_a_state_file_that_is_damaged(world: Any) -> None:
    (world.folder.path / "state.json").write_text("{ half")
    found = world.finding("state")
    assert (found.level, found.refuses) == ("error", True)
    assert "mv '" in found.fix
    assert world.finding("ports").level == "skipped"


def test_secrets_that_others_can_read(world: Any) -> None:
    (world.folder.path / "secrets.json").chmod(0o644)
    found = world.finding("rights")
    assert (found.level, found.fixable) == ("warning", True)
    assert "secrets.json" in found.evidence
    assert "kubeconfig" not in found.evidence


def test_a_run_that_was_killed(world: Any) -> None:
    world.run(
        {"type": "phase.started", "phase": "preflight"}, {"type": "component", "phase": "cluster"}, run="b"
    )
    found = world.finding("last-run")
    assert found.level == "warning"
    assert "cut off" in found.evidence
    assert "'cluster'" in found.evidence


def test_a_run_that_failed(world: Any) -> None:
    world.failed("component-failed", "mlflow does not start")
    found = world.finding("last-run")
    assert found.level == "warning"
    assert "mlflow does not start [component-failed]" in found.evidence


def test_a_run_that_goes_on_is_not_cut_off(world: Any) -> None:
    """And looking does not take its lock away."""
    world.run({"type": "phase.started", "phase": "preflight"}, run="b")
    program = (
        "from modelyard_sandbox.folder import SandboxFolder\n"
        "with SandboxFolder().held('sandbox up'):\n"
        "    print('held', flush=True)\n"
        "    input()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    found = world.finding("last-run")
    holder.communicate("\n", timeout=30)
    assert holder.returncode == 0
    assert (found.level, "another command" in found.evidence) == ("ok", True)
    assert world.finding("last-run").level == "warning"


def test_a_cluster_of_the_same_name_that_is_not_ours(world: Any) -> None:
    world.node["Mounts"] = []
    found = world.finding("foreign-cluster")
    assert (found.level, found.refuses) == ("error", True)
    assert found.fix.endswith("kind delete cluster --name modelyard-default")


def test_a_node_that_was_never_completed(world: Any) -> None:
    world.folder.remember(container=None)
    found = world.finding("half-made")
    assert found.level == "warning"
    assert "modelyard sandbox up" in found.fix


def test_a_node_that_a_restart_of_the_machine_stopped(world: Any) -> None:
    world.file("proc/stat", f"btime {int(time.time())}\n")
    world.stopped()
    found = world.finding("node-stopped")
    assert (found.level, found.fix) == ("warning", "modelyard sandbox start")
    assert "the machine was restarted since" in found.evidence


def test_a_node_that_somebody_stopped(world: Any) -> None:
    world.stopped()
    found = world.finding("node-stopped")
    assert found.level == "warning"
    assert found.evidence.endswith("stopped at 2026-01-01T00:00:00")


def test_a_node_that_lacked_memory(world: Any) -> None:
    world.stopped(OOMKilled=True)
    found = world.finding("node-stopped")
    assert (found.level, "memory" in found.evidence) == ("error", True)


def test_a_node_whose_files_are_gone(world: Any) -> None:
    """Docker makes a folder in the place of a file that is gone, and never starts the node again."""
    world.stopped(Error="not a directory")
    policy = world.folder.path / "audit-policy.yaml"
    policy.unlink()
    assert f"{policy} is gone" in world.finding("node-stopped").evidence
    policy.mkdir()
    found = world.finding("node-stopped")
    assert found.level == "error"
    assert f"{policy} is gone" in found.evidence
    assert "modelyard sandbox down, then up" in found.fix


def test_a_node_whose_data_folder_is_gone(world: Any) -> None:
    world.stopped()
    world.folder.data.rmdir()
    assert f"{world.folder.data} is gone" in world.finding("node-stopped").evidence


def test_a_node_that_docker_can_not_start(world: Any) -> None:
    world.stopped(Error="driver failed: port is already allocated")
    found = world.finding("node-stopped")
    assert found.level == "error"
    assert "already allocated" in found.evidence


def test_a_node_that_got_another_address(world: Any) -> None:
    world.node["NetworkSettings"]["Networks"]["kind"]["IPAddress"] = "172.18.0.9"
    found = world.finding("node-address")
    assert found.level == "error"
    assert "172.18.0.9" in found.evidence
    assert "172.18.0.2" in found.evidence


@pytest.mark.parametrize(("free", "level"), [(200_000_000, "error"), (2_000_000_000, "warning")])
def test_a_node_whose_disk_is_full(world: Any, free: int, level: str) -> None:
    world.in_node["df -B1"] = f"Avail\n{free}\n"
    assert world.finding("node-disk").level == level


def test_a_node_without_df_is_skipped(world: Any) -> None:
    del world.in_node["df -B1"]
    found = world.finding("node-disk")
    assert found.level == "skipped"
    assert "not found" in found.evidence


def test_a_kubeconfig_that_leads_elsewhere(world: Any) -> None:
    world.write_kubeconfig(world.certificate[0], "https://127.0.0.1:1")
    found = world.finding("kubeconfig")
    assert (found.level, found.fixable) == ("error", True)
    assert "https://127.0.0.1:1" in found.evidence


def test_a_kubeconfig_that_is_gone(world: Any) -> None:
    world.folder.kubeconfig.unlink()
    found = world.finding("kubeconfig")
    assert (found.level, found.fixable) == ("error", True)
    assert "kind export kubeconfig" in found.fix


def test_a_lock_that_a_killed_kind_left(world: Any) -> None:
    lock = _old_lock(world)
    found = world.finding("kubeconfig-lock")
    assert (found.level, found.refuses, found.fixable) == ("error", True, True)
    assert str(lock) in found.fix


def test_a_lock_of_a_kind_that_runs(world: Any) -> None:
    Path(f"{world.folder.kubeconfig}.lock").touch()
    assert world.finding("kubeconfig-lock").level == "ok"


@pytest.mark.parametrize(("days", "level"), [(-1, "error"), (10, "warning"), (100, "ok")])
def test_certificates_that_end(world: Any, monkeypatch: pytest.MonkeyPatch, days: int, level: str) -> None:
    authority, key = certificates.make_authority("test")
    monkeypatch.setattr(certificates, "_YEAR", timedelta(days=days) if days > 0 else timedelta(minutes=-59))
    world.write_kubeconfig(certificates.make_certificate(authority, key, ["test"])[0])
    found = world.finding("certificates")
    assert found.level == level
    assert "Kubernetes" in found.evidence
    assert ("data stays" in found.fix) == (level != "ok")


def test_certificates_that_are_valid_only_later(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelyard_sandbox.doctor import checks_sandbox

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz) - timedelta(days=2)

    monkeypatch.setattr(checks_sandbox, "datetime", Earlier)
    found = world.finding("certificates")
    assert found.level == "error"
    assert "clock" in found.evidence


def test_an_s3_client_that_adds_checksums(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    port = world.folder.state()["ports"]["s3"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    found = world.finding("s3-checksums")
    assert (found.level, found.fix) == ("warning", 'eval "$(modelyard sandbox env)"')
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    assert world.finding("s3-checksums").level == "ok"


def test_an_s3_client_of_another_server_is_not_our_business(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.org")
    assert world.finding("s3-checksums").level == "ok"


def _old_lock(world: Any) -> Path:
    lock = Path(f"{world.folder.kubeconfig}.lock")
    lock.touch()
    os.utime(lock, (time.time() - 300, time.time() - 300))
    return lock
