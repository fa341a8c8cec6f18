"""MLflow sends nothing to anybody, starts nothing and prints nothing while Modelyard uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

#: One of everything, in a process whose environment says nothing about telemetry. The audit hook sees
#: every process and connection, whoever starts it.
SCRIPT = """
import json, sys
from pathlib import Path
started, connected = [], []
def watch(event, args):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
        started.append([event, str(args[0])[:200]])
    if event == "socket.connect":
        connected.append(str(args[1]))
    if event == "socket.getaddrinfo":
        connected.append(str(args[0]))
from modelyard.testing.contexts import make_context
from modelyard.testing.models import ROWS, fitted_model
from modelyard.testing.track import CONTEXT, data_ref
from modelyard.records import DataUse, Metric
from modelyard_mlflow.registry import MlflowRegistry
from modelyard_mlflow.tracker import MlflowTracker
context = make_context(Path(sys.argv[1]), provider="mlflow")
tracker, registry = MlflowTracker(context), MlflowRegistry(context)
sys.addaudithook(watch)
first = getattr(tracker, sys.argv[2])
if sys.argv[2] == "runs":
    first()
else:
    first(sys.argv[3], **({"params": {"late": 1}} if sys.argv[2] == "log" else {}))
imported_quietly = "mlflow" in sys.modules
if sys.argv[2] == "runs":
    import pandas as pd
    from sklearn.ensemble import RandomForestClassifier
    class Mine:
        def predict(self, rows): return [1.0] * len(rows)
    rows = pd.DataFrame({"temp": [1, 2, 3], "wind": [1.5, 2.5, 0.5]})
    run = tracker.start("quiet", CONTEXT)
    tracker.log(run.id, params={"a": 1}, metrics=[Metric(name="m", value=float("nan"))],
                tags={"t": "x"}, data=[DataUse(role="train", ref=data_ref())])
    tracker.log_file(run.id, Path(sys.argv[1]) / "modelyard.toml")
    for model in (RandomForestClassifier(2).fit(rows, [0, 1, 0]), Mine()):
        for example in (rows, None):
            version = registry.register("m", tracker.log_model(run.id, model, example=example))
            registry.fetch(version)
    registry.set_alias("m", "production", "1")
    tracker.finish(run.id)
from mlflow.telemetry import get_telemetry_client
client = get_telemetry_client()
Path(sys.argv[1], "seen.json").write_text(json.dumps({
    "imported": imported_quietly, "telemetry": repr(client) if client else None,
    "started": started, "connected": connected}))
"""


@pytest.fixture(scope="module")
def run_quietly(
    shared: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[dict[str, Any], str]]:
    """Runs the script without a word about telemetry around it; gives what it saw and what it printed."""
    from modelyard.testing.track import CONTEXT

    known = shared.tracker.start("known", CONTEXT).id
    named = ("MLFLOW_", "DO_NOT_TRACK", "CI", "GITHUB_", "PYTEST", "PYTHONWARNINGS")

    def run(first: str) -> tuple[dict[str, Any], str]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(shared.root), first, known],
            env={key: value for key, value in os.environ.items() if not key.startswith(named)},
            cwd=tmp_path_factory.mktemp("elsewhere"),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        seen: dict[str, Any] = json.loads(Path(shared.root, "seen.json").read_text())
        return seen, done.stdout + done.stderr

    return run


def test_everything_together_prints_sends_and_starts_nothing(
    run_quietly: Callable[..., tuple[dict[str, Any], str]],
) -> None:
    seen, printed = run_quietly("runs")
    assert printed == ""
    assert seen["imported"] is True
    assert seen["telemetry"] is None
    # Python's own platform module asks `uname`.
    started = [what for what in seen["started"] if what[1] != "uname"]
    assert started == [], "MLflow must not infer requirements in a process of its own"
    assert seen["connected"] == []


@pytest.mark.parametrize("first", ["log", "finish"])
def test_telemetry_is_off_whatever_is_called_first(
    run_quietly: Callable[..., tuple[dict[str, Any], str]], first: str
) -> None:
    seen, printed = run_quietly(first)
    assert (seen["imported"], seen["telemetry"], printed) == (True, None, "")
