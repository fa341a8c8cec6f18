"""MLflow's Python models whose types are more than numbers and texts: type hints, lists, objects, bytes."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest
from mlflow.models import infer_signature
from mlflow.pyfunc import PythonModel, save_model
from tests.unit.kserve.asked import ask, get

from modelyard_kserve.local import signature
from modelyard_kserve.local.model_app import ModelApp
from modelyard_kserve.local.runtimes import load

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
INFER, PREDICT = "/v2/models/late/infer", "/v1/models/late:predict"


class Flight(pydantic.BaseModel):
    """What a model may ask for in Python's words."""

    carrier: str
    miles: float


class _Texts(PythonModel):  # type: ignore[misc,unused-ignore]
    def predict(self, model_input: list[str]) -> list[str]:
        return [text.upper() for text in model_input]


class _Lists(PythonModel):  # type: ignore[misc,unused-ignore]
    def predict(self, model_input: list[list[str]]) -> list[int]:
        return [len(texts) for texts in model_input]


class _Times(PythonModel):  # type: ignore[misc,unused-ignore]
    def predict(self, model_input: list[datetime.datetime]) -> list[int]:
        return [time.hour for time in model_input]


class _Flights(PythonModel):  # type: ignore[misc,unused-ignore]
    def predict(self, model_input: list[Flight]) -> list[dict[str, float]]:
        return [{"miles": flight.miles * 2, "letters": len(flight.carrier)} for flight in model_input]


class _Nested(PythonModel):  # type: ignore[misc,unused-ignore]
    def predict(self, context, model_input, params=None):
        means = [float(np.mean(weights)) for weights in model_input["weights"]]
        assert all(np.asarray(weights).dtype == np.float32 for weights in model_input["weights"])
        ends = [words[-1] for words in model_input["words"]]
        back = [[float(w) for w in weights] for weights in model_input["weights"]]
        limits = [options["limit"] for options in model_input["options"]]
        return pd.DataFrame({"mean": means, "end": ends, "back": back, "limit": limits})


class _Bytes(PythonModel):  # type: ignore[misc,unused-ignore]
    def predict(self, context, model_input, params=None):
        assert all(isinstance(raw, bytes) for raw in model_input["image"])
        return [len(raw) for raw in model_input["image"]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], ModelApp]:
    def made(model: Any, said: Any = None) -> ModelApp:
        folder: Path = tmp_path_factory.mktemp("nested") / "model"
        save_model(str(folder), python_model=model, signature=said, pip_requirements=[])
        loaded = load(folder, trust_pickle=True, probabilities=False)
        return ModelApp("late", "3", loaded, False, signature.read(folder))

    return made


