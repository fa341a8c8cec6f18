"""Evidently's HTML report of a window, made in a process of its own: importing Evidently costs 300 MB.

    python -m modelyard_evidently.report PROFILE.json WINDOW.parquet UNIT OUT.html

The reference is drawn from the profile's own distributions, so no training data is needed; what
belongs together in the training data is not together in it, and the report compares columns alone.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.errors import EnvironmentFault
from modelyard.processes import child_env
from modelyard.state import write_bytes
from modelyard_evidently import calibration
from modelyard_evidently.windows import values_of

_REFERENCE_ROWS = 2000
_MOST_ROWS = 20_000
_TIMEOUT = 600


def write(profile: Mapping[str, Any], frame: Any, unit: str, out: Path, *, heading: str, work: Path) -> Path:
    """Run the worker and put its page at `out`.

    Args:
        profile: the version's reference profile.
        frame: the rows of a window.
        unit: how long the window is; thresholds depend on it.
        out: where the page goes.
        heading: which window it is; Evidently's page does not say that.
        work: a folder for what is handed to the worker.

    Raises:
        EnvironmentFault: `report-failed`, with the worker's last line.
    """
    work.mkdir(parents=True, exist_ok=True)
    # A folder of its own: two reports at once would draw each other's rows; and rows are not left behind.
    with tempfile.TemporaryDirectory(prefix="report-", dir=work) as folder:
        given, rows, page = (Path(folder, n) for n in ("profile.json", "window.parquet", "report.html"))
        given.write_text(json.dumps(profile), encoding="utf-8")
        frame.sample(min(len(frame), _MOST_ROWS), random_state=0).to_parquet(rows)
        _run_worker([str(given), str(rows), unit, str(page)])
        if not page.exists():
            raise _failed("it left no page")
        write_bytes(out, _headed(page.read_text(encoding="utf-8"), heading).encode())
    return out


def _headed(page: str, heading: str) -> str:
    said = html.escape(heading)
    title = f'<h1 style="font: 1.4em sans-serif; text-align: center; color: #757575">{said}</h1>'
    page = page.replace("<head>", f"<head><title>{said}</title>", 1)
    return page.replace("<body>", f"<body>{title}", 1)


def _run_worker(arguments: list[str]) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "modelyard_evidently.report", *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            env=child_env(),
        )
    except subprocess.TimeoutExpired:
        raise _failed(f"it took longer than {_TIMEOUT} seconds") from None
    if done.returncode != 0:
        raise _failed((done.stderr.strip().splitlines() or ["it left no word"])[-1])


def _failed(said: str) -> EnvironmentFault:
    return EnvironmentFault(
        "report-failed", f"Evidently could not make the report: {said}", "modelyard doctor"
    )


def main() -> int:
    """The worker."""
    os.environ["DO_NOT_TRACK"] = "1"
    given, rows, unit, page = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    import warnings

    warnings.simplefilter("ignore")
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.presets import DataSummaryPreset

    profile = json.loads(given.read_text())
    window = pd.read_parquet(rows)
    current, reference = _current(profile, window), _reference(profile)
    shared = [column for column in profile["columns"] if column["name"] in current]

    def report(columns: list[dict[str, Any]], *metrics: Any) -> Any:
        definition = DataDefinition(
            numerical_columns=[c["name"] for c in columns if c["kind"] == "numeric"],
            categorical_columns=[c["name"] for c in columns if c["kind"] == "categorical"],
        )
        names = [c["name"] for c in columns]
        return Report(list(metrics)).run(
            Dataset.from_pandas(current[names], definition), Dataset.from_pandas(reference[names], definition)
        )

    usable = []
    for column in shared:
        try:  # one bad column would take the whole report with it
            report([column], _drift(ValueDrift, column, unit, len(current)))
            usable.append(column)
        except Exception as fault:
            print(f"left out {column['name']}: {fault}", file=sys.stderr)
    if not usable:
        print("no column could be compared", file=sys.stderr)
        return 1
    metrics = [_drift(ValueDrift, column, unit, len(current)) for column in usable]
    report(usable, *metrics, DataSummaryPreset()).save_html(str(page))
    return 0


def _drift(metric: Any, column: Mapping[str, Any], unit: str, rows: int) -> Any:
    limit = calibration.threshold(column, unit, rows)
    return metric(column=column["name"], method=column["method"], threshold=limit)


def _current(profile: Mapping[str, Any], window: Any) -> Any:
    import pandas as pd

    columns = {}
    for column in profile["columns"]:
        with contextlib.suppress(ValueError):  # a column that was not sent is not compared
            values = values_of(column, window, profile)
            if "error" not in column and values.notna().any():
                numeric = column["kind"] == "numeric"
                columns[column["name"]] = pd.to_numeric(values, errors="coerce") if numeric else values
    return pd.DataFrame(columns)


def _reference(profile: Mapping[str, Any]) -> Any:
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    columns = {}
    for column in profile["columns"]:
        if "error" in column:
            continue
        if column["kind"] == "numeric":
            columns[column["name"]] = random.choice(column["levels"], _REFERENCE_ROWS)
        else:
            names = [*column["top"], "(other)"]
            weights = np.array([*column["top"].values(), max(column["other"], 0.0)])
            columns[column["name"]] = random.choice(names, _REFERENCE_ROWS, p=weights / weights.sum())
    return pd.DataFrame(columns)


if __name__ == "__main__":
    sys.exit(main())
