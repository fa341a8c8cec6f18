"""Programs and the Docker engine, spoilt one by one."""

from __future__ import annotations

import hashlib
import json
import platform
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def test_a_package_that_is_missing_is_named(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "yaml" else find(name))
    found = world.finding("packages")
    assert (found.level, found.refuses) == ("error", True)
    assert "yaml" in found.evidence
    assert found.fix == "pip install 'modelyard[sandbox]'"


def test_no_engine(world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    found = world.finding("docker")
    assert (found.level, found.refuses) == ("error", True)
    assert "none.sock" in found.evidence
    assert "systemctl start docker" in found.fix


def test_without_the_command_the_fix_is_to_install_docker(
    world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "docs.docker.com" in world.finding("docker").fix


def test_a_socket_that_we_may_not_open_names_the_group(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelyard_sandbox.engine import Engine
    from modelyard_sandbox.errors import EngineUnavailable

    def refused(_: Engine) -> Any:
        raise EngineUnavailable("docker-unreachable", "no Docker engine answers: Permission denied")

    monkeypatch.setattr(Engine, "client", property(refused))
    assert "usermod -aG docker" in world.finding("docker").fix


@pytest.mark.parametrize("address", ["ssh://me@far.example.org", "tcp://192.0.2.1:2375", "tcp://docker:2375"])
def test_an_engine_on_another_machine_is_refused_and_not_asked(
    world: Any, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    found = world.finding("docker-context")
    assert (found.level, found.refuses) == ("error", True)
    assert "another machine" in found.evidence
    assert world.finding("docker").fix.startswith("unset DOCKER_HOST")


def test_the_context_that_was_chosen_is_not_the_one_that_runs(
    world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _context(world, tmp_path, "colima", world.docker.port)
    _write_context(world, "old", f"unix://{tmp_path}/none.sock")
    (world.home / ".docker/config.json").write_text('{"currentContext": "old"}')
    monkeypatch.delenv("DOCKER_HOST")
    found = world.finding("docker-context")
    assert found.level == "error"
    assert "context old leads to" in found.evidence
    assert found.fix == "docker context use colima"


def test_a_context_that_does_not_exist(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    found = world.finding("docker-context")
    assert found.level == "error"
    assert "'gone'" in found.evidence


def test_nobody_answers_but_another_engine_does(
    world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = _context(world, tmp_path, "colima", world.docker.port)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    found = world.finding("docker-context")
    assert found.level == "error"
    assert f"{other} does" in found.evidence
    assert found.fix == f"export DOCKER_HOST={other}"


def test_the_node_is_in_another_engine(world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two nodes on one data folder would destroy the database."""
    _context(world, tmp_path, "colima", world.docker.port)
    empty = world.serve(
        lambda _, path, __: (
            (200, world.version if path == "/version" else "OK")
            if path in ("/version", "/v1.41/_ping")
            else (404, {"message": "none"})
        )
    )
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{empty.port}")
    found = world.finding("docker-context")
    assert (found.level, found.refuses) == ("error", True)
    assert "the node of this sandbox is in colima" in found.evidence


def test_an_old_engine(world: Any) -> None:
    world.info["ServerVersion"] = "19.03.8"
    found = world.finding("docker-version")
    assert (found.level, found.refuses) == ("error", True)
    assert "19.03.8" in found.evidence


def test_podman_is_no_docker(world: Any) -> None:
    world.version["Components"] = [{"Name": "Podman Engine"}]
    assert "Podman" in world.finding("docker-version").evidence


def test_no_docker_command(world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = world.finding("docker-command")
    assert (found.level, found.refuses) == ("error", True)


def test_no_kind_says_how_to_get_it(world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = world.finding("kind")
    assert (found.level, found.refuses) == ("error", True)
    assert "go install sigs.k8s.io/kind@" in found.fix


@pytest.mark.parametrize(
    ("version", "level"), [("v0.20.0", "error"), ("v0.30.0", "warning"), ("v0.40.0", "ok")]
)
def test_an_old_kind(world: Any, version: str, level: str) -> None:
    world.program("kind", f"kind {version} go1.20.4 linux/amd64")
    found = world.finding("kind")
    assert found.level == level
    assert version in found.evidence


def test_a_kind_that_says_nothing_is_skipped(world: Any) -> None:
    world.program("kind", "no version here")
    assert world.finding("kind").level == "skipped"


def test_a_kubectl_of_another_time(world: Any) -> None:
    world.program("kubectl", json.dumps({"clientVersion": {"gitVersion": "v1.29.0"}}))
    found = world.finding("kubectl-skew")
    assert found.level == "warning"
    assert "v1.29.0" in found.evidence


def test_rootless_without_controllers(world: Any) -> None:
    world.info["SecurityOptions"] = ["name=rootless"]
    world.info["CpuCfsQuota"] = False
    found = world.finding("rootless")
    assert (found.level, found.refuses) == ("error", True)
    assert "may not limit cpu" in found.evidence
    assert "Delegate=yes" in found.fix


def test_rootless_with_cgroup_v1(world: Any) -> None:
    world.info |= {"SecurityOptions": ["name=rootless"], "CgroupVersion": "1"}
    assert world.finding("rootless").level == "error"


def test_rootless_with_everything(world: Any) -> None:
    world.info["SecurityOptions"] = ["name=rootless"]
    found = world.finding("rootless")
    assert (found.level, found.refuses) == ("warning", False)


def test_no_memory_controller(world: Any) -> None:
    world.info["MemoryLimit"] = False
    found = world.finding("cgroup-controllers")
    assert (found.level, found.refuses) == ("error", True)
    assert "memory" in found.evidence


def test_cgroup_v1(world: Any) -> None:
    world.info["CgroupVersion"] = "1"
    found = world.finding("cgroup-v1")
    assert (found.level, found.refuses) == ("warning", False)


@pytest.mark.parametrize(
    ("version", "image", "level"),
    [
        ("v0.33.0", "docker.io/kindest/node:v1.36.4", "warning"),
        ("v0.31.0", "docker.io/kindest/node:v1.35.0", "ok"),
        ("v0.33.0", "docker.io/example/node:v1.34.4", "ok"),
    ],
)
def test_the_nodes_systemd_on_cgroup_v1(world: Any, version: str, image: str, level: str) -> None:
    world.info["CgroupVersion"] = "1"
    world.program("kind", f"kind {version} go1.26 linux/amd64")
    world.folder.remember(node_image=image)
    assert world.finding("node-systemd").level == level


def test_an_engine_without_a_capability(world: Any) -> None:
    world.without_node()
    world.file("proc/42/status", "Name:\tdockerd\nCapEff:\t000001fffeffffff\n")
    found = world.finding("privileged")
    assert (found.level, found.refuses) == ("error", True)
    assert "CAP_SYS_RESOURCE" in found.evidence
    world.info["DefaultRuntime"] = "without-it"
    assert world.finding("privileged").level == "ok"


def test_an_engine_with_all_capabilities(world: Any) -> None:
    world.without_node()
    found = world.finding("privileged")
    assert (found.level, found.evidence) == ("ok", "/proc/42/status: dockerd has every capability")


def test_a_node_that_did_not_start_for_want_of_a_capability(world: Any) -> None:
    world.stopped(Error="OCI runtime create failed: unable to apply caps: operation not permitted")
    found = world.finding("privileged")
    assert (found.level, found.refuses) == ("error", True)


def test_an_engine_that_can_not_be_seen_is_skipped(world: Any) -> None:
    world.without_node()
    world.info["Name"] = "docker-desktop"
    assert world.finding("privileged").level == "skipped"


def test_a_processor_without_images(world: Any) -> None:
    world.info["Architecture"] = "riscv64"
    found = world.finding("image-platforms")
    assert (found.level, found.refuses) == ("error", True)
    assert "linux/riscv64" in found.evidence
    assert "--without postgres" in found.fix


def test_a_bundle_has_images_of_its_own(world: Any) -> None:
    world.folder.remember(bundle="/some/stack.tar")
    assert world.finding("image-platforms").level == "skipped"


def test_docker_from_a_snap_does_not_see_hidden_folders(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.info["DockerRootDir"] = "/var/snap/docker/common/var-lib-docker"
    monkeypatch.setattr(world.folder, "path", Path("/home/me/.local/state/modelyard/sandboxes/default"))
    found = world.finding("docker-snap")
    assert (found.level, found.refuses) == ("error", True)
    assert "XDG_STATE_HOME" in found.fix
    monkeypatch.setattr(world.folder, "path", Path("/home/me/state/modelyard/sandboxes/default"))
    assert world.finding("docker-snap").level == "warning"


def test_dockers_own_init(world: Any) -> None:
    world.file("etc/docker/daemon.json", '{"init": true}')
    assert world.finding("docker-init").level == "warning"
    world.file("etc/docker/daemon.json", "{ damaged")
    assert world.finding("docker-init").level == "ok"


@pytest.mark.parametrize("driver", ["btrfs", "zfs"])
def test_storage_that_does_not_always_work(world: Any, driver: str) -> None:
    world.info["Driver"] = driver
    assert world.finding("docker-storage").level == "warning"


def _context(world: Any, folder: Path, name: str, port: int) -> str:
    """A context of the docker command, whose socket leads to a port."""
    path = folder / f"{name}.sock"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def carry(source: socket.socket, target: socket.socket) -> None:
        with source:
            try:
                while part := source.recv(65536):
                    target.sendall(part)
                target.shutdown(socket.SHUT_WR)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                ours, _ = listening.accept()
            except OSError:
                return
            theirs = socket.create_connection(("127.0.0.1", port))
            for pair in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=carry, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    _write_context(world, name, f"unix://{path}")
    return f"unix://{path}"


def _write_context(world: Any, name: str, address: str) -> None:
    about = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": address}}}
    folder = world.home / ".docker/contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps(about))
