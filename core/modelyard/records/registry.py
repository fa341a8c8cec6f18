"""Versions of models, and who promoted them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from modelyard.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(Record):
    """A registered version of a model. Its reference is `NAME/VERSION`.

    Attributes:
        name, version: the registered model and the version number, as text.
        uri: the source it was registered from.
        run_id: the run that made it, if it is known.
        digest: SHA-256 of the manifest of its files.
        lineage_id: SHA-256 of `lineage.json` inside the model folder.
        signature: True when the model states its inputs and outputs.
        aliases: the aliases that point to it now.
    """

    name: str
    version: str
    uri: str
    run_id: str | None = None
    created: datetime
    user: str = ""
    digest: str | None = None
    lineage_id: str | None = None
    signature: bool = False
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        """`NAME/VERSION`, as the command line takes it."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor(Record):
    """Who did something. `source` is `claimed` (the machine's user) or `authenticated`."""

    user: str
    email: str | None = None
    source: str = "claimed"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult(Record):
    """What one gate said about a promotion."""

    gate: str
    passed: bool
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)


PromotionAction = Literal["promote", "rollback", "external"]
PromotionStatus = Literal["pending", "completed", "abandoned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion(Record):
    """An alias that moved: who, when, from, to, why, with which evidence.

    `id` is `MODEL#SEQ`, the place in the ledger. `deployed` is None until a deployment of it was
    tried, then whether that worked. An `external` promotion was found, not made, by us. `origin` is the
    target where it was made, for one that `modelyard ship` brought here; the versions are those here.
    """

    id: str
    model: str
    alias: str
    action: PromotionAction
    from_version: str | None
    to_version: str | None
    time: datetime
    actor: Actor
    reason: str
    status: PromotionStatus
    gates: tuple[GateResult, ...] = ()
    run_id: str | None = None
    lineage_id: str | None = None
    digest: str | None = None
    deployed: bool | None = None
    origin: str | None = None
    sha256: str = ""
