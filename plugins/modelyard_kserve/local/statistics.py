"""What a model server counts, in Prometheus' text format."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping

#: The content type.
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Statistics:
    """Requests, their durations, and what is under way."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()
        self._now = 0

    @contextlib.contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request while the block runs."""
        self._now += 1
        try:
            yield
        finally:
            self._now -= 1

    def note(self, revision: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests[revision, status] += 1
        buckets = self._buckets.setdefault(revision, [0] * (len(_BUCKETS) + 1))
        place = next((n for n, bound in enumerate(_BUCKETS) if seconds <= bound), len(_BUCKETS))
        buckets[place] += 1
        self._seconds[revision] += seconds  # type: ignore[assignment]

    def text(self, endpoint: str, events: Mapping[str, int]) -> str:
        """The exposition, with the payload events by what became of them."""
        lines = [
            "# HELP modelyard_requests_total Requests answered.",
            "# TYPE modelyard_requests_total counter",
        ]
        for (revision, status), count in sorted(self._requests.items()):
            lines.append(f'modelyard_requests_total{{revision="{revision}",code="{status}"}} {count}')
        lines += [
            "# HELP modelyard_request_duration_seconds Time from request to answer.",
            "# TYPE modelyard_request_duration_seconds histogram",
        ]
        for revision, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip((*_BUCKETS, "+Inf"), buckets):
                total += count
                labels = f'{{revision="{revision}",le="{bound}"}}'
                lines.append(f"modelyard_request_duration_seconds_bucket{labels} {total}")
            labels = f'{{revision="{revision}"}}'
            lines.append(f"modelyard_request_duration_seconds_sum{labels} {self._seconds[revision]:.6f}")
            lines.append(f"modelyard_request_duration_seconds_count{labels} {total}")
        lines += [
            "# HELP modelyard_requests_in_flight Requests under way.",
            "# TYPE modelyard_requests_in_flight gauge",
            f"modelyard_requests_in_flight {self._now}",
            "# HELP modelyard_payload_events_total Payload events sent to the collector or lost.",
            "# TYPE modelyard_payload_events_total counter",
        ]
        lines += [
            f'modelyard_payload_events_total{{endpoint="{endpoint}",outcome="{outcome}"}} {count}'
            for outcome, count in sorted(events.items())
        ]
        return "\n".join(lines) + "\n"