def tensor(name: str, shape: list[int], datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def test_type_hints_get_the_list_that_they_state(saved: Any) -> None:
    texts = saved(_Texts())
    assert ask(texts, PREDICT, {"instances": ["late", "again"]}).json == {"predictions": ["LATE", "AGAIN"]}
    said = ask(texts, INFER, {"inputs": [tensor("x", [1], "BYTES", ["late"])]})
    assert said.json["outputs"] == [tensor("predict", [1], "BYTES", ["LATE"])]
    assert "Expected type str" in ask(texts, PREDICT, {"instances": [1]}).error
    hours = ask(saved(_Times()), PREDICT, {"instances": ["2013-07-04T12:30:00"]})
    assert hours.json == {"predictions": [12]}


def test_a_matrix_of_one_column_is_a_list_for_type_hints_of_a_list(saved: Any) -> None:
    column = [tensor("x", [2, 1], "BYTES", ["late", "again"])]
    said = ask(saved(_Texts()), INFER, {"inputs": column})
    assert said.json["outputs"] == [tensor("predict", [2], "BYTES", ["LATE", "AGAIN"])]
    columns = [tensor("carrier", [1, 1], "BYTES", ["UA"]), tensor("miles", [1, 1], "FP64", [[2]])]
    said = ask(saved(_Flights()), INFER, {"inputs": columns})
    assert [one["data"] for one in said.json["outputs"]] == [[4.0], [2]]
    of_lists = ask(saved(_Lists()), INFER, {"inputs": column})
    assert of_lists.json["outputs"] == [tensor("predict", [2], "INT64", [1, 1])]


def test_objects_of_pydantic_come_as_objects_or_as_columns(saved: Any) -> None:
    flights = saved(_Flights())
    assert get(flights, "/v2/models/late").json["inputs"] == [
        {"name": "carrier", "datatype": "BYTES", "shape": [-1]},
        {"name": "miles", "datatype": "FP64", "shape": [-1]},
    ]
    asked = {"instances": [{"carrier": "UA", "miles": 2.5}]}
    assert ask(flights, PREDICT, asked).json == {"predictions": [{"miles": 5.0, "letters": 2}]}
    columns = [tensor("carrier", [2], "BYTES", ["UA", "DAL"]), tensor("miles", [2], "FP64", [1, 2])]
    assert ask(flights, INFER, {"inputs": columns}).json["outputs"] == [
        tensor("miles", [2], "FP64", [2.0, 4.0]),
        tensor("letters", [2], "INT64", [2, 3]),
    ]
    refused = ask(flights, PREDICT, {"instances": [{"carrier": "UA"}]})
    assert refused.status == 400
    assert "miles" in refused.error
    short = [columns[0], tensor("miles", [1], "FP64", [1])]
    assert ask(flights, INFER, {"inputs": short}).error == "the inputs have different numbers of rows: [1, 2]"


@pytest.fixture(scope="module")
def nested(saved: Any) -> ModelApp:
    rows = pd.DataFrame(
        {
            "words": [["late", "again"]],
            "weights": [np.array([1.0, 2.0], np.float32)],
            "options": [{"limit": 3}],
        }
    )
    answers = pd.DataFrame({"mean": [1.5], "end": ["again"], "back": [[1.0, 2.0]], "limit": [3]})
    made: ModelApp = saved(_Nested(), infer_signature(rows, answers))
    return made


def test_columns_hold_lists_and_objects(nested: ModelApp) -> None:
    rows = [
        {"words": ["late", "again"], "weights": [1, 2], "options": {"limit": 3}},
        {"words": ["early"], "weights": [4.5, 0], "options": {"limit": 4}},
    ]
    said = ask(nested, PREDICT, {"instances": rows}).json["predictions"]
    assert said[0] == {"mean": 1.5, "end": "again", "back": [1.0, 2.0], "limit": 3}
    assert said[1]["mean"] == 2.25
    assert get(nested, "/v2/models/late").json["inputs"][:2] == [
        {"name": "words", "datatype": "BYTES", "shape": [-1, -1]},
        {"name": "weights", "datatype": "FP32", "shape": [-1, -1]},
    ]


@pytest.mark.parametrize(
    "words",
    [
        tensor("words", [1, 2], "BYTES", ["late", "again"]),
        tensor("words", [1], "BYTES", ['["late", "again"]']),
    ],
    ids=["a tensor", "JSON in a text"],
)
def test_v2_says_lists_as_a_second_axis_and_objects_as_json(nested: ModelApp, words: Any) -> None:
    inputs = [
        words,
        tensor("weights", [1, 2], "FP32", [1, 2]),
        tensor("options", [1], "BYTES", ['{"limit": 3}']),
    ]
    assert ask(nested, INFER, {"inputs": inputs}).json["outputs"] == [
        tensor("mean", [1], "FP64", [1.5]),
        tensor("end", [1], "BYTES", ["again"]),
        tensor("back", [1, 2], "FP64", [1.0, 2.0]),
        tensor("limit", [1], "INT64", [3]),
    ]
    inputs[2] = tensor("options", [1], "BYTES", ["{"])
    assert ask(nested, INFER, {"inputs": inputs}).error == "row 0, column 'options': '{' is not JSON"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"words": "late"}, "row 0, column 'words': 'late' is not a list"),
        ({"weights": ["x"]}, "row 0, column 'weights': ['x'] is not a list of float"),
        ({"weights": [None]}, "row 0, column 'weights': [None] is not a list of float"),
        ({"options": 3}, "row 0, column 'options': 3 is not an object"),
    ],
)
def test_what_does_not_fit_is_named(nested: ModelApp, wrong: Any, sentence: str) -> None:
    row = {"words": ["late"], "weights": [1.0], "options": {"limit": 3}, **wrong}
    assert ask(nested, PREDICT, {"instances": [row]}).error == sentence


def test_lists_of_different_lengths_are_lists(nested: ModelApp) -> None:
    rows = [
        {"words": ["late"], "weights": weights, "options": {"limit": 3}} for weights in ([1.0], [1.0, 3.0])
    ]
    said = ask(nested, PREDICT, {"instances": rows})
    assert [row["mean"] for row in said.json["predictions"]] == [1.0, 2.0]


def test_bytes_are_base64_in_json(saved: Any) -> None:
    taken = saved(_Bytes(), infer_signature(pd.DataFrame({"image": [b"abc"]}), [3]))
    raw = base64.b64encode(b"\x00\xff").decode()
    assert ask(taken, PREDICT, {"instances": [{"image": raw}]}).json == {"predictions": [2]}
    assert ask(taken, PREDICT, {"instances": [{"image": "%"}]}).error == (
        "row 0, column 'image': '%' is not base64"
    )
