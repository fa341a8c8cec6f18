"""One endpoint as its controller sees it: which revisions need processes, and who gets the traffic."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.state import write_json
from modelyard_kserve.local import desired as states
from modelyard_kserve.local import tokens
from modelyard_kserve.local.addresses import Route
from modelyard_kserve.local.conditions import Fact, Journal
from modelyard_kserve.local.desired import Desired, Wanted
from modelyard_kserve.local.forks import Forks
from modelyard_kserve.local.load import Counted, Meter
from modelyard_kserve.local.pages import Line
from modelyard_kserve.local.parts import Part, parts_of, route_of
from modelyard_kserve.local.replica_set import ReplicaSet
from modelyard_kserve.local.replicas import Places, logging_file
from modelyard_kserve.local.scaling import Demand, Scaling

#: Models that get no traffic now, of which one process is kept for a fast way back.
_SPARE = 1


class Service:
    """Follows one endpoint's `desired.json`.

    Args:
        folder: the endpoint's folder.
        places: where processes lie.
        forks: what model servers come out of.
    """

    def __init__(self, folder: Path, places: Places, forks: Forks) -> None:
        self._folder, self._places, self._forks = folder, places, forks
        self._desired: Desired | None = None
        self._stamp: tuple[int, int] | None = None
        self._sets: dict[str, ReplicaSet] = {}
        self._demands: dict[str, Demand] = {}
        self._retired: set[str] = set()
        self._recent: list[str] = []
        self._meters: dict[str, Meter] = {}
        self._logging: dict[str, object] = {}
        self._journal = Journal(folder)
        self._written: Any = None
        self._written_stamp: tuple[int, int] | None = None

    # -- what is wanted ---------------------------------------------------------------------

    def look(self) -> None:
        """Read what is wanted, if it changed."""
        stamp = _stamp(self._folder / states.DESIRED)
        if stamp is None or self._stamp == stamp:
            return
        wanted = states.load(self._folder)
        if wanted is None:
            return
        before, self._desired, self._stamp = self._desired, wanted, stamp
        for part in self._needed():
            key = part.wanted.key
            self._retired.discard(key)
            if key not in self._sets:
                self._sets[key] = self._made(part, first=before is None)
            elif before is not None and before.generation != wanted.generation:
                self._sets[key].again()
        self._retire()

    async def tend(self, rung: set[str]) -> None:
        """Care for the processes; `rung` names those for whom somebody waits, as Envoy calls them."""
        if self._desired is None:
            return
        for revision in self._desired.everything if rung else ():
            parts = self._parts(revision)
            # A component that is woken will ask the predictor at once.
            woken = {part.wanted.key for part in parts if part.cluster in rung}
            for key in {*woken, *([revision.key] if woken else [])} & self._demands.keys():
                self._demands[key].used = time.monotonic()
        self._scale()
        await asyncio.gather(*(replicas.tend() for replicas in self._sets.values()))
        for key in [key for key in self._retired if self._sets[key].empty]:
            self._retired.discard(key)
            del self._sets[key], self._demands[key], self._meters[key]

    @property
    def known(self) -> bool:
        """Whether it could be read what is wanted."""
        return self._desired is not None

    @property
    def settled(self) -> bool:
        """Whether nothing is under way: each process is ready, failed, or not wanted now."""
        return self._desired is not None and all(replicas.settled for replicas in self._sets.values())

    @property
    def moves(self) -> bool:
        """Whether the number of its replicas depends on what is asked."""
        return any(part.scaling.moves for part in self._needed())

    def note(self, counters: Mapping[str, int]) -> None:
        """Take note of what Envoy counted: who answers something is not idle."""
        if self._desired is None:
            return
        now, scalings = time.monotonic(), self._scalings()
        parts = [part for revision in self._desired.everything for part in self._parts(revision)]
        for key, demand in self._demands.items():
            names = [part.cluster for part in parts if part.wanted.key == key]
            total = sum(counters.get(f"cluster.{name}.upstream_rq_total", 0) for name in names)
            active = sum(counters.get(f"cluster.{name}.upstream_rq_active", 0) for name in names)
            scaling = scalings.get(key, self._desired.scaling)
            load, asked = self._meters[key].read(scaling, Counted(now, total, active), self._sets[key].pids)
            demand.note(now, load, scaling.window)
            if asked:
                demand.used = now

    def _scale(self) -> None:
        """As many replicas as are needed; what was never ready goes on trying."""
        assert self._desired is not None
        needed, now = self._scalings(), time.monotonic()
        for key, replicas in self._sets.items():
            if key in self._retired:
                continue
            scaling = needed.get(key, self._desired.scaling)
            size = self._demands[key].size(now, replicas.size, scaling)
            size = size if key in needed else min(size, 1)
            if size or replicas.ready or not replicas.size:
                replicas.scale(size)

    def _made(self, part: Part, *, first: bool) -> ReplicaSet:
        made = ReplicaSet(part.wanted, self._folder.name, self._places, self._forks)
        asleep = first and not made.size and self._slept(part)
        self._demands[part.wanted.key] = Demand(-math.inf if asleep else time.monotonic())
        self._meters[part.wanted.key] = Meter()
        return made

    def _slept(self, part: Part) -> bool:
        """Whether a controller before us saw it ready: it need not be started before somebody asks."""
        seen = states.observed(self._folder)["revisions"].get(str(part.revision.number), {})
        return part.scaling.least == 0 and bool(seen.get("ready"))

    def _parts(self, revision: Wanted) -> list[Part]:
        assert self._desired is not None
        return parts_of(self._desired, revision, self._places.port)

    def _needed(self) -> list[Part]:
        """What the revisions run that get traffic, or shall."""
        if self._desired is None:
            return []
        revisions = {revision.number: revision for revision in self._desired.wanted}
        return [part for revision in revisions.values() for part in self._parts(revision)]

    def _scalings(self) -> dict[str, Scaling]:
        return {part.wanted.key: part.scaling for part in self._needed()}

    def _retire(self) -> None:
        """End the processes that nobody needs, but for a spare predictor: rollbacks go to the one before."""
        needed = list(self._scalings())
        self._recent = [*(k for k in self._recent if k not in needed), *needed]
        unneeded = [key for key in self._recent if key not in needed and key in self._sets]
        kept = [key for key in unneeded if key not in self._retired and not self._sets[key].failed]
        spare = [key for key in kept if self._sets[key].may_be_spare][-_SPARE:]
        for key in [key for key in self._sets if key not in needed and key not in spare]:
            if key in self._recent:
                self._recent.remove(key)
            self._retired.add(key)
            self._sets[key].scale(0)

    async def end(self) -> None:
        """End all its processes."""
        await asyncio.gather(*(replicas.end() for replicas in self._sets.values()))
        for marker in self._places.run.glob(f"{self._folder.name}.*.unloaded"):
            marker.unlink(missing_ok=True)

    # -- what is ----------------------------------------------------------------------------

    def route(self) -> Route | None:
        """How its traffic is split; None: nothing is known of it yet."""
        wanted = self._desired
        if wanted is None:
            return None
        token = tokens.read(self._folder.parent.parent) if wanted.guarded else None
        return route_of(wanted, wanted.split(self._ready()), token)

    @property
    def desired(self) -> Desired | None:
        """What commands want; None: nothing is known of it yet."""
        return self._desired

    def sockets(self) -> dict[str, Sequence[Path]]:
        """Where those that have processes answer; nowhere while none is ready, or all sleep."""
        return {part.cluster: replicas.sockets for part, replicas in self._with_processes()}

    def pids(self) -> set[int]:
        """Its processes."""
        return {pid for replicas in self._sets.values() for pid in replicas.pids}

    def replica_sockets(self) -> list[Path]:
        """The sockets of its processes, whether they get traffic or not."""
        return [socket for replicas in self._sets.values() for socket in replicas.all_sockets]

    def lines(self) -> list[Line]:
        """Its revisions in words, the newest first: those with traffic or a process."""
        if self._desired is None:
            return []
        split = self._desired.split(self._ready())
        return [
            (r.name, f"{r.model}/{r.version}", split.get(r.number, 0), self._state(r))
            for r in reversed(self._desired.everything)
            if r.number in split or r.key in self._sets
        ]

    def _state(self, revision: Wanted) -> str:
        replicas = self._sets.get(revision.key)
        if replicas is None or revision.key in self._retired:
            return "retired"
        if self._asleep(revision.key):
            return "asleep: the next request wakes it"
        many = f": {replicas.size} replicas" if replicas.size > 1 else ""
        return _message(self._states(revision)) or f"ready{many}"

    def board(self) -> dict[str, Any]:
        """What the activator has to know."""
        return {
            part.cluster: {
                "sockets": [str(path) for path in replicas.sockets or (replicas.next_socket,)],
                "failed": replicas.message if replicas.failed else None,
                # A moment less than Envoy waits, which could not say why.
                "patience": max(part.wanted.timeout - 1, 1),
            }
            for part, replicas in self._with_processes()
        }

    def say_logging(self, sink: str | None) -> None:
        """Write where payload events go, for the model servers, which follow that file."""
        wanted = self._desired
        if wanted is None:
            return
        for component in ("", *(kind for revision in wanted.everything for kind in revision.components)):
            said = None
            if wanted.logger and wanted.logger.get("component", "") == component:
                said = {
                    "url": wanted.logger.get("url") or sink,
                    "mode": wanted.logger["mode"],
                    "metadata_headers": list(wanted.logger["metadata_headers"]),
                    "service": wanted.name,
                    "namespace": wanted.namespace,
                    "component": component or "predictor",
                }
            if component not in self._logging or said != self._logging[component]:
                write_json(self._places.run / logging_file(wanted.name, component), said, mode=0o600)
                self._logging[component] = said

    def _with_processes(self) -> list[tuple[Part, ReplicaSet]]:
        revisions = self._desired.everything if self._desired is not None else ()
        parts = [part for revision in revisions for part in self._parts(revision)]
        return [(p, replicas) for p in parts if (replicas := self._sets.get(p.wanted.key)) is not None]

    def _states(self, revision: Wanted) -> dict[str, dict[str, Any]]:
        """What each part of a revision does, the predictor first; nothing if that has no processes."""
        found: dict[str, dict[str, Any]] = {}
        for part in self._parts(revision) if revision.key in self._sets else ():
            replicas = self._sets.get(part.wanted.key)
            if replicas is None:  # the processes of a spare revision
                found[part.kind] = {"ready": False, "asleep": False, "failed": False, "message": ""}
                found[part.kind] |= {"pids": [], "replicas": 0, "each": []}
                continue
            found[part.kind] = {
                "ready": self._answers(part.wanted.key),
                "asleep": self._asleep(part.wanted.key),
                "failed": replicas.failed,
                "message": replicas.message,
                "pids": replicas.pids,
                "replicas": replicas.size,
                "each": replicas.each,
            }
        return found

    def _asleep(self, key: str) -> bool:
        return key not in self._retired and key in self._sets and not self._sets[key].size

    def _answers(self, key: str) -> bool:
        """Who sleeps does, too, when it is asked."""
        return key in self._sets and (self._sets[key].ready or self._asleep(key))

    def _ready(self) -> dict[int, bool]:
        """A revision is ready when everything that it runs answers."""
        assert self._desired is not None
        return {
            revision.number: all(self._answers(part.wanted.key) for part in self._parts(revision))
            for revision in self._desired.everything
        }

    def write(self, ingress: Fact, *, routed: bool) -> None:
        """Write what is so, if it changed.

        Args:
            ingress: what is so with the gateway.
            routed: callers are sent where they should be.
        """
        file = self._folder / states.OBSERVED
        if self._desired is None or not (self._folder / states.DESIRED).exists():
            return
        revisions = {
            str(revision.number): {
                **parts["predictor"],
                "ready": all(state["ready"] for state in parts.values()),
                "failed": any(state["failed"] for state in parts.values()),
                "message": _message(parts),
                **({"parts": parts} if len(parts) > 1 else {}),
            }
            for revision in self._desired.everything
            if (parts := self._states(revision))
        }
        seen = {
            "generation": self._desired.generation,
            "controller": os.getpid(),
            "routed": routed,
            "revisions": revisions,
        }
        now = self._journal.told(self._desired, seen, ingress)
        if now != self._written or _stamp(file) != self._written_stamp:  # it may have been damaged
            self._journal.save()  # first: a controller that is killed now tells them twice, not never
            write_json(file, now, mode=0o600)
            self._written, self._written_stamp = now, _stamp(file)


def _message(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """What a revision waits for, or why it failed; a component says that it is one."""
    said = [(kind, state) for kind, state in parts.items() if state["message"]]
    for kind, state in sorted(said, key=lambda one: not one[1]["failed"]):
        return str(state["message"]) if kind == "predictor" else f"{kind}: {state['message']}"
    return ""


def _stamp(file: Path) -> tuple[int, int] | None:
    """Changes whenever the file is replaced or written; None: it is not there."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino
