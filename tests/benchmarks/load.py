"""wrk as the load: one thread in C, so that who asks costs next to nothing."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open(%(body)r, "rb")
wrk.body = file:read("*a")
file:close()
function delay() return %(pause)s end
function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("said %%d %%d %%d %%d %%d\\n", summary.requests, failed, summary.duration,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Load:
    """What was answered: how many, how many a second, and within how many seconds half and 99 % were."""

    requests: int
    rate: float
    p50: float
    p99: float


def asked(url: str, body: bytes, place: Path, *, seconds: float, callers: int = 8, pause: str = "0") -> Load:
    """Ask for some seconds.

    Args:
        url: where to POST.
        body: what.
        place: a folder for files.
        seconds: how long, at least one.
        callers: connections, each of which asks again when it has its answer.
        pause: Lua: milliseconds that a caller waits before it asks again.

    Raises:
        SystemExit: there is no wrk, or an answer was not 200.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("bench_serving.py: wrk is missing: apt-get install wrk")
    (place / "body").write_bytes(body)
    script = place / "load.lua"
    script.write_text(_SCRIPT % {"body": str(place / "body"), "pause": pause})
    # With the same delay function everywhere: wrk itself is slower with one.
    command = ["wrk", "-t1", f"-c{callers}", f"-d{seconds:g}s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("said "))
    requests, failed, micros, p50, p99 = (int(word) for word in line.split()[1:])
    if failed or not requests:
        raise SystemExit(f"bench_serving.py: {failed} of {requests} requests to {url} failed")
    return Load(requests, requests / micros * 1e6, p50 / 1e6, p99 / 1e6)
