"""Promote and roll back: gates, intent, alias, read back, outcome, deployment. In that order.

Whatever moment a process is killed at, the ledger says what was meant, and `repair` finishes it.
Nobody overwrites anybody: the alias must still stand where the promoter saw it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelyard import capture, gates
from modelyard.digests import model_digest
from modelyard.errors import (
    ConflictError,
    CorruptStateError,
    ModelyardError,
    NotFoundError,
    UsageError,
)
from modelyard.ledger import Ledger, ledgers
from modelyard.offers import Candidate
from modelyard.records import Actor, DataRef, Endpoint, GateResult, ModelVersion, Promotion, Run

if TYPE_CHECKING:
    from modelyard.yard import Yard


class Promotions:
    """Moves aliases of the project's models, through the ledger."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard

    # -- asking -----------------------------------------------------------------------------

    def history(self, model: str | None = None) -> list[Promotion]:
        """Every move of an alias, newest first, of one model or all.

        Raises:
            NotFoundError: `model-not-found`: nothing was ever promoted under that name.
        """
        known = ledgers(self._folder)
        if model is not None:
            known = [ledger for ledger in known if ledger.model == model]
            if not known:
                raise NotFoundError(
                    "model-not-found",
                    f"no promotion of a model named '{model}'",
                    "modelyard models list",
                )
        everything = [promotion for ledger in known for promotion in ledger.promotions()]
        return sorted(everything, key=lambda p: (p.time, p.id), reverse=True)

    def check(self, version: ModelVersion, alias: str, reason: str = "") -> tuple[GateResult, ...]:
        """What the gates say about a version that wants an alias; nothing moves."""
        return self._gates(self._candidate(version, alias, reason))

    # -- moving -----------------------------------------------------------------------------

    def promote(
        self,
        version: ModelVersion,
        alias: str,
        reason: str,
        *,
        expect: str | None = None,
        by: Actor | None = None,
    ) -> Promotion:
        """Give the alias to the version, if its gates pass; endpoints that follow the alias move too.

        Args:
            version: what is promoted.
            alias: e.g. `staging` or `production`.
            reason: why, in words; it can't be empty.
            expect: the version that must hold the alias now; "": nobody may (default: whoever holds it at
                the start).
            by: who does it (default: the machine's user).

        Raises:
            GateError: `gate-refused`.
            ConflictError: `alias-moved`: somebody was faster, or `expect` was wrong.
        """
        _require_reason(reason)
        _require_alias(alias)
        self.repair(version.name)
        current = self._yard.registry.alias(version.name, alias)
        _require_expected(
            self._ledger(version.name), alias, current, expect or None, strict=expect is not None
        )
        if current == version.version:
            return self._again(version, alias)
        candidate = self._candidate(version, alias, reason)
        results = self._gates(candidate)
        gates.require(candidate, results)
        return self._move(version, alias, "promote", reason, expected=current, results=results, by=by)

    def rollback(
        self, model: str, alias: str, reason: str, *, expect: str | None = None, by: Actor | None = None
    ) -> Promotion:
        """Give the alias back to the version that was last deployed well before the current one.

        What was rolled back from is never gone back to: rolling back twice goes two versions back.

        Args:
            model, alias: whose alias.
            reason: why, in words; it can't be empty.
            expect: as for `promote`.
            by: who does it (default: the machine's user).

        Raises:
            ConflictError: `alias-moved`: somebody was faster, or `expect` was wrong.
            NotFoundError: `nothing-to-roll-back`.
            CorruptStateError: `model-changed`: the files of that version are not what they were.
        """
        _require_reason(reason)
        self.repair(model)
        current = self._yard.registry.alias(model, alias)
        _require_expected(self._ledger(model), alias, current, expect or None, strict=expect is not None)
        target = _last_good(self._ledger(model).promotions(), alias, current)
        if target is None:
            raise NotFoundError(
                "nothing-to-roll-back",
                f"no earlier version of '{model}' was '{alias}'",
                f"modelyard history {model}",
            )
        version = self._yard.registry.get(model, target)
        self._require_unchanged(version)
        return self._move(version, alias, "rollback", reason, expected=current, results=(), by=by)

    def rolls_back_to(self, model: str, alias: str) -> str | None:
        """The version to which `rollback` would go now; None: there is none. Nothing moves."""
        current = self._yard.registry.alias(model, alias)
        return _last_good(self._ledger(model).promotions(), alias, current)

    def repair(self, model: str) -> list[Promotion]:
        """Finish what a killed process began, and write down what moved behind our back.

        An intent without an outcome is completed if the alias stands where it was to go, and
        abandoned if not. An alias that stands elsewhere than the ledger's head is an external change.
        """
        ledger = self._ledger(model)
        if not self._needs_repair(ledger):
            return []
        with ledger.lock():
            return [*self._finish_pending(ledger), *self._note_external(ledger)]

    def moved_outside(self, model: str) -> dict[str, tuple[str | None, str | None]]:
        """Aliases that stand elsewhere than the ledger says: alias -> (ledger's, registry's version)."""
        ledger, moved = self._ledger(model), {}
        pending = {p.alias for p in ledger.pending()}
        holders = self._holders(model)
        for alias in sorted(({p.alias for p in ledger.promotions()} | holders.keys()) - pending):
            head = ledger.head(alias)
            before = head.to_version if head else None
            after = holders.get(alias)
            if before != after:
                moved[alias] = (before, after)
        return moved

    def _holders(self, model: str) -> dict[str, str]:
        """Alias -> version, for every alias that the registry knows."""
        try:
            versions = self._yard.registry.versions(model)
        except NotFoundError:
            return {}
        return {alias: version.version for version in versions for alias in version.aliases}

    # -- the steps --------------------------------------------------------------------------

    def _move(
        self,
        version: ModelVersion,
        alias: str,
        action: str,
        reason: str,
        *,
        expected: str | None,
        results: Sequence[GateResult],
        by: Actor | None,
    ) -> Promotion:
        registry, ledger = self._yard.registry, self._ledger(version.name)
        followers = self._followers(version.name, alias)  # a server that can't be asked stops us here
        with ledger.lock():
            _require_expected(ledger, alias, registry.alias(version.name, alias), expected, strict=True)
            intent = ledger.append(
                "intent",
                {
                    "action": action,
                    "alias": alias,
                    "from_version": expected,
                    "to_version": version.version,
                    "reason": reason,
                    "actor": (by or capture.actor(self._yard.root)).to_dict(),
                    "gates": [result.to_dict() for result in results],
                    "run_id": version.run_id,
                    "lineage_id": version.lineage_id,
                    "digest": version.digest,
                },
            )
            try:
                registry.set_alias(version.name, alias, version.version)
                done = registry.alias(version.name, alias) == version.version
            except ModelyardError:
                ledger.append("outcome", {"intent": intent["seq"], "status": "abandoned"})
                raise
            status = "completed" if done else "abandoned"
            ledger.append("outcome", {"intent": intent["seq"], "status": status})
        if not done:
            raise ConflictError(
                "alias-not-moved",
                f"the registry did not move '{alias}' to {version.ref}",
                f"modelyard history {version.name}",
            )
        promotion = self._by_seq(ledger, intent["seq"])
        self._yard.plugins.tell("modelyard_after_promote", yard=self._yard, promotion=promotion)
        return self._deploy(promotion, followers)

    def _again(self, version: ModelVersion, alias: str) -> Promotion:
        """The version holds the alias already: nothing to write, but see that it is deployed."""
        head = self._ledger(version.name).head(alias)
        if head is None or head.to_version != version.version:
            raise UsageError("already-promoted", f"{version.ref} holds '{alias}' already")
        return head if head.deployed else self._deploy(head, self._followers(version.name, alias))

    def _deploy(self, promotion: Promotion, followers: Sequence[Endpoint]) -> Promotion:
        """Bring every endpoint that follows the alias to the new version, and write down how it went."""
        if not followers:
            return promotion
        ledger, fault = self._ledger(promotion.model), None
        for endpoint in followers:
            try:
                self._yard.endpoints.reconcile(endpoint.name)
            except ModelyardError as error:
                fault = error
        with ledger.lock():
            ledger.append(
                "deploy",
                {
                    "intent": _seq(promotion),
                    "deployed": fault is None,
                    "endpoints": [endpoint.name for endpoint in followers],
                    "message": fault.message if fault else "",
                },
            )
        if fault is not None:
            fault.hint = f"modelyard rollback {promotion.model} --alias {promotion.alias} --reason ..."
            raise fault
        return self._by_seq(ledger, _seq(promotion))

    def _followers(self, model: str, alias: str) -> list[Endpoint]:
        if not self._yard.serves():
            return []
        wanted = f"models:/{model}@{alias}"
        return [e for e in self._yard.endpoints.list() if e.storage_uri == wanted]

    # -- repair -----------------------------------------------------------------------------

    def _needs_repair(self, ledger: Ledger) -> bool:
        return bool(ledger.pending() or self.moved_outside(ledger.model))

    def _finish_pending(self, ledger: Ledger) -> list[Promotion]:
        finished = []
        for promotion in ledger.pending():
            reached = self._yard.registry.alias(ledger.model, promotion.alias) == promotion.to_version
            status = "completed" if reached else "abandoned"
            ledger.append("outcome", {"intent": _seq(promotion), "status": status, "repaired": True})
            finished.append(self._by_seq(ledger, _seq(promotion)))
        return finished

    def _note_external(self, ledger: Ledger) -> list[Promotion]:
        noted = []
        for alias, (before, after) in self.moved_outside(ledger.model).items():
            event = ledger.append(
                "external",
                {
                    "action": "external",
                    "alias": alias,
                    "from_version": before,
                    "to_version": after,
                    "reason": "found moved by another tool",
                    "actor": Actor(user="unknown", source="unknown").to_dict(),
                },
            )
            noted.append(self._by_seq(ledger, event["seq"]))
        return noted

    # -- helpers ----------------------------------------------------------------------------

    def _candidate(self, version: ModelVersion, alias: str, reason: str) -> Candidate:
        registry = self._yard.registry
        holder = registry.alias(version.name, alias)
        current = registry.get(version.name, holder) if holder else None
        return Candidate(
            version=version,
            run=self._run_of(version),
            alias=alias,
            reason=reason,
            current=current,
            current_run=self._run_of(current),
            ledger=self._ledger(version.name),
            path=lambda: registry.fetch(version),
            published=self._published,
        )

    def _gates(self, candidate: Candidate) -> tuple[GateResult, ...]:
        from modelyard.config import GATES_FILE, load_gates

        return gates.check(
            candidate,
            load_gates(self._yard.root),
            self._yard.plugins.offers("modelyard_gates"),
            str(self._yard.root / GATES_FILE),
        )

    def _run_of(self, version: ModelVersion | None) -> Run | None:
        if version is None or version.run_id is None:
            return None
        try:
            return self._yard.tracker.get(version.run_id)
        except NotFoundError:
            return None

    def _published(self, ref: DataRef) -> bool:
        if ref.published:
            return True
        same = [r for r in self._yard.store.refs() if r.path == ref.path and r.version == ref.version]
        return any(r.published for r in same)

    def _require_unchanged(self, version: ModelVersion) -> None:
        if version.digest is None:
            return
        if model_digest(self._yard.registry.fetch(version)) != version.digest:
            raise CorruptStateError(
                "model-changed",
                f"the files of {version.ref} are not those that were registered",
                f"modelyard models show {version.ref}",
            )

    @property
    def _folder(self) -> Any:
        return self._yard.state / "ledger"

    def _ledger(self, model: str) -> Ledger:
        return Ledger(self._folder, model)

    @staticmethod
    def _by_seq(ledger: Ledger, seq: int) -> Promotion:
        return next(p for p in ledger.promotions() if _seq(p) == seq)


