"""Whatever a model answers is an answer, or one sentence."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.unit.kserve.asked import app, ask

from modelyard_kserve.local.answers import dumps, outputs, predictions

INFER, PREDICT = "/v2/models/late/infer", "/v1/models/late:predict"
NAN = float("nan")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (np.array([0.25, 0.5]), [0.25, 0.5]),
        (np.array([0.1], np.float32), [float(np.float32(0.1))]),
        (np.array([0.5], np.float16), [0.5]),
        (np.array([[0.1, 0.9]]), [[0.1, 0.9]]),
        (np.array(["late", "early"]), ["late", "early"]),
        (pd.Series([1, 2], index=[7, 8]), [1, 2]),
        (pd.DataFrame({"low": [1.0, NAN], 7: [3, 4]}), [{"low": 1.0, "7": 3}, {"low": None, "7": 4}]),
        ({"low": np.array([1.0, 2.0]), "high": [3, 4]}, [{"low": 1.0, "high": 3}, {"low": 2.0, "high": 4}]),
        ([1, "two"], [1, "two"]),
        ([np.float32(0.5), np.int8(3), np.bool_(True)], [0.5, 3, True]),
        (np.array([NAN, np.inf, -np.inf]), [None, None, None]),
        (np.array([{"a": np.array([1, 2])}], object), [{"a": [1, 2]}]),
        (np.array(["2013-04-01"], "datetime64[s]"), ["2013-04-01T00:00:00"]),
        (pd.Series([pd.Timestamp("2013-04-01"), pd.NaT]), ["2013-04-01T00:00:00", None]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        ([decimal.Decimal("0.5"), dt.date(2013, 4, 1), {2, 1}, b"text"], [0.5, "2013-04-01", [1, 2], "text"]),
        (7, [7]),
        (np.float64(0.5), [0.5]),
        ((1, 2), [1, 2]),
        (lambda rows: (row for row in [1, 2]), [1, 2]),
        (lambda rows: None, [None]),
    ],
)  # fmt: skip
def test_v1_says_it_in_json(answers: Any, expected: Any) -> None:
    said = ask(app(answers), PREDICT, {"instances": [[1]]})
    assert (said.status, said.json) == (200, {"predictions": expected})


@pytest.mark.parametrize(
    ("answers", "shape", "datatype", "data"),
    [
        (np.array([0.25, 0.5]), [2], "FP64", [0.25, 0.5]),
        (np.array([0.1], np.float32), [1], "FP32", [float(np.float32(0.1))]),
        (np.array([0.5], np.float16), [1], "FP16", [0.5]),
        (np.array([1, 0]), [2], "INT64", [1, 0]),
        (np.array([1, 0], np.uint8), [2], "UINT8", [1, 0]),
        (np.array([1, 0], ">i4"), [2], "INT32", [1, 0]),
        (np.array([True]), [1], "BOOL", [True]),
        (np.array(["late"]), [1], "BYTES", ["late"]),
        (np.array([b"late"]), [1], "BYTES", ["late"]),
        (np.array([[0.1, 0.9], [0.8, 0.2]]), [2, 2], "FP64", [0.1, 0.9, 0.8, 0.2]),
        (np.array([[1, 2], [3, 4]]).T, [2, 2], "INT64", [1, 3, 2, 4]),
        (np.zeros((2, 100), np.float32).T, [100, 2], "FP32", [0.0] * 200),
        (np.array([NAN, np.inf]), [2], "FP64", [None, None]),
        (pd.Series([1, None], dtype="Int64"), [2], "FP64", [1, None]),
        (pd.Series([True, False], dtype="boolean"), [2], "BOOL", [True, False]),
        (pd.Series(["a", None]), [2], "BYTES", ["a", None]),
        (pd.Series(["a", "b"], dtype="category"), [2], "BYTES", ["a", "b"]),
        (np.array(["2013-04-01", "NaT"], "datetime64[D]"), [2], "BYTES", ["2013-04-01", "NaT"]),
        (pd.Series(pd.to_datetime(["2013-04-01T06:00Z"])), [1], "BYTES", ["2013-04-01T06:00:00+00:00"]),
        ([1, "two"], [2], "BYTES", ["1", "two"]),
        ([[1], [2, 3]], [2], "BYTES", ["[1]", "[2,3]"]),
        ([{"a": np.int8(1)}, {"b": 2}], [2], "BYTES", ['{"a":1}', '{"b":2}']),
        (0.5, [1], "FP64", [0.5]),
        (lambda rows: (row for row in [1, 2]), [2], "INT64", [1, 2]),
        (lambda rows: None, [1], "BYTES", [None]),
        ("late", [1], "BYTES", ["late"]),
        (np.array([]), [0], "FP64", []),
        (np.longdouble([0.5]), [1], "FP64", [0.5]),
    ],
)  # fmt: skip
def test_v2_says_it_in_a_tensor(answers: Any, shape: list[int], datatype: str, data: list[Any]) -> None:
    sent = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1]}]}
    said = ask(app(answers), INFER, sent)
    assert said.status == 200, said.json
    (output,) = said.json["outputs"]
    assert output == {"name": "predict", "shape": shape, "datatype": datatype, "data": data}


def test_a_sparse_matrix_is_a_matrix() -> None:
    import scipy.sparse

    made = scipy.sparse.csr_matrix([[0, 1]])
    assert predictions(made) == [[0, 1]]
    assert outputs(made, ())[0].shape == [1, 2]


def test_what_can_not_be_said_is_the_models_fault() -> None:
    for answers, sentence in (
        ([object()], "the model answered what JSON can't say: a object"),
        ([b"\xff"], "what JSON can't say"),
        ([1 + 2j], "what JSON can't say: a complex"),
    ):
        with pytest.raises(TypeError, match=sentence):
            dumps({"predictions": predictions(answers)})
    with pytest.raises(ValueError, match="complex128 in 'predict', which V2 has no datatype for"):
        outputs([1 + 2j], ())
    with pytest.raises(ValueError, match="ask for binary data"):
        ask(
            app([b"\xff"]),
            INFER,
            {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1]}]},
        )


def test_missing_numbers_stay_missing_in_binary_answers() -> None:
    sent = {
        "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1]}],
        "parameters": {"binary_data_output": True},
    }
    said = ask(app(np.array([NAN, np.inf])), INFER, sent)
    assert np.array_equal(np.frombuffer(said.raw, "<f8"), [NAN, np.inf], equal_nan=True)
