"""A process that does what needs pandas and DuckDB, so that the monitor itself stays small.

    python -m modelyard_evidently.worker

It reads jobs from its input, a line of JSON each, and writes what came of each as a line of JSON; it
ends with its input. What is imported for a job goes when the process ends.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from modelyard.errors import EnvironmentFault, ModelyardError
from modelyard.state import os_errors
from modelyard_evidently.areas import Area
from modelyard_evidently.folder import MonitorFolder, Served
from modelyard_evidently.wire import labels_in


def _watch(folder: MonitorFolder, given: Mapping[str, Any]) -> None:
    served = json.loads(Path(given["body"]).read_bytes())
    folder.watch(given["endpoint"], [Served(**each) for each in served])


def _mark(folder: MonitorFolder, given: Mapping[str, Any]) -> None:
    folder.mark(json.loads(Path(given["body"]).read_bytes()))


def _find(folder: MonitorFolder, given: Mapping[str, Any]) -> Any:
    return folder.find(given["id"]).to_dict()


def _labels(folder: MonitorFolder, given: Mapping[str, Any]) -> int:
    return folder.add_labels(given["endpoint"], labels_in(Path(given["body"])))


def _windows(folder: MonitorFolder, given: Mapping[str, Any]) -> Any:
    until = datetime.fromisoformat(given["until"]) if given.get("until") else None
    found = folder.windows(given["endpoint"], until=until, limit=int(given.get("limit", 50)))
    return [window.to_dict() for window in found]


def _alerts(folder: MonitorFolder, given: Mapping[str, Any]) -> Any:
    return [a.to_dict() for a in folder.alerts(given["endpoint"], last_loss=given["last_loss"])]


def _metrics(folder: MonitorFolder, given: Mapping[str, Any]) -> str:  # noqa: ARG001
    return folder.metrics()


def _report(folder: MonitorFolder, given: Mapping[str, Any]) -> str:
    return str(folder.report(given["endpoint"], Path(given["out"]), version=given.get("version")))


def _score(folder: MonitorFolder, given: Mapping[str, Any]) -> list[str]:  # noqa: ARG001
    return folder.score()


_JOBS: dict[str, Callable[[MonitorFolder, Mapping[str, Any]], Any]] = {
    "watch": _watch,
    "mark": _mark,
    "find": _find,
    "labels": _labels,
    "windows": _windows,
    "alerts": _alerts,
    "metrics": _metrics,
    "report": _report,
    "score": _score,
}


def done(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job: `value` is what came of it, or `error` why nothing did."""
    area = Area(Path(wanted["area"][0]), *wanted["area"][1:])
    try:
        with os_errors(area.folder):
            return {"value": _JOBS[wanted["job"]](area.open(), wanted["given"])}
    except ModelyardError as fault:
        return {"error": fault.to_dict()}
    except Exception as fault:  # of a stranger's data, or of ours: the process lives on for the next job
        traceback.print_exc()
        said = f"the monitor failed at '{wanted['job']}': {type(fault).__name__}: {fault}"
        hint = "modelyard sandbox logs monitor"
        return {"error": EnvironmentFault("monitor-failed", said, hint).to_dict()}


def main() -> int:
    """Work until the input ends."""
    # Libraries print; the answers go where nobody else writes.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        answers.write(json.dumps(done(json.loads(line)), ensure_ascii=True).encode() + b"\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
