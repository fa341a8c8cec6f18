"""The sandbox's folder, its node, and how it was left."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]

from modelyard.console import size
from modelyard_sandbox.certificates import RENEW_BEFORE
from modelyard_sandbox.doctor import fixes
from modelyard_sandbox.doctor.docker_facts import seconds_of
from modelyard_sandbox.doctor.facts import Facts
from modelyard_sandbox.doctor.findings import Absent, Answer, check, error, ok, warning
from modelyard_sandbox.doctor.sandbox_facts import is_corrupt, private

_LOW, _VERY_LOW = 3_000_000_000, 500_000_000
_ANEW = "make the node anew (data stays): modelyard sandbox down, then up"


@check("state", "what is remembered", before_up=True)
def state(facts: Facts) -> Answer:
    """A damaged file is never written over."""
    if fault := is_corrupt(facts.folder):
        return error(fault.message, fault.hint, refuses=True)
    if not facts.folder.exists:
        return ok(f"no sandbox '{facts.folder.name}' on this machine; make one: modelyard sandbox up")
    return ok(f"{facts.folder.path / 'state.json'}")


@check("rights", "who can read secrets", repair=fixes.make_private)
def rights(facts: Facts) -> Answer:
    """Passwords and keys are for their owner alone."""
    there = [path for path in fixes.private_paths(facts.folder) if path.exists()]
    if not there:
        raise Absent(f"there is no {facts.folder.path}")
    open_ = [path for path in there if not private(path)]
    if open_:
        said = f"others can read {', '.join(str(path) for path in open_)}"
        return warning(said, f"chmod go= {' '.join(str(path) for path in open_)}", fixable=True)
    return ok(f"only you: {', '.join(path.name for path in there)}")


@check("last-run", "the last run")
def last_run(facts: Facts) -> Answer:
    """One that was cut off is gone on with by the next."""
    if _is_held(facts):
        return ok("another command is changing the sandbox at this moment")
    events = facts.sandbox.last_run
    if not events:
        raise Absent("nothing was begun yet")
    last = events[-1]
    when = str(last.get("ts", ""))[:19]
    if last.get("type") != "result":
        phase = next((str(one["phase"]) for one in reversed(events) if one.get("phase")), "preflight")
        return warning(f"it was cut off at {when}, in '{phase}'", "modelyard sandbox up goes on from there")
    if not last.get("ok"):
        code = last.get("code") or "interrupted"
        return warning(
            f"{when}: {last.get('msg', '')} [{code}]", "see the other findings, then: modelyard sandbox up"
        )
    return ok(f"{when}: {last.get('msg', '')}")


@check("foreign-cluster", "a cluster of the same name", before_up=True)
def foreign_cluster(facts: Facts) -> Answer:
    """It is never touched."""
    name = facts.folder.cluster_name
    if facts.docker.node_state == "foreign":
        return error(
            f"there is a kind cluster '{name}' that this sandbox did not make",
            f"choose another name (--name), or remove it: kind delete cluster --name {name}",
            refuses=True,
        )
    return ok(f"no other cluster is called {name}")


@check("half-made", "a node that is half made")
def half_made(facts: Facts) -> Answer:
    """kind was killed while it made it, and can't go on."""
    if facts.docker.node_state == "half-made":
        return warning(
            f"{facts.folder.node_name} was never completed",
            "modelyard sandbox up removes it and makes it anew",
        )
    return ok(f"the node is {facts.docker.node_state}")


@check("node-stopped", "a node that is stopped")
def node_stopped(facts: Facts) -> Answer:
    """By a restart of the machine, for want of memory, or because it can't start."""
    if facts.docker.node_state != "stopped":
        return ok(f"the node is {facts.docker.node_state}")
    about, node = facts.docker.node["State"], facts.folder.node_name
    if lost := _lost_mounts(facts):
        return error(f"{node} can't start: {lost} is gone", _ANEW)
    if said := " ".join(str(about.get("Error") or "").split()):
        return error(f"{node} did not start: {said[:300]}", f"free what it needs, or {_ANEW}")
    if about.get("OOMKilled"):
        return error(
            f"{node} was ended for want of memory", "give Docker more memory, then: modelyard sandbox start"
        )
    return warning(
        f"{node} stopped at {about.get('FinishedAt', '')[:19]}{_why(facts)}", "modelyard sandbox start"
    )


@check("node-address", "the node's address")
def node_address(facts: Facts) -> Answer:
    """Docker gives another one after a restart; the node's entrypoint changes it in its files."""
    networks = facts.docker.node["NetworkSettings"].get("Networks") or {}
    address = next((one.get("IPAddress") for one in networks.values() if one.get("IPAddress")), "")
    nodes = facts.cluster.find("v1", "Node")
    known = [
        one["address"]
        for node in nodes
        for one in node.get("status", {}).get("addresses") or []
        if one.get("type") == "InternalIP"
    ]
    if not address or not known:
        raise Absent("the node has no address yet")
    if address not in known:
        return error(
            f"Docker gave the node {address}, Kubernetes has it at {', '.join(known)}",
            f"modelyard sandbox stop, then start; or {_ANEW}",
        )
    return ok(f"{address}, in Docker and in Kubernetes")


@check("node-disk", "disk in the node")
def node_disk(facts: Facts) -> Answer:
    """kind tells the kubelet not to watch the disk: databases and images fail first."""
    said = facts.docker.in_node("df", "-B1", "--output=avail", "/var").split()
    if len(said) != 2 or not said[1].isdigit():
        raise Absent(f"`df` in the node says {' '.join(said)[:100]!r}")
    free = int(said[1])
    text = f"df in the node: {size(free)} free"
    fix = "free some space on Docker's disk: docker system df, then docker system prune"
    if free < _VERY_LOW:
        return error(text, fix)
    return warning(text, fix) if free < _LOW else ok(text)


