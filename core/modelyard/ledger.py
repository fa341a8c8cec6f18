"""The promotion ledger: one append-only, hash-chained file of events per model.

A promotion is an *intent* (on disk before anything moves), the move of the alias, and an
*outcome*. Each line carries the SHA-256 of the line before, so that a changed, removed or
reordered line is found. The alias in the registry is the effect; this file is the record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from modelyard.digests import digest_of
from modelyard.errors import CorruptStateError
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
        previous = _GENESIS
        for number, line in enumerate(self._lines(), start=1):
            problem = _problem(line, number, previous)
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
        events = self.events()
        event: dict[str, Any] = {
            **body,
            "kind": kind,
            "model": self.model,
            "seq": len(events) + 1,
            "time": now().isoformat(),
            "previous": events[-1]["sha256"] if events else _GENESIS,
        }
        event["sha256"] = digest_of(event)
        append_line(self.path, json.dumps(event, sort_keys=True, ensure_ascii=False).encode())
        return event

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
    for event in events:
        kind = event["kind"]
        if kind in ("intent", "external"):
            found[event["seq"]] = _promotion(event)
        elif kind == "outcome":
            found[event["intent"]] = replace(found[event["intent"]], status=event["status"])
        elif kind == "deploy":
            found[event["intent"]] = replace(found[event["intent"]], deployed=event["deployed"])
    return list(found.values())


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
        status="completed" if event["kind"] == "external" else "pending",
        gates=tuple(GateResult.from_dict(gate) for gate in event.get("gates", ())),
        run_id=event.get("run_id"),
        lineage_id=event.get("lineage_id"),
        digest=event.get("digest"),
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
