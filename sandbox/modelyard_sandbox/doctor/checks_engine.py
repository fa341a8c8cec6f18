"""The programs that the sandbox needs, and the Docker engine."""

from __future__ import annotations

import getpass
import importlib.util
import json
import os
import re

from modelyard_sandbox.doctor.docker_facts import answers, has_container
from modelyard_sandbox.doctor.facts import Facts
from modelyard_sandbox.doctor.findings import Absent, Answer, check, error, ok, warning
from modelyard_sandbox.lock import Lock

_PACKAGES = ("docker", "kubernetes", "yaml", "cryptography")
_OLDEST_ENGINE = (20, 10)
_OLDEST_KIND = (0, 27)
#: From this one on kind's node images hold a systemd that does not like cgroup v1.
_NEW_SYSTEMD_KIND = (0, 32)
_GET_KIND = (
    "see https://kind.sigs.k8s.io/docs/user/quick-start, or: go install sigs.k8s.io/kind@v0.33.0, "
    "brew install kind, apt-get install kind"
)


@check("packages", "Python packages", before_up=True)
def packages(_: Facts) -> Answer:
    """What the extra `sandbox` brings."""
    missing = [name for name in _PACKAGES if not _is_there(name)]
    if missing:
        return error(f"not installed: {', '.join(missing)}", "pip install 'modelyard[sandbox]'", refuses=True)
    return ok(f"{', '.join(_PACKAGES)} are installed")


@check("docker", "Docker engine", before_up=True)
def docker(facts: Facts) -> Answer:
    """Whether an engine answers."""
    fault = facts.docker.fault
    if not fault:
        about = facts.docker.info
        return ok(
            f"{about.get('OperatingSystem')} at {facts.docker.address}, version {about.get('ServerVersion')}"
        )
    fix = "start Docker: sudo systemctl start docker, or open Docker Desktop"
    if "is not installed" in fault:
        fix = "pip install 'modelyard[sandbox]'"
    elif facts.docker.is_elsewhere:
        fix = "unset DOCKER_HOST, or: docker context use default"
    elif "ermission denied" in fault:
        fix = f"sudo usermod -aG docker {_user()}, then log in again"
    elif facts.machine.program("docker") is None:
        fix = "install Docker: https://docs.docker.com/engine/install"
    return error(fault, fix, refuses=True)


@check("docker-context", "Docker context", before_up=True)
def docker_context(facts: Facts) -> Answer:
    """Whether it is the engine that the sandbox's node is in, or could be in."""
    docker = facts.docker
    by_host = bool(os.environ.get("DOCKER_HOST"))
    where = f"{'DOCKER_HOST' if by_host else f'context {docker.context}'} leads to {docker.address}"
    if not by_host and docker.context not in docker.contexts:
        there = ", ".join(docker.contexts)
        return error(
            f"there is no context '{docker.context}'; there are: {there}",
            "docker context use default, or unset DOCKER_CONTEXT",
            refuses=True,
        )
    if docker.is_elsewhere:
        return error(
            f"{where}: another machine, whose ports and folders are not ours",
            "unset DOCKER_HOST, or: docker context use default",
            refuses=True,
        )
    if not _is_there("docker"):
        raise Absent("the package `docker` is not installed")
    if docker.fault:
        for name, address in docker.others():
            if answers(address):
                return error(f"{where}, where nobody answers, but {address} does", _use(name, address))
        return ok(f"{where}; no other engine answers on this machine")
    if facts.sandbox.state.get("container") and docker.node_state == "absent":
        for name, address in docker.others():
            if has_container(address, facts.folder.node_name):
                return error(
                    f"{where}, but the node of this sandbox is in {name or address}",
                    _use(name, address),
                    refuses=True,
                )
    return ok(where)


