"""A project with the local KServe runtime, and two real models that answer differently."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelyard.records import Endpoint
from modelyard.stages import StageContext
from modelyard.state import read_json
from modelyard.testing import ModelShelf, make_context

pytest.importorskip("kserve")
pytest.importorskip("mlflow")

#: Rows with a hole in a column of floats, which gradient boosting takes as it is.
ROWS: list[dict[str, Any]] = [
    {"temp": 20.5, "stops": 0},
    {"temp": -4.0, "stops": 2},
    {"temp": None, "stops": 1},
    {"temp": 31.25, "stops": 1},
]


@dataclass
class Sample:
    """A model in this process and the MLflow folder that holds the same."""

    model: Any
    folder: Path


@dataclass
class Project:
    """A project as commands see it: each call opens the provider anew."""

    context: StageContext
    files: int = 0

    @property
    def server(self) -> Any:
        from modelyard_kserve.provider import KserveServer

        return KserveServer(self.context)

    def file(self, name: str, uri: str, canary: int | None = None, **model: Any) -> Path:
        """Write an InferenceService."""
        predictor = {"model": {"modelFormat": {"name": "mlflow"}, "storageUri": uri, **model}}
        if canary is not None:
            predictor["canaryTrafficPercent"] = canary  # type: ignore[assignment]
        content = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name},
            "spec": {"predictor": predictor},
        }
        self.files += 1
        file = self.context.root / f"{name}-{self.files}.yaml"
        file.write_text(json.dumps(content), encoding="utf-8")
        return file

    def apply(self, name: str, uri: str, canary: int | None = None, **model: Any) -> Endpoint:
        made: Endpoint = self.server.apply(self.file(name, uri, canary, **model))
        return made

    def up(self) -> None:
        for spec in self.server.services():
            self.context.services.start(spec)

    def down(self) -> None:
        for service in self.context.services.all():  # type: ignore[attr-defined]
            self.context.services.stop(service.name)

    def gateway(self, name: str) -> psutil.Process:
        service = self.context.services.get(f"endpoint-{name}")
        assert service is not None
        assert service.pid is not None
        return psutil.Process(service.pid)

    def model_servers(self, name: str) -> dict[int, psutil.Process]:
        """The processes of the models, by revision."""
        seen = read_json(self.context.state / "endpoints" / name / "observed.json")
        return {int(n): psutil.Process(r["pid"]) for n, r in seen["revisions"].items() if r["pid"]}

    def sockets(self, name: str) -> Path:
        from modelyard_kserve.local import desired

        return desired.sockets(self.context.state / "endpoints" / name)


def runs(process: psutil.Process) -> bool:
    """Whether it is that process still, and no zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def within(seconds: float, check: Callable[[], bool]) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return check()


@pytest.fixture(scope="session", name="within")
def _within() -> Callable[[float, Callable[[], bool]], bool]:
    return within


@pytest.fixture(scope="session", name="runs")
def _runs() -> Callable[[psutil.Process], bool]:
    return runs


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    return [dict(row) for row in ROWS]


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    """Versions 1 and 2: the same data, opposite labels."""
    import mlflow.sklearn
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.ensemble import HistGradientBoostingClassifier

    random = np.random.default_rng(0)
    table = pd.DataFrame({"temp": random.normal(15, 10, 400), "stops": random.integers(0, 4, 400)})
    late = (table["temp"] > 15).to_numpy()
    made = {}
    for version, labels in {"1": late, "2": ~late}.items():
        model = HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(table, labels.astype(int))
        folder = tmp_path_factory.mktemp("modelle") / f"version {version}"
        mlflow.sklearn.save_model(
            model,
            str(folder),
            signature=infer_signature(table, model.predict(table)),
            pip_requirements=["scikit-learn"],
            serialization_format="skops",
            skops_trusted_types=["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
        )
        made[version] = Sample(model, folder)
    return made


@pytest.fixture(scope="session")
def new_project(
    samples: dict[str, Sample], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Project]]:
    """Makes a project that knows late-flights/1 and /2; everything is ended afterwards."""
    made: list[Project] = []

    def make(**settings: Any) -> Project:
        from modelyard_kserve.config import KserveSettings

        shelf = ModelShelf()
        for version in ("1", "2"):
            shelf.put("late-flights", samples[version].folder)
        context = make_context(
            tmp_path_factory.mktemp("ein Projekt äö"),
            provider="kserve",
            settings=KserveSettings(**settings),
            resolve_model=shelf.resolve,
        )
        made.append(Project(context))
        return made[-1]

    yield make
    for project in made:
        project.down()
        for endpoint in project.server.endpoints():
            project.server.delete(endpoint.name)


@pytest.fixture(scope="module")
def project(new_project: Callable[[], Project]) -> Project:
    """The project that the tests of a file share."""
    return new_project()
