"""Limits of the machine: kernel, memory, processors, disk, ports, clock."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import cast

from modelyard.components import Profile
from modelyard.console import size
from modelyard_sandbox.doctor import fixes
from modelyard_sandbox.doctor.facts import Facts
from modelyard_sandbox.doctor.findings import Absent, Answer, check, error, ok, warning
from modelyard_sandbox.doctor.ports import taken as find_taken
from modelyard_sandbox.folder import cache_folder
from modelyard_sandbox.selection import FITS

#: Below these a cluster of one node fails; they are the kernel's own, old defaults.
_LEAST = {"instances": 128, "watches": 8192}
#: inotify instances that one node may take.
_PER_NODE = 256
#: Machines that are sold as 4 GB have a little less.
_SLACK = 0.9
#: What a stack takes when it is idle; free memory below it makes everything slow.
_IDLE = {"minimal": 1_500_000_000, "full": 3_000_000_000}
#: What a new node takes on Docker's disk: its image, and all others unpacked.
_ROOM = {"minimal": 6_000_000_000, "full": 9_000_000_000}
#: A bundle is stored and unpacked.
_UNPACKED = 2.2
_LOW, _VERY_LOW = 2_000_000_000, 300_000_000
#: Seconds: clocks of virtual machines stand still while a laptop sleeps.
_DRIFT, _BROKEN_CLOCK = 5.0, 60.0


@check("inotify", "inotify limits", before_up=True, repair=fixes.raise_inotify)
def inotify(facts: Facts) -> Answer:
    """Too few: `too many open files`, and kube-proxy dies."""
    limits = {name: _inotify(facts, name) for name in _LEAST}
    said = ", ".join(f"max_user_{name} {value}" for name, value in limits.items())
    wanted = fixes.INOTIFY
    if all(limits[name] >= wanted[name] for name in wanted):
        return ok(said)
    commands = [
        f"fs.inotify.max_user_{name}={wanted[name]}" for name in wanted if limits[name] < wanted[name]
    ]
    fix = f"sudo sysctl -w {' '.join(commands)}, and write the same into /etc/sysctl.d/60-modelyard.conf"
    can = facts.docker.is_here and os.geteuid() == 0
    if any(limits[name] < _LEAST[name] for name in _LEAST):
        return error(f"{said}: a node can't work with so few", fix, fixable=can, refuses=True)
    return warning(f"{said}: enough for one small cluster only", fix, fixable=can)


@check("other-clusters", "other kind clusters", before_up=True)
def other_clusters(facts: Facts) -> Answer:
    """The second or fourth fails for want of inotify instances."""
    others = [
        name
        for name, state in facts.docker.nodes.items()
        if state == "running" and name != facts.folder.node_name
    ]
    if not others:
        return ok("none runs")
    instances = _inotify(facts, "instances")
    said = f"{len(others)} other node{'s' if len(others) > 1 else ''} of kind: {', '.join(sorted(others))}"
    needed = _PER_NODE * (len(others) + 1)
    if instances < needed:
        return warning(
            f"{said}; max_user_instances is {instances}, for all of them together",
            f"sudo sysctl -w fs.inotify.max_user_instances={needed}, or stop some: docker stop {others[0]}",
        )
    return ok(f"{said}; max_user_instances {instances} is enough")


@check("memory", "memory", before_up=True)
def memory(facts: Facts) -> Answer:
    """What the profile promises to fit into."""
    total = int(facts.docker.info.get("MemTotal") or 0)
    profile = _profile(facts)
    said = f"docker info: {size(total)} in all; '{profile}' is made for {size(FITS[profile][0])}"
    if total < _SLACK * FITS[profile][0]:
        fits = total >= _SLACK * FITS["minimal"][0]
        more = "give Docker's machine more memory (Docker Desktop: Settings, Resources)"
        if not fits:
            return error(said, more, refuses=True)
        if facts.profile is None:
            return warning(said, "modelyard sandbox up --profile minimal")
        return error(said, f"modelyard sandbox up --profile minimal, or {more}", refuses=True)
    if facts.docker.is_here and facts.docker.node_state != "running":
        free = facts.machine.memory_free
        if free < _IDLE[profile]:
            return warning(f"{said}; only {size(free)} of it is free now", "end programs that you don't need")
    return ok(said)


@check("cpus", "processors", before_up=True)
def cpus(facts: Facts) -> Answer:
    """Pods ask for a share of them, and stay pending where there are too few."""
    count, profile = int(facts.docker.info.get("NCPU") or 0), _profile(facts)
    said = f"docker info: {count}; '{profile}' is made for {FITS[profile][1]:.0f}"
    if count < FITS[profile][1]:
        return error(said, "give Docker's machine more processors", refuses=True)
    return ok(said)


@check("docker-disk", "Docker's disk", before_up=True)
def docker_disk(facts: Facts) -> Answer:
    """The kubelet does not clean up on a full disk; everything fails late."""
    root = Path(str(facts.docker.info.get("DockerRootDir", "/var/lib/docker")))
    if not facts.docker.is_here:
        raise Absent(f"{root} is in a machine of its own; see `node-disk` when the node runs")
    free = facts.machine.free(root)
    said = f"{size(free)} free in {root}"
    fix = "docker system df shows what takes room; docker system prune removes what nothing uses"
    if facts.docker.node_state in ("running", "stopped"):
        return _low(free, said, fix)
    needed = _needed(facts)
    if free < needed:
        return error(f"{said}; a new node takes about {size(needed)}", fix, refuses=True)
    return ok(f"{said}; a new node takes about {size(needed)}")


@check("disk", "the sandbox's disk", before_up=True)
def disk(facts: Facts) -> Answer:
    """Where data and downloads are kept."""
    answers = []
    for folder in (facts.folder.path, cache_folder()):
        free = facts.machine.free(folder)
        answers.append((free, _low(free, f"{size(free)} free at {folder}", "free some space there")))
    return min(answers, key=lambda one: one[0])[1]


@check("ports", "ports", before_up=True, repair=fixes.forget_taken_ports)
def ports(facts: Facts) -> Answer:
    """Taken by others since they were chosen."""
    known = facts.sandbox.ports
    if not known:
        return ok("chosen when the sandbox is made: free ones, on 127.0.0.1")
    state = facts.docker.node_state
    if state == "running":
        return ok(f"the node has them: {_listed(known)}")
    taken = find_taken(facts)
    if not taken:
        return ok(f"free on 127.0.0.1: {_listed(known)}")
    said = "; ".join(f"{known[name]} ({name}) is taken by {holder}" for name, holder in taken.items())
    first = next(iter(taken.values()))
    if state in ("absent", "half-made"):
        return error(
            said,
            f"end {first}, or let the sandbox choose other ports: modelyard sandbox doctor --fix",
            fixable=True,
            refuses=True,
        )
    return error(
        said,
        f"end {first}; or modelyard sandbox down, modelyard sandbox doctor --fix, modelyard sandbox up "
        "(data stays, ports change)",
        refuses=True,
    )


@check("localhost", "localhost")
def localhost(facts: Facts) -> Answer:
    """The sandbox listens on 127.0.0.1; `localhost` may be ::1."""
    addresses = facts.machine.localhost_addresses()
    is_ipv6 = bool(addresses) and addresses[0] == "::1"
    ports = {str(port) for port in facts.sandbox.ports.values()}
    names = [
        name
        for name, value in os.environ.items()
        if (found := re.match(r"https?://localhost:(\d+)", value)) and found[1] in ports
    ]
    said = f"/etc/hosts: localhost is {', '.join(addresses) or 'not named'}"
    if names and is_ipv6:
        return warning(
            f"{said}, but {', '.join(names)} looks for the sandbox at localhost",
            'use 127.0.0.1: eval "$(modelyard sandbox env)"',
        )
    return ok(f"{said}; addresses of the sandbox say 127.0.0.1")


@check("clock", "clock", before_up=True)
def clock(facts: Facts) -> Answer:
    """Certificates and logins depend on it."""
    ahead = facts.docker.clock_ahead
    if abs(ahead) < _DRIFT:
        return ok("docker info: the engine's clock agrees with ours")
    said = (
        f"docker info: the engine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    )
    fix = "restart Docker Desktop, or in its machine: sudo hwclock --hctosys (WSL: wsl --shutdown)"
    if abs(ahead) > _BROKEN_CLOCK:
        return error(f"{said}: certificates look invalid", fix, refuses=True)
    return warning(said, fix)


@check("wsl", "Windows' Linux", before_up=True)
def wsl(facts: Facts) -> Answer:
    """WSL 1 has no Linux kernel; WSL 2 often has cgroup v1."""
    version = facts.machine.text("proc/version")
    if "microsoft" not in version.lower():
        return ok("not WSL")
    if re.search(r"version 4\.4\.\d+-\d+-Microsoft", version):
        return error("this is WSL 1", "wsl --set-version DISTRIBUTION 2", refuses=True)
    if not (facts.machine.root / "sys/fs/cgroup/cgroup.controllers").exists():
        return warning(
            "this is WSL 2 with cgroup v1",
            "in %USERPROFILE%\\.wslconfig, [wsl2]: kernelCommandLine = cgroup_no_v1=all; then wsl --shutdown",
        )
    return ok("WSL 2 with cgroup v2")


@check("firewalld", "firewalld", before_up=True)
def firewalld(facts: Facts) -> Answer:
    """Its nftables rules can cut the node off."""
    if next(facts.machine.processes("firewalld"), None) is None:
        return ok("does not run")
    settings = facts.machine.text("etc/firewalld/firewalld.conf")
    if re.search(r"^\s*FirewallBackend\s*=\s*nftables", settings, re.MULTILINE):
        return warning(
            "firewalld runs with FirewallBackend=nftables, which can cut pods off the network",
            "FirewallBackend=iptables in /etc/firewalld/firewalld.conf, then restart firewalld and Docker",
        )
    return ok("firewalld runs with iptables")


def _inotify(facts: Facts, name: str) -> int:
    path = f"proc/sys/fs/inotify/max_user_{name}"
    if facts.docker.fault or facts.docker.is_here:
        return facts.machine.number(path)
    # Docker's machine is another; a node in it sees the same kernel.
    return int(facts.docker.in_node("cat", f"/{path}").split()[0])


def _profile(facts: Facts) -> Profile:
    return cast("Profile", facts.profile if facts.profile in FITS else "full")


def _needed(facts: Facts) -> int:
    bundle = facts.sandbox.state.get("bundle")
    if bundle and Path(bundle).is_file():
        return int(Path(bundle).stat().st_size * _UNPACKED)
    return _ROOM[_profile(facts)]


def _low(free: int, said: str, fix: str) -> Answer:
    if free < _VERY_LOW:
        return error(said, fix, refuses=True)
    return warning(said, fix) if free < _LOW else ok(said)


def _listed(ports: dict[str, int]) -> str:
    return ", ".join(f"{name} {port}" for name, port in sorted(ports.items()))


CHECKS = (
    inotify,
    other_clusters,
    memory,
    cpus,
    docker_disk,
    disk,
    ports,
    localhost,
    clock,
    wsl,
    firewalld,
)