@check("docker-version", "Docker's version", before_up=True)
def docker_version(facts: Facts) -> Answer:
    """Old engines, and others that only look like Docker."""
    names = [str(part.get("Name")) for part in facts.docker.about.get("Components") or []]
    if any("podman" in name.lower() for name in names):
        return error(
            f"{facts.docker.address} is Podman, which kind can't reach through the `docker` command",
            "use Docker, Docker Desktop, Colima or OrbStack",
            refuses=True,
        )
    version = str(facts.docker.info.get("ServerVersion", ""))
    if _numbers(version) < _OLDEST_ENGINE:
        return error(f"version {version}; 20.10 is the oldest that works", "update Docker", refuses=True)
    return ok(f"version {version}")


@check("docker-command", "the command `docker`", before_up=True)
def docker_command(facts: Facts) -> Answer:
    """kind runs it."""
    found = facts.machine.program("docker")
    if found is None:
        fix = "install Docker's command line, e.g. apt-get install docker-cli, or Docker Desktop"
        return error("not on PATH, and kind needs it", fix, refuses=True)
    return ok(f"{found}")


@check("kind", "the command `kind`", before_up=True)
def kind(facts: Facts) -> Answer:
    """Missing, or too old for the node image."""
    found = facts.machine.program("kind")
    if found is None:
        return error("not on PATH", _GET_KIND, refuses=True)
    version = _kind_version(facts)
    pinned = re.search(r"kind v([\d.]+)", Lock.load().node.source or "")
    wanted = _numbers(pinned[1]) if pinned else _OLDEST_KIND
    said = f"{found} is v{'.'.join(map(str, version))}"
    if version < _OLDEST_KIND:
        return error(f"{said}; v0.27 is the oldest that works", f"update it: {_GET_KIND}", refuses=True)
    if version < wanted:
        newest = ".".join(map(str, wanted))
        return warning(f"{said}; the node image was made for v{newest}", f"update it: {_GET_KIND}")
    return ok(said)


@check("kubectl-skew", "kubectl's version")
def kubectl_skew(facts: Facts) -> Answer:
    """The sandbox does not need it; people who have it should have one that fits."""
    if facts.machine.program("kubectl") is None:
        return ok("not on PATH, and not needed")
    said = facts.machine.said_by("kubectl", "version", "--client", "--output=json")
    try:
        client = str(json.loads(said)["clientVersion"]["gitVersion"])
    except (ValueError, KeyError, TypeError):
        raise Absent("kubectl does not say its version") from None
    server = facts.cluster.api.version()
    apart = abs(_numbers(client)[1] - _numbers(server)[1])
    if apart > 1:
        return warning(
            f"kubectl is {client}, the cluster {server}: more than one version apart",
            f"install kubectl {server}, or look with: modelyard sandbox status, logs",
        )
    return ok(f"kubectl {client}, cluster {server}")


@check("rootless", "rootless Docker", before_up=True)
def rootless(facts: Facts) -> Answer:
    """It needs controllers that systemd does not hand to users by itself."""
    info = facts.docker.info
    if not any("rootless" in option for option in info.get("SecurityOptions") or []):
        return ok("Docker runs as root")
    if str(info.get("CgroupVersion")) == "1":
        return error(
            "Docker is rootless, on cgroup v1",
            "boot with systemd.unified_cgroup_hierarchy=1, or use Docker with root",
            refuses=True,
        )
    lacking = _missing_controllers(info)
    if lacking:
        folder = "/etc/systemd/system/user@.service.d"
        return error(
            f"Docker is rootless and may not limit {', '.join(lacking)}",
            f"write '[Service]' and 'Delegate=yes' into {folder}/delegate.conf, then: sudo systemctl "
            "daemon-reload, and log in again",
            refuses=True,
        )
    return warning("Docker is rootless: it works, but is tried less", "use Docker with root where you can")


