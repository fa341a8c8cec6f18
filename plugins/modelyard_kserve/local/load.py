"""How much the replicas of a model have to do, in the unit of their `scaleTarget`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelyard_kserve.local.scaling import Scaling


@dataclass(frozen=True)
class Counted:
    """What Envoy counted of a model up to a moment: requests so far, and those under way."""

    at: float
    total: int
    active: int


class Meter:
    """Measures the replicas of one model."""

    def __init__(self) -> None:
        self._before: Counted | None = None
        self._processes: dict[int, Any] = {}

    def read(self, scaling: Scaling, now: Counted, pids: Sequence[int]) -> tuple[float, bool]:
        """The load of all replicas together (requests under way or per second; percent of what one asks for),
        and whether somebody asked since the last reading.

        Example:
            >>> meter, scaling = Meter(), Scaling(metric="rps")
            >>> meter.read(scaling, Counted(10.0, 30, 1), []), meter.read(scaling, Counted(12.0, 90, 0), [])
            ((0.0, True), (30.0, True))
            >>> meter.read(scaling, Counted(14.0, 90, 0), [])
            (0.0, False)
        """
        before, self._before = self._before, now
        if before is None or now.total < before.total:  # or Envoy was started anew
            before = Counted(now.at - 1, now.total if before is None else 0, 0)
            asked = bool(now.total)
        else:
            asked = now.total > before.total
        if scaling.metric == "concurrency":
            found = float(now.active)
        elif scaling.metric == "rps":
            found = (now.total - before.total) / (now.at - before.at)
        else:
            found = 100 * self._used(scaling.metric, pids) / getattr(scaling, scaling.metric)
        return found, asked or now.active > 0

    def _used(self, metric: str, pids: Sequence[int]) -> float:
        """Cores since the last reading, or bytes."""
        import psutil  # type: ignore[import-untyped,unused-ignore]

        self._processes = {pid: one for pid, one in self._processes.items() if pid in pids}
        used = 0.0
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                process = self._processes.get(pid) or psutil.Process(pid)
                self._processes[pid] = process
                used += process.cpu_percent() / 100 if metric == "cpu" else process.memory_info().rss
        return used
