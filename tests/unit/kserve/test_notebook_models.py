"""Models as notebooks log them with MLflow: what their `predict` says in Python is what V1 and V2 answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from mlflow.pyfunc import PythonModel
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline, make_union
from tests.unit.kserve.asked import ask, get

from modelyard.errors import ModelyardError
from modelyard_kserve.local import grpc_wire, signature
from modelyard_kserve.local.batching import Batching
from modelyard_kserve.local.messages import Request
from modelyard_kserve.local.model_app import ModelApp
from modelyard_kserve.local.runtimes import load

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
INFER, PREDICT = "/v2/models/late/infer", "/v1/models/late:predict"
X = np.array([[0.0, 3], [1, 1], [2, 4], [3, 0]] * 5)
LATE = np.array([0, 0, 1, 1] * 5)
TEXTS = pd.Series(["on time", "time", "late again", "late"] * 5, name="text")


def served(folder: Path, **options: Any) -> ModelApp:
    stated = signature.read(folder)
    return ModelApp("late", "3", load(folder, trust_pickle=True), False, stated, **options)


def saved(folder: Path, model: Any, given: Any = None, **options: Any) -> ModelApp:
    """The application of a scikit-learn model, with a signature if it is known what it is given."""
    said = None if given is None else infer_signature(given, model.predict(given))
    kind = mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE
    mlflow.sklearn.save_model(
        model, str(folder), signature=said, pip_requirements=[], serialization_format=kind, **options
    )
    return served(folder)


def tensor(name: str, shape: list[int], datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def test_a_file_does_not_choose_freely_what_runs(tmp_path: Path) -> None:
    saved(tmp_path / "one", LogisticRegression().fit(X, LATE), X, pyfunc_predict_fn="predict_proba")
    described = tmp_path / "one" / "MLmodel"
    text = described.read_text()
    for method in ("set_params", "__setstate__"):
        described.write_text(text.replace("predict_fn: predict_proba", f"predict_fn: {method}"))
        with pytest.raises(ModelyardError, match=f"asked by '{method}', which predicts nothing"):
            load(tmp_path / "one", trust_pickle=True)


def test_the_method_that_was_logged_is_the_one_that_answers(tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, LATE)
    app = saved(tmp_path / "one", model, X, pyfunc_predict_fn="predict_proba")
    wanted = mlflow.pyfunc.load_model(str(tmp_path / "one")).predict(X[:2])
    assert ask(app, PREDICT, {"instances": X[:2].tolist()}).json == {"predictions": wanted.tolist()}
    several = MultiOutputClassifier(LogisticRegression()).fit(X, np.c_[LATE, X[:, 1] > 2])
    app = saved(tmp_path / "two", several, X, pyfunc_predict_fn="predict_proba")
    made = ask(app, INFER, {"inputs": [tensor("x", [3, 2], "FP64", X[:3].ravel().tolist())]}).json["outputs"]
    assert [(one["name"], one["shape"]) for one in made] == [
        ("predict_proba_0", [3, 2]),
        ("predict_proba_1", [3, 2]),
    ]


@pytest.mark.parametrize("flavor", ["sklearn", "pyfunc"])
def test_columns_that_are_numbers_are_asked_for_by_their_text(tmp_path: Path, flavor: str) -> None:
    table = pd.DataFrame(X)
    model = LinearRegression().fit(table, X[:, 1])
    if flavor == "sklearn":
        app = saved(tmp_path / "model", model, table)
    else:
        second = infer_signature(table, X[:, 1])
        mlflow.pyfunc.save_model(
            str(tmp_path / "model"), python_model=Second(), signature=second, pip_requirements=[]
        )
        app = served(tmp_path / "model")
    said = get(app, "/v2/models/late").json["inputs"]
    assert [one["name"] for one in said] == ["0", "1"]
    rows = [{"1": 3, "0": 0}, {"0": 1, "1": 1}]
    assert ask(app, PREDICT, {"instances": rows}).json["predictions"] == pytest.approx([3, 1])
    assert ask(app, PREDICT, {"instances": X[:2].tolist()}).json["predictions"] == pytest.approx([3, 1])
    columns = [tensor("0", [2], "FP64", [0, 1]), tensor("1", [2], "FP64", [3, 1])]
    assert ask(app, INFER, {"inputs": columns}).json["outputs"][0]["data"] == pytest.approx([3, 1])
    assert ask(app, PREDICT, {"instances": [{"0": 1}]}).error == "row 0 lacks the column '1'"


def text_models() -> dict[str, Any]:
    plain = make_pipeline(TfidfVectorizer(), LogisticRegression())
    union = make_pipeline(make_union(CountVectorizer(), TfidfVectorizer()), LogisticRegression())
    search = GridSearchCV(plain, {"logisticregression__C": [1, 10]}, cv=2)
    return {"plain": plain, "union": union, "search": search}


@pytest.mark.parametrize("name", text_models())
@pytest.mark.parametrize("stated", [True, False])
def test_a_vectorizer_reads_the_texts_of_a_column_and_not_its_name(
    tmp_path: Path, name: str, stated: bool
) -> None:
    model = text_models()[name].fit(TEXTS, LATE)
    app = saved(tmp_path / "model", model, None)
    if stated:  # MLflow itself asks such a model with the names
        told = infer_signature(TEXTS, model.predict(TEXTS))
        mlflow.models.set_signature(str(tmp_path / "model"), told)
        app = served(tmp_path / "model")
    rows = [{"text": "late again"}, {"text": "on time"}, {"text": "late"}]
    assert ask(app, PREDICT, {"instances": rows}).json == {"predictions": [1, 0, 1]}
    sent = {"inputs": [tensor("text", [3], "BYTES", [row["text"] for row in rows])]}
    assert ask(app, INFER, sent).json["outputs"][0]["data"] == [1, 0, 1]


def test_a_dict_vectorizer_reads_objects_of_different_keys(tmp_path: Path) -> None:
    given = [{"carrier": "UA", "stops": 1}, {"carrier": "AA", "stops": 9}] * 5
    model = make_pipeline(DictVectorizer(), LogisticRegression()).fit(given, [0, 1] * 5)
    app = saved(tmp_path / "model", model)
    rows = [{"stops": 1}, {"carrier": "AA", "stops": 9}]
    assert ask(app, PREDICT, {"instances": rows}).json == {"predictions": model.predict(rows).tolist()}
    columns = [tensor("stops", [2], "INT64", [1, 9]), tensor("carrier", [2], "BYTES", ["UA", "AA"])]
    assert ask(app, INFER, {"inputs": columns}).json["outputs"][0]["data"] == [0, 1]
    said = ask(app, PREDICT, {"instances": [[1, 2]]})
    assert (said.status, said.error) == (400, "the model takes objects of names and values")


class Second(PythonModel):  # type: ignore[misc,unused-ignore]
    """Takes a table whose columns have no names."""

    def predict(self, context, model_input, params=None):
        return model_input[1]


class Stops(PythonModel):  # type: ignore[misc,unused-ignore]
    """Takes whatever has stops."""

    def predict(self, context, model_input, params=None):
        return model_input["stops"] + len(model_input.columns)


def test_python_models_that_state_nothing_get_tables_and_arrays(tmp_path: Path) -> None:
    mlflow.pyfunc.save_model(str(tmp_path / "model"), python_model=Stops(), pip_requirements=[])
    app = served(tmp_path / "model")
    rows = [{"stops": 1, "carrier": "UA"}, {"stops": 5, "carrier": "AA"}]
    assert ask(app, PREDICT, {"instances": rows}).json == {"predictions": [3, 7]}
    columns = [tensor("stops", [2], "INT64", [1, 5]), tensor("carrier", [2], "BYTES", ["UA", "AA"])]
    assert ask(app, INFER, {"inputs": columns}).json["outputs"][0]["data"] == [3, 7]
    mlflow.pyfunc.save_model(str(tmp_path / "sums"), python_model=Sums(), pip_requirements=[])
    assert ask(served(tmp_path / "sums"), PREDICT, {"instances": [[1, 2], [3, 4]]}).json == {
        "predictions": [3, 7]
    }


def test_params_of_a_model_that_takes_none_are_refused_and_not_left_out(tmp_path: Path) -> None:
    app = saved(tmp_path / "model", LinearRegression().fit(X, LATE), X)
    said = ask(app, PREDICT, {"instances": X[:1].tolist(), "params": {"depth": 2}})
    assert (said.status, said.error) == (400, "'depth' in 'params': the model takes none, leave them out")


class Raised(PythonModel):  # type: ignore[misc,unused-ignore]
    """Raises numbers by what is said beside them."""

    def predict(self, context, model_input, params=None):
        said = f" {params['unit']}" if params["unit"] else ""
        return [f"{row + params['by']:.1f}{said}" for row in model_input["temp"]]


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("params") / "model"
    stated = infer_signature(pd.DataFrame({"temp": [1.0]}), ["1.0 C"], params={"by": 0.5, "unit": ""})
    mlflow.pyfunc.save_model(str(folder), python_model=Raised(), signature=stated, pip_requirements=[])
    return folder


@pytest.mark.parametrize("batching", [None, Batching(8, 0.01)], ids=["at once", "batched"])
def test_params_are_said_beside_the_rows(raised: Path, batching: Batching | None) -> None:
    app, rows = served(raised, batching=batching), [{"temp": 1.0}, {"temp": 2.0}]

    def predicted(**said: object) -> object:
        return ask(app, PREDICT, {"instances": rows, **said}).json["predictions"]

    assert predicted() == predicted(params={}) == predicted(params=None) == ["1.5", "2.5"]
    assert predicted(params={"by": 4.0}) == ["5.0", "6.0"]
    assert predicted(params={"by": 1, "unit": "C"}) == ["2.0 C", "3.0 C"]
    inputs = [tensor("temp", [2], "FP64", [1.0, 2.0])]
    told = {"by": -1.0, "content_type": "pd", "binary_data_output": False}
    made = ask(app, INFER, {"inputs": inputs, "parameters": told}).json
    assert made["outputs"][0]["data"] == ["0.0", "1.0"]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"buy": 1.0}, "'buy' in 'params': the model takes 'by', 'unit'"),
        ([1], "'params' is no object"),
        ({"by": "much"}, "by"),
        ({"by": [1.0, 2.0]}, "by"),
    ],
)
def test_params_that_do_not_fit_are_the_callers_fault(raised: Path, params: object, said: str) -> None:
    refused = ask(served(raised), PREDICT, {"instances": [{"temp": 1.0}], "params": params})
    assert refused.status == 400, refused.json
    assert said in refused.error


def test_params_are_said_in_grpc(raised: Path) -> None:
    made = grpc_wire.MESSAGES.ModelInferRequest(model_name="late")
    made.parameters["unit"].string_param = "F"
    made.parameters["triton_sequence"].int64_param = 4
    made.inputs.add(name="temp", datatype="FP64", shape=[1]).contents.fp64_contents.append(1.0)
    path = "/inference.GRPCInferenceService/ModelInfer"
    answer = asyncio.run(served(raised)(Request("POST", path, b"", {}, grpc_wire.framed(made))))
    said = grpc_wire.message("ModelInferResponse", answer.body(), "identity")
    assert list(said.outputs[0].contents.bytes_contents) == [b"1.5 F"]


def test_params_stand_in_the_openapi_document(raised: Path) -> None:
    schemas = get(served(raised), "/openapi.json").json["components"]["schemas"]
    v1, v2 = (schemas[name]["properties"] for name in ("PredictRequest", "InferenceRequest"))
    assert set(v1["params"]["properties"]) == {"by", "unit"}
    assert set(v2["parameters"]["properties"]) == {"by", "unit", "binary_data_output"}


class Sums(PythonModel):  # type: ignore[misc,unused-ignore]
    """Takes a matrix."""

    def predict(self, context, model_input, params=None):
        return model_input.sum(axis=1)


@pytest.mark.parametrize("task", ["agent/v1/chat", "agent/v2/chat", "agent/v1/responses"])
def test_models_of_conversations_are_refused(tmp_path: Path, task: str) -> None:
    loader = "mlflow.pyfunc.loaders.chat_model"
    (tmp_path / "MLmodel").write_text(
        f"flavors: {{python_function: {{loader_module: {loader}}}}}\nmetadata: {{task: {task}}}\n"
    )
    with pytest.raises(
        ModelyardError, match=rf"it holds conversations \({task}\), and endpoints answer rows"
    ):
        load(tmp_path, trust_pickle=True)