@check("cgroup-controllers", "limits that Docker may set", before_up=True)
def cgroup_controllers(facts: Facts) -> Answer:
    """The kubelet does not start without them."""
    lacking = _missing_controllers(facts.docker.info)
    if lacking:
        return error(
            f"docker info: no limit can be set for {', '.join(lacking)}",
            "switch the controllers on: kernel parameter cgroup_enable=memory, or another kernel",
            refuses=True,
        )
    return ok("memory, cpu and pids")


@check("cgroup-v1", "cgroup version", before_up=True)
def cgroup_v1(facts: Facts) -> Answer:
    """Newer kubelets refuse version 1."""
    version = str(facts.docker.info.get("CgroupVersion") or "1")
    if version == "1":
        return warning(
            "docker info: cgroup v1. kubelet 1.35 and newer refuse it; the sandbox tells its kubelet to run "
            "nevertheless, but kind will end its support",
            "boot with systemd.unified_cgroup_hierarchy=1",
        )
    return ok(f"docker info: cgroup v{version}")


@check("node-systemd", "systemd in the node image", before_up=True)
def node_systemd(facts: Facts) -> Answer:
    """systemd 257, in the node images of kind 0.32 and newer, is not made for cgroup v1."""
    if str(facts.docker.info.get("CgroupVersion") or "1") != "1":
        return ok("cgroup v2: any systemd boots")
    image = str(facts.sandbox.state.get("node_image") or Lock.load().node.reference)
    version = _kind_version(facts)
    if "kindest/node" in image and version >= _NEW_SYSTEMD_KIND:
        return warning(
            f"cgroup v1, and {image} holds systemd 257, which does not support it",
            "boot with systemd.unified_cgroup_hierarchy=1 if the node does not come up",
        )
    return ok(f"cgroup v1, and {image} holds a systemd that boots on it")


@check("privileged", "privileged containers", before_up=True)
def privileged(facts: Facts) -> Answer:
    """kind's node has all capabilities; an engine in a container or nested machine may lack some."""
    if facts.docker.node_state in ("stopped", "half-made"):
        said = str(facts.docker.node["State"].get("Error") or "")
        if "unable to apply caps" in said:
            return error(f"the node did not start: {said[-200:]}", _CAPABILITY_FIX, refuses=True)
    running = [name for name, state in facts.docker.nodes.items() if state == "running"]
    if running:
        return ok(f"{running[0]} runs, which is one")
    if not facts.docker.is_here:
        raise Absent("the engine runs in a machine of its own")
    folder = next(facts.machine.processes("dockerd"), None)
    if folder is None:
        raise Absent("the process of the engine can't be seen from here")
    missing = _missing_capabilities(facts, folder)
    if not missing:
        return ok(f"/{folder}/status: dockerd has every capability")
    said = f"/{folder}/status: dockerd lacks {', '.join(missing)}"
    runtime = str(facts.docker.info.get("DefaultRuntime", ""))
    if runtime not in ("runc", "io.containerd.runc.v2"):
        return ok(f"{said}, but its runtime '{runtime}' is not plain runc")
    return error(f"{said}: docker run --privileged fails", _CAPABILITY_FIX, refuses=True)


@check("image-platforms", "images for this processor", before_up=True)
def image_platforms(facts: Facts) -> Answer:
    """Some images are made for amd64 alone."""
    if bundle := facts.sandbox.state.get("bundle"):
        raise Absent(f"images come from {bundle}, which `up` checks")
    _ = facts.docker.info
    platform = f"linux/{facts.docker.engine.architecture}"
    locked = Lock.load().images
    lacking = {
        component.name: entry.reference
        for component in facts.components
        for entry in (locked.get(image) for image in component.images)
        if entry is not None and not entry.build and platform not in entry.platforms
    }
    if lacking:
        said = ", ".join(f"{image} ({name})" for name, image in lacking.items())
        without = " ".join(f"--without {name}" for name in lacking)
        return error(f"no image for {platform}: {said}", f"leave them out: {without}", refuses=True)
    return ok(f"all for {platform}")


