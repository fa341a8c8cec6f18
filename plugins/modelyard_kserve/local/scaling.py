"""How many replicas a model needs, by Knative's rules.

What is asked of all replicas is averaged over a window; during a burst, which is seen in a tenth of that
window, replicas are added at once and none is taken away.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

#: Knative aims at this part of a target, so that there is room for what comes next.
_AIM = 0.7
#: Targets of one replica that are not given: Knative's, and those of Kubernetes' HPA as KServe makes it.
TARGETS = {"concurrency": 100.0, "rps": 200.0, "cpu": 80.0, "memory": 80.0}
#: A burst: its window as a part of the other one, and how much more than there is it must need.
_BURST_WINDOW, _BURST = 0.1, 2.0


@dataclass(frozen=True)
class Scaling:
    """What a manifest says about replicas.

    Attributes:
        least: replicas that stay when nobody asks; 0: none does.
        most: replicas that there are at most.
        metric: `concurrency`, `rps`, `cpu` or `memory`.
        target: of one replica: requests at once, requests per second, or percent of what it asked for.
        window: seconds over which the metric is averaged, and without a request after which the last replica
            is ended.
        cpu: cores that a replica asks for.
        memory: bytes that a replica asks for.
    """

    least: int = 1
    most: int = 1
    metric: str = "concurrency"
    target: float = TARGETS["concurrency"]
    window: float = 60.0
    cpu: float = 1.0
    memory: float = 2.0**31

    @property
    def aim(self) -> float:
        """What one replica shall have to do.

        Example:
            >>> Scaling(metric="concurrency", target=10).aim, Scaling(metric="cpu", target=80).aim
            (7.0, 80)
        """
        return self.target * _AIM if self.metric in ("concurrency", "rps") else self.target

    @property
    def moves(self) -> bool:
        """Whether the number of replicas depends on what is asked."""
        return self.least == 0 or self.most > self.least


class Demand:
    """What is asked of one model. Times are those of `time.monotonic`."""

    def __init__(self, now: float) -> None:
        self.used = now
        self._began = now
        self._samples: deque[tuple[float, float]] = deque()
        self._burst_until = -math.inf

    def note(self, now: float, load: float, window: float) -> None:
        """Note how much all replicas have to do, in the unit of the target."""
        self._samples.append((now, load))
        while self._samples[0][0] < now - window:
            self._samples.popleft()

    def size(self, now: float, running: int, scaling: Scaling) -> int:
        """How many replicas there shall be.

        Args:
            now: the time.
            running: how many there are.
            scaling: what the manifest says.

        Example:
            >>> demand = Demand(now=0.0)
            >>> for second in range(1, 61):
            ...     demand.note(second, load=12.0, window=60.0)
            >>> demand.size(60.0, running=2, scaling=Scaling(most=4, target=10))
            2
        """
        if not scaling.moves:
            return scaling.least
        if scaling.least == 0 and now - self.used > scaling.window:
            return 0
        needed = self._needed(now, scaling.window, scaling.aim)
        burst = self._needed(now, scaling.window * _BURST_WINDOW, scaling.aim)
        if burst >= max(running, 1) * _BURST:
            self._burst_until = now + scaling.window
        if now < self._burst_until:
            needed = max(needed, burst, running)
        elif now - self._began < scaling.window:
            needed = max(needed, running)  # of the time before it was looked at nothing is known
        return min(max(needed, scaling.least, 1), scaling.most)

    def _needed(self, now: float, window: float, aim: float) -> int:
        seen = [load for at, load in self._samples if at > now - window]
        return math.ceil(round(sum(seen) / len(seen) / aim, 6)) if seen else 0
