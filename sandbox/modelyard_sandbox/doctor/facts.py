"""Everything that the doctor reads, gathered once and when it is first asked for.

It comes from files, the environment, the sandbox's folder, the Docker engine and the sandbox's own cluster
on 127.0.0.1; never from the network. Nothing need be installed: a reading that can't be had raises `Absent`,
and the checks that wanted it are skipped.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from modelyard.components import Component
from modelyard.errors import ModelyardError
from modelyard.plugins import PluginManager
from modelyard_sandbox.doctor.docker_facts import DockerFacts
from modelyard_sandbox.doctor.findings import Absent
from modelyard_sandbox.doctor.machine import Machine
from modelyard_sandbox.doctor.redaction import Redactor, secret_values
from modelyard_sandbox.doctor.sandbox_facts import ClusterFacts, SandboxFacts
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.selection import chosen, offered


class Facts:
    """What checks look at.

    Args:
        folder: the sandbox; it need not exist.
        root: where `proc`, `sys` and `etc` lie.
        profile: the profile that is wanted; None: that of the sandbox, or none was chosen yet.
        components: those that are wanted; None: those of the sandbox.
    """

    def __init__(
        self,
        folder: SandboxFolder,
        *,
        root: Path = Path("/"),
        profile: str | None = None,
        components: Iterable[Component] | None = None,
    ) -> None:
        self.folder = folder
        self.machine = Machine(root)
        self.docker = DockerFacts(self.machine, folder)
        self.sandbox = SandboxFacts(folder)
        self.cluster = ClusterFacts(self.sandbox, self.docker)
        self._profile, self._components = profile, components

    @property
    def profile(self) -> str | None:
        """The profile that is wanted; None if none was chosen yet."""
        try:
            return self._profile or self.sandbox.state.get("profile")
        except Absent:
            return None

    @cached_property
    def offered(self) -> dict[str, Component]:
        """Every component that a plugin offers, by name."""
        return offered(PluginManager())

    @cached_property
    def components(self) -> list[Component]:
        """The components that are wanted."""
        if self._components is not None:
            return list(self._components)
        state = self.sandbox.state
        try:
            return chosen(
                self.offered, self.profile or "full", state.get("with_") or (), state.get("without") or ()
            )
        except ModelyardError as fault:
            raise Absent(fault.message) from None

    @cached_property
    def redactor(self) -> Redactor:
        """Knows the secrets of the sandbox, its kubeconfig, the `docker` command and the environment."""
        values = [*self.sandbox.secrets.values(), *secret_values(os.environ)]
        values += [str(one.get("auth", "")) for one in _logins(self.machine.docker_config)]
        for name, value in os.environ.items():
            if name.lower().endswith("_proxy"):
                values += re.findall(r"//[^/@]*:([^/@]+)@", value)
        with contextlib.suppress(Absent):
            values += [self.sandbox.kubeconfig_value(key) for key in ("client-key-data", "token", "password")]
        return Redactor(values)


def _logins(config: dict[str, object]) -> list[dict[str, object]]:
    found = config.get("auths")
    return [one for one in found.values() if isinstance(one, dict)] if isinstance(found, dict) else []
