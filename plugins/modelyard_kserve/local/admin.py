"""What Envoy says about itself, asked on its socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.parse import quote

from modelyard_kserve.counted import asked

_SECONDS = 5.0
_ROUTES = r"^http\.serving\.rds\.serving\.version_text$"


class Admin:
    """Envoy's admin interface.

    Args:
        path: its Unix socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, target: str) -> str:
        """The text of an answer.

        Raises:
            OSError: nobody answers there, or not with 200.
        """
        return asked(self._connect, target)

    def _connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(_SECONDS)
            made.connect(str(self._path))
        except OSError:
            made.close()
            raise
        return made

    def answered(self) -> str:
        """What each cluster answered and how long it took, in Prometheus' text format.

        Raises:
            OSError: nobody answers.
        """
        pattern = r"^cluster\..*\.upstream_rq_(time|\d+)$"
        return self.get(f"/stats/prometheus?filter={quote(pattern, safe='')}")

    def reopen_logs(self) -> None:
        """Let it open its access log anew, soon.

        Raises:
            OSError: nobody answers.
        """
        asked(self._connect, "/reopen_logs", "POST")

    def clusters(self) -> set[str]:
        """The clusters that can be routed to.

        Raises:
            OSError: nobody answers.
        """
        return {line.partition("::")[0] for line in self.get("/clusters").splitlines()}

    def routes_version(self) -> str:
        """The version of the routes that it goes by; empty: of none.

        Raises:
            OSError: nobody answers.
        """
        found = json.loads(self.get(f"/stats?format=json&filter={quote(_ROUTES, safe='')}"))
        return next((str(stat["value"]) for stat in found["stats"] if "name" in stat), "")

    def counters(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names fit a regular expression.

        Raises:
            OSError: nobody answers.
        """
        found = json.loads(self.get(f"/stats?format=json&filter={quote(pattern, safe='')}"))
        return {stat["name"]: int(stat["value"]) for stat in found["stats"] if "name" in stat}
