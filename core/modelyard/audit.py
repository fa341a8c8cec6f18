"""Check the ledger against itself and against the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelyard.errors import CorruptStateError
from modelyard.ledger import Ledger, ledgers
from modelyard.targets import LOCAL

if TYPE_CHECKING:
    from modelyard.yard import Yard


def audit(yard: Yard, *, repair: bool = False) -> list[dict[str, Any]]:
    """What is wrong, each with `model`, `message`, `repaired`; empty when all is well.

    A broken chain can't be repaired, only reported: the file is evidence.
    """
    findings: list[dict[str, Any]] = []
    folder = yard.state / "ledger"
    mine = {ledger.model for ledger in ledgers(folder)}
    if yard.target_name == LOCAL:
        mine |= set(yard.models.names())
    # The registry of a cluster holds other projects' models, too: without a ledger here they are not ours.
    for ledger in (Ledger(folder, model) for model in sorted(mine)):
        try:
            ledger.events()
        except CorruptStateError as fault:
            findings.append({"model": ledger.model, "message": fault.message, "repaired": False})
            continue
        if repair:
            for promotion in yard.repair(ledger.model):
                moved = f"{promotion.alias} to {promotion.to_version}"
                said = f"{promotion.id} ({moved}) is now {promotion.status}"
                findings.append({"model": ledger.model, "message": said, "repaired": True})
            continue
        findings += [
            {
                "model": ledger.model,
                "message": f"{p.id}: {p.actor.user} meant to move '{p.alias}' to {p.to_version}, "
                "and no outcome is written (modelyard audit --repair)",
                "repaired": False,
            }
            for p in ledger.pending()
        ]
        findings += [
            {
                "model": ledger.model,
                "message": f"'{alias}' stands at {after or 'none'}, the ledger says {before or 'none'} "
                "(modelyard audit --repair writes it down)",
                "repaired": False,
            }
            for alias, (before, after) in yard.moved_outside(ledger.model).items()
        ]
    return findings
