"""Kernel, memory, disk, ports, clock, proxies and addresses, spoilt one by one."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest

# -- limits -----------------------------------------------------------------------------------


def test_few_inotify_instances_are_enough_for_one_cluster_only(world: Any) -> None:
    world.file("proc/sys/fs/inotify/max_user_instances", "128\n")
    found = world.finding("inotify")
    assert (found.level, found.refuses) == ("warning", False)
    assert "max_user_instances 128" in found.evidence
    assert "fs.inotify.max_user_instances=512" in found.fix
    assert "max_user_watches=" not in found.fix


def test_too_few_inotify_watches(world: Any) -> None:
    world.file("proc/sys/fs/inotify/max_user_watches", "4096\n")
    found = world.finding("inotify")
    assert (found.level, found.refuses) == ("error", True)


def test_inotify_limits_of_dockers_own_machine_are_read_in_the_node(world: Any) -> None:
    world.info["Name"] = "docker-desktop"
    found = world.finding("inotify")
    assert (found.level, found.fixable) == ("warning", False)
    assert "max_user_watches 8192" in found.evidence


def test_another_cluster_wants_inotify_instances_too(
    world: Any, make_other_node: Callable[[str], dict[str, Any]]
) -> None:
    world.containers["other-control-plane"] = make_other_node("other")
    assert world.finding("other-clusters").level == "ok"
    world.file("proc/sys/fs/inotify/max_user_instances", "500\n")
    found = world.finding("other-clusters")
    assert found.level == "warning"
    assert "other-control-plane" in found.evidence


def test_too_little_memory_for_the_profile(world: Any) -> None:
    world.info["MemTotal"] = 4_100_000_000
    found = world.finding("memory")
    assert (found.level, found.refuses) == ("error", True)
    assert "--profile minimal" in found.fix
    assert world.finding("memory", profile="minimal").level == "ok"


def test_where_no_profile_was_chosen_the_smaller_one_is_advised(world: Any) -> None:
    world.folder.remember(profile=None)
    world.info["MemTotal"] = 4_100_000_000
    found = world.finding("memory")
    assert (found.level, found.fix) == ("warning", "modelyard sandbox up --profile minimal")


def test_too_little_memory_for_any_profile(world: Any) -> None:
    world.info["MemTotal"] = 2_000_000_000
    assert world.finding("memory", profile="minimal").refuses


def test_memory_that_others_use(world: Any) -> None:
    world.without_node()
    world.file("proc/meminfo", "MemAvailable: 1000000 kB\n")
    found = world.finding("memory")
    assert (found.level, found.refuses) == ("warning", False)


def test_one_processor(world: Any) -> None:
    world.info["NCPU"] = 1
    found = world.finding("cpus")
    assert (found.level, found.refuses) == ("error", True)


def test_a_new_node_does_not_fit_on_dockers_disk(world: Any, small_disk: Path) -> None:
    world.without_node()
    world.info["DockerRootDir"] = str(small_disk / "docker")
    found = world.finding("docker-disk")
    assert (found.level, found.refuses) == ("error", True)
    assert "9.0 GB" in found.evidence


def test_a_bundle_says_how_much_a_node_takes(world: Any, tmp_path: Path) -> None:
    world.without_node()
    bundle = tmp_path / "stack.tar"
    bundle.write_bytes(b"x" * 1_000_000)
    world.folder.remember(bundle=str(bundle))
    assert "2.2 MB" in world.finding("docker-disk").evidence


def test_dockers_disk_is_full_while_the_node_runs(world: Any, small_disk: Path) -> None:
    world.info["DockerRootDir"] = str(small_disk)
    assert world.finding("docker-disk").level == "error"


def test_the_disk_of_dockers_own_machine_is_not_ours(world: Any) -> None:
    world.info["Name"] = "docker-desktop"
    assert world.finding("docker-disk").level == "skipped"


def test_the_sandboxes_disk_is_full(world: Any, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_disk))
    found = world.finding("disk")
    assert (found.level, found.refuses) == ("error", True)
    assert str(small_disk) in found.evidence


def test_a_port_that_was_taken_while_there_is_no_node(world: Any) -> None:
    world.without_node()
    world.kube.close()
    world.mlflow.close()
    with socket.socket() as other:
        other.bind(("127.0.0.1", world.folder.state()["ports"]["s3"]))
        other.listen()
        found = world.finding("ports")
        assert (found.level, found.refuses, found.fixable) == ("error", True, True)
        assert f"(s3) is taken by {_own_name()}" in found.evidence
    assert world.finding("ports").level == "ok"


def test_a_port_that_was_taken_while_the_node_is_stopped(world: Any) -> None:
    world.stopped()
    found = world.finding("ports")  # API server and MLflow of the fixture listen there
    assert (found.level, found.refuses, found.fixable) == ("error", True, False)
    assert "modelyard sandbox down" in found.fix


def test_a_port_that_another_container_publishes(
    world: Any, make_other_node: Callable[[str], dict[str, Any]]
) -> None:
    world.without_node()
    port = world.folder.state()["ports"]["s3"]
    world.containers["web"] = {**make_other_node("web"), "Ports": [{"PublicPort": port}]}
    assert "(s3) is taken by the container web" in world.finding("ports").evidence


def test_a_port_with_a_connection_that_has_just_ended_is_free(world: Any) -> None:
    from modelyard_sandbox.ports import is_free

    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        server, _ = listening.accept()
        server.close()  # who closes first is the one who remembers
        client.close()
        assert not is_free(port)
    assert is_free(port)


def test_localhost_may_be_another_address(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.file("etc/hosts", "::1 localhost\n127.0.0.1 localhost\n")
    assert world.finding("localhost").level == "ok"
    port = world.folder.state()["ports"]["mlflow"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://localhost:{port}")
    found = world.finding("localhost")
    assert found.level == "warning"
    assert "MLFLOW_TRACKING_URI" in found.evidence


@pytest.mark.parametrize(
    ("ahead", "level"), [(0, "ok"), (-20, "warning"), (20, "warning"), (-3600, "error"), (90, "error")]
)
def test_a_clock_that_stood_still_while_the_laptop_slept(world: Any, ahead: float, level: str) -> None:
    world.clock_ahead = ahead
    found = world.finding("clock")
    assert (found.level, found.refuses) == (level, level == "error")


def test_windows(world: Any) -> None:
    world.file("proc/version", "Linux version 5.15.90.1-microsoft-standard-WSL2\n")
    assert world.finding("wsl").level == "ok"
    (world.root / "sys/fs/cgroup/cgroup.controllers").unlink()
    assert world.finding("wsl").level == "warning"
    world.file("proc/version", "Linux version 4.4.0-19041-Microsoft\n")
    assert world.finding("wsl").refuses


def test_firewalld_with_nftables(world: Any) -> None:
    world.file("proc/77/comm", "firewalld\n")
    world.file("etc/firewalld/firewalld.conf", "# comment\nFirewallBackend=nftables\n")
    assert world.finding("firewalld").level == "warning"
    world.file("etc/firewalld/firewalld.conf", "FirewallBackend=iptables\n")
    assert world.finding("firewalld").level == "ok"


# -- network ----------------------------------------------------------------------------------


def test_a_proxy_that_is_not_kept_from_our_own_machine(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@proxy.example.org:3128")
    monkeypatch.setenv("NO_PROXY", "example.org")
    found = world.finding("no-proxy")
    assert (found.level, found.refuses) == ("error", True)
    assert "hunter2" not in f"{found.evidence} {found.fix}"
    assert "NO_PROXY=example.org,127.0.0.1" in found.fix


def test_a_proxy_that_is_kept_from_our_own_machine(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    assert world.finding("no-proxy").level == "ok"


def test_a_proxy_for_http_alone_does_not_keep_us_from_the_cluster(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    found = world.finding("no-proxy")
    assert (found.level, found.refuses) == ("warning", False)


def test_containers_do_not_reach_a_proxy_on_this_machine(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = world.finding("no-proxy")
    assert found.level == "warning"
    assert "containers can't reach" in found.evidence


def test_a_proxy_for_the_shell_alone(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
    assert world.finding("docker-proxy").level == "warning"
    _docker_config(world, proxies={"default": {"httpsProxy": "http://me:hunter2@proxy.example.org:3128"}})
    found = world.finding("docker-proxy")
    assert found.level == "ok"
    assert "hunter2" not in found.evidence


def test_a_proxy_for_docker_alone(world: Any) -> None:
    world.info["HttpsProxy"] = "http://proxy.example.org:3128"
    found = world.finding("docker-proxy")
    assert found.level == "warning"
    assert "HTTPS_PROXY" in found.fix


def test_authorities_in_a_file_that_is_not_there(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    assert world.finding("ca").level == "error"


def test_authorities_that_downloads_do_not_know(
    world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(world.certificate[0])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    found = world.finding("ca")
    assert (found.level, found.fix) == ("warning", f"modelyard sandbox up --ca-cert {file}")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert world.finding("ca").level == "ok"


def test_a_proxy_that_opens_tls(world: Any) -> None:
    world.failed("untrusted-certificate", "the certificate of quay.io is signed by an unknown authority")
    found = world.finding("ca")
    assert found.level == "error"
    assert "quay.io" in found.evidence
    assert "--ca-cert" in found.fix


def test_docker_hubs_limit(world: Any) -> None:
    world.failed("rate-limited", "docker.io gives no more images")
    found = world.finding("docker-hub")
    assert found.level == "error"
    assert "--mirror docker.io=" in found.fix
    world.run({"type": "result", "ok": True, "msg": "ready"}, run="c")
    assert world.finding("docker-hub").level == "ok"


def test_mirrors_in_two_forms(world: Any) -> None:
    text = '[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\nconfig_path = "/etc"\n'
    world.in_node["cat /etc/containerd/config.toml"] = text
    found = world.finding("registry-mirrors")
    assert found.level == "error"
    assert "together with config_path" in found.evidence


@pytest.mark.parametrize(
    ("route", "what"),
    [
        ("tun0 0000F40A 00000000 0001 0 0 0 0000FFFF 0 0 0", "pods"),
        ("tun0 000010AC 0 0001 0 0 0 0000F0FF 0 0 0", "kind's"),
    ],
)
def test_a_vpn_that_has_the_same_addresses(world: Any, route: str, what: str) -> None:
    with open(world.root / "proc/net/route", "a") as routes:
        routes.write(f"{route}\n")
    found = world.finding("routes")
    assert found.level == "warning"
    assert "tun0" in found.evidence
    assert what in found.evidence


def test_coredns_that_asks_itself(world: Any) -> None:
    dns = world.cluster.objects["v1", "Pod"][0]
    dns["status"]["conditions"] = []
    dns["status"]["containerStatuses"][0] |= {
        "ready": False,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    }
    assert "modelyard sandbox up" in world.finding("cluster-dns").fix
    world.cluster.log = ["[FATAL] plugin/loop: Loop (127.0.0.1:1 -> :53) detected for zone"]
    found = world.finding("cluster-dns")
    assert found.level == "error"
    assert "resolv.conf" in found.fix


def test_downloads_that_are_not_complete(world: Any, tmp_path: Path) -> None:
    folder = tmp_path / "cache/modelyard/sandbox/images/blobs"
    folder.mkdir(parents=True)
    (folder / "abc.part").write_bytes(b"x" * 1000)
    found = world.finding("downloads")
    assert found.level == "warning"
    assert "1 downloads are not complete (1.0 kB" in found.evidence


def test_a_network_that_is_too_slow(world: Any) -> None:
    world.failed("no-progress", "nothing has changed for 300 s")
    assert "--timeout" in world.finding("downloads").fix


def _docker_config(world: Any, **values: Any) -> None:
    file = world.home / ".docker/config.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(values))


def _own_name() -> str:
    return f"{psutil.Process().name()} (process {os.getpid()})"
