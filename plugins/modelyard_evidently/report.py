"""Evidently's HTML report of a window, made in a process of its own: importing Evidently costs 300 MB.

    python -m modelyard_evidently.report PROFILE.json WINDOW.parquet OUT.html

The reference is drawn from the profile's own distributions, so no training data is needed; what
belongs together in the training data is not together in it, and the report compares columns alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.errors import EnvironmentFault
from modelyard.processes import child_env
from modelyard.state import write_bytes
from modelyard_evidently import profile as profiles
from modelyard_evidently.log import FEATURE

_REFERENCE_ROWS = 2000
_MOST_ROWS = 20_000


def write(profile: Mapping[str, Any], frame: Any, out: Path, work: Path) -> Path:
    """Run the worker and put its page at `out`.

    Raises:
        EnvironmentFault: `report-failed`, with the worker's last line.
    """
    work.mkdir(parents=True, exist_ok=True)
    given, rows, page = work / "profile.json", work / "window.parquet", work / "report.html"
    given.write_text(json.dumps(profile))
    frame.sample(min(len(frame), _MOST_ROWS), random_state=0).to_parquet(rows)
    done = subprocess.run(
        [sys.executable, "-m", "modelyard_evidently.report", str(given), str(rows), str(page)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=child_env(),
    )
    if done.returncode != 0 or not page.exists():
        said = (done.stderr.strip().splitlines() or ["it left no word"])[-1]
        raise EnvironmentFault(
            "report-failed", f"Evidently could not make the report: {said}", "modelyard doctor"
        )
    write_bytes(out, page.read_bytes())
    return out


def main() -> int:
    """The worker."""
    os.environ["DO_NOT_TRACK"] = "1"
    given, rows, page = (Path(argument) for argument in sys.argv[1:4])
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
            report([column], _drift(ValueDrift, column, len(current)))
            usable.append(column)
        except Exception as fault:
            print(f"left out {column['name']}: {fault}", file=sys.stderr)
    if not usable:
        print("no column could be compared", file=sys.stderr)
        return 1
    metrics = [_drift(ValueDrift, column, len(current)) for column in usable]
    report(usable, *metrics, DataSummaryPreset()).save_html(str(page))
    return 0


def _drift(metric: Any, column: Mapping[str, Any], rows: int) -> Any:
    return metric(column=column["name"], method=column["method"], threshold=profiles.threshold(column, rows))


def _current(profile: Mapping[str, Any], window: Any) -> Any:
    import pandas as pd

    columns = {}
    for column in profile["columns"]:
        name = column["name"]
        source = "score" if name == profiles.PREDICTION else FEATURE + name
        if source in window and window[source].notna().any():
            numeric = column["kind"] == "numeric"
            columns[name] = pd.to_numeric(window[source], errors="coerce") if numeric else window[source]
    return pd.DataFrame(columns)


def _reference(profile: Mapping[str, Any]) -> Any:
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    columns = {}
    for column in profile["columns"]:
        if column["kind"] == "numeric":
            columns[column["name"]] = random.choice(column["quantiles"], _REFERENCE_ROWS)
        else:
            names = [*column["top"], "(other)"]
            weights = np.array([*column["top"].values(), max(column["other"], 0.0)])
            columns[column["name"]] = random.choice(names, _REFERENCE_ROWS, p=weights / weights.sum())
    return pd.DataFrame(columns)


if __name__ == "__main__":
    sys.exit(main())
