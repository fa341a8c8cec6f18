"""Every check, in the order in which they are made."""

from __future__ import annotations

from modelyard_sandbox.doctor import (
    checks_cluster,
    checks_engine,
    checks_machine,
    checks_network,
    checks_sandbox,
)

CHECKS = (
    *checks_engine.CHECKS,
    *checks_machine.CHECKS,
    *checks_network.CHECKS,
    *checks_sandbox.CHECKS,
    *checks_cluster.CHECKS,
)
