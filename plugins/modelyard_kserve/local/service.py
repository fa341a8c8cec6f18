"""One endpoint as its controller sees it: which revisions need a process, and who gets the traffic."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.state import write_json
from modelyard_kserve.local import desired as states
from modelyard_kserve.local import tokens
from modelyard_kserve.local.conditions import Journal
from modelyard_kserve.local.desired import Desired, Wanted
from modelyard_kserve.local.envoy import Route, Share
from modelyard_kserve.local.forks import Forks
from modelyard_kserve.local.pages import Line
from modelyard_kserve.local.replicas import Places, Replica

#: Seconds for which a process that gets no new requests stays: Envoy must have heard of it.
_DRAINED_AFTER = 2.0
#: Processes of models that get no traffic now and are kept for a fast way back.
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
        self._replicas: dict[str, Replica] = {}
        self._asleep: set[str] = set()
        self._ending: set[str] = set()
        self._used: dict[str, float] = {}
        self._totals: dict[str, int] = {}
        self._recent: list[str] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._logging: object = self  # unlike everything that was ever said
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
        for revision in self._needed():
            if revision.key not in self._replicas:
                made = self._replicas[revision.key] = self._made(revision)
                if before is None and made.pid is None and self._slept(revision):
                    self._asleep.add(revision.key)
            elif before is not None and before.generation != wanted.generation:
                self._replicas[revision.key].again()
        self._retire()

    async def tend(self, rung: set[str]) -> None:
        """Care for the processes; `rung` names revisions that somebody waits for."""
        if self._desired is None:
            return
        for revision in self._desired.revisions:
            if revision.name in rung:
                self._asleep.discard(revision.key)
                self._used[revision.key] = time.monotonic()
        # One that is being ended is started again when it is gone: both have one socket and one record.
        awake = [r for key, r in self._replicas.items() if key not in self._asleep | self._ending]
        await asyncio.gather(*(replica.tend() for replica in awake))
        await self._rest()

    @property
    def settled(self) -> bool:
        """Whether nothing is under way: each process is ready, failed, or not wanted now."""
        return self._desired is not None and all(
            replica.ready or replica.failed or key in self._asleep for key, replica in self._replicas.items()
        )

    @property
    def may_sleep(self) -> bool:
        """Whether idle revisions are ended."""
        return self._desired is not None and self._desired.least == 0

    def note(self, counters: Mapping[str, int]) -> None:
        """Take note of what Envoy counted: who answers something is not idle."""
        if self._desired is None:
            return
        for revision in self._desired.revisions:
            total = counters.get(f"cluster.{revision.name}.upstream_rq_total", 0)
            active = counters.get(f"cluster.{revision.name}.upstream_rq_active", 0)
            if active or total != self._totals.get(revision.name, 0):
                self._used[revision.key] = time.monotonic()
            self._totals[revision.name] = total

    async def _rest(self) -> None:
        """End what was idle for long enough, and was ready once: it will be again."""
        if not self.may_sleep:
            self._asleep.clear()
            return
        assert self._desired is not None
        now = time.monotonic()
        for key, replica in self._replicas.items():
            used = self._used.setdefault(key, now)
            if replica.ready and key not in self._asleep and now - used > self._desired.idle:
                self._asleep.add(key)
                self._leave(replica, key)

    def _slept(self, revision: Wanted) -> bool:
        """Whether a controller before us saw it ready: it need not be started before somebody asks."""
        seen = states.observed(self._folder)["revisions"].get(str(revision.number), {})
        return self.may_sleep and bool(seen.get("ready"))

    def _made(self, revision: Wanted) -> Replica:
        replica = Replica(revision, self._folder.name, self._places, self._forks)
        replica.adopt()
        return replica

    def _needed(self) -> list[Wanted]:
        assert self._desired is not None
        return [self._desired.newest, self._desired.revision(self._desired.rolled_out)]

    def _retire(self) -> None:
        """End the processes that nobody needs, but for a spare one: rollbacks go to the one before."""
        needed = list(dict.fromkeys(revision.key for revision in self._needed()))
        self._recent = [*(k for k in self._recent if k not in needed), *needed]
        unneeded = [key for key in self._recent if key not in needed and key in self._replicas]
        spare = [key for key in unneeded if not self._replicas[key].failed][-_SPARE:]
        for key in [key for key in self._replicas if key not in needed and key not in spare]:
            if key in self._recent:
                self._recent.remove(key)
            self._leave(self._replicas.pop(key))

    def _leave(self, replica: Replica, asleep: str = "") -> None:
        """End it once nobody is sent there any more; one put to sleep only if nobody woke it since."""

        async def later() -> None:
            await asyncio.sleep(_DRAINED_AFTER)
            if asleep and asleep not in self._asleep:
                return
            self._ending.add(asleep)
            await replica.end()
            self._ending.discard(asleep)

        task = asyncio.create_task(later())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def end(self) -> None:
        """End all its processes."""
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*(replica.end() for replica in self._replicas.values()))

    # -- what is ----------------------------------------------------------------------------

    def route(self) -> Route | None:
        """How its traffic is split; None: nothing is known of it yet."""
        wanted = self._desired
        if wanted is None:
            return None
        shares = tuple(
            Share(revision.name, revision.model, revision.version, percent)
            for number, percent in wanted.split(self._ready()).items()
            for revision in (wanted.revision(number),)
        )
        token = tokens.read(self._folder.parent.parent) if wanted.guarded else None
        return Route(wanted.name, wanted.namespace, shares, wanted.timeout, token)

    def sockets(self) -> dict[str, Sequence[Path]]:
        """Where the revisions that have a process answer; nowhere while it is not ready, or sleeps."""
        if self._desired is None:
            return {}
        return {
            revision.name: (replica.socket,) if replica.ready and revision.key not in self._asleep else ()
            for revision in self._desired.revisions
            if (replica := self._replicas.get(revision.key)) is not None
        }

    def pids(self) -> set[int]:
        """Its processes."""
        return {replica.pid for replica in self._replicas.values() if replica.pid is not None}

    def replica_sockets(self) -> list[Path]:
        """The sockets of its processes, whether they get traffic or not."""
        return [replica.socket for replica in self._replicas.values() if replica.ready]

    def lines(self) -> list[Line]:
        """Its revisions in words, the newest first: those with traffic or a process."""
        if self._desired is None:
            return []
        split = self._desired.split(self._ready())
        return [
            (r.name, f"{r.model}/{r.version}", split.get(r.number, 0), self._state(r))
            for r in reversed(self._desired.revisions)
            if r.number in split or r.key in self._replicas
        ]

    def _state(self, revision: Wanted) -> str:
        if revision.key in self._asleep:
            return "asleep: the next request wakes it"
        replica = self._replicas.get(revision.key)
        if replica is None:
            return "retired"
        return "ready" if replica.ready else replica.message

    def board(self) -> dict[str, Any]:
        """What the activator has to know."""
        if self._desired is None:
            return {}
        return {
            revision.name: {
                "socket": str(replica.socket),
                "failed": replica.message if replica.failed else None,
            }
            for revision in self._desired.revisions
            if (replica := self._replicas.get(revision.key)) is not None
        }

    def say_logging(self, sink: str | None) -> None:
        """Write where payload events go, for the model servers, which follow that file."""
        wanted = self._desired
        if wanted is None:
            return
        said = None
        if wanted.logger:
            said = {
                "url": wanted.logger.get("url") or sink,
                "mode": wanted.logger["mode"],
                "metadata_headers": list(wanted.logger["metadata_headers"]),
                "service": wanted.name,
                "namespace": wanted.namespace,
            }
        if said != self._logging:
            write_json(self._places.run / f"{wanted.name}.logging.json", said, mode=0o600)
            self._logging = said

    def _ready(self) -> dict[int, bool]:
        """A revision that sleeps is ready: it answers when it is asked."""
        assert self._desired is not None
        return {
            r.number: r.key in self._asleep or bool((replica := self._replicas.get(r.key)) and replica.ready)
            for r in self._desired.revisions
        }

    def write(self, *, reachable: bool) -> None:
        """Write what is so, if it changed; `reachable`: the gateway runs."""
        file = self._folder / states.OBSERVED
        if self._desired is None or not (self._folder / states.DESIRED).exists():
            return
        ready = self._ready()
        revisions = {}
        for revision in self._desired.revisions:
            replica = self._replicas.get(revision.key)
            if replica is not None:
                revisions[str(revision.number)] = {
                    "ready": ready[revision.number],
                    "asleep": revision.key in self._asleep,
                    "failed": replica.failed,
                    "message": replica.message,
                    "pid": replica.pid,
                }
        seen = {"generation": self._desired.generation, "controller": os.getpid(), "revisions": revisions}
        now = self._journal.told(self._desired, seen, reachable=reachable)
        if now != self._written or _stamp(file) != self._written_stamp:  # it may have been damaged
            self._journal.save()  # first: a controller that is killed now tells them twice, not never
            write_json(file, now, mode=0o600)
            self._written, self._written_stamp = now, _stamp(file)


def _stamp(file: Path) -> tuple[int, int] | None:
    """Changes whenever the file is replaced or written; None: it is not there."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino
