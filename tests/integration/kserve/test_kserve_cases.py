"""KServe's own end-to-end cases of predictors, in our words: like files, questions and answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

#: Two flowers, both of the second kind: what KServe's cases ask.
FLOWERS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
FEATURES = ["sepal_length_(cm)", "sepal_width_(cm)", "petal_length_(cm)", "petal_width_(cm)"]
#: What stands in nearly every file of KServe's, and does not hinder here.
LIMITS = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "100m", "memory": "4Gi"}}


def service(project: Any, name: str, predictor: dict[str, Any], annotations: Any = None, **more: Any) -> Any:
    """An InferenceService, applied with consent: KServe loads every pickle."""
    content = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {"predictor": predictor, **more},
    }
    file = project.context.root / f"{name}.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return project.server.apply(file, trust=True)


def model(format_: str, folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "model": {"modelFormat": {"name": format_}, "storageUri": str(folder), "resources": LIMITS, **more}
    }


@pytest.fixture
def ask(post: Callable[..., Any]) -> Callable[..., tuple[int, Any]]:
    def asked(endpoint: Any, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        status, _, text = post(endpoint.url, path, json.dumps(body).encode(), given)
        return status, json.loads(text)

    return asked


def tensor(datatype: str = "FP32", name: str = "input-0", rows: Any = FLOWERS) -> dict[str, Any]:
    """As KServe's cases write it: nested lists."""
    return {"name": name, "shape": list(np.shape(rows)), "datatype": datatype, "data": rows}


def grpc_asks(endpoint: Any, name: str, inputs: list[dict[str, Any]], **parameters: str) -> Any:
    """The answer to KServe's client, which finds the endpoint by its host name."""
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    made = []
    for said in inputs:
        one = InferInput(said["name"], said["shape"], said["datatype"])
        kind = {"FP32": np.float32, "INT32": np.int32, "BYTES": np.object_}[said["datatype"]]
        one.set_data_from_numpy(np.array(said["data"], kind), binary_data=False)
        made.append(one)

    async def answer() -> Any:
        address = urlsplit(endpoint.url).netloc
        host = [("grpc.default_authority", f"{endpoint.name}-default.example.com")]
        async with InferenceGRPCClient(address, channel_args=host) as client:
            return await client.infer(InferRequest(name, made, parameters=parameters))

    return asyncio.run(answer())


# -- models ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with the same flowers, as KServe's servers take them."""
    import joblib
    import lightgbm
    import xgboost
    from sklearn import datasets, svm

    data, kinds = datasets.load_iris(return_X_y=True)
    made = {name: tmp_path_factory.mktemp(name) for name in ("sklearn", "xgboost", "lightgbm")}
    joblib.dump(svm.SVC(gamma="scale").fit(data, kinds), made["sklearn"] / "model.joblib")
    told = {"objective": "multi:softmax", "num_class": 3}
    xgboost.train(told, xgboost.DMatrix(data, kinds), 10).save_model(made["xgboost"] / "model.ubj")
    table = lightgbm.Dataset(data, label=kinds, feature_name=FEATURES)
    told = {"objective": "multiclass", "num_class": 3, "verbose": -1}
    lightgbm.train(told, table, 20).save_model(made["lightgbm"] / "model.bst")
    return made


@pytest.fixture(scope="module")
def flowers(project: Any, iris: dict[str, Path]) -> Any:
    """One file of KServe's Standard mode, with its server's name for the model."""
    return service(
        project,
        "isvc-sklearn",
        {
            "minReplicas": 1,
            "scaleMetric": "cpu",
            "scaleTarget": 80,
            **model(
                "sklearn", iris["sklearn"], runtime="kserve-sklearnserver", args=["--model_name", "sklearn"]
            ),
        },
        annotations={
            "serving.kserve.io/deploymentMode": "Standard",
            "serving.kserve.io/autoscalerClass": "hpa",
        },
    )


@pytest.mark.parametrize("name", ["isvc-sklearn", "sklearn"])
def test_sklearn_answers_v1_and_v2_under_both_names(flowers: Any, ask: Any, name: str) -> None:
    assert ask(flowers, f"/v1/models/{name}:predict", {"instances": FLOWERS}) == (
        200,
        {"predictions": [1, 1]},
    )
    status, said = ask(flowers, f"/v2/models/{name}/infer", {"id": "mine", "inputs": [tensor()]})
    assert (status, said["id"], said["outputs"][0]["data"]) == (200, "mine", [1, 1])
    said = grpc_asks(flowers, name, [tensor()])
    assert said.outputs[0].as_numpy().tolist() == [1, 1]


def test_what_the_v2_client_asks_for_is_sent_as_bytes(flowers: Any) -> None:
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    async def ask(**more: Any) -> Any:
        made = InferInput("input-0", [2, 4], "FP32")
        made.set_data_from_numpy(np.array(FLOWERS, np.float32), binary_data=False)
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        answer = await client.infer(flowers.url, InferRequest("sklearn", [made], **more), "sklearn")
        await client.close()
        return answer

    from kserve.protocol.infer_type import RequestedOutput

    wanted = RequestedOutput("output-0", parameters={"binary_data": True})
    for more, name in (
        ({"request_outputs": [wanted]}, "output-0"),
        ({"parameters": {"binary_data_output": True}}, "predict"),
    ):
        answer = asyncio.run(ask(**more))
        assert [one.name for one in answer.outputs] == [name]
        assert answer.outputs[0].as_numpy().tolist() == [1, 1]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/models/nobody:predict", "no model answers on /v1/models/nobody:predict"),
        ("/v2/models/nobody/infer", "no model answers on /v2/models/nobody/infer"),
        ("/v1/models/sklearn2:predict", "no model answers on"),
    ],
)
def test_a_model_that_is_not_there_is_404(flowers: Any, ask: Any, path: str, said: str) -> None:
    status, answer = ask(flowers, path, {"instances": FLOWERS})
    assert status == 404
    assert said in answer["error"]


def test_texts_are_what_a_model_of_one_file_takes(project: Any, ask: Any, tmp_path: Path) -> None:
    import joblib
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    news = ["the engine needs new oil", "my car has a flat tyre", "the goalie saved it", "they won the game"]
    trained = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(news, [7, 7, 10, 10])
    joblib.dump(trained, tmp_path / "model.joblib")
    made = service(project, "news", model("sklearn", tmp_path / "model.joblib", args=["--workers=2"]))
    v1, v2 = "/v1/models/news:predict", "/v2/models/news/infer"
    asked = ["a car and its engine", "a game for the goalie"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(made, v1, {"instances": asked}), range(25)))
    assert answers == [(200, {"predictions": [7, 10]})] * 25
    status, said = ask(made, v2, {"inputs": [tensor("BYTES", rows=asked)]})
    assert (status, said["outputs"][0]["data"]) == (200, [7, 10])
    assert grpc_asks(made, "news", [tensor("BYTES", rows=asked)]).outputs[0].as_numpy().tolist() == [7, 10]
    status, said = ask(made, v1, {"instances": [1, 2]})
    assert (status, said["error"]) == (400, "the rows are not lists of numbers of one length")


