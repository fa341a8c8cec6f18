"""The replicas of one model: as many as are wanted, those beyond drained before they end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from modelyard_kserve.local.desired import Wanted
from modelyard_kserve.local.forks import Forks
from modelyard_kserve.local.replicas import Places, Replica, recorded
from modelyard_kserve.local.resources import GPU

#: Seconds for which a process that gets no new requests stays: Envoy must have heard of it.
_DRAINED_AFTER = 2.0


class ReplicaSet:
    """The processes behind one model; several revisions of the same model share them.

    A replica has a number, its ordinal, which names its socket and its record: the next one with the same
    ordinal is started when this one is gone.

    Args:
        wanted: the first revision that needs it.
        name: the name under which it serves.
        places: where everything lies.
        forks: what model servers come out of.
    """

    def __init__(self, wanted: Wanted, name: str, places: Places, forks: Forks) -> None:
        self.wanted, self._name, self._places, self._forks = wanted, name, places, forks
        self._made: dict[int, Replica] = {}
        self._leaving: dict[int, float] = {}
        self._ending: dict[int, asyncio.Task[None]] = {}
        self.size = 0
        for ordinal in recorded(wanted, name, places):
            replica = self._replica(ordinal)
            if replica.adopt():
                self._made[ordinal] = replica
                self.size = max(self.size, ordinal + 1)

    def scale(self, size: int) -> None:
        """So many of them from now on. Those beyond get no new requests, and end when theirs are answered;
        one that is wanted again before that stays."""
        self.size = size
        for ordinal in range(size):
            self._leaving.pop(ordinal, None)
            if ordinal not in self._made:
                self._made[ordinal] = self._replica(ordinal)
        for ordinal in self._made:
            if ordinal >= size:
                self._leaving.setdefault(ordinal, time.monotonic() + _DRAINED_AFTER)

    async def tend(self) -> None:
        """Care for each; called every few milliseconds."""
        for ordinal, at in self._leaving.items():
            if time.monotonic() >= at and ordinal not in self._ending:
                self._ending[ordinal] = asyncio.create_task(self._end(ordinal))
        await asyncio.gather(*(replica.tend() for replica in self._serving))

    def again(self) -> None:
        """Somebody asks for it anew: what failed before is tried at once."""
        for replica in self._serving:
            replica.again()

    async def end(self) -> None:
        """End them all, without waiting for answers."""
        for task in self._ending.values():
            task.cancel()
        await asyncio.gather(*(replica.end() for replica in self._made.values()))

    # -- what is ----------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether one of them answers."""
        return bool(self.sockets)

    @property
    def failed(self) -> bool:
        """Whether none can be started."""
        return bool(self._serving) and not self.ready and all(replica.failed for replica in self._serving)

    @property
    def settled(self) -> bool:
        """Whether nothing is under way."""
        return all(r.ready or r.failed for r in self._serving) and not self._ending.keys() & self._wanted

    @property
    def may_be_spare(self) -> bool:
        """Whether it may wait for a rollback: a predictor that keeps no GPU from others."""
        return not self.wanted.component and not self.wanted.limits.get(GPU)

    @property
    def empty(self) -> bool:
        """Whether none is left, not even one that is being ended."""
        return not self._made

    @property
    def message(self) -> str:
        """What the first one that does not answer waits for; empty when all do."""
        said = [replica.message for replica in self._serving if not replica.ready]
        if said and self.size > 1:
            return f"{len(self.sockets)} of {self.size} replicas are ready: {said[0]}"
        return said[0] if said else ""

    @property
    def sockets(self) -> tuple[Path, ...]:
        """Where those answer that take requests."""
        return tuple(replica.socket for replica in self._serving if replica.ready)

    @property
    def all_sockets(self) -> tuple[Path, ...]:
        """Where anything answers, those that are leaving as well."""
        return tuple(replica.socket for replica in self._made.values() if replica.ready)

    @property
    def next_socket(self) -> Path:
        """Where the first one answers, or will."""
        return self._serving[0].socket if self._serving else self._replica(0).socket

    @property
    def pids(self) -> list[int]:
        """Their processes."""
        return [pid for replica in self._made.values() if (pid := replica.pid) is not None]

    @property
    def each(self) -> list[dict[str, Any]]:
        """Those that are wanted, one by one: process, whether it answers, and what it waits for."""
        return [{"pid": one.pid, "ready": one.ready, "message": one.message} for one in self._serving]

    # -- the steps --------------------------------------------------------------------------

    @property
    def _wanted(self) -> set[int]:
        return set(range(self.size))

    @property
    def _serving(self) -> list[Replica]:
        return [r for n, r in sorted(self._made.items()) if n < self.size and n not in self._ending]

    async def _end(self, ordinal: int) -> None:
        await self._made[ordinal].end(drained=True)
        del self._made[ordinal], self._ending[ordinal]
        self._leaving.pop(ordinal, None)
        if ordinal < self.size:  # wanted again meanwhile
            self._made[ordinal] = self._replica(ordinal)

    def _replica(self, ordinal: int) -> Replica:
        return Replica(self.wanted, ordinal, self._name, self._places, self._forks)
