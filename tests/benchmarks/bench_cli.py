"""P1, P1b: what the command line costs; P11: what the demo takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS = 7
PEER = (
    sys.executable,
    "-c",
    "import pluggy, click, importlib.metadata; importlib.metadata.entry_points()",
)
YARD = (str(Path(sys.executable).with_name("modelyard")),)


def measure() -> list[dict[str, Any]]:
    """Rows for the table of `run.py`."""
    with tempfile.TemporaryDirectory(prefix="modelyard bench ") as folder:
        project = Path(folder) / "project"
        demo = _demo(project)
        return [  # in the project that the demo leaves: with services, runs and a history
            _ratio("P1", "modelyard --help", 1.3, project),
            _ratio("P1b", "modelyard status", 2.5, project),
            _ratio("P1b", "modelyard history", 2.5, project),
            demo,
        ]


def _ratio(name: str, command: str, goal: float, cwd: Path) -> dict[str, Any]:
    ours, peer = (*YARD, *command.split()[1:]), PEER
    times: dict[tuple[str, ...], list[float]] = {ours: [], peer: []}
    for argv in (ours, peer):  # the first run compiles and fills the system's caches
        cpu_seconds(argv, cwd)
    for _ in range(ROUNDS):
        for argv in (ours, peer):
            times[argv].append(cpu_seconds(argv, cwd))
    best, best_peer = min(times[ours]), min(times[peer])
    return {
        "id": name,
        "what": f"{command}, CPU s (best of {ROUNDS}, interleaved)",
        "ours": round(best, 4),
        "peer": round(best_peer, 4),
        "ratio": round(best / best_peer, 3),
        "goal": goal,
        "command": f"{command}  /  python -c '{PEER[2]}'",
    }


def cpu_seconds(argv: tuple[str, ...], cwd: Path) -> float:
    """User and system time of a command that must succeed."""
    with open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen(argv, cwd=cwd, stdout=nowhere, stderr=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def _demo(folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    done = subprocess.run(
        [*YARD, "demo", str(folder), "--fast", "--json"], capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"modelyard demo ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    return {
        "id": "P11",
        "what": "modelyard demo --fast, seconds",
        "ours": round(seconds, 2),
        "peer": None,
        "ratio": None,
        "goal": None,
        "command": "modelyard demo --fast --json",
        "parts": json.loads(done.stdout),
    }