@pytest.fixture(scope="module")
def houses(project: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A pipeline that tells its columns apart by name, of texts and of numbers."""
    import joblib
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table = pd.DataFrame(
        {"Zone": ["RL", "RM", "RL", "RM"], "Area": [10, 20, 30, 40], "Shape": ["Reg", "Reg", "IR", "IR"]}
    )
    texts = ColumnTransformer([("texts", OneHotEncoder(), ["Zone", "Shape"])], remainder="passthrough")
    trained = make_pipeline(texts, LinearRegression()).fit(table, [10, 120, 30, 140])
    folder = tmp_path_factory.mktemp("houses")
    joblib.dump(trained, folder / "model.joblib")
    return service(project, "houses", model("sklearn", folder, args=["--model_name=sklearn"]))


HOUSE = {"Area": 30, "Zone": "RL", "Shape": "IR"}


def columns(house: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = {name: "BYTES" if isinstance(value, str) else "INT32" for name, value in house.items()}
    return [tensor(kinds[name], name, [value]) for name, value in house.items()]


def test_mixed_types_are_a_table(houses: Any, ask: Any) -> None:
    asked = {"parameters": {"content_type": "pd"}, "inputs": columns(HOUSE)}
    status, said = ask(houses, "/v2/models/houses/infer", asked)
    assert (status, said["outputs"][0]["data"]) == (200, [pytest.approx(30)])
    said = grpc_asks(houses, "sklearn", columns(HOUSE), content_type="pd")
    assert said.outputs[0].as_numpy().tolist() == [pytest.approx(30)]
    for body in ({"instances": [HOUSE]}, {"inputs": [{name: [value] for name, value in HOUSE.items()}]}):
        status, said = ask(houses, "/v1/models/sklearn:predict", body)
        assert (status, said["predictions"]) == (200, [pytest.approx(30)])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"instances": [HOUSE, {"Area": 30}]}, "row 1 lacks the column 'Zone'"),
        ({"instances": [HOUSE, [1, 2, 3]]}, "the instances mix objects and other values"),
        ({"instances": [{"Area": [1, 2], "Zone": ["RL"]}]}, "instance 0 has columns of different lengths"),
        ({"instances": [{"Area": 30}]}, "Zone"),
    ],
)
def test_tables_that_are_none_are_the_callers_fault(houses: Any, ask: Any, body: Any, said: str) -> None:
    status, answer = ask(houses, "/v1/models/houses:predict", body)
    assert status == 400
    assert said in answer["error"]


def test_xgboost_answers_numbers_of_32_bits(project: Any, ask: Any, iris: dict[str, Path]) -> None:
    made = service(
        project,
        "isvc-xgboost",
        {
            "minReplicas": 1,
            "xgboost": {"storageUri": str(iris["xgboost"]), "args": ["--model_name", "xgboost"]},
        },
    )
    assert ask(made, "/v1/models/isvc-xgboost:predict", {"instances": FLOWERS}) == (
        200,
        {"predictions": [1.0, 1.0]},
    )
    status, said = ask(made, "/v2/models/isvc-xgboost/infer", {"inputs": [tensor()]})
    assert (status, said["outputs"][0]["datatype"], said["outputs"][0]["data"]) == (200, "FP32", [1.0, 1.0])
    said = grpc_asks(made, "xgboost", [tensor()])
    assert said.outputs[0].as_numpy().tolist() == [1.0, 1.0]


def test_lightgbm_takes_inputs_by_column(project: Any, ask: Any, iris: dict[str, Path]) -> None:
    made = service(
        project,
        "isvc-lightgbm",
        {"minReplicas": 1, **model("lightgbm", iris["lightgbm"], runtime="kserve-lgbserver")},
    )
    path, first = "/v1/models/isvc-lightgbm:predict", [5.1, 3.5, 1.4, 0.2]
    rows = [first, FLOWERS[0]]
    for inputs in (
        [{name: [value] for name, value in zip(FEATURES, first)}],
        [{name: [row[n] for row in rows] for n, name in enumerate(FEATURES)}],
        [dict(zip(FEATURES, row)) for row in rows],
    ):
        status, said = ask(made, path, {"inputs": inputs})
        assert status == 200
        assert [int(np.argmax(one)) for one in said["predictions"]] == [0, 1][: len(said["predictions"])]
    status, said = ask(made, "/v2/models/isvc-lightgbm/infer", {"inputs": [tensor()]})
    assert (status, said["outputs"][0]["datatype"], said["outputs"][0]["shape"]) == (200, "FP64", [2, 3])
    # KServe fills a column that is not there with holes, and so answers to a misspelt one, too.
    status, said = ask(made, path, {"inputs": [{"sepal_length_(cm)": [5.1]}]})
    assert (status, said["error"]) == (400, "row 0 lacks the column 'sepal_width_(cm)'")
