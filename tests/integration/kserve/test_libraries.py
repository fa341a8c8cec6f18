"""Models of other libraries, trained here, served from their own files, asked by V1 and V2."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.errors import ModelyardError

X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
ROWS = X[:4].astype(float).tolist()


@pytest.fixture
def ask(project: Any, post: Callable[..., Any]) -> Callable[..., Any]:
    """Ask an endpoint with V1's instances or V2's inputs; gives the status and the body."""

    def asked(name: str, path: str, body: Any) -> tuple[int, Any]:
        url = project.server.get(name).url
        status, _, text = post(url, path, json.dumps(body).encode())
        return status, json.loads(text)

    return asked


def v1(name: str) -> str:
    return f"/v1/models/{name}:predict"


def v2(name: str) -> str:
    return f"/v2/models/{name}/infer"


def flat(rows: Any, datatype: str = "FP32", name: str = "x") -> dict[str, Any]:
    array = np.asarray(rows)
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist()}


def of(format_: str) -> dict[str, Any]:
    return {"modelFormat": {"name": format_}}


def boosted(folder: Path, name: str, table: Any = X) -> Any:
    import xgboost

    booster = xgboost.train({"max_depth": 2}, xgboost.DMatrix(table, Y), 5)
    folder.mkdir(exist_ok=True)
    booster.save_model(folder / name)
    return booster


def graph(folder: Path, file: str = "model.onnx") -> None:
    """Two inputs, two outputs: the sum of `left` and `right`, and whether it is positive."""
    from onnx import TensorProto, checker, helper, save

    value = helper.make_tensor_value_info
    made = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Add", ["left", "right"], ["sum"]),
                helper.make_node("Greater", ["sum", "zero"], ["positive"]),
            ],
            "sums",
            [value("left", TensorProto.FLOAT, ["n", 2]), value("right", TensorProto.FLOAT, ["n", 2])],
            [value("sum", TensorProto.FLOAT, ["n", 2]), value("positive", TensorProto.BOOL, ["n", 2])],
            [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    checker.check_model(made)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    save(made, folder / file)


def words(folder: Path) -> None:
    """Inputs of any number of axes and of none, outputs of one and of none: the numbers of words, of which
    it knows three, times a scale, and their sum."""
    from onnx import TensorProto, helper, save

    value = helper.make_tensor_value_info
    made = helper.make_graph(
        [
            helper.make_node("Gather", ["known", "words"], ["found"]),
            helper.make_node("Mul", ["found", "scale"], ["scaled"]),
            helper.make_node("ReduceSum", ["scaled"], ["total"], keepdims=0),
        ],
        "words",
        [value("scale", TensorProto.FLOAT, []), value("words", TensorProto.INT64, None)],
        [value("scaled", TensorProto.FLOAT, None), value("total", TensorProto.FLOAT, [])],
        [helper.make_tensor("known", TensorProto.FLOAT, [3], [1.0, 2.0, 4.0])],
    )
    folder.mkdir()
    save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        folder / "model.onnx",
    )


# -- boosters -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["bst", "json", "ubj"])
def test_xgboosts_files_answer_as_the_booster_does(
    project: Any, ask: Callable[..., Any], tmp_path: Path, ending: str
) -> None:
    import xgboost

    name = f"xgb-{ending}"
    booster = boosted(tmp_path / "model", f"model.{ending}")
    project.apply(name, str(tmp_path / "model"), **of("xgboost"))
    wanted = booster.predict(xgboost.DMatrix(X[:4])).tolist()
    status, said = ask(name, v1(name), {"instances": ROWS})
    assert (status, said["predictions"]) == (200, pytest.approx(wanted))
    status, said = ask(name, v2(name), {"inputs": [flat(ROWS)]})
    assert (status, said["outputs"][0]["data"]) == (200, pytest.approx(wanted))


def test_xgboosts_features_are_columns(project: Any, ask: Callable[..., Any], tmp_path: Path) -> None:
    import xgboost

    table = pd.DataFrame(X, columns=["a", "b", "c"])
    booster = boosted(tmp_path / "model", "model.json", table)
    project.apply("named", str(tmp_path / "model"), **of("xgboost"))
    wanted = booster.predict(xgboost.DMatrix(table[:2])).tolist()
    rows = table[:2].astype(float).to_dict("records")
    status, said = ask("named", v1("named"), {"instances": rows})
    assert (status, said["predictions"]) == (200, pytest.approx(wanted))
    status, said = ask("named", v1("named"), {"instances": [{"a": 1.0, "b": 2.0}]})
    assert (status, said) == (400, {"error": "row 0 lacks the column 'c'"})
    status, said = ask("named", v1("named"), {"instances": [[1.0, 2.0]]})
    assert (status, said) == (400, {"error": "row 0 has 2 values, the model takes 3 columns"})


def test_an_mlflow_folder_is_read_by_the_format_that_is_named(
    project: Any, ask: Callable[..., Any], tmp_path: Path
) -> None:
    import mlflow.xgboost
    import xgboost
    from mlflow.models import infer_signature

    table = pd.DataFrame(X.astype(float), columns=["a", "b", "c"])
    booster = xgboost.train({"max_depth": 2}, xgboost.DMatrix(table, Y), 5)
    wanted = booster.predict(xgboost.DMatrix(table[:2]))
    mlflow.xgboost.save_model(
        booster,
        str(tmp_path / "model"),
        signature=infer_signature(table, wanted),
        pip_requirements=["xgboost"],
    )
    project.apply("by-mlflow", str(tmp_path / "model"), **of("xgboost"))
    status, said = ask("by-mlflow", v1("by-mlflow"), {"instances": table[:2].to_dict("records")})
    assert (status, said["predictions"]) == (200, pytest.approx(wanted.tolist()))


@pytest.mark.parametrize("ending", ["bst", "txt"])
def test_lightgbms_files_answer_as_the_booster_does(
    project: Any, ask: Callable[..., Any], tmp_path: Path, ending: str
) -> None:
    import lightgbm

    name, folder = f"lgb-{ending}", tmp_path / "model"
    folder.mkdir()
    (folder / "requirements.txt").write_text("lightgbm\n")
    booster = lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1}, lightgbm.Dataset(X, Y), 5
    )
    booster.save_model(folder / f"model.{ending}")
    project.apply(name, str(folder), **of("lightgbm"))
    wanted = booster.predict(X[:4].astype(float)).tolist()
    status, said = ask(name, v1(name), {"instances": ROWS})
    assert (status, said["predictions"]) == (200, pytest.approx(wanted))
    status, said = ask(name, v2(name), {"inputs": [flat(ROWS, "FP64")]})
    assert (status, said["outputs"][0]["data"]) == (200, pytest.approx(wanted))
    status, said = ask(name, v1(name), {"instances": [[1.0]]})
    assert (status, said) == (400, {"error": "the rows have 1 values, the model takes 3 features"})


# -- ONNX -----------------------------------------------------------------------------------


def test_an_onnx_graph_has_its_inputs_and_outputs_by_name(
    project: Any, ask: Callable[..., Any], tmp_path: Path
) -> None:
    graph(tmp_path / "model")
    endpoint = project.apply("sums", str(tmp_path / "model"), **of("onnx"))
    left, right = [[1, 2], [3, 4]], [[0.5, -9], [1, 1]]
    instances = [{"left": a, "right": b} for a, b in zip(left, right)]
    assert ask("sums", v1("sums"), {"instances": instances}) == (
        200,
        {
            "predictions": [
                {"sum": [1.5, -7.0], "positive": [True, False]},
                {"sum": [4.0, 5.0], "positive": [True, True]},
            ]
        },
    )
    inputs = [flat(right, name="right"), flat(left, "INT64", "left")]
    status, said = ask("sums", v2("sums"), {"id": "one", "inputs": inputs})
    assert (status, said["id"]) == (200, "one")
    assert said["outputs"] == [
        {"name": "sum", "shape": [2, 2], "datatype": "FP32", "data": [1.5, -7.0, 4.0, 5.0]},
        {"name": "positive", "shape": [2, 2], "datatype": "BOOL", "data": [True, False, True, True]},
    ]
    import httpx

    described = httpx.get(f"{endpoint.url}/v2/models/sums").json()
    assert described["platform"] == "onnx"
    assert described["inputs"] == [
        {"name": name, "datatype": "FP32", "shape": [-1, 2]} for name in ("left", "right")
    ]
    assert [one["datatype"] for one in described["outputs"]] == ["FP32", "BOOL"]
    reports = Path(os.environ["XDG_CACHE_HOME"]) / "Microsoft"
    assert not reports.exists(), "ONNX Runtime keeps there what it tells its makers, unless it is told not to"


def test_an_onnx_graph_may_take_and_give_single_values_and_tensors_of_any_shape(
    project: Any, ask: Callable[..., Any], tmp_path: Path
) -> None:
    words(tmp_path / "model")
    project.apply("words", str(tmp_path / "model"), **of("onnx"))

    def asked(*numbers: int) -> Any:
        single = {"name": "scale", "shape": [], "datatype": "FP32", "data": [2]}
        those = {"name": "words", "shape": [len(numbers)], "datatype": "INT64", "data": list(numbers)}
        return ask("words", v2("words"), {"inputs": [single, those]})

    status, said = asked(0, 2)
    assert status == 200, said
    assert said["outputs"] == [
        {"name": "scaled", "shape": [2], "datatype": "FP32", "data": [2.0, 8.0]},
        {"name": "total", "shape": [], "datatype": "FP32", "data": [10.0]},
    ]
    status, said = ask("words", v1("words"), {"instances": [{"words": 1, "scale": 2}]})
    assert (status, said) == (200, {"predictions": {"scaled": [4.0], "total": 4.0}})
    status, said = asked(0, 3)
    assert status == 400, said
    assert said["error"].startswith("the model can't take these values: indices element out of data bounds")


@pytest.mark.parametrize(
    ("instances", "said"),
    [
        ([[1, 2]], "the model has 2 inputs, so each instance is an object with left, right"),
        ([{"left": [1, 2]}], "row 0 lacks the input 'right'"),
        ([{"left": [1], "right": [1]}], "input 'left' has the shape [1, 1], the model takes [-1, 2]"),
        ([{"left": [1, "b"], "right": [1, 2]}], "input 'left': 'b' is not a number"),
        ([{"left": [1, [2]], "right": [1, 2]}], "input 'left': its lists differ in length"),
    ],
)
def test_what_does_not_fit_an_onnx_graph_is_named(
    project: Any, ask: Callable[..., Any], tmp_path: Path, instances: Any, said: str
) -> None:
    if "refusing" not in [one.name for one in project.server.endpoints()]:
        graph(project.context.root / "sums")
        project.apply("refusing", "sums", **of("onnx"))
    assert ask("refusing", v1("refusing"), {"instances": instances}) == (400, {"error": said})


def test_sizes_that_only_a_step_of_the_graph_finds_wrong_are_the_callers(
    project: Any, ask: Callable[..., Any], tmp_path: Path
) -> None:
    graph(tmp_path / "model")
    project.apply("steps", str(tmp_path / "model"), **of("onnx"))
    inputs = [flat([[1, 2]] * 2, name="left"), flat([[1, 2]] * 3, name="right")]
    status, said = ask("steps", v2("steps"), {"inputs": inputs})
    said_by_it = "Attempting to broadcast an axis by a dimension other than 1. 2 by 3"
    assert (status, said) == (400, {"error": f"the model can't take these values: {said_by_it}"})


def test_tritons_folder_with_the_highest_version_is_taken(
    project: Any, ask: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "model" / "9").mkdir(parents=True)
    (tmp_path / "model" / "9" / "model.onnx").write_bytes(b"old")
    graph(tmp_path / "model", "10/model.onnx")
    (tmp_path / "model" / "config.pbtxt").write_text('name: "sums"')
    project.apply("versions", str(tmp_path / "model"), **of("onnx"))
    asked = {"instances": [{"left": [1, 1], "right": [1, 1]}]}
    assert ask("versions", v1("versions"), asked)[0] == 200


# -- limits ---------------------------------------------------------------------------------


class Hungry:
    """Takes as much memory as it is asked to, or says how many threads libraries may start."""

    def predict(self, rows: Any) -> Any:
        import os

        wanted = int(rows[0][0])
        return [len(bytearray(wanted)) if wanted else int(os.environ["OMP_NUM_THREADS"])]


def test_limits_are_kept_by_the_process(
    new_project: Callable[..., Any], post: Callable[..., Any], tmp_path: Path
) -> None:
    import cloudpickle

    here = sys.modules[__name__]
    (tmp_path / "model").mkdir()
    cloudpickle.register_pickle_by_value(here)
    try:
        (tmp_path / "model" / "model.pkl").write_bytes(cloudpickle.dumps(Hungry()))
    finally:
        cloudpickle.unregister_pickle_by_value(here)
    project = new_project(trust_pickle=True)

    def ask(url: str, number: int) -> tuple[int, Any]:
        status, _, text = post(url, v1("hungry"), json.dumps({"instances": [[number]]}).encode())
        return status, json.loads(text)

    def limited(**limits: Any) -> str:
        uri = str(tmp_path / "model")
        made = project.apply("hungry", uri, **of("sklearn"), resources={"limits": limits})
        return str(made.url)

    url = limited(memory="1Gi", cpu=2)
    assert ask(url, 0) == (200, {"predictions": [2]})
    said = "MemoryError: resources.limits.memory, 1024 MiB, does not suffice"
    assert ask(url, 2**31) == (500, {"error": said})
    assert ask(url, 2**20) == (200, {"predictions": [2**20]}), "and it answers on"
    url = limited(memory="4Gi")
    assert ask(url, 0) == (200, {"predictions": [1]})
    assert ask(url, 2**31) == (200, {"predictions": [2**31]})
    with pytest.raises(ModelyardError) as caught:
        limited(memory="60Mi")
    found = re.search(r"limits.memory, 60 MiB, does not suffice: .* ask for (\d+) MiB", caught.value.message)
    assert found, caught.value.message
    state = project.server.explain("hungry").endpoint.revisions[0]
    assert (state.failed, found[0] in state.message) == (True, True)
    assert ask(url, 0) == (200, {"predictions": [1]}), "the one before answers"
    url = limited(memory=f"{found[1]}Mi")
    assert ask(url, 0) == (200, {"predictions": [1]}), "what is said to be enough is enough"
    with pytest.raises(ModelyardError) as caught:
        limited(**{"nvidia.com/gpu": 99})
    assert "it asks for 99 of nvidia.com/gpu; this machine has " in caught.value.message


class Large:
    """Takes 1 GiB while it is loaded."""

    def __reduce__(self) -> Any:
        return bytearray, (2**30,)


def test_a_model_that_does_not_fit_says_so(new_project: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.pkl").write_bytes(pickle.dumps(Large()))
    project = new_project(trust_pickle=True)
    limits = {"limits": {"memory": "512Mi"}}
    with pytest.raises(ModelyardError) as caught:
        project.apply("large", str(tmp_path / "model"), **of("sklearn"), resources=limits)
    said = "can't be loaded: MemoryError: resources.limits.memory, 512 MiB, does not suffice"
    assert said in caught.value.message


# -- what can't be served -------------------------------------------------------------------


def refused(project: Any, folder: Path, format_: str) -> str:
    with pytest.raises(ModelyardError) as caught:
        project.apply("refused", str(folder), **of(format_))
    assert caught.value.code == "revision-failed"
    message: str = caught.value.message
    assert "\n" not in message
    return message


def test_the_wrong_format_is_named_with_the_right_one(project: Any, tmp_path: Path) -> None:
    boosted(tmp_path / "model", "model.ubj")
    said = refused(project, tmp_path / "model", "onnx")
    assert "no onnx model (*.onnx) is in it; it looks like xgboost: say so in modelFormat" in said


def test_two_files_are_named(project: Any, tmp_path: Path) -> None:
    boosted(tmp_path / "model", "a.bst")
    boosted(tmp_path / "model", "b.json")
    said = refused(project, tmp_path / "model", "xgboost")
    assert "it holds 2 model files (a.bst, b.json); one of *.bst, *.json, *.ubj is needed" in said


@pytest.mark.parametrize(
    ("format_", "file"), [("xgboost", "m.ubj"), ("lightgbm", "m.bst"), ("onnx", "m.onnx")]
)
def test_a_broken_file_is_one_sentence(project: Any, tmp_path: Path, format_: str, file: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / file).write_bytes(b"tree\nbut torn")
    assert " can't be loaded: " in refused(project, tmp_path / "model", format_)


def test_a_missing_library_names_what_to_install(project: Any, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"")
    try:
        import tensorflow  # noqa: F401
    except ModuleNotFoundError:
        said = refused(project, tmp_path / "model", "tensorflow")
        assert "tensorflow is not installed: pip install tensorflow" in said
    else:
        pytest.skip("TensorFlow is installed")
