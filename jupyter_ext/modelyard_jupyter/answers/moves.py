"""Moves of aliases, as every section shows them."""

from __future__ import annotations

from modelyard.records import Promotion
from modelyard_jupyter.api import Move


def move_of(promotion: Promotion) -> Move:
    """A line of the ledger for the browser."""
    return Move(
        id=promotion.id,
        model=promotion.model,
        alias=promotion.alias,
        action=promotion.action,
        from_version=promotion.from_version,
        to_version=promotion.to_version,
        time=promotion.time,
        user=promotion.actor.user,
        reason=promotion.reason,
        status=promotion.status,
        deployed=promotion.deployed,
        origin=promotion.origin,
    )
