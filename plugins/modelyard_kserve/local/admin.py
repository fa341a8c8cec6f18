"""What Envoy says about itself, asked on its socket."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from urllib.parse import quote

_SECONDS = 5.0


class Admin:
    """Envoy's admin interface.

    Args:
        path: its Unix socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, target: str) -> bytes:
        """The body of an answer.

        Raises:
            OSError: nobody answers there, or not with 200.
        """
        connection = http.client.HTTPConnection("envoy")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.sock.settimeout(_SECONDS)
            connection.sock.connect(str(self._path))
            connection.request("GET", target, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read()
        except http.client.HTTPException as fault:
            raise OSError(f"no HTTP: {fault!r}") from fault
        finally:
            connection.close()
        if answer.status != 200:
            raise OSError(f"{target} answered {answer.status}")
        return body

    def ready(self) -> bool:
        """Whether it takes requests."""
        try:
            return self.get("/ready").strip() == b"LIVE"
        except OSError:
            return False

    def answered(self) -> str:
        """What each cluster answered and how long it took, in Prometheus' text format.

        Raises:
            OSError: nobody answers.
        """
        pattern = r"^cluster\..*\.upstream_rq_(time|\d+)$"
        return self.get(f"/stats/prometheus?filter={quote(pattern, safe='')}").decode()

    def clusters(self) -> set[str]:
        """The clusters that can be routed to.

        Raises:
            OSError: nobody answers.
        """
        return {line.partition("::")[0] for line in self.get("/clusters").decode().splitlines()}

    def counters(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names fit a regular expression.

        Raises:
            OSError: nobody answers.
        """
        found = json.loads(self.get(f"/stats?format=json&filter={quote(pattern, safe='')}"))
        return {stat["name"]: int(stat["value"]) for stat in found["stats"] if "name" in stat}
