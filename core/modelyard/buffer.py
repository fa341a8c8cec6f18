"""What a run logs, gathered for at most a second: one write of a hundred metrics costs what one of one does.

A process that is killed loses at most that second. What the tracker refuses is raised at the next
call, or when the run ends.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelyard.records import Metric
    from modelyard.stages import Tracker

_SECONDS = 1.0
_MOST = 1000


class LogBuffer:
    """Gathers parameters, metrics and tags of one run.

    Args:
        tracker: where they go.
        run_id: the run.
    """

    def __init__(self, tracker: Tracker, run_id: str) -> None:
        self._tracker, self._run_id = tracker, run_id
        self._lock = threading.RLock()
        self._params: dict[str, object] = {}
        self._metrics: list[Metric] = []
        self._tags: dict[str, str] = {}
        self._timer: threading.Timer | None = None
        self._fault: Exception | None = None

    def add(
        self,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Sequence[Metric] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Take what was logged; it is written within a second, at once if it is much."""
        with self._lock:
            self._raise_fault()
            if any(
                name in self._params and self._params[name] != value for name, value in (params or {}).items()
            ):
                self.flush()  # the tracker is to see both values, and to refuse the second
            self._params |= params or {}
            self._metrics += metrics
            self._tags |= tags or {}
            waiting = len(self._params) + len(self._metrics) + len(self._tags)
            if waiting >= _MOST:
                self.flush()
            elif waiting and self._timer is None:
                self._timer = threading.Timer(_SECONDS, self._flush_later)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write what was gathered.

        Raises:
            ModelyardError: what the tracker refuses, now or when it was written in the background.
        """
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._raise_fault()
            params, metrics, tags = self._params, self._metrics, self._tags
            self._params, self._metrics, self._tags = {}, [], {}
            if params or metrics or tags:
                self._tracker.log(self._run_id, params=params, metrics=metrics, tags=tags)

    def _flush_later(self) -> None:
        with self._lock:
            self._timer = None
            try:
                self.flush()
            except Exception as fault:  # raised where the user's code can see it
                self._fault = fault

    def _raise_fault(self) -> None:
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
