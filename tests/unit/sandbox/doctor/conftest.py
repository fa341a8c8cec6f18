"""A machine, a Docker engine and a cluster where all is well; each test spoils one thing.

Engine and cluster are HTTP servers on 127.0.0.1 that the real clients speak to; the machine is a folder
with the files of `/proc`, `/sys` and `/etc` that are read.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.unit.sandbox.doctor.cluster_world import ClusterWorld, pod
from tests.unit.sandbox.doctor.served import Answer, Server

from modelyard_sandbox import certificates
from modelyard_sandbox.doctor.catalogue import CHECKS
from modelyard_sandbox.doctor.facts import Facts
from modelyard_sandbox.doctor.findings import Finding, examine
from modelyard_sandbox.folder import SandboxFolder

#: What the node says when it is asked.
IN_NODE = {
    "df -B1": "     Avail\n40000000000\n",
    "cat /etc/containerd/config.toml": 'version = 3\nconfig_path = "/etc/containerd/certs.d"\n',
    "ctr -n": "REF TYPE DIGEST SIZE PLATFORMS LABELS\n"
    "docker.io/library/postgres:17 application/x sha256:aa 1MiB linux/amd64 -\n",
    "cat /proc/sys/fs/inotify/max_user_instances": "128\n",
    "cat /proc/sys/fs/inotify/max_user_watches": "8192\n",
}


class World:
    """Everything that the doctor looks at."""

    def __init__(self, tmp: Path, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.root, self.bin = patch, tmp / "root", tmp / "bin"
        self.home = tmp / "home"
        for folder in (self.root, self.bin, self.home):
            folder.mkdir()
        self.folder = SandboxFolder()
        self.in_node = dict(IN_NODE)
        self.asked_node: list[str] = []
        self._servers: list[Server] = []
        self._make_machine()
        self._make_programs()
        self.kube = self._make_cluster()
        self.mlflow_status: dict[str, int] = {}
        self.mlflow = self.serve(lambda _, __, query: (self.mlflow_status.get(query["host"], 200), "OK"))
        self._make_docker()
        self._make_sandbox()

    # -- asking -----------------------------------------------------------------------------

    def facts(self, **how: Any) -> Facts:
        return Facts(self.folder, root=self.root, **how)

    def finding(self, id: str, **how: Any) -> Finding:
        """What one check finds now."""
        return examine(self.facts(**how), [one for one in CHECKS if one.id == id])[0]

    def serve(self, answer: Answer) -> Server:
        server = Server(answer)
        self._servers.append(server)
        return server

    def close(self) -> None:
        for server in self._servers:
            server.close()

    # -- changing ---------------------------------------------------------------------------

    def file(self, path: str, text: str) -> Path:
        """A file below the root."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def program(self, name: str, says: str) -> None:
        """A command on PATH that prints something."""
        file = self.bin / name
        file.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
        file.chmod(0o755)

    def run(self, *events: dict[str, Any], run: str = "a") -> None:
        """The events of another run of a command."""
        for event in events:
            self.folder.append_event(
                {"run": run, "ts": "2026-01-01T00:00:00.000+00:00", "phase": "images", **event}
            )

    def failed(self, code: str, message: str) -> None:
        """The last run ended with an error."""
        self.run(
            {"type": "error", "code": code, "msg": message},
            {"type": "result", "ok": False, "code": code, "msg": message},
            run="b",
        )

    def without_node(self) -> None:
        """No node was made yet."""
        del self.containers[self.folder.node_name]
        self.folder.remember(container=None)

    def stopped(self, **state: Any) -> None:
        """The node does not run."""
        about = {"Status": "exited", "Running": False, "FinishedAt": "2026-01-01T00:00:00.5Z", "Error": ""}
        self.node["State"] = {**about, "OOMKilled": False, "StartedAt": "2025-12-01T00:00:00Z", **state}

    # -- making -----------------------------------------------------------------------------

    def _make_machine(self) -> None:
        for path, text in {
            "proc/sys/kernel/hostname": "box\n",
            "proc/sys/kernel/osrelease": "6.1.0\n",
            "proc/sys/kernel/cap_last_cap": "40\n",
            "proc/sys/fs/inotify/max_user_instances": "1024\n",
            "proc/sys/fs/inotify/max_user_watches": "524288\n",
            "proc/version": "Linux version 6.1.0 (gcc)\n",
            "proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\n",
            "proc/stat": "cpu 1 2 3\nbtime 1700000000\n",
            "proc/net/route": "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
            "eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n"
            "br-0123456789ab 000012AC 00000000 0001 0 0 0 0000FFFF 0 0 0\n",
            "proc/42/comm": "dockerd\n",
            "proc/42/status": "Name:\tdockerd\nCapEff:\t000001ffffffffff\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory pids\n",
            "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
            "etc/os-release": 'PRETTY_NAME="Some Linux 1"\n',
        }.items():
            self.file(path, text)

    def _make_programs(self) -> None:
        self.program("docker", "Docker version 27")
        self.program("kind", "kind v0.33.0 go1.26 linux/amd64")
        client = {"clientVersion": {"gitVersion": "v1.34.1"}}
        self.program("kubectl", json.dumps(client))
        self.patch.setenv("PATH", f"{self.bin}:/usr/bin:/bin")
        self.patch.setenv("HOME", str(self.home))
        for name in list(os.environ):
            if name.lower().endswith("_proxy") or name.startswith(("DOCKER_", "AWS_", "MLFLOW_S3")):
                self.patch.delenv(name)
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "XDG_RUNTIME_DIR"):
            self.patch.delenv(name, raising=False)

    def _make_docker(self) -> None:
        machine = platform.machine()
        self.info: dict[str, Any] = {
            "Name": "box",
            "KernelVersion": "6.1.0",
            "ServerVersion": "27.3.1",
            "OperatingSystem": "Some Linux 1",
            "Architecture": machine,
            "NCPU": 4,
            "MemTotal": 16_000_000_000,
            "DockerRootDir": str(self.root / "docker"),
            "Driver": "overlay2",
            "DriverStatus": [["Backing Filesystem", "extfs"]],
            "CgroupVersion": "2",
            "MemoryLimit": True,
            "CpuCfsQuota": True,
            "PidsLimit": True,
            "SecurityOptions": ["name=seccomp,profile=default"],
            "DefaultRuntime": "runc",
        }
        self.version = {"ApiVersion": "1.41", "Components": [{"Name": "Engine", "Version": "27.3.1"}]}
        self.clock_ahead = 0.0
        self.containers: dict[str, dict[str, Any]] = {}
        self.networks: list[dict[str, Any]] = [
            {"Name": "kind", "Id": "0123456789abcdef", "IPAM": {"Config": [{"Subnet": "172.18.0.0/16"}]}}
        ]
        self.docker = self.serve(self._docker_answer)
        self.patch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{self.docker.port}")
        from docker.models.containers import Container, ExecResult

        def said(_: Any, command: list[str]) -> Any:
            self.asked_node.append(" ".join(command))
            for start, text in self.in_node.items():
                if " ".join(command).startswith(start):
                    return ExecResult(0, text.encode())
            return ExecResult(1, b"not found")

        # The stream of a running command is no plain HTTP; what it says is all that matters here.
        self.patch.setattr(Container, "exec_run", said)

    def _docker_answer(self, _: str, path: str, query: dict[str, str]) -> tuple[int, Any]:
        path = path.removeprefix("/v1.41")
        if path == "/_ping":
            return 200, "OK"
        if path == "/version":
            return 200, self.version
        if path == "/info":
            now = datetime.now(timezone.utc).timestamp() + self.clock_ahead
            return 200, {**self.info, "SystemTime": datetime.fromtimestamp(now, timezone.utc).isoformat()}
        if path == "/containers/json":
            return 200, [_listed(name, one) for name, one in self.containers.items()]
        if path == "/networks":
            return 200, self.networks
        name = path.removeprefix("/containers/").removesuffix("/json")
        if name in self.containers:
            return 200, self.containers[name]
        return 404, {"message": f"no such container: {name}"}

    def _make_sandbox(self) -> None:
        folder = self.folder
        folder.prepare()
        ports = {"api": self.kube.port, "mlflow": self.mlflow.port, "s3": _free_port()}
        folder.remember(
            profile="full",
            components=["postgres"],
            ports=ports,
            container="c0ffee",
            node_image="docker.io/kindest/node:v1.36.4",
        )
        authority, key = certificates.make_authority("test")
        self.certificate = certificates.make_certificate(authority, key, ["test"])
        folder.keep_secret("authority", lambda: authority + key)
        folder.secret("mlflow-password")
        self.write_kubeconfig(self.certificate[0])
        (folder.path / "audit-policy.yaml").write_text("rules: []\n")
        self.run(
            {"type": "phase.started", "msg": "begins"}, {"type": "result", "ok": True, "msg": "ready in 30 s"}
        )
        self.node: dict[str, Any] = {
            "Id": "c0ffee",
            "Name": f"/{folder.node_name}",
            "State": {
                "Status": "running",
                "Running": True,
                "Error": "",
                "StartedAt": "2026-01-01T00:00:00.5Z",
            },
            "Config": {
                "Image": "kindest/node:v1.36.4",
                "Labels": {"io.x-k8s.kind.cluster": folder.cluster_name},
            },
            "HostConfig": {
                "PortBindings": {"6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(self.kube.port)}]}
            },
            "Mounts": [
                {"Type": "bind", "Source": str(folder.data), "Destination": "/var/modelyard"},
                {"Type": "bind", "Source": str(folder.path / "audit-policy.yaml"), "Destination": "/a.yaml"},
            ],
            "NetworkSettings": {"Networks": {"kind": {"IPAddress": "172.18.0.2"}}},
        }
        self.containers[folder.node_name] = self.node

    def write_kubeconfig(self, certificate: str, server: str = "") -> None:
        """As kind writes it, but without TLS where no server is named."""
        user = {
            "client-certificate-data": base64.b64encode(certificate.encode()).decode(),
            "client-key-data": base64.b64encode(b"the key of the client, which is secret").decode(),
        }
        lines = [
            "apiVersion: v1",
            "kind: Config",
            "clusters:",
            "- cluster:",
            f"    server: {server or f'https://127.0.0.1:{self.kube.port}'}",
            "  name: kind",
            "contexts:",
            "- context:",
            "    cluster: kind",
            "    user: kind",
            "  name: kind",
            "current-context: kind",
            "users:",
            "- name: kind",
            "  user:",
            *(f"    {key}: {value}" for key, value in user.items()),
        ]
        self.folder.kubeconfig.write_text("\n".join(lines) + "\n")
        self.folder.kubeconfig.chmod(0o600)

    def _make_cluster(self) -> Server:
        self.cluster = ClusterWorld()
        server = self.serve(self.cluster.answer)
        from modelyard.kube import Cluster

        def plain_http(cluster: Cluster) -> str:
            return f"http://127.0.0.1:{server.port}"

        # The real API server speaks TLS; what is tested is what is read from it.
        self.patch.setattr(Cluster, "address", property(plain_http))
        return server


def _listed(name: str, one: dict[str, Any]) -> dict[str, Any]:
    """A container as the list of all shows it."""
    return {
        "Id": one["Id"],
        "Names": [f"/{name}"],
        "Image": one["Config"]["Image"],
        "Labels": one["Config"].get("Labels"),
        "State": one["State"]["Status"],
        "Status": "",
        "Ports": one.get("Ports", []),
    }


def other_node(name: str) -> dict[str, Any]:
    """The node of another cluster of kind."""
    labels = {"io.x-k8s.kind.cluster": name}
    return {
        "Id": name,
        "Config": {"Image": "x", "Labels": labels},
        "State": {"Status": "running"},
        "Mounts": [],
    }


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves this machine fails the test."""
    connect, find = socket.socket.connect, socket.getaddrinfo

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
            pytest.fail(f"a connection to {address}")
        connect(self, address)

    def find_here(host: Any, *rest: Any, **more: Any) -> Any:
        if host not in ("127.0.0.1", "::1", "localhost", None):
            pytest.fail(f"the name {host} is looked up")
        return find(host, *rest, **more)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", find_here)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None) -> Iterator[World]:
    for name in ("STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    made = World(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def make_pod() -> Callable[..., dict[str, Any]]:
    return pod


@pytest.fixture
def make_other_node() -> Callable[[str], dict[str, Any]]:
    return other_node
