"""Traffic for a monitor under test: rows, answers and true outcomes of a sample model."""

from __future__ import annotations

import http.client
import json
import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from statistics import NormalDist
from typing import Any
from urllib.parse import urlsplit

import pytest

from modelyard.records import Endpoint, Window, now
from modelyard.stages import Label, Monitor
from modelyard.testing.base import eventually

MODEL = "late-flights"
START = datetime(2013, 4, 1, tzinfo=timezone.utc)
Row = Mapping[str, Any]


def rows(count: int, seed: int, *, temp: float = 10.0) -> list[dict[str, Any]]:
    """Rows of the sample model; `temp` moves its mean, everything else stays.

    Values are even quantiles in random order: a sample that is like the reference must not look
    different by bad luck, or the suite would blame a monitor for what statistics allow.
    """
    even = [(number + 0.5) / count for number in range(count)]
    columns: dict[str, list[Any]] = {
        "temp": [NormalDist(temp, 5.0).inv_cdf(share) for share in even],
        "wind speed": [NormalDist(8.0, 2.0).inv_cdf(share) for share in even],
        "carrier": [("UA", "B6", "ÄÖ")[number % 3] for number in range(count)],
    }
    for number, values in enumerate(columns.values()):
        random.Random(3 * seed + number).shuffle(values)
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def late(row: Row) -> int:
    """The true outcome."""
    return int(row["wind speed"] > 8.0)


def probability(row: Row) -> float:
    """What the sample model says: right for most rows, never certain."""
    return 0.8 if row["wind speed"] > 8.3 else 0.3


class Feed:
    """Plays the server: posts the events of answered requests for one endpoint."""

    def __init__(self, monitor: Monitor, endpoint: Endpoint) -> None:
        self._monitor = monitor
        self._endpoint = endpoint
        sink = monitor.event_sink()
        if sink is None:
            pytest.skip("this monitor takes no events")
        self.sink = sink

    def send(
        self,
        sample: Sequence[Row],
        *,
        time: datetime | None,
        version: str = "1",
        protocol: str = "v1",
        prediction_id: str | None = None,
        only: str | None = None,
    ) -> str:
        """Post a request and its answer; returns the prediction's id."""
        prediction_id = prediction_id or str(uuid.uuid4())
        bodies = {"v1": v1_bodies, "v2": v2_bodies}[protocol](sample)
        metadata = {} if time is None else {"X-Event-Time": time.isoformat()}
        annotations = {
            "modelyard.dev/model": MODEL,
            "modelyard.dev/version": version,
            "modelyard.dev/revision": f"{self._endpoint.name}-0000{version}",
        }
        for kind, body in bodies.items():
            headers = {
                "Content-Type": "application/json",
                "ce-specversion": "1.0",
                "ce-id": prediction_id,
                "ce-type": f"org.kubeflow.serving.inference.{kind}",
                "ce-source": "http://127.0.0.1:9081/",
                "ce-time": now().isoformat().replace("+00:00", "Z"),
                "ce-inferenceservicename": self._endpoint.name,
                "ce-namespace": "default",
                "ce-component": "predictor",
                "ce-endpoint": f"/{protocol}/models/{self._endpoint.name}",
                "ce-metadata": json.dumps(metadata),
                "ce-annotations": json.dumps(annotations),
            }
            if only in (None, kind):
                post(self.sink, headers, json.dumps(body).encode())
        return prediction_id

    def windows(self, *, until: datetime, rows: int) -> list[Window]:
        """The windows, once so many rows have reached them."""

        def arrived() -> list[Window] | None:
            found = self._monitor.windows(self._endpoint.name, until=until)
            return found if sum(window.rows for window in found) >= rows else None

        return eventually(f"the arrival of {rows} rows in windows", arrived)


def v1_bodies(sample: Sequence[Row]) -> dict[str, Any]:
    """Request and response in V1; the model answers with the probabilities of both classes."""
    answers = [[round(1 - probability_of(row), 6), probability_of(row)] for row in sample]
    return {"request": {"instances": list(sample)}, "response": {"predictions": answers}}


def v2_bodies(sample: Sequence[Row]) -> dict[str, Any]:
    """Request and response in V2, one tensor per column; the model answers with its decision."""
    count = len(sample)
    kinds = {"temp": "FP64", "wind speed": "FP64", "carrier": "BYTES"}
    inputs = [
        {"name": name, "shape": [count, 1], "datatype": kind, "data": [row[name] for row in sample]}
        for name, kind in kinds.items()
    ]
    decisions = [int(probability_of(row) >= 0.5) for row in sample]
    output = {"name": "output-0", "shape": [count], "datatype": "INT64", "data": decisions}
    return {"request": {"inputs": inputs}, "response": {"model_name": MODEL, "outputs": [output]}}


def probability_of(row: Row) -> float:
    """The sample model's answer, also for rows with a bad column."""
    return probability(row) if isinstance(row.get("wind speed"), float) else 0.5


def labels_of(prediction_id: str, sample: Sequence[Row]) -> list[Label]:
    """The true outcomes of all rows of a request."""
    return [
        Label(prediction_id=prediction_id, row=number, value=late(row), time=START + timedelta(hours=3))
        for number, row in enumerate(sample)
    ]


def post(url: str, headers: Mapping[str, str], body: bytes) -> None:
    """Post one event, and fail with the answer if it is not taken."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("POST", parts.path or "/", body, dict(headers))
        response = connection.getresponse()
        said = response.read()
        assert response.status < 300, f"the sink answered {response.status}: {said[:300]!r}"
    finally:
        connection.close()
