"""What a model server counts, in Prometheus' text format."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from modelyard_kserve.local.messages import Request

#: The content type.
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ROWS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 10000)


class Answering(NamedTuple):
    """Who answers."""

    model: str
    version: str
    revision: str


def is_counted(request: Request) -> bool:
    """Whether it asks for a prediction, rather than about the model or the server.

    Example:
        >>> path = "/inference.GRPCInferenceService/"
        >>> [is_counted(Request("POST", path + name, b"", {}, b"")) for name in ("ServerLive", "ModelInfer")]
        [False, True]
    """
    path = request.path
    return request.method == "POST" and (
        path.endswith(("/infer", ":predict", "/ModelInfer"))
        or not path.startswith(("/v2/repository/", "/inference."))
    )


class _Histogram:
    """Observations by upper bounds, for each revision."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def note(self, revision: str, value: float) -> None:
        if revision not in self._counts:
            self._counts[revision], self._sums[revision] = [0] * (len(self._bounds) + 1), 0.0
        self._counts[revision][bisect_left(self._bounds, value)] += 1
        self._sums[revision] += value

    def lines(self, name: str, help_text: str) -> Iterator[str]:
        yield f"# HELP {name} {help_text}"
        yield f"# TYPE {name} histogram"
        for revision, counts in sorted(self._counts.items()):
            total = 0
            for bound, count in zip((*self._bounds, "+Inf"), counts):
                total += count
                yield f'{name}_bucket{{revision="{revision}",le="{bound}"}} {total}'
            yield f'{name}_sum{{revision="{revision}"}} {self._sums[revision]:.6f}'
            yield f'{name}_count{{revision="{revision}"}} {total}'


class _InFlight:
    """How many requests are being answered; a class, because one for each request would cost."""

    def __init__(self) -> None:
        self.now = 0

    def __enter__(self) -> None:
        self.now += 1

    def __exit__(self, *_: object) -> None:
        self.now -= 1


class Statistics:
    """Requests, their durations and rows, and what is under way.

    Attributes:
        in_flight: counts a request while a block runs.
    """

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._known: dict[str, Answering] = {}
        self._seconds, self._rows = _Histogram(_SECONDS), _Histogram(_ROWS)
        self._batches = _Histogram(_ROWS)
        self.in_flight = _InFlight()

    def note(
        self,
        identity: Answering,
        status: int,
        seconds: float,
        rows: int | None = None,
        batch: int | None = None,
    ) -> None:
        """Count an answered request.

        Args:
            identity: who answered.
            status, seconds: of the answer.
            rows: so many a model answered.
            batch: so many were in one call of the model, if this answer is the one to say it.
        """
        revision = identity.revision
        self._requests[revision, status] += 1
        self._known[revision] = identity
        self._seconds.note(revision, seconds)
        if rows is not None:
            self._rows.note(revision, rows)
        if batch is not None:
            self._batches.note(revision, batch)

    def text(self, endpoint: str, events: Mapping[str, int]) -> str:
        """The exposition, with the payload events by what became of them."""
        lines = [
            "# HELP modelyard_requests_total Requests answered.",
            "# TYPE modelyard_requests_total counter",
        ]
        for (revision, status), count in sorted(self._requests.items()):
            lines.append(f'modelyard_requests_total{{revision="{revision}",code="{status}"}} {count}')
        lines += self._seconds.lines("modelyard_request_duration_seconds", "Time from request to answer.")
        lines += self._rows.lines("modelyard_request_rows", "Rows that a request asked for.")
        lines += self._batches.lines(
            "modelyard_batch_rows", "Rows in a call of a model that gathers requests."
        )
        lines += [
            "# HELP modelyard_revision_info The model behind a revision.",
            "# TYPE modelyard_revision_info gauge",
        ]
        for revision, known in sorted(self._known.items()):
            labels = (
                f'revision="{revision}",model="{_escaped(known.model)}",version="{_escaped(known.version)}"'
            )
            lines.append(f"modelyard_revision_info{{{labels}}} 1")
        lines += [
            "# HELP modelyard_requests_in_flight Requests under way.",
            "# TYPE modelyard_requests_in_flight gauge",
            f"modelyard_requests_in_flight {self.in_flight.now}",
            "# HELP modelyard_payload_events_total Payload events sent to the collector or lost.",
            "# TYPE modelyard_payload_events_total counter",
        ]
        lines += [
            f'modelyard_payload_events_total{{endpoint="{endpoint}",outcome="{outcome}"}} {count}'
            for outcome, count in sorted(events.items())
        ]
        return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
