"""A real API server without any container: etcd, kube-apiserver, controller-manager, scheduler and kwok.

The programs that make it are told by `MODELYARD_TEST_CLUSTER_TOOLS`, the folder with what they built by
`MODELYARD_TEST_CLUSTER_CACHE`, the manifests of KServe and Knative by `MODELYARD_TEST_CLUSTER_MANIFESTS`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from modelyard.kube import Cluster, Ref

_SHARED = Path(__file__).resolve().parents[4] / "shared"
_PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")


def _told(name: str, otherwise: Path) -> Path:
    return Path(os.environ.get(f"MODELYARD_TEST_CLUSTER_{name}") or otherwise)


@pytest.fixture(scope="package")
def light_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster's API, as its administrator. Pods run without running; webhooks are left out."""
    light = _told("TOOLS", _SHARED / "tools" / "cluster") / "light"
    cache = _told("CACHE", Path("/var/cache/modelyard-cluster"))
    if not light.is_file():
        pytest.skip(f"the cluster tools are not there: {light} (MODELYARD_TEST_CLUSTER_TOOLS)")
    lacking = [name for name in _PROGRAMS if not (cache / "bin" / name).exists()]
    if lacking:
        pytest.skip(f"{cache}/bin lacks {', '.join(lacking)}: build-binaries {cache} light")
    folder = tmp_path_factory.mktemp("light")
    command = [str(light), "start", str(cache), str(folder), str(_free_ports(3))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        if done.returncode != 0:
            logs = [f"{file.name}: {file.read_text()[-500:]}" for file in sorted(folder.glob("*.log"))]
            pytest.fail("\n".join([done.stderr, *logs]), pytrace=False)
        yield Cluster(folder / "kubeconfig")
    finally:
        processes = [process for file in folder.glob("*.pid") for process in _processes(file)]
        subprocess.run([str(light), "stop", str(folder)], timeout=60, check=False)
        _, left = psutil.wait_procs(processes, timeout=10)
        for process in left:  # the API server waits long for those who watch something
            process.kill()


def _processes(file: Path) -> list[psutil.Process]:
    try:
        return [psutil.Process(int(file.read_text()))]
    except (psutil.NoSuchProcess, ValueError):
        return []


def _free_ports(count: int) -> int:
    """The first of several ports in a row that nobody listens on."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            if port + count < 60_000 and all(_is_free(port + n) for n in range(1, count)):
                return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture(scope="package")
def manifests() -> Path:
    """The folder with the published manifests of KServe, Knative and others."""
    folder = _told("MANIFESTS", _SHARED / "manifests")
    if not folder.is_dir():
        pytest.skip(f"the published manifests are not there: {folder} (MODELYARD_TEST_CLUSTER_MANIFESTS)")
    return folder


@pytest.fixture
def namespace(light_cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    light_cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    light_cluster.delete(Ref("v1", "Namespace", "", name))
