"""Every route of V1 and V2: what answers, and what each refusal says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.unit.kserve.asked import COLUMNS, app, ask, get

import modelyard
from modelyard_kserve.local.signature import Signature, Spec, read

INFER, PREDICT = "/v2/models/late/infer", "/v1/models/late:predict"
STATED = Signature(inputs=(Spec("temp", "FP64"), Spec("stops", "INT64")), outputs=(Spec("", "INT64"),))


def body(**more: Any) -> dict[str, Any]:
    inputs = [
        {"name": "temp", "shape": [2], "datatype": "FP64", "data": [20.5, -4]},
        {"name": "stops", "shape": [2], "datatype": "INT64", "data": [0, 2]},
    ]
    return {"inputs": inputs, **more}


@pytest.fixture
def late() -> Any:
    return app(np.array([1, 0]), COLUMNS, STATED)


# -- about the server and the model ---------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/", {"status": "alive"}),
        ("/v1/models", {"models": ["late"]}),
        ("/v1/models/late", {"name": "late", "ready": True}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models", {"models": ["late"]}),
        ("/v2/models/late/ready", {"name": "late", "ready": True}),
        ("/v2/models/late/versions/3/ready", {"name": "late", "ready": True}),
    ],
)
def test_what_can_be_looked_at(late: Any, path: str, said: Any) -> None:
    seen = get(late, path)
    assert (seen.status, seen.json) == (200, said)


def test_the_server_says_what_it_can_do(late: Any) -> None:
    assert get(late, "/v2").json == {
        "name": "modelyard",
        "version": modelyard.__version__,
        "extensions": ["binary_tensor_data", "model_repository_extension"],
    }


def test_the_metadata_are_the_signature_under_both_paths(late: Any) -> None:
    for path in ("/v2/models/late", "/v2/models/late/versions/3"):
        assert get(late, path).json == {
            "name": "late",
            "versions": ["3"],
            "platform": "mlflow",
            "inputs": [
                {"name": "temp", "datatype": "FP64", "shape": [-1]},
                {"name": "stops", "datatype": "INT64", "shape": [-1]},
            ],
            "outputs": [{"name": "predict", "datatype": "INT64", "shape": [-1]}],
        }


def test_a_model_that_states_nothing_has_no_metadata_about_tensors() -> None:
    said = get(app(), "/v2/models/late").json
    assert (said["inputs"], said["outputs"]) == ([], [])


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/v2/models/late/versions/4", "'late' has version 3 here, and no version 4"),
        ("/v2/models/late/versions/4/ready", "'late' has version 3 here, and no version 4"),
        ("/v2/models/late/versions/3/more", "no model answers on /v2/models/late/versions/3/more"),
        ("/v2/models/other", "no model answers on /v2/models/other; this endpoint serves 'late'"),
        ("/v1/models/other", "no model answers on /v1/models/other; this endpoint serves 'late'"),
        ("/nowhere", "there is nothing at /nowhere"),
    ],
)
def test_what_is_not_there_is_said(late: Any, path: str, sentence: str) -> None:
    said = get(late, path)
    assert said.status == 404
    assert said.error.startswith(sentence)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", INFER), ("GET", PREDICT), ("POST", "/v2"), ("PUT", "/v2/models/late")]
)
def test_the_wrong_method_is_said(late: Any, method: str, path: str) -> None:
    said = ask(late, path, {}, method=method)
    works = "POST" if method == "GET" else "GET"
    assert (said.status, said.error) == (405, f"only {works} works here")
    assert works in said.answer.headers["allow"]


# -- predictions ----------------------------------------------------------------------------


def test_an_explainer_is_not_there(late: Any) -> None:
    said = ask(late, "/v1/models/late:explain", {"instances": [[1, 2]]})
    assert (said.status, said.error) == (501, "'late' has no explainer")
    assert ask(late, "/v1/models/other:explain", {}).status == 404


def test_the_version_in_a_path_is_ours_or_not_there(late: Any) -> None:
    assert ask(late, "/v2/models/late/versions/3/infer", body()).json["outputs"][0]["data"] == [1, 0]
    said = ask(late, "/v2/models/late/versions/2/infer", body())
    assert (said.status, said.error) == (404, "'late' has version 3 here, and no version 2")


def test_an_answer_has_the_id_of_the_request_or_the_header(late: Any) -> None:
    said = ask(late, INFER, body(id="frage", parameters={"anything": 1}), {"x-request-id": "r"}).json
    assert (said["id"], said["model_name"], said["model_version"]) == ("frage", "late", "3")
    assert ask(late, INFER, body(), {"x-request-id": "r"}).json["id"] == "r"
    refused = ask(late, INFER, body(id=7))
    assert (refused.status, refused.error) == (400, "'id' is text")


def test_the_outputs_that_are_asked_for_are_sent() -> None:
    both = app(pd.DataFrame({"low": [1.0, 2.0], "high": [3, 4]}))
    matrix = {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP64", "data": [1, 2]}]}
    assert [(o["name"], o["datatype"], o["data"]) for o in ask(both, INFER, matrix).json["outputs"]] == [
        ("low", "FP64", [1.0, 2.0]),
        ("high", "INT64", [3, 4]),
    ]
    chosen = ask(both, INFER, {**matrix, "outputs": [{"name": "high"}]}).json["outputs"]
    assert [output["name"] for output in chosen] == ["high"]
    said = ask(both, INFER, {**matrix, "outputs": [{"name": "middle"}]})
    assert (said.status, said.error) == (400, "the model has no output 'middle'; it answers 'low', 'high'")


def test_another_name_of_the_model_is_answered_to_on_every_route() -> None:
    late = app([1, 2], alias="spät/1")
    matrix = {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP64", "data": [1, 2]}]}
    for path, body in (
        ("/v1/models/spät/1:predict", {"instances": [[1], [2]]}),
        ("/v2/models/spät/1/infer", matrix),
        ("/v2/models/spät/1/versions/3/infer", matrix),
    ):
        assert ask(late, path, body).status == 200, path
    for path in ("/v2/models/spät/1", "/v2/models/spät/1/ready", "/v1/models/spät/1"):
        assert get(late, path).json["name"] == "late"
    for path in ("/v1/models/spät/12:predict", "/v1/models/spät:predict", "/v1/models/other:predict"):
        assert ask(late, path, {"instances": [[1]]}).status == 404
    assert ask(late, "/v2/repository/models/spät/1/unload", {}).status == 200
    assert ask(late, "/v1/models/late:predict", {"instances": [[1]]}).status == 404, "it is the same model"


def test_an_output_without_a_name_may_be_asked_for_as_kserves_servers_call_it() -> None:
    late = app([1, 2])
    matrix = {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP64", "data": [1, 2]}]}
    for name in ("predict", "output-0"):
        (output,) = ask(late, INFER, {**matrix, "outputs": [{"name": name}]}).json["outputs"]
        assert (output["name"], output["data"]) == (name, [1, 2])
    said = ask(late, INFER, {**matrix, "outputs": [{"name": "output-1"}]})
    assert said.error == "the model has no output 'output-1'; it answers 'predict'"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"outputs": 5}, "'outputs' is a list of objects with a 'name'"),
        ({"outputs": [{"name": 1}]}, "'outputs' is a list of objects with a 'name'"),
        ({"parameters": []}, "the 'parameters' of the body are no object"),
        ({"parameters": {"binary_data_output": 1}}, "'binary_data_output' is 1, and not true or false"),
        ({"outputs": [{"name": "predict", "parameters": 1}]}, "the 'parameters' of output 'predict' are no"),
    ],
)
def test_what_is_wrong_beside_the_inputs_is_said(late: Any, more: Any, sentence: str) -> None:
    said = ask(late, INFER, body(**more))
    assert said.status == 400
    assert said.error.startswith(sentence)


def raising(fault: BaseException) -> Callable[[Any], Any]:
    def answer(_: Any) -> Any:
        raise fault

    return answer


def test_what_a_model_says_about_rows_is_the_callers_fault() -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    for fault in (
        ValueError("X has\n2 features"),
        MlflowException("X has\n2 features", INVALID_PARAMETER_VALUE),
    ):
        said = ask(app(raising(fault)), PREDICT, {"instances": [[1, 2]]})
        assert (said.status, said.error) == (400, "X has 2 features")


@pytest.mark.parametrize(
    "fault",
    [
        *(ZeroDivisionError("by zero"), SystemExit(3), MemoryError(), RecursionError(), StopIteration()),
        *(asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt()),
    ],
)
def test_a_model_that_breaks_is_not_the_callers_fault(fault: BaseException) -> None:
    with pytest.raises((ZeroDivisionError, RuntimeError, MemoryError)):  # a 500, see test_asgi.py
        ask(app(raising(fault)), PREDICT, {"instances": [[1, 2]]})


# -- the repository -------------------------------------------------------------------------


def test_an_unloaded_model_answers_nothing_until_it_is_loaded(late: Any) -> None:
    ready = {"name": "late", "version": "3", "state": "READY", "reason": ""}
    assert ask(late, "/v2/repository/index", b"").json == [ready]
    assert ask(late, "/v2/repository/models/late/unload", b"").json == {"name": "late", "unload": True}
    for path in (INFER, PREDICT, "/v2/models/late/versions/3/infer"):
        said = ask(late, path, body(instances=[[1, 2]]))
        assert said.status == 404
        assert said.error.startswith("'late' was unloaded; POST /v2/repository/models/late/load")
    for path in ("/v2/models/late", "/v2/models/late/ready", "/v1/models/late"):
        assert get(late, path).status == 404
    assert get(late, "/v2/health/ready").status == 200
    assert get(late, "/v2/models").json == {"models": []}
    gone = {**ready, "state": "UNAVAILABLE", "reason": "unloaded"}
    assert ask(late, "/v2/repository/index", {}).json == [gone]
    assert ask(late, "/v2/repository/index", {"ready": True}).json == []
    assert ask(late, "/v2/repository/models/late/load", {}).json == {"name": "late", "load": True}
    assert ask(late, INFER, body()).status == 200


def test_all_processes_of_a_model_know_whether_it_is_unloaded(tmp_path: Path) -> None:
    one, other = (app(np.array([1]), unloaded=tmp_path / "late.unloaded") for _ in range(2))
    assert ask(one, "/v2/repository/models/late/unload", b"").status == 200
    assert get(other, "/v2/models/late/ready").status == 404
    assert ask(other, "/v2/repository/models/late/load", b"").status == 200
    assert get(one, "/v2/models/late/ready").status == 200


@pytest.mark.parametrize("sent", [[], {"ready": 1}, 5])
def test_a_wrong_question_to_the_index_is_refused(late: Any, sent: Any) -> None:
    assert ask(late, "/v2/repository/index", sent).status == 400


def test_no_other_model_can_be_loaded(late: Any) -> None:
    said = ask(late, "/v2/repository/models/other/load", b"")
    assert (said.status, said.error) == (404, "there is no model 'other'; this endpoint serves 'late'")


# -- what a model states --------------------------------------------------------------------


def test_a_signature_is_read_and_a_strange_one_states_nothing(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(
        "flavors: {sklearn: {}}\n"
        "signature:\n"
        """  inputs: '[{"type": "double", "name": "temp"}, {"type": "datetime", "name": "day"}]'\n"""
        """  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]'\n"""
    )
    assert read(tmp_path) == Signature(
        inputs=(Spec("temp", "FP64"), Spec("day", "BYTES")), outputs=(Spec("", "FP32", (-1, 3)),)
    )
    for strange in ("[", "signature: 5", "signature: {inputs: '{'}", "signature: {inputs: '[5]'}", ""):
        (tmp_path / "MLmodel").write_text(strange)
        assert read(tmp_path) == Signature()
    assert read(tmp_path / "nothing") == Signature()


