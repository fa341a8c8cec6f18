"""P2 and P2b: what tracking a run and storing a model cost, against MLflow's own fluent calls.

Both sides write to sqlite stores of their own, in one warm process, in turns; CPU time counts the
children (MLflow starts one to infer requirements, we ask git for the commit).
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_COMMAND = "make bench ARGS=mlflow"


def measure() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
        os.chdir(folder)
        work = Path(folder)
        tracked = _row("P2", "a tracked run, 10 params + 10 metrics", 0.30, *_runs(work), repeats=21)
        stored = _row("P2b", "storing a scikit-learn model", 0.03, *_models(work), repeats=3)
        return [tracked, stored]


def _row(
    name: str, what: str, goal: float, ours: Callable[[], None], peer: Callable[[], None], *, repeats: int
) -> dict[str, Any]:
    ours(), peer()  # both sides warm: imports and the making of the stores are not measured
    pairs = [(_cpu(ours), _cpu(peer)) for _ in range(repeats)]
    mine, theirs = (statistics.median(side) for side in zip(*pairs))
    return {
        "id": name,
        "what": f"{what} / MLflow's fluent calls (CPU s)",
        "ours": mine,
        "peer": theirs,
        "ratio": mine / theirs,
        "goal": goal,
        "command": _COMMAND,
    }


def _runs(folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    import mlflow

    yard = _project(folder)
    _fluent(mlflow, folder)

    def ours() -> None:
        with yard.run("bench", params={f"p{n}": n for n in range(10)}) as run:
            run.log({f"m{n}": n / 10 for n in range(10)})

    def peer() -> None:
        with mlflow.start_run(run_name="bench"):
            for n in range(10):
                mlflow.log_param(f"p{n}", n)
            for n in range(10):
                mlflow.log_metric(f"m{n}", n / 10)

    return ours, peer


def _models(folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    import mlflow
    import mlflow.sklearn
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    yard = _project(folder)
    _fluent(mlflow, folder)
    features, labels = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=500).fit(features, labels)

    def ours() -> None:
        with yard.run("bench") as run:
            run.log_model(model, example=features[:5])

    def peer() -> None:
        with mlflow.start_run(run_name="bench"):
            mlflow.sklearn.log_model(model, name="model")

    return ours, peer


def _project(folder: Path) -> Any:
    import modelyard

    root = folder / "project"
    if not root.exists():
        root.mkdir()
        git = ["git", "-C", str(root), "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
        subprocess.run([*git, "init", "-q"], check=True)
        modelyard.init(root)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", "begin"], check=True)
    return modelyard.open(root)


def _fluent(mlflow: Any, folder: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'peer.db'}")
    mlflow.set_experiment("bench")


def _cpu(work: Callable[[], None]) -> float:
    before = _seconds()
    work()
    return _seconds() - before


def _seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
