"""What `up` asks before it changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from modelyard.components import Component
from modelyard.errors import ModelyardError
from modelyard_sandbox.doctor.catalogue import CHECKS
from modelyard_sandbox.doctor.facts import Facts
from modelyard_sandbox.doctor.findings import Finding, examine
from modelyard_sandbox.errors import ClusterFailed, EngineUnavailable, PreflightFailed, Unsupported
from modelyard_sandbox.folder import SandboxFolder

#: Findings with a class of their own, so that scripts can tell them by the exit status.
_OWN: dict[str, tuple[type[ModelyardError], str]] = {
    "docker": (EngineUnavailable, "docker-unreachable"),
    "kind": (EngineUnavailable, "kind-missing"),
    "image-platforms": (Unsupported, "image-platform"),
    "foreign-cluster": (ClusterFailed, "cluster-foreign"),
}
#: What `up` can't go on with, forced or not.
_HOPELESS = frozenset({"packages", "docker", "docker-command", "kind", "foreign-cluster", "state"})


def preflight(
    folder: SandboxFolder,
    components: Iterable[Component],
    wanted_profile: str,
    *,
    force: bool,
    say: Callable[[str], None],
    facts: Facts | None = None,
) -> None:
    """Look at what would keep the sandbox from booting on this machine. Reads only.

    Args:
        folder: the sandbox.
        components: what it will hold.
        wanted_profile: `minimal` or `full`.
        force: say what is wrong and go on, where there is something to go on with.
        say: gets a sentence for each warning.
        facts: what is read; None: this machine.

    Raises:
        PreflightFailed: `preflight-failed`, with every finding in the details.
        EngineUnavailable: `docker-unreachable` or `kind-missing`.
        Unsupported: `image-platform`.
        ClusterFailed: `cluster-foreign`.
    """
    known = facts or Facts(folder, profile=wanted_profile, components=components)
    found = examine(known, (one for one in CHECKS if one.before_up))
    blocking = [one for one in found if one.refuses and not (force and one.id not in _HOPELESS)]
    for one in found:
        if one.level in ("warning", "error") and one not in blocking:
            say(f"{one.title}: {one.evidence}; {one.fix}")
    if blocking:
        raise _refusal(blocking, found)


def _refusal(blocking: list[Finding], found: list[Finding]) -> ModelyardError:
    kind, code = _OWN.get(blocking[0].id, (PreflightFailed, "preflight-failed"))
    said = "; ".join(f"{one.title}: {one.evidence}" for one in blocking)
    hints = [one.fix for one in blocking if one.fix]
    more = "" if any(one.id in _HOPELESS for one in blocking) else " (or go on: --force)"
    listed = [one.to_dict() for one in found if one.level in ("warning", "error")]
    return kind(code, said, f"{'; '.join(hints)}{more}", details={"findings": listed})