def _seq(promotion: Promotion) -> int:
    return int(promotion.id.rpartition("#")[2])


def _last_good(promotions: Sequence[Promotion], alias: str, current: str | None) -> str | None:
    """What stands below the current version on the pile of those that were promoted and not taken back."""
    pile: list[str] = []
    for moved in promotions:
        if moved.alias != alias or moved.status != "completed" or moved.to_version is None:
            continue
        if moved.action == "rollback" and moved.to_version in pile:
            while pile[-1] != moved.to_version:
                pile.pop()
        elif moved.deployed is not False and pile[-1:] != [moved.to_version]:
            pile.append(moved.to_version)
    return next((version for version in reversed(pile) if version != current), None)


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise UsageError("reason-missing", "a promotion needs a reason", "add --reason 'why'")


def _require_alias(alias: str) -> None:
    """What every registry takes; MLflow keeps `latest` and `v1` for itself."""
    if not re.fullmatch(r"[A-Za-z][\w.-]{0,99}", alias) or re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
        raise UsageError(
            "alias-invalid",
            f"'{alias}' can't be an alias: it begins with a letter, holds letters, digits, '-', '_' and '.', "
            "and is neither 'latest' nor 'v' with a number",
            "choose another, e.g. --to production",
        )


def _require_expected(
    ledger: Ledger, alias: str, current: str | None, expected: str | None, *, strict: bool = False
) -> None:
    """The alias must stand where it was seen; `strict` also takes None at its word."""
    if current == expected or (expected is None and not strict):
        return
    head = ledger.head(alias)
    who = (
        f"by {head.actor.user} at {head.time:%Y-%m-%d %H:%M} UTC ({head.reason})"
        if head is not None and head.to_version == current
        else "outside Modelyard"
    )
    details: Mapping[str, object] = {"expected": expected, "current": current}
    raise ConflictError(
        "alias-moved",
        f"'{alias}' of {ledger.model} is at version {current or 'none'}, not {expected or 'none'}: "
        f"it was moved {who}",
        f"look at it, then run it again with --expect {current}" if current else "run it again",
        details=details,
    )
