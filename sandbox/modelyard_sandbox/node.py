"""The cluster's one node: a container that `kind` makes, and Docker starts and stops."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import psutil  # type: ignore[import-untyped,unused-ignore]

from modelyard.errors import ModelyardError
from modelyard.kube import Cluster, Ref
from modelyard.processes import child_env
from modelyard.state import write_bytes
from modelyard_sandbox.engine import Engine, endpoint
from modelyard_sandbox.errors import ClusterFailed, EngineUnavailable
from modelyard_sandbox.folder import SandboxFolder

#: Where the sandbox's data folder is mounted on the node.
NODE_DATA = "/var/modelyard"
_POLICY = "/etc/kubernetes/modelyard/audit.yaml"
_AUDIT_FOLDER = "/var/log/kubernetes"
#: The addresses of Services; kind's default.
_SERVICES = "10.96.0.0/16"

NodeState = Literal["absent", "running", "stopped", "half-made", "foreign"]

#: What people and tools change is written down; what the cluster does by itself is not.
_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    userGroups: ["system:nodes", "system:serviceaccounts"]
  - level: None
    users: ["system:apiserver", "system:kube-scheduler", "system:kube-controller-manager"]
  - level: Metadata
    verbs: [create, update, patch, delete, deletecollection]
  - level: None
"""


