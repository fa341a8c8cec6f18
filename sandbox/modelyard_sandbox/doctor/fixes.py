"""What `doctor --fix` does. Each can do no harm, and done twice changes nothing more:

- raise the kernel's inotify limits, now and for the next start (root only);
- forget ports that others took, while no node has them: `up` chooses free ones;
- remove a lock that a killed kind left beside the sandbox's kubeconfig;
- take rights on the sandbox's secrets from other users;
- write the sandbox's kubeconfig anew from its node.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.state import os_errors, write_bytes
from modelyard_sandbox.doctor import ports
from modelyard_sandbox.errors import ClusterFailed
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.node import kind_environment as kindkind_environment

if TYPE_CHECKING:
    from modelyard_sandbox.doctor.facts import Facts

#: The limits that several clusters live with.
INOTIFY = {"instances": 512, "watches": 524_288}


def raise_inotify(facts: Facts) -> str:
    """Raise the limits that are too low."""
    root, raised = facts.machine.root, {}
    for name, wanted in INOTIFY.items():
        path = f"proc/sys/fs/inotify/max_user_{name}"
        if facts.machine.number(path) < wanted:
            with os_errors(root / path):
                (root / path).write_text(f"{wanted}\n")
            raised[f"fs.inotify.max_user_{name}"] = wanted
    if not raised:
        return "the limits are high enough"
    lines = [f"fs.inotify.max_user_{name} = {wanted}" for name, wanted in INOTIFY.items()]
    file = root / "etc/sysctl.d/60-modelyard.conf"
    write_bytes(file, ("\n".join(lines) + "\n").encode())
    return f"set {', '.join(f'{name}={value}' for name, value in raised.items())}, also in {file}"


def forget_taken_ports(facts: Facts) -> str:
    """Forget those that are taken, so that `up` chooses anew."""
    with facts.folder.held("sandbox doctor --fix"):
        gone = ports.taken(facts)
        known = facts.folder.state().get("ports") or {}
        if gone:
            facts.folder.remember(ports={name: port for name, port in known.items() if name not in gone})
    return f"forgot the ports of {', '.join(gone) or 'none'}"


def remove_lock(facts: Facts) -> str:
    """Remove the lock that kind left."""
    with facts.folder.held("sandbox doctor --fix"):
        lock = kubeconfig_lock(facts.folder)
        with os_errors(lock):
            lock.unlink(missing_ok=True)
    return f"removed {lock}"


def make_private(facts: Facts) -> str:
    """Only the owner may read what holds secrets."""
    changed = []
    for path, mode in private_paths(facts.folder).items():
        if path.exists() and path.stat().st_mode & 0o077:
            with os_errors(path):
                path.chmod(mode)
            changed.append(path.name)
    return f"made private: {', '.join(changed) or 'nothing'}"


def export_kubeconfig(facts: Facts) -> str:
    """Have kind write the kubeconfig of the node that there is."""
    folder = facts.folder
    with folder.held("sandbox doctor --fix"):
        argv = ["kind", "export", "kubeconfig", "--name", folder.cluster_name]
        try:
            done = subprocess.run(
                [*argv, "--kubeconfig", str(folder.kubeconfig)],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=60,
                env=kindkind_environment(),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise ClusterFailed("kubeconfig-export", f"`{' '.join(argv)}` can't be run: {fault}") from None
        if done.returncode:
            said = " ".join(done.stderr.split())[-300:]
            raise ClusterFailed("kubeconfig-export", f"`{' '.join(argv)}` failed: {said}")
        folder.kubeconfig.chmod(0o600)
    return f"wrote {folder.kubeconfig}"


# -- what checks and fixes share ----------------------------------------------------------------


def kubeconfig_lock(folder: SandboxFolder) -> Path:
    """The file by which kind keeps others from the kubeconfig."""
    return folder.kubeconfig.with_name(folder.kubeconfig.name + ".lock")


def private_paths(folder: SandboxFolder) -> dict[Path, int]:
    """What holds secrets, and the rights that it should have."""
    return {
        folder.path: 0o700,
        folder.kubeconfig: 0o600,
        folder.path / "secrets.json": 0o600,
        folder.path / "state.json": 0o600,
    }
