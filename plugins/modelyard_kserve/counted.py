"""What the processes of an endpoint counted: `local/statistics.py` read back, summed over processes."""

from __future__ import annotations

import http.client
import socket
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

from modelyard.records import RequestStats

_SECONDS = 5.0


def asked(connect: Callable[[], socket.socket], target: str = "/metrics", method: str = "GET") -> str:
    """The exposition of one process, or another of its texts.

    Args:
        connect: opens a connection to where it listens.
        target, method: what it is asked.

    Raises:
        OSError: it does not answer, or not with an exposition.
    """
    connection = http.client.HTTPConnection("127.0.0.1")
    connection.sock = connect()
    try:
        connection.sock.settimeout(_SECONDS)
        connection.request(method, target, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read().decode()
    except http.client.HTTPException as fault:
        raise OSError(f"no HTTP: {fault!r}") from fault
    finally:
        connection.close()
    if answer.status != 200:
        raise OSError(f"{target} answered {answer.status}")
    return body


def summed(expositions: Iterable[str]) -> list[RequestStats]:
    """What all of them counted, per revision, sorted by its name.

    Example:
        >>> text = 'modelyard_requests_total{revision="a-1",code="200"} 3\\n'
        >>> [(one.revision, one.requests, one.errors) for one in summed([text, text])]
        [('a-1', 6, 0)]
    """
    from prometheus_client.parser import text_string_to_metric_families

    codes: defaultdict[str, Counter[int]] = defaultdict(Counter)
    buckets: defaultdict[str, Counter[float]] = defaultdict(Counter)
    for exposition in expositions:
        for family in text_string_to_metric_families(exposition):
            for sample in family.samples:
                revision, count = sample.labels.get("revision", ""), int(sample.value)
                if sample.name == "modelyard_requests_total":
                    codes[revision][int(sample.labels["code"])] += count
                elif sample.name == "modelyard_request_duration_seconds_bucket":
                    buckets[revision][float(sample.labels["le"])] += count
    return [_stats(revision, counts, buckets[revision]) for revision, counts in sorted(codes.items())]


def by_envoy(exposition: str, revisions: Collection[str]) -> list[RequestStats]:
    """What Envoy counted, per revision, sorted by its name; its clusters are named as revisions are.

    Example:
        >>> text = (
        ...     '# TYPE envoy_cluster_upstream_rq counter\\n'
        ...     'envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="a-1"} 3\\n'
        ...     'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a-1",le="10"} 3\\n'
        ...     'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a-1",le="+Inf"} 3\\n'
        ... )
        >>> [(one.requests, one.p50) for one in by_envoy(text, ["a-1"])]
        [(3, 0.005)]
    """
    from prometheus_client.parser import text_string_to_metric_families

    codes: defaultdict[str, Counter[int]] = defaultdict(Counter)
    buckets: defaultdict[str, Counter[float]] = defaultdict(Counter)
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            name = sample.labels.get("envoy_cluster_name", "")
            if name not in revisions:
                continue
            if family.name == "envoy_cluster_upstream_rq" and "envoy_response_code" in sample.labels:
                codes[name][int(sample.labels["envoy_response_code"])] += int(sample.value)
            elif sample.name == "envoy_cluster_upstream_rq_time_bucket":
                buckets[name][float(sample.labels["le"]) / 1000] += int(sample.value)
    return [_stats(name, counts, buckets[name]) for name, counts in sorted(codes.items())]


def quantile(share: float, buckets: Mapping[float, int]) -> float | None:
    """Where a share of the observations lies, by the rule of Prometheus' `histogram_quantile`.

    Args:
        share: from 0 to 1.
        buckets: upper bound -> observations up to there; one bound is infinite.

    Example:
        >>> quantile(0.5, {0.1: 0, 0.2: 10, float("inf"): 10})
        0.15
    """
    total = max(buckets.values(), default=0)
    if not total:
        return None
    wanted, below, start = share * total, 0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= wanted and count > below:
            if bound == float("inf"):
                return start
            return round(start + (bound - start) * (wanted - below) / (count - below), 9)
        below, start = count, bound
    return start


def _stats(revision: str, codes: Mapping[int, int], buckets: Mapping[float, int]) -> RequestStats:
    return RequestStats(
        revision=revision,
        requests=sum(codes.values()),
        refused=sum(count for code, count in codes.items() if 400 <= code < 500),
        errors=sum(count for code, count in codes.items() if code >= 500),
        p50=quantile(0.5, buckets),
        p95=quantile(0.95, buckets),
    )