class Node:
    """The node of one sandbox.

    Args:
        folder: the sandbox's folder; its data folder, mounted in the container, marks it as ours.
        engine: where the container lives.
    """

    def __init__(self, folder: SandboxFolder, engine: Engine) -> None:
        self._folder, self._engine = folder, engine

    @property
    def container(self) -> Any | None:
        """The node's container as it is now, or None."""
        return self._engine.container(self._folder.node_name)

    def state(self) -> NodeState:
        """What there is. `half-made`: kind was killed while it made the node; it can't be resumed.
        `foreign`: a cluster of this name that is not this sandbox's."""
        container = self.container
        if container is None:
            return "absent"
        sources = {mount.get("Source") for mount in container.attrs.get("Mounts", [])}
        if str(self._folder.data.resolve()) not in sources and str(self._folder.data) not in sources:
            return "foreign"
        if self._folder.state().get("container") != container.id:
            return "half-made"
        return "running" if container.status == "running" else "stopped"

    def booted(self) -> str:
        """When the node was last started, RFC 3339 in UTC; empty if it does not run."""
        container = self.container
        return str(container.attrs["State"]["StartedAt"]) if container is not None else ""

    # -- making and unmaking ----------------------------------------------------------------

    def create(self, image: str, ports: Mapping[int, int], say: Callable[[str], None]) -> None:
        """Make the node; there is none.

        Args:
            image: kind's node image; the engine holds it.
            ports: NodePort -> port on 127.0.0.1; -1 stands for the API server.
            say: gets what kind does.

        Raises:
            ClusterFailed: `cluster-create-failed`, with kind's last lines.
        """
        self._write_config(ports)
        argv = ["create", "cluster", "--name", self._folder.cluster_name, "--image", image, "--retain"]
        argv += [
            "--config",
            str(self._folder.path / "kind.yaml"),
            "--kubeconfig",
            str(self._folder.kubeconfig),
        ]
        self._kind([*argv, "--wait", "0s"], say)
        self._folder.kubeconfig.chmod(0o600)
        container = self.container
        if container is None:
            raise ClusterFailed(
                "cluster-create-failed", "kind ended well, but there is no node", "modelyard sandbox doctor"
            )
        # From here on the node is whole: `state` takes one without this mark for half-made.
        self._folder.remember(container=container.id, node_image=image)
        _keep_services_inside(container)

    def clear(self, say: Callable[[str], None]) -> None:
        """Remove what a start left that was cut off, so that nobody takes it for a node.

        Args:
            say: gets a sentence if there is such.

        Raises:
            ClusterFailed: `cluster-foreign`.
        """
        self._require_ours()
        self._end_earlier_kind()
        if self.state() == "half-made":
            say("removing the node of a start that was cut off")
            self.delete()

    def start(self) -> None:
        """Start a stopped node.

        Raises:
            ClusterFailed: `cluster-start-failed`, with Docker's reason (a port that is taken, ...).
        """
        import docker.errors

        container = self.container
        if container is None or container.status == "running":
            return
        try:
            container.start()
        except docker.errors.APIError as fault:
            raise ClusterFailed(
                "cluster-start-failed",
                f"Docker can't start the node: {' '.join(str(fault.explanation or fault).split())[:300]}",
                "free the port, or make the node anew (data stays): modelyard sandbox down, then up",
            ) from None
        _keep_services_inside(container)

    def stop(self) -> None:
        """Stop the node; everything on it stays."""
        container = self.container
        if container is not None and container.status == "running":
            container.stop(timeout=30)

    def delete(self) -> None:
        """Remove the node; the data folder stays."""
        self._require_ours()
        self._end_earlier_kind()
        if self.container is not None:
            argv = ["delete", "cluster", "--name", self._folder.cluster_name]
            self._kind([*argv, "--kubeconfig", str(self._folder.kubeconfig)], lambda _: None)
        self._folder.kubeconfig.unlink(missing_ok=True)
        self._folder.remember(container=None)

    def wait_ready(self, say: Callable[[str], None], *, patience: float) -> Cluster:
        """Until the API server answers and the node is Ready.

        Raises:
            ClusterFailed: `node-not-ready`: nothing changed for `patience` seconds; `node-ended`: it does
                not run any more.
        """
        seen, since = "", time.monotonic()
        cluster = Cluster(self._folder.kubeconfig)
        while waits_for := self._waits_for(cluster):
            self._require_running()
            if waits_for != seen:
                say(waits_for)
                seen, since = waits_for, time.monotonic()
            if time.monotonic() - since > patience:
                raise ClusterFailed(
                    "node-not-ready",
                    f"the node is not ready after {patience:.0f} s: {waits_for}",
                    "modelyard sandbox doctor",
                )
            time.sleep(0.25)
        return cluster

    def _waits_for(self, cluster: Cluster) -> str:
        if not cluster.ready():
            return "the API server"
        try:
            node = cluster.get(Ref("v1", "Node", "", self._folder.node_name))
        except ModelyardError as fault:
            return fault.message
        conditions = {c["type"]: c for c in (node or {}).get("status", {}).get("conditions", [])}
        ready = conditions.get("Ready", {})
        if ready.get("status") != "True":
            return f"node: {ready.get('message') or 'registering'}"[:200]
        return ""

    def _require_running(self) -> None:
        container = self.container
        if container is not None and container.status not in ("exited", "dead"):
            return
        said = container.logs(tail=3).decode(errors="replace").split() if container is not None else []
        raise ClusterFailed(
            "node-ended",
            f"the node ended by itself; its last lines: {' '.join(said)[-300:] or 'none'}",
            f"docker logs {self._folder.node_name}; made anew, data stays: modelyard sandbox down, then up",
        )

    def takes_images(self) -> bool:
        """Whether the node's containerd answers: long before the cluster does."""
        import docker.errors

        container = self.container
        if container is None or container.status != "running":
            return False
        try:
            return bool(container.exec_run(["ctr", "version"]).exit_code == 0)
        except docker.errors.APIError:  # it has just ended
            return False

    # -- the data folder --------------------------------------------------------------------

    def make_data(self, components: list[str]) -> None:
        """A folder per component that stores something, writable by whichever user its pod runs as; the
        sandbox's own folder keeps other users of this machine out."""
        for name in components:
            folder = self._folder.data / name
            if not folder.exists():
                folder.mkdir(parents=True)
                folder.chmod(0o777)

    def purge_data(self, image: str) -> None:
        """Remove what the components stored. Their files belong to the users of their pods, so a container
        of the node's image removes them."""
        if not any(self._folder.data.glob("*")):
            return
        self._engine.client.containers.run(
            image,
            ["-c", "rm -rf /data/* /data/.[!.]*"],
            entrypoint="/bin/sh",
            remove=True,
            network_disabled=True,
            volumes={str(self._folder.data): {"bind": "/data", "mode": "rw"}},
        )

    # -- kind -------------------------------------------------------------------------------

    def _require_ours(self) -> None:
        if self.state() == "foreign":
            name = self._folder.cluster_name
            raise ClusterFailed(
                "cluster-foreign",
                f"there is a kind cluster '{name}' that this sandbox did not make",
                f"choose another name (--name), or remove it: kind delete cluster --name {name}",
            )

    def _kind(self, argv: list[str], say: Callable[[str], None]) -> None:
        """Run kind; it is remembered while it runs, so that the next command can end an orphan."""
        process = subprocess.Popen(
            [_kind_program(), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=kind_environment(),
            start_new_session=True,
        )
        self._folder.remember(kind={"pid": process.pid, "started": psutil.Process(process.pid).create_time()})
        lines: list[str] = []
        try:
            for line in process.stdout or ():
                lines.append(line.strip(" \n•✓✗"))
                say(lines[-1])
            status = process.wait()
        except BaseException:
            _end(process.pid)
            process.wait()
            raise
        finally:
            self._folder.remember(kind=None)
        if status:
            raise ClusterFailed(
                "cluster-create-failed" if argv[0] == "create" else "cluster-delete-failed",
                f"kind {argv[0]} failed: {_reason(lines)}",
                "modelyard sandbox doctor",
                details={"output": lines[-40:]},
            )

    def _end_earlier_kind(self) -> None:
        """A command that was killed leaves its kind behind, which would go on beside ours."""
        earlier = self._folder.state().get("kind")
        if not earlier:
            return
        try:
            process = psutil.Process(earlier["pid"])
            if abs(process.create_time() - earlier["started"]) < 1:
                _end(process.pid)
                process.wait(10)
        except psutil.Error:
            pass
        self._folder.remember(kind=None)

    def _write_config(self, ports: Mapping[int, int]) -> None:
        import yaml

        policy = self._folder.path / "audit-policy.yaml"
        if policy.is_dir():  # Docker made it, for a node whose sandbox's folder was removed
            policy.rmdir()
        write_bytes(policy, _AUDIT_POLICY.encode(), mode=0o644)
        arguments = {
            "audit-policy-file": _POLICY,
            "audit-log-path": f"{_AUDIT_FOLDER}/audit.log",
            "audit-log-maxsize": "10",
            "audit-log-maxbackup": "1",
        }
        volumes = [
            {
                "name": "audit-policy",
                "hostPath": _POLICY,
                "mountPath": _POLICY,
                "readOnly": True,
                "pathType": "File",
            },
            {
                "name": "audit-log",
                "hostPath": _AUDIT_FOLDER,
                "mountPath": _AUDIT_FOLDER,
                "pathType": "DirectoryOrCreate",
            },
        ]
        listed = [{"name": name, "value": value} for name, value in arguments.items()]
        # kubeadm's two formats write arguments differently; kind takes the patch that fits the node.
        patches = [
            {
                "apiVersion": f"kubeadm.k8s.io/{version}",
                "kind": "ClusterConfiguration",
                "apiServer": {"extraArgs": extra, "extraVolumes": volumes},
            }
            for version, extra in (("v1beta3", arguments), ("v1beta4", listed))
        ]
        kubelet: dict[str, Any] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "serializeImagePulls": False,
        }
        if str(self._engine.info.get("CgroupVersion")) == "1":
            kubelet["failCgroupV1"] = False  # newer kubelets refuse such machines otherwise
        config = {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "networking": {
                "apiServerAddress": "127.0.0.1",
                "apiServerPort": ports[-1],
                "serviceSubnet": _SERVICES,
            },
            "kubeadmConfigPatches": [yaml.safe_dump(patch) for patch in [*patches, kubelet]],
            "nodes": [
                {
                    "role": "control-plane",
                    "extraPortMappings": [
                        {"containerPort": node, "hostPort": local, "listenAddress": "127.0.0.1"}
                        for node, local in sorted(ports.items())
                        if node != -1
                    ],
                    "extraMounts": [
                        {"hostPath": str(self._folder.data), "containerPath": NODE_DATA},
                        {"hostPath": str(policy), "containerPath": _POLICY, "readOnly": True},
                    ],
                }
            ],
        }
        write_bytes(self._folder.path / "kind.yaml", yaml.safe_dump(config, sort_keys=False).encode())


