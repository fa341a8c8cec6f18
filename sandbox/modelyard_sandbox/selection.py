"""Which components a sandbox holds, in which order they can be applied, and what they ask for."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from modelyard.components import Component, Manifest, Profile
from modelyard.errors import ConflictError, UsageError
from modelyard.kube.quantities import quantity
from modelyard.plugins import PluginManager

PROFILES: tuple[Profile, ...] = ("minimal", "full")
#: What a profile promises to fit into: bytes of memory of the whole machine, and CPUs.
FITS: Mapping[Profile, tuple[int, float]] = {"minimal": (4_000_000_000, 2.0), "full": (8_000_000_000, 2.0)}


def offered(plugins: PluginManager) -> dict[str, Component]:
    """Every component that a plugin offers, by name.

    Raises:
        ConflictError: `component-name-taken`, with both plugins.
    """
    found: dict[str, Any] = {}
    for offer in plugins.offers("modelyard_sandbox_components"):
        other = found.setdefault(offer.offer.name, offer)
        if other is not offer:
            raise ConflictError(
                "component-name-taken",
                f"two plugins offer the component '{offer.offer.name}': {other.source} and {offer.source}",
                f"switch one off: modelyard --no-plugins={offer.plugin.name} sandbox up",
            )
    return {name: offer.offer for name, offer in found.items()}


def chosen(
    everything: Mapping[str, Component], profile: str, with_: Collection[str], without: Collection[str]
) -> list[Component]:
    """The components of a profile, more or less some, in an order in which each follows what it requires.

    Args:
        everything: by name.
        profile: `minimal` or `full`.
        with_: components to add; what they require comes along.
        without: components to leave out.

    Raises:
        UsageError: `profile-unknown`, `component-unknown`, `component-required`.
    """
    if profile not in PROFILES:
        raise UsageError(
            "profile-unknown", f"there is no profile '{profile}'", f"take one of: {', '.join(PROFILES)}"
        )
    for name in (*with_, *without):
        if name not in everything:
            near = difflib.get_close_matches(name, everything, n=1)
            meant = f"; did you mean '{near[0]}'?" if near else ""
            raise UsageError(
                "component-unknown",
                f"nobody offers a component '{name}'{meant}",
                f"there are: {', '.join(sorted(everything))}",
            )
    named = {c.name for c in everything.values() if profile in c.profiles} | set(with_)
    ordered: dict[str, Component] = {}

    def take(name: str, wanted_by: str) -> None:
        if name in without:
            if wanted_by:
                raise UsageError(
                    "component-required",
                    f"'{wanted_by}' can't be without '{name}'",
                    f"leave out both: --without {name} --without {wanted_by}",
                )
            return
        if name in ordered:
            return
        if name not in everything:
            raise UsageError("component-unknown", f"'{wanted_by}' requires '{name}', which nobody offers")
        for required in everything[name].requires:
            take(required, name)
        for earlier in everything[name].after:
            if earlier in named and earlier in everything:
                take(earlier, "")
        ordered[name] = everything[name]

    for name in everything:
        if name in named:
            take(name, "")
    return list(ordered.values())


def requests(manifests: Iterable[Manifest]) -> tuple[float, int]:
    """What the pods of some manifests ask for: CPUs, and bytes of memory.

    Example:
        >>> pod = {"containers": [{"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}]}
        >>> requests([{"kind": "Deployment", "spec": {"replicas": 2, "template": {"spec": pod}}}])
        (0.02, 134217728)
    """
    cpus, memory = 0.0, 0
    for manifest in manifests:
        spec = manifest.get("spec") or {}
        if manifest["kind"] not in ("Deployment", "StatefulSet", "DaemonSet"):
            continue
        count = spec.get("replicas", 1)
        for container in spec["template"]["spec"]["containers"]:
            asked = (container.get("resources") or {}).get("requests") or {}
            cpus += count * quantity(asked.get("cpu", "0"))
            memory += int(count * quantity(asked.get("memory", "0")))
    return round(cpus, 6), memory