@check("kubeconfig", "kubeconfig", repair=fixes.export_kubeconfig)
def kubeconfig(facts: Facts) -> Answer:
    """The sandbox has one of its own; yours is never touched."""
    if facts.docker.node_state not in ("running", "stopped"):
        raise Absent(f"the node is {facts.docker.node_state}")
    can = facts.machine.program("kind") is not None
    fix = f"kind export kubeconfig --name {facts.folder.cluster_name} --kubeconfig {facts.folder.kubeconfig}"
    try:
        server = facts.sandbox.kubeconfig_value("server")
    except Absent as fault:
        return error(str(fault), fix, fixable=can)
    bindings = (facts.docker.node["HostConfig"].get("PortBindings") or {}).get("6443/tcp") or []
    published = {f"https://127.0.0.1:{one.get('HostPort')}" for one in bindings}
    if server not in published:
        said = (
            f"{facts.folder.kubeconfig} leads to {server or 'nowhere'}, the node is at {', '.join(published)}"
        )
        return error(said, fix, fixable=can)
    return ok(f"{facts.folder.kubeconfig} leads to {server}")


@check("kubeconfig-lock", "a lock that was left", before_up=True, repair=fixes.remove_lock)
def left_lock(facts: Facts) -> Answer:
    """kind makes the file and removes it; one that was killed left it, and every other waits in vain."""
    lock = fixes.kubeconfig_lock(facts.folder)
    if lock.exists() and time.time() - lock.stat().st_mtime > 60:
        return error(f"{lock} is left of a kind that was killed", f"rm '{lock}'", fixable=True, refuses=True)
    return ok("none")


@check("certificates", "certificates that end")
def certificates(facts: Facts) -> Answer:
    """Those of Kubernetes hold for a year, those of the webhooks too."""
    ends: dict[str, tuple[datetime, datetime]] = {}
    try:
        from cryptography import x509
    except ImportError:
        raise Absent("the package `cryptography` is not installed") from None
    known = {name: pem for name, pem in facts.sandbox.secrets.items() if "BEGIN CERTIFICATE" in pem}
    with contextlib.suppress(Absent, ValueError):
        known["Kubernetes"] = facts.sandbox.client_certificate
    for name, pem in known.items():
        try:
            found = x509.load_pem_x509_certificate(pem.encode())
        except ValueError:
            continue
        ends[name] = (found.not_valid_before_utc, found.not_valid_after_utc)
    if not ends:
        raise Absent("the sandbox has no certificates yet")
    now = datetime.now(timezone.utc)
    name, (_, end) = min(ends.items(), key=lambda one: one[1][1])
    fix = _ANEW if name == "Kubernetes" else "modelyard sandbox up makes it anew"
    early = [one for one, (begin, _) in ends.items() if begin > now + timedelta(minutes=1)]
    if early:
        return error(f"{early[0]} is valid only later: the clock of this machine is behind", "set the clock")
    if end < now:
        return error(f"{name} ended on {end:%Y-%m-%d}", fix)
    if end < now + RENEW_BEFORE:
        return warning(f"{name} ends on {end:%Y-%m-%d}", fix)
    return ok(f"the first of {len(ends)} ({name}) ends on {end:%Y-%m-%d}")


@check("s3-checksums", "checksums that S3 clients add")
def s3_checksums(facts: Facts) -> Answer:
    """boto3 1.36 and newer send files with trailers that other servers than Amazon's may store."""
    port = facts.sandbox.ports.get("s3")
    endpoints = {name: os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")}
    ours = [name for name, value in endpoints.items() if port and value.rstrip("/").endswith(f":{port}")]
    if not ours:
        return ok("the environment does not lead S3 clients to the sandbox")
    try:
        version = importlib.metadata.version("boto3")
    except importlib.metadata.PackageNotFoundError:
        version = "none here"
    if os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION", "").lower() != "when_required":
        return warning(
            f"{ours[0]} leads to the sandbox, without AWS_REQUEST_CHECKSUM_CALCULATION (boto3: {version})",
            'eval "$(modelyard sandbox env)"',
        )
    return ok(f"{ours[0]} leads to the sandbox, with checksums when required (boto3: {version})")


def _why(facts: Facts) -> str:
    try:
        stopped = seconds_of(facts.docker.node["State"]["FinishedAt"])
        return ": the machine was restarted since" if stopped < facts.machine.booted else ""
    except (Absent, KeyError, ValueError):
        return ""


def _lost_mounts(facts: Facts) -> str:
    """A file or folder of ours that the node needs and that is gone; Docker makes a folder in its place."""
    if not facts.docker.is_here:
        return ""
    ours = str(facts.folder.path)
    for mount in facts.docker.node.get("Mounts") or []:
        source = Path(str(mount.get("Source", "")))
        if mount.get("Type") != "bind" or not str(source).startswith(ours):
            continue
        if not source.exists() or (source.suffix == ".yaml" and not source.is_file()):
            return str(source)
    return ""


def _is_held(facts: Facts) -> bool:
    """Whether who held the lock last still runs. Trying the lock would make others fail meanwhile."""
    try:
        note = facts.folder.path / "change.holder"
        pid, since = int(note.read_text().split()[1]), note.stat().st_mtime
        return bool(psutil.Process(pid).create_time() <= since + 1)
    except (OSError, ValueError, IndexError, psutil.Error):
        return False


CHECKS = (
    state,
    rights,
    last_run,
    foreign_cluster,
    half_made,
    node_stopped,
    node_address,
    node_disk,
    kubeconfig,
    left_lock,
    certificates,
    s3_checksums,
)