def test_probabilities_are_called_so_whatever_the_signature_says() -> None:
    made = app(np.array([[0.25, 0.75]], np.float32), COLUMNS, STATED, probabilities=True)
    assert get(made, "/v2/models/late").json["outputs"] == [
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, -1]}
    ]
    (output,) = ask(made, INFER, body()).json["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("predict_proba", "FP64", [1, 2])


def test_an_answer_is_called_as_the_signature_calls_it() -> None:
    named = Signature(outputs=(Spec("low", "FP64"), Spec("high", "FP64")))
    sent = {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP64", "data": [1, 2]}]}
    split = ask(app(np.array([[1, 2], [3, 4]]), stated=named), INFER, sent).json["outputs"]
    assert [(o["name"], o["data"], o["datatype"]) for o in split] == [
        ("low", [1, 3], "FP64"),
        ("high", [2, 4], "FP64"),
    ]
    unnamed = app(np.array([[1, 2], [3, 4]]), stated=Signature(outputs=(Spec("", "FP64"),) * 2))
    assert get(unnamed, "/v2/models/late").json["outputs"] == [
        {"name": "predict", "datatype": "FP64", "shape": [-1, 2]}
    ]
    assert ask(unnamed, INFER, sent).json["outputs"][0]["shape"] == [2, 2]
    one = Signature(outputs=(Spec("late", "FP64"),))
    (output,) = ask(app(np.array([1.5], np.float32), stated=one), INFER, sent).json["outputs"]
    assert (output["name"], output["datatype"]) == ("late", "FP64")
