"""MLflow's own Python models: tables, a tensor, and several named ones, in the datatypes that they state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature, infer_signature
from mlflow.pyfunc import PythonModel, save_model
from mlflow.types.schema import Schema, TensorSpec
from tests.unit.kserve.asked import ask, get

from modelyard_kserve.local import signature
from modelyard_kserve.local.model_app import ModelApp
from modelyard_kserve.local.runtimes import load

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
INFER, PREDICT = "/v2/models/late/infer", "/v1/models/late:predict"


class Table(PythonModel):  # type: ignore[misc,unused-ignore]
    """Takes numbers of 32 bits, gives a table."""

    def predict(self, context, model_input, params=None):
        assert list(model_input.dtypes) == [np.float32, np.int32]
        return pd.DataFrame({"low": model_input["temp"] - 1, "high": model_input["stops"] + 1})


class Named(PythonModel):  # type: ignore[misc,unused-ignore]
    """Takes an image and a number, gives a mapping."""

    def predict(self, context, model_input, params=None):
        return {"sum": model_input["image"].sum(axis=(1, 2)), "size": model_input["size"]}


class Image(PythonModel):  # type: ignore[misc,unused-ignore]
    """Takes one array of three dimensions."""

    def predict(self, context, model_input, params=None):
        return np.asarray(model_input).sum(axis=(1, 2))


def spec(dtype: str, shape: tuple[int, ...], name: str | None = None) -> TensorSpec:
    return TensorSpec(np.dtype(dtype), shape, name)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelApp]:
    folder = tmp_path_factory.mktemp("pyfunc")
    given = pd.DataFrame({"temp": np.array([1], np.float32), "stops": np.array([1], np.int32)})
    table = infer_signature(given, pd.DataFrame({"low": [1.0], "high": [2.0]}))
    named = ModelSignature(
        Schema([spec("float32", (-1, 2, 2), "image"), spec("int64", (-1,), "size")]),
        Schema([spec("float32", (-1,), "sum"), spec("int64", (-1,), "size")]),
    )
    image = ModelSignature(Schema([spec("float32", (-1, 2, 2))]), Schema([spec("float32", (-1,))]))
    for name, (model, said) in {
        "table": (Table(), table),
        "named": (Named(), named),
        "image": (Image(), image),
    }.items():
        save_model(str(folder / name), python_model=model, signature=said, pip_requirements=[])

    def made(name: str) -> ModelApp:
        at: Path = folder / name
        model = load(at, trust_pickle=True, probabilities=False)
        return ModelApp("late", "3", model, False, signature.read(at))

    return made


def tensor(name: str, shape: list[int], datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def outputs(said: Any) -> list[tuple[str, str, list[Any]]]:
    assert said.status == 200, said.json
    return [(one["name"], one["datatype"], one["data"]) for one in said.json["outputs"]]


def test_columns_of_32_bits_get_them_and_a_table_is_a_tensor_for_each_column(saved: Any) -> None:
    app = saved("table")
    said = get(app, "/v2/models/late").json
    assert [(one["name"], one["datatype"]) for one in said["outputs"]] == [("low", "FP64"), ("high", "FP64")]
    expected = [("low", "FP64", [0.5, 3.0]), ("high", "FP64", [3.0, 6.0])]
    columns = [tensor("stops", [2], "INT64", [2, 5]), tensor("temp", [2], "FP64", [1.5, 4])]
    assert outputs(ask(app, INFER, {"inputs": columns})) == expected
    assert outputs(ask(app, INFER, {"inputs": [tensor("all", [2, 2], "FP64", [1.5, 2, 4, 5])]})) == expected
    rows = ask(app, PREDICT, {"instances": [[1.5, 2], {"temp": 4, "stops": 5}][:1]})
    assert rows.json == {"predictions": [{"low": 0.5, "high": 3}]}
    too_large = ask(app, PREDICT, {"instances": [{"temp": 4, "stops": 2**31}]})
    assert too_large.error == "row 0, column 'stops': 2147483648 is not a whole number of 32 bits"


def test_named_tensors_go_in_and_come_out_as_they_are_stated(saved: Any) -> None:
    app = saved("named")
    expected = [("sum", "FP32", [10.0]), ("size", "INT64", [7])]
    image, size = tensor("image", [1, 2, 2], "FP64", [1, 2, 3, 4]), tensor("size", [1], "INT32", [7])
    assert outputs(ask(app, INFER, {"inputs": [size, image]})) == expected
    said = ask(app, PREDICT, {"instances": [{"image": [[1, 2], [3, 4]], "size": 7}]})
    assert said.json == {"predictions": [{"sum": 10.0, "size": 7}]}
    wrong = ask(app, INFER, {"inputs": [tensor("image", [1, 3, 2], "FP32", [1] * 6), size]})
    assert wrong.status == 400
    assert "Shape of input (1, 3, 2) does not match expected shape (-1, 2, 2)" in wrong.error
    lacking = ask(app, PREDICT, {"instances": [{"image": [[1, 2], [3, 4]]}]})
    assert (lacking.status, lacking.error) == (400, "row 0 lacks the tensor 'size'")
    listed = ask(app, PREDICT, {"instances": [[1, 2]]})
    assert listed.error == "the instances are not objects with 'image', 'size'"


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT64"])
def test_one_tensor_gets_the_datatype_that_is_stated(saved: Any, datatype: str) -> None:
    app = saved("image")
    assert get(app, "/v2/models/late").json["inputs"] == [
        {"name": "input-0", "datatype": "FP32", "shape": [-1, 2, 2]}
    ]
    sent = {"inputs": [tensor("x", [1, 2, 2], datatype, [1, 2, 3, 4])]}
    assert outputs(ask(app, INFER, sent)) == [("predict", "FP32", [10.0])]
    assert ask(app, PREDICT, {"instances": [[[1, 2], [3, 4]]]}).json == {"predictions": [10.0]}