def _keep_services_inside(container: Any) -> None:
    """What is sent to a Service that kube-proxy does not lead anywhere yet stays on the node.

    It would leave the machine otherwise; and where a network answers for every address, as those of companies
    do, whoever sent it (Envoy, CoreDNS) would go on to talk to that stranger. Connections are dropped rather
    than refused: their next packet, a second later, finds its way. Questions for names are refused: who asks
    asks again.
    """
    import docker.errors

    rules = (
        f"{chain} -d {_SERVICES} {rest}"
        for chain in ("FORWARD", "OUTPUT")
        for rest in ("-p udp -j REJECT", "-j DROP")
    )
    lines = [f"iptables -w -C {rule} || iptables -w -A {rule}" for rule in rules]
    with contextlib.suppress(docker.errors.APIError):  # it has just ended: who waits for it says why
        container.exec_run(["sh", "-c", "; ".join(lines)])


def _kind_program() -> str:
    found = shutil.which("kind")
    if found is None:
        raise EngineUnavailable(
            "kind-missing",
            "the command `kind` is not on PATH",
            "see https://kind.sigs.k8s.io/docs/user/quick-start, or: go install sigs.k8s.io/kind@v0.33.0",
        )
    return found


def kind_environment() -> dict[str, str]:
    """kind runs the `docker` command: it must reach the engine that we speak to, whatever is said later."""
    env = child_env()
    address = endpoint()
    if address:
        env["DOCKER_HOST"] = address
    env.pop("KUBECONFIG", None)
    return env


def _end(group: int) -> None:
    try:
        os.killpg(group, signal.SIGTERM)
    except ProcessLookupError:
        return


def _reason(lines: list[str]) -> str:
    """kind's error line, or its last ones."""
    errors = [line for line in lines if line.startswith(("ERROR:", "Command Output:", "error:"))]
    return " ".join(errors or lines[-3:])[-600:] or "it said nothing"
