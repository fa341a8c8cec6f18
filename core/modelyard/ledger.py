"""The promotion ledger: one append-only, hash-chained file of events per model.

A promotion is an *intent* (on disk before anything moves), the move of the alias, and an
*outcome*. Each line carries the SHA-256 of the line before, so that a changed, removed or
reordered line is found. The alias in the registry is the effect; this file is the record.

A ledger that is shipped becomes part of the target's: each of its events, word for word, inside an
*imported* event there. Both chains are verified, so the target's holds the head of the other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from modelyard.digests import digest_of
from modelyard.errors import ConflictError, CorruptStateError
from modelyard.records import Actor, GateResult, Promotion, now
from modelyard.state import append_line, fault_of, locked

_GENESIS = "0" * 64


class Ledger:
    """The events of one model.

    Args:
        folder: `.modelyard/ledger`.
        model: the registered model's name; any characters.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.model = model
        self.path = folder / f"{quote(model, safe=' ')}.jsonl"

    def lock(self) -> AbstractContextManager[None]:
        """Only one process at a time moves this model's aliases."""
        return locked(self.path.with_suffix(".lock"), doing=f"moving an alias of {self.model}")

    def events(self) -> list[dict[str, Any]]:
        """All events, oldest first, with their chain verified.

        Raises:
            CorruptStateError: `ledger-broken`, naming the first line that does not fit.
        """
        events: list[dict[str, Any]] = []
        previous, imported = _GENESIS, {_GENESIS}
        for number, line in enumerate(self._lines(), start=1):
            problem = _problem(line, number, previous) or _problem_inside(line, imported)
            if problem:
                raise CorruptStateError(
                    "ledger-broken",
                    f"{self.path}, line {number}: {problem}",
                    "nothing was changed; compare it with a backup or with a colleague's copy",
                )
            event = json.loads(line)
            previous = event["sha256"]
            events.append(event)
        return events

    def append(self, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Add an event; it is on disk when this returns. The caller holds `lock()`.

        Raises:
            EnvironmentFault: the disk did not take it; the ledger is as before.
        """
        return self._extend(kind, [body])[0]

    def take_over(
        self,
        events: Sequence[Mapping[str, Any]],
        *,
        origin: str,
        versions: Mapping[str, str],
        runs: Mapping[str, str],
        kept: Collection[str] = (),
    ) -> int:
        """Add what is new of another ledger of the model. The caller holds `lock()`.

        Args:
            events: all of the other ledger, oldest first.
            origin: the target where they were written.
            versions, runs: what a version number and a run id there are called here.
            kept: aliases that did not follow, because they were moved here: of them it is only told.

        Returns:
            How many events were new.

        Raises:
            ConflictError: `ledger-diverged`: it is not the continuation of what was taken over before.
        """
        taken = self.events()
        new = self.not_taken(events, origin)
        told = [effective(event) for event in events]
        # The numbers of their intents here, which come first and in the same order.
        first = {e["event"]["seq"]: e["seq"] for e in taken if e["kind"] == "imported" and _same(e, events)}
        numbers = {**first, **{event["seq"]: len(taken) + n for n, event in enumerate(new, start=1)}}
        aliases = {event["seq"]: event["alias"] for event in told if "alias" in event}
        bodies = []
        for event, inner in zip(new, told[len(events) - len(new) :]):
            here = aliases[inner.get("intent", inner["seq"])] not in kept
            bodies.append(
                {
                    "origin": origin,
                    "chain": events[0]["sha256"],
                    "event": dict(event),
                    "as": _as_here(inner, origin, versions, runs, numbers, here=here),
                }
            )
        self._extend("imported", bodies)
        return len(new)

    def not_taken(self, events: Sequence[Mapping[str, Any]], origin: str) -> Sequence[Mapping[str, Any]]:
        """Those events of another ledger of the model that were not taken over yet.

        Raises:
            ConflictError: `ledger-diverged`.
        """
        taken = [event for event in self.events() if event["kind"] == "imported" and _same(event, events)]
        known = [event["event"]["sha256"] for event in taken]
        if known != [event["sha256"] for event in events[: len(known)]]:
            raise ConflictError(
                "ledger-diverged",
                f"the history of '{self.model}' on '{origin}' is not the one that was shipped before: "
                "events are missing or others stand in their place",
                "bring its ledger back from a backup, then run this again",
            )
        return events[len(known) :]

    def _extend(self, kind: str, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Add events in one write. Of a write that is killed whole lines stay, and they fit together."""
        before, added = self.events(), []
        previous = before[-1]["sha256"] if before else _GENESIS
        for seq, body in enumerate(bodies, start=len(before) + 1):
            event: dict[str, Any] = {
                **body,
                "kind": kind,
                "model": self.model,
                "seq": seq,
                "time": now().isoformat(),
                "previous": previous,
            }
            previous = event["sha256"] = digest_of(event)
            added.append(event)
        if added:
            lines = [json.dumps(event, sort_keys=True, ensure_ascii=False).encode() for event in added]
            append_line(self.path, b"\n".join(lines))
        return added

    def promotions(self) -> list[Promotion]:
        """What the events amount to, oldest first."""
        return fold(self.events())

    def head(self, alias: str) -> Promotion | None:
        """The last completed move of an alias."""
        done = [p for p in self.promotions() if p.alias == alias and p.status == "completed"]
        return done[-1] if done else None

    def pending(self) -> list[Promotion]:
        """Intents without an outcome: whoever wrote them was killed."""
        return [p for p in self.promotions() if p.status == "pending"]

    def _lines(self) -> Iterator[bytes]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as fault:
            raise fault_of(fault, self.path) from fault
        # What follows the last newline is a line whose writer was killed; it never happened.
        yield from content.split(b"\n")[:-1]


def ledgers(folder: Path) -> list[Ledger]:
    """The ledgers of all models, by name."""
    return [Ledger(folder, unquote(path.stem)) for path in sorted(folder.glob("*.jsonl"))]


def fold(events: list[dict[str, Any]]) -> list[Promotion]:
    """Promotions out of events: an intent with its outcome and its deployments is one record."""
    found: dict[int, Promotion] = {}
    for event in map(effective, events):
        kind = event["kind"]
        if kind in ("intent", "external"):
            found[event["seq"]] = _promotion(event)
        elif kind == "outcome":
            found[event["intent"]] = replace(found[event["intent"]], status=event["status"])
        elif kind == "deploy" and event["deployed"] is not None:
            found[event["intent"]] = replace(found[event["intent"]], deployed=event["deployed"])
    return list(found.values())


def effective(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the event says here: an imported one is the one inside it, with what is called otherwise here."""
    if event["kind"] != "imported":
        return event
    inner = effective(event["event"])
    origin = inner.get("origin", event["origin"])
    return {**inner, **event["as"], "seq": event["seq"], "sha256": event["sha256"], "origin": origin}


def _same(imported: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it came from that chain; a chain is told by its first event."""
    return bool(events) and imported["chain"] == events[0]["sha256"]


def _as_here(
    event: Mapping[str, Any],
    origin: str,
    versions: Mapping[str, str],
    runs: Mapping[str, str],
    numbers: Mapping[int, int],
    *,
    here: bool,
) -> dict[str, Any]:
    """What is called otherwise here than in the event. `here`: the alias followed."""
    if event["kind"] == "outcome":
        return {"intent": numbers[event["intent"]], "status": event["status"] if here else "abandoned"}
    if event["kind"] == "deploy":
        # That it was deployed there says nothing of here. That it failed does: never roll back to it.
        return {"intent": numbers[event["intent"]], "deployed": None if event["deployed"] else False}
    named = {
        key: versions.get(event[key], f"{origin}:{event[key]}") if event[key] is not None else None
        for key in ("from_version", "to_version")
    }
    if event["kind"] == "external":
        named["status"] = "completed" if here else "abandoned"
    return {**named, "run_id": runs.get(event.get("run_id") or "")}


def _promotion(event: Mapping[str, Any]) -> Promotion:
    return Promotion(
        id=f"{event['model']}#{event['seq']}",
        model=event["model"],
        alias=event["alias"],
        action=event["action"],
        from_version=event["from_version"],
        to_version=event["to_version"],
        time=datetime.fromisoformat(event["time"]),
        actor=Actor.from_dict(event["actor"]),
        reason=event["reason"],
        status=event.get("status", "completed" if event["kind"] == "external" else "pending"),
        gates=tuple(GateResult.from_dict(gate) for gate in event.get("gates", ())),
        run_id=event.get("run_id"),
        lineage_id=event.get("lineage_id"),
        digest=event.get("digest"),
        origin=event.get("origin"),
        sha256=event["sha256"],
    )


def _problem(line: bytes, number: int, previous: str) -> str | None:
    try:
        event = json.loads(line)
        stated = event.pop("sha256")
    except (ValueError, KeyError, AttributeError):
        return "it is not an event"
    if event.get("previous") != previous:
        return "a line before it was changed, removed or moved"
    if event.get("seq") != number:
        return f"it says it is number {event.get('seq')}"
    return None if digest_of(event) == stated else "it was changed after it was written"


def _problem_inside(line: bytes, heads: set[str]) -> str | None:
    """What is wrong with the event inside an imported one. `heads` are the ends of the chains so far."""
    event = json.loads(line)
    if event["kind"] != "imported":
        return None
    inner = dict(event["event"])
    stated, previous = inner.pop("sha256", ""), inner.get("previous")
    if digest_of(inner) != stated:
        return "the event that it imports was changed"
    if previous not in heads:
        return "before the event that it imports another is missing"
    if previous != _GENESIS:
        heads.remove(previous)
    heads.add(stated)
    return None
