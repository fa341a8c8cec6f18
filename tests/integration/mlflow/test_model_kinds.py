"""Every usual kind of model is stored, fetched and loaded without an option, and says how it was stored."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from modelyard.errors import UsageError
from modelyard.testing.track import CONTEXT

mlflow = pytest.importorskip("mlflow")

NUMBERS = pd.DataFrame({"temp": np.linspace(-5.0, 30.0, 40), "wind speed": np.tile([0.0, 3.0, 8.0, 1.0], 10)})
MIXED = NUMBERS.assign(carrier=["UA", "DL"] * 20)
LATE = (NUMBERS["wind speed"] > 2).astype(int)
BY_COLUMN = ColumnTransformer(
    [
        ("numbers", StandardScaler(), ["temp", "wind speed"]),
        ("words", OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
    ]
)
WITH_SKOPS = {
    "forest": RandomForestClassifier(n_estimators=5, random_state=0),
    "boosting": GradientBoostingClassifier(n_estimators=5, random_state=0),
    "histogram boosting": HistGradientBoostingClassifier(max_iter=5, random_state=0),
    "pipeline": make_pipeline(BY_COLUMN, LogisticRegression()),
    "neighbours": KNeighborsClassifier(3),
    "support vectors": SVC(random_state=0),
    "log1p": make_pipeline(FunctionTransformer(np.abs), LogisticRegression()),
}
#: Pipelines that skops could store, if it were told to call these functions when it loads them.
WITH_FUNCTIONS = {
    "lambda": lambda rows: rows * 2,
    "read_pickle": pd.read_pickle,
    "eval": eval,
    "numpy.load": np.load,
}


class Doubling:
    """A user's own kind of model."""

    def predict(self, rows: Any) -> Any:
        return np.asarray(rows["temp"]) * 2


