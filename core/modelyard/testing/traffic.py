"""Requests to an endpoint under test."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from urllib.parse import urlsplit

from modelyard.records import Endpoint
from modelyard.testing.models import ROWS

#: What versions 1 and 2 of the sample model predict.
ANSWERS = {"1": 0.25, "2": 0.75}
#: Bodies that are wrong in both protocols.
WRONG_BODIES = {
    "empty": "",
    "no json": "kein json",
    "nothing in it": "{}",
    "list": "[]",
    "no rows": '{"instances": 3}',
    "short row": '{"instances": [[1]]}',
    "no tensors": '{"inputs": {}}',
}


def shares(endpoint: Endpoint, requests: int) -> Counter[str]:
    """How many requests each version answered; its prediction is checked."""
    counted: Counter[str] = Counter()
    for _ in range(requests):
        answer = endpoint.predict(list(ROWS[:1]))
        assert answer.predictions[0] == ANSWERS[answer.version], (
            f"version {answer.version} must predict {ANSWERS[answer.version]}, not {answer.predictions}"
        )
        counted[answer.version] += 1
    return counted


class SteadyTraffic:
    """Asks the endpoint while a `with` block runs; gives the versions or errors that answered."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._answers: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> list[str]:
        self._thread.start()
        return self._answers

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _ask(self) -> None:
        while not self._stop.is_set() or not self._answers:
            try:
                self._answers.append(self._endpoint.predict(list(ROWS[:1])).version)
            except Exception as error:
                self._answers.append(f"{type(error).__name__}: {error}")
            self._stop.wait(0.02)


def call(endpoint: Endpoint, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of a plain HTTP request to the endpoint."""
    parts = urlsplit(endpoint.url or "")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request(method, parts.path.rstrip("/") + path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