@check("docker-snap", "Docker from a snap", before_up=True)
def docker_snap(facts: Facts) -> Answer:
    """It sees neither /tmp nor hidden folders."""
    root = str(facts.docker.info.get("DockerRootDir", ""))
    if not root.startswith("/var/snap/"):
        return ok(f"Docker keeps its data in {root}")
    folder = facts.folder.path
    if any(part.startswith(".") for part in folder.parts) or folder.parts[:2] == ("/", "tmp"):
        return error(
            f"Docker is a snap ({root}), which can't see {folder}",
            "install Docker from its own packages, or: export XDG_STATE_HOME=~/modelyard-state",
            refuses=True,
        )
    return warning(f"Docker is a snap ({root}), which can't see /tmp", "export TMPDIR=~/tmp")


@check("docker-init", "Docker's own init", before_up=True)
def docker_init(facts: Facts) -> Answer:
    """A node runs systemd, which must be the first process."""
    if facts.machine.daemon_config.get("init"):
        return warning(
            '/etc/docker/daemon.json says "init": true, which old versions of kind can\'t do with',
            'remove "init" from the file, then: sudo systemctl restart docker',
        )
    return ok("not switched on")


@check("docker-storage", "Docker's storage", before_up=True)
def docker_storage(facts: Facts) -> Answer:
    """btrfs and zfs do not carry a node's overlay in every version."""
    info = facts.docker.info
    backing = dict(pair[:2] for pair in info.get("DriverStatus") or []).get("Backing Filesystem", "")
    said = f"{info.get('Driver')}" + (f" on {backing}" if backing else "")
    if {str(info.get("Driver")), str(backing)} & {"btrfs", "zfs"}:
        return warning(said, "if the node does not start, move Docker's data to ext4 or xfs (data-root)")
    return ok(said)


_CAPABILITY_FIX = (
    "run Docker where root has all capabilities, or give it a default runtime that leaves out what is missing"
)
#: By number, as the kernel counts them.
_CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]


def _missing_capabilities(facts: Facts, folder: str) -> list[str]:
    last = facts.machine.number("proc/sys/kernel/cap_last_cap")
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", facts.machine.text(f"{folder}/status"), re.MULTILINE)
    if found is None:
        raise Absent(f"/{folder}/status tells no capabilities")
    has = int(found[1], 16)
    return [
        f"CAP_{_CAPABILITIES[number] if number < len(_CAPABILITIES) else number}"
        for number in range(last + 1)
        if not has >> number & 1
    ]


def _missing_controllers(info: dict[str, object]) -> list[str]:
    """An engine that does not say counts as one that can."""
    limits = {"memory": "MemoryLimit", "cpu": "CpuCfsQuota", "pids": "PidsLimit"}
    return [name for name, key in limits.items() if info.get(key) is False]


def _kind_version(facts: Facts) -> tuple[int, ...]:
    said = facts.machine.said_by("kind", "version")
    found = re.search(r"v(\d+\.\d+(\.\d+)?)", said)
    if found is None:
        raise Absent(f"`kind version` does not say a version: {said[:100]!r}")
    return _numbers(found[1])


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with."""
    return tuple(
        int(number) for number in re.findall(r"\d+", version.partition("-")[0].partition("+")[0])[:3]
    )


def _use(name: str, address: str) -> str:
    by_name = name and not os.environ.get("DOCKER_HOST")  # which counts more than the context
    return f"docker context use {name}" if by_name else f"export DOCKER_HOST={address}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "$USER"


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


CHECKS = (
    packages,
    docker,
    docker_context,
    docker_version,
    docker_command,
    kind,
    kubectl_skew,
    rootless,
    cgroup_controllers,
    cgroup_v1,
    node_systemd,
    privileged,
    image_platforms,
    docker_snap,
    docker_init,
    docker_storage,
)