class Traditional(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """MLflow's kind of model in its old form."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        return np.asarray(model_input["temp"]) * 3


class Modern(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """MLflow's kind of model in its new form."""

    def predict(self, model_input):  # type: ignore[no-untyped-def]
        return np.asarray(model_input["temp"]) * 4


class Holding:
    """A model that holds something it should not."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def predict(self, rows: Any) -> list[int]:
        return [0] * len(rows)


class Hinted(mlflow.pyfunc.PythonModel):  # type: ignore[misc,unused-ignore]
    """Says in Python what it takes."""

    def predict(self, model_input: list[str]) -> list[int]:
        return [len(text) for text in model_input]


class Adding(mlflow.pyfunc.PythonModel):  # type: ignore[misc,unused-ignore]
    """Takes two tensors by name."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return {"sum": model_input["left"] + model_input["right"]}


@pytest.fixture
def stored(shared: Any) -> Callable[..., Path]:
    """Logs and registers a model; gives the folder that the registry hands out."""

    def store(model: object, example: Any) -> Path:
        run = shared.tracker.start("kind", CONTEXT)
        logged = shared.tracker.log_model(run.id, model, example=example)
        folder: Path = shared.registry.fetch(shared.registry.register("kinds", logged))
        return folder

    return store


def described(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((folder / "MLmodel").read_text())
    return content


@pytest.mark.parametrize("kind", WITH_SKOPS)
def test_a_model_of_scikit_learn_is_stored_as_data_not_code(stored: Callable[..., Path], kind: str) -> None:
    rows = MIXED if kind == "pipeline" else NUMBERS
    model = WITH_SKOPS[kind].fit(rows, LATE)
    folder = stored(model, rows.head())
    about = described(folder)
    assert about["metadata"] == {"modelyard.format": "skops"}
    assert about["flavors"]["sklearn"]["serialization_format"] == "skops"
    assert not list(folder.glob("*.pkl"))
    assert list(mlflow.pyfunc.load_model(str(folder)).predict(rows)) == list(model.predict(rows))


@pytest.mark.parametrize("name", WITH_FUNCTIONS)
def test_a_function_never_gets_on_the_list_of_trusted_types(
    stored: Callable[..., Path], shared: Any, name: str
) -> None:
    steps = FunctionTransformer(WITH_FUNCTIONS[name]), LogisticRegression().fit(NUMBERS, LATE)
    about = described(stored(make_pipeline(*steps), None))
    assert about["metadata"]["modelyard.format"] == "cloudpickle"
    assert "types of its own" in about["metadata"]["modelyard.format.reason"]
    assert not about["flavors"]["sklearn"].get("skops_trusted_types")


def test_a_model_with_a_lambda_in_it_predicts_after_loading(stored: Callable[..., Path]) -> None:
    model = make_pipeline(FunctionTransformer(lambda rows: rows * 2), LogisticRegression()).fit(NUMBERS, LATE)
    loaded = mlflow.pyfunc.load_model(str(stored(model, NUMBERS.head())))
    assert list(loaded.predict(NUMBERS)) == list(model.predict(NUMBERS))


@pytest.mark.parametrize(("model", "factor"), [(Doubling(), 2), (Traditional(), 3), (Modern(), 4)])
def test_a_class_of_the_users_own_is_stored_with_its_signature(
    stored: Callable[..., Path], model: Any, factor: int
) -> None:
    folder = stored(model, NUMBERS.head())
    loaded = mlflow.pyfunc.load_model(str(folder))
    assert list(loaded.predict(NUMBERS.head())) == list(NUMBERS["temp"].head() * factor)
    inputs = json.loads(described(folder)["signature"]["inputs"])
    assert [column["name"] for column in inputs] == ["temp", "wind speed"]


@pytest.mark.parametrize("example", [{"temp": 1.0, "wind speed": 2.0}, [{"temp": 1.0, "wind speed": 2.0}]])
def test_an_example_may_be_a_row_or_a_list_of_rows(stored: Callable[..., Path], example: Any) -> None:
    inputs = json.loads(described(stored(Doubling(), example))["signature"]["inputs"])
    assert [column["name"] for column in inputs] == ["temp", "wind speed"]


def test_types_in_python_and_named_tensors_are_the_signature(stored: Callable[..., Path]) -> None:
    folder = stored(Hinted(), ["late", "again"])
    assert mlflow.pyfunc.load_model(str(folder)).predict(["late"]) == [4]
    assert json.loads(described(folder)["signature"]["inputs"]) == [{"type": "string", "required": True}]
    tensors = {"left": np.ones((9, 2), np.float32), "right": np.ones((9, 2), np.float32)}
    inputs = json.loads(described(stored(Adding(), tensors))["signature"]["inputs"])
    shapes = {tensor["name"]: tensor["tensor-spec"]["shape"] for tensor in inputs}
    assert shapes == {"left": [-1, 2], "right": [-1, 2]}


def test_without_an_example_there_is_no_signature(shared: Any) -> None:
    run = shared.tracker.start("kind", CONTEXT)
    version = shared.registry.register("bare", shared.tracker.log_model(run.id, Doubling()))
    assert version.signature is False


def test_a_bare_lambda_is_refused_by_its_type(shared: Any) -> None:
    run = shared.tracker.start("kind", CONTEXT)
    with pytest.raises(UsageError, match=r"a builtins\.function can't be stored: it has no predict") as error:
        shared.tracker.log_model(run.id, lambda rows: rows)
    assert error.value.code == "model-not-serialisable"


def test_an_open_file_in_a_model_is_refused_and_leaves_nothing(shared: Any, tmp_path: Path) -> None:
    run = shared.tracker.start("kind", CONTEXT)
    with (tmp_path / "log.bin").open("wb") as file, pytest.raises(UsageError) as error:
        shared.tracker.log_model(run.id, Holding(file), example=NUMBERS.head())
    assert error.value.code == "model-not-serialisable"
    assert "Holding can't be stored" in error.value.message
    assert "BufferedWriter" in error.value.message
    assert shared.tracker.get(run.id).models == ()
    listed = mlflow.MlflowClient(shared.uri, shared.uri).search_logged_models(
        [shared.tracker._stores.experiment_id], filter_string=f"source_run_id = '{run.id}'"
    )
    assert list(listed) == [], "a refused model must not be listed by MLflow"
    assert not list(shared.context.state.glob("model-*"))


def test_a_model_that_is_not_fitted_is_refused_by_its_type(shared: Any) -> None:
    run = shared.tracker.start("kind", CONTEXT)
    with pytest.raises(UsageError, match="LogisticRegression can't predict its example") as error:
        shared.tracker.log_model(run.id, LogisticRegression(), example=NUMBERS)
    assert error.value.code == "model-not-serialisable"


def test_requirements_name_the_installed_versions(stored: Callable[..., Path]) -> None:
    forest = RandomForestClassifier(2).fit(NUMBERS, LATE)
    for model, needed in ((forest, {"scikit-learn", "skops", "numpy"}), (Holding(forest), {"scikit-learn"})):
        lines = (stored(model, NUMBERS.head()) / "requirements.txt").read_text().split()
        pinned = dict(line.split("==") for line in lines)
        assert needed <= set(pinned)
        assert pinned == {name: importlib.metadata.version(name) for name in pinned}


#: A script as users write it: a class in the script, and one in a module beside it that uses another.
SCRIPT = """
import sys
from pathlib import Path
import pandas as pd
from helpers import Beside, Doubler
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from modelyard.testing.contexts import make_context
from modelyard.testing.track import CONTEXT
from modelyard_mlflow.tracker import MlflowTracker
from modelyard_mlflow.registry import MlflowRegistry

class InScript:
    def predict(self, rows):
        return [FACTOR * value for value in rows["temp"]]

FACTOR = 10
context = make_context(Path(sys.argv[1]), provider="mlflow")
tracker, registry = MlflowTracker(context), MlflowRegistry(context)
run = tracker.start("script", CONTEXT)
rows = pd.DataFrame({"temp": [1.0, 2.0, 3.0]})
pipeline = make_pipeline(Doubler(), LinearRegression()).fit(rows, [30.0, 60.0, 90.0])
for model in (InScript(), Beside(), pipeline):
    logged = tracker.log_model(run.id, model, example=pd.DataFrame({"temp": [1.0]}))
    print(registry.fetch(registry.register("script", logged)))
"""


def test_classes_of_a_script_and_of_a_module_beside_it_load_without_them(
    shared: Any, tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "numbers_of_mine.py").write_text("def factor():\n    return 20\n")
    (tmp_path / "helpers.py").write_text(
        "from numbers_of_mine import factor\n"
        "from sklearn.base import BaseEstimator, TransformerMixin\n\n\n"
        "class Doubler(TransformerMixin, BaseEstimator):\n"
        "    def fit(self, rows, labels=None):\n        return self\n"
        "    def transform(self, rows):\n        return rows * 2\n\n\nclass Beside:\n"
        "    def predict(self, rows):\n        return [factor() * value for value in rows['temp']]\n"
    )
    (tmp_path / "train.py").write_text(SCRIPT)
    done = python(tmp_path / "train.py", shared.root, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = done.stdout.splitlines()
    rows = pd.DataFrame({"temp": [1.0, 2.0]})
    answers = [list(mlflow.pyfunc.load_model(folder).predict(rows)) for folder in folders]
    assert answers == [[10.0, 20.0], [20.0, 40.0], pytest.approx([30.0, 60.0])]
