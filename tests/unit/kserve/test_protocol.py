"""V1 and V2 requests in JSON as rows for a model; what is wrong is one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from modelyard_kserve.local import protocol
from modelyard_kserve.local import v2 as rest
from modelyard_kserve.local.messages import parsed
from modelyard_kserve.local.runtimes import Column, LoadedModel

MODEL = LoadedModel((Column("temp", "double"), Column("stops", "long", required=False)), lambda rows: rows)
MIXED = LoadedModel(
    (
        Column("carrier", "string"),
        Column("night", "boolean", required=False),
        Column("day", "datetime", required=False),
    ),
    lambda rows: rows,
)
UNNAMED = LoadedModel((), lambda rows: rows)
TABLES = LoadedModel((), lambda rows: rows, tables=True)


def v1(model: LoadedModel, *instances: Any) -> Any:
    return protocol.v1_rows(model, {"instances": list(instances)})


def tensor(name: Any, shape: Any, data: Any, datatype: Any = "FP64") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def v2(model: LoadedModel, *inputs: Any) -> Any:
    return v2_of(model, {"inputs": list(inputs)})


def v2_of(model: LoadedModel, body: Any) -> Any:
    return protocol.v2_rows(model, rest.asked(orjson.dumps(body), None, parsed).tensors)


def refused(call: Any, *given: Any) -> str:
    with pytest.raises(ValueError) as caught:
        call(*given)
    said = str(caught.value)
    assert said
    assert "\n" not in said
    return said


@pytest.mark.parametrize("model", [MODEL, MIXED, UNNAMED, TABLES])
def test_a_single_value_is_no_row(model: LoadedModel) -> None:
    said = refused(v2, model, tensor("temp", [], [1.0]))
    assert said == "input 'temp' has the shape [], a single value: the model takes rows"


# -- V1 -------------------------------------------------------------------------------------


def test_objects_and_lists_are_the_same_rows() -> None:
    objects = v1(MODEL, {"stops": 1, "temp": 20.5, "more": "is ignored"}, {"temp": -4, "stops": 0})
    assert list(objects.columns) == ["temp", "stops"]
    assert list(objects.dtypes) == [np.float64, np.int64]
    pd.testing.assert_frame_equal(objects, v1(MODEL, [20.5, 1], [-4, 0]))


def test_null_is_a_missing_value_of_every_kind() -> None:
    rows = v1(MODEL, {"temp": None, "stops": None}, {"temp": 1, "stops": 2})
    assert rows.isna().to_numpy().tolist() == [[True, True], [False, False]]
    assert v1(MIXED, [None, None, None]).isna().to_numpy().all()


def test_a_column_that_is_not_required_may_be_left_out_of_some_rows() -> None:
    rows = v1(MODEL, {"temp": 1}, {"temp": 2, "stops": 3})
    assert rows["stops"].isna().tolist() == [True, False]


def test_other_kinds_keep_their_values() -> None:
    rows = v1(MIXED, ["UA", True, "2013-04-01T06:00:00"], ["ÖA", False, "2013-04-02"])
    assert rows["carrier"].tolist() == ["UA", "ÖA"]
    assert rows["night"].dtype == bool
    assert rows["day"].tolist() == [pd.Timestamp("2013-04-01 06:00"), pd.Timestamp("2013-04-02")]


def test_whole_numbers_stay_exact() -> None:
    rows = v1(MODEL, [0.0, 2**60 + 1], [0.0, -(2**60) - 1])
    assert rows["stops"].tolist() == [2**60 + 1, -(2**60) - 1]
    assert v1(MODEL, [0.0, 3.0])["stops"].tolist() == [3], "JSON does not tell 3 from 3.0"


@pytest.mark.parametrize(
    "body", [None, 5, "text", [], {}, {"instances": None}, {"instances": {}}, {"inputs": []}]
)
def test_a_body_without_instances_is_refused(body: Any) -> None:
    assert "'instances'" in refused(protocol.v1_rows, MODEL, body)


@pytest.mark.parametrize(
    ("instances", "said"),
    [
        ([], "'instances' is empty"),
        ([{"temp": 1}, {"stops": 1}], "row 1 lacks the column 'temp'"),
        ([{"temp": 1}, [1, 2]], "the instances mix objects and other values"),
        ([{"temp": 1}, 5], "the instances mix objects and other values"),
        ([{}, [1]], "the instances mix objects and other values"),
        ([[1, 2], [1]], "row 1 has 1 values, the model takes 2 columns"),
        ([[1, 2, 3]], "row 0 has 3 values, the model takes 2 columns"),
        ([[1, 2], {"temp": 1}], "row 1 has no values"),
        ([5], "row 0 has no values"),
        ([None], "row 0 has no values"),
        ([[1, 2], ["warm", 2]], "row 1, column 'temp': 'warm' is not a number"),
        ([["20.5", 2]], "row 0, column 'temp': '20.5' is not a number"),
        ([[[1], 2]], "row 0, column 'temp': [1] is not a number"),
        ([[{}, 2]], "row 0, column 'temp': {} is not a number"),
        ([[1, 2], [1, 2.5]], "row 1, column 'stops': 2.5 is not a whole number"),
        ([[1, 1e30]], "row 0, column 'stops': 1e+30 is not a whole number"),
    ],
)
def test_rows_that_do_not_fit_are_named(instances: list[Any], said: str) -> None:
    assert said in refused(v1, MODEL, *instances)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([5, True, None], "row 0, column 'carrier': 5 is not text"),
        (["UA", 1, None], "row 0, column 'night': 1 is not true or false"),
        (["UA", True, "soon"], "column 'day' does not hold an ISO 8601 time"),
        (["UA", True, {"y": 1}], "row 0, column 'day': {'y': 1} is not an ISO 8601 time"),
    ],
)
def test_other_kinds_are_checked_too(row: list[Any], said: str) -> None:
    assert said in refused(v1, MIXED, row)


def test_a_model_without_column_names_takes_a_matrix() -> None:
    assert np.array_equal(v1(UNNAMED, [1, 2.5], [3, None]), [[1, 2.5], [3, np.nan]], equal_nan=True)


@pytest.mark.parametrize("rows", [[[1, 2], [3]], [1], ["12"], [{"1": 5}], [["a"]], [None]])
def test_what_is_no_matrix_is_refused(rows: list[Any]) -> None:
    assert refused(v1, UNNAMED, *rows) == "the rows are not lists of numbers of one length"


def test_columns_of_lists_and_inputs_are_rows_as_well() -> None:
    wanted = v1(MODEL, {"temp": 20.5, "stops": 1}, {"temp": -4, "stops": 0})
    given = [{"temp": [20.5, -4], "stops": [1, 0]}]
    for body in ({"instances": given}, {"inputs": given}):
        pd.testing.assert_frame_equal(protocol.v1_rows(MODEL, body), wanted)
    assert refused(v1, MODEL, {"temp": [1, 2], "stops": [1]}) == (
        "instance 0 has columns of different lengths"
    )


def test_a_model_that_takes_tables_takes_those_that_callers_name() -> None:
    made = v1(TABLES, {"zone": "RL", "area": 30}, {"area": None, "zone": "RM"})
    assert made.to_dict("list") == {"zone": ["RL", "RM"], "area": [30, pytest.approx(np.nan, nan_ok=True)]}
    made = v2(TABLES, tensor("zone", [1], ["RL"], "BYTES"), tensor("area", [1, 1], [[30]], "INT32"))
    assert made.to_dict("list") == {"zone": ["RL"], "area": [30]}
    assert v1(TABLES, "one text", "another").tolist() == ["one text", "another"]
    assert np.array_equal(v1(TABLES, [1, 2], [3, 4]), [[1, 2], [3, 4]])
    assert v2(TABLES, tensor("x", [2, 2], [1, 2, 3, 4])).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"a": 1}, {"b": 1}], "row 1 lacks the column 'a'"),
        ([{"a": 1}, [1]], "the instances mix objects and other values"),
        ([{"a": []}], "the inputs have different numbers of rows: []"),
        ([{}], "the inputs have different numbers of rows: []"),
        (["one", 1], "the rows are not lists of numbers of one length"),
    ],
)
def test_tables_that_are_none_are_refused(rows: list[Any], said: str) -> None:
    assert refused(v1, TABLES, *rows) == said


def test_columns_of_a_table_have_one_length() -> None:
    said = refused(v2, TABLES, tensor("a", [2], [1, 2]), tensor("b", [1], [1]))
    assert said == "the inputs have different numbers of rows: [1, 2]"


# -- V2 -------------------------------------------------------------------------------------


def test_a_tensor_for_each_column_and_a_matrix_are_the_same_rows() -> None:
    wanted = v1(MODEL, [20.5, 1], [-4, 0])
    for inputs in (
        [tensor("stops", [2], [1, 0], "INT64"), tensor("temp", [2], [20.5, -4])],
        [tensor("temp", [2, 1], [[20.5], [-4]]), tensor("stops", [2, 1], [1, 0], "INT32")],
        [tensor("input-0", [2, 2], [20.5, 1, -4, 0])],
        [tensor("input-0", [2, 2], [[20.5, 1], [-4, 0]])],
    ):
        pd.testing.assert_frame_equal(v2(MODEL, *inputs), wanted)


def test_a_tensor_may_hold_nulls_and_optional_columns_may_lack() -> None:
    assert v2(MODEL, tensor("temp", [2], [None, 1])).isna().to_numpy().tolist() == [
        [True, True],
        [False, True],
    ]


def test_texts_are_bytes() -> None:
    assert v2(MIXED, tensor("carrier", [2], ["UA", "B6"], "BYTES"))["carrier"].tolist() == ["UA", "B6"]


def test_a_model_without_column_names_takes_one_tensor() -> None:
    assert v2(UNNAMED, tensor("x", [2, 2], [1, 2, 3, 4])).tolist() == [[1, 2], [3, 4]]
    assert "one unnamed matrix, not 2 inputs" in refused(
        v2, UNNAMED, tensor("x", [1, 1], [1]), tensor("y", [1, 1], [1])
    )


@pytest.mark.parametrize(
    "body", [None, 5, [], {}, {"inputs": []}, {"inputs": {}}, {"inputs": 3}, {"instances": [1]}]
)
def test_a_body_without_inputs_is_refused(body: Any) -> None:
    assert refused(v2_of, MODEL, body) == "the body needs 'inputs': a list of tensors"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "each input needs 'name', 'shape', 'datatype' and 'data'"),
        (None, "each input needs 'name'"),
        ({}, "each input needs 'name'"),
        ({"name": "temp", "shape": [1], "data": [1]}, "each input needs 'name', 'shape', 'datatype'"),
        (tensor(5, [1], [1]), "input 5: 'name' is text"),
        (tensor("temp", [1], 1), "input 'temp': 'data' is a list"),
        (tensor("temp", 1, [1]), "'shape' a list of integers"),
        (tensor("temp", [], [1]), "input 'temp' has the shape []"),
        (tensor("temp", ["1"], [1]), "'shape' a list of integers"),
        (tensor("temp", [2], [1]), "input 'temp' holds 1 rows, its shape says [2]"),
        (tensor("temp", [-1], [1]), "input 'temp' holds 1 rows, its shape says [-1]"),
        (tensor("temp", [2, 2], [1, 2, 3]), "input 'temp' holds 3 values, its shape says [2, 2]"),
        (tensor("temp", [1, 0], []), "input 'temp' holds 0 values, its shape says [1, 0]"),
        (tensor("temp", [1], [1], "FP99"), "input 'temp': 'FP99' is no datatype; known: BOOL, INT8"),
        (tensor("temp", [1], [1], "fp64"), "'fp64' is no datatype"),
        (tensor("temp", [1], [1], ["FP64"]), "['FP64'] is no datatype"),
        (tensor("temp", [1], ["x"]), "row 0, column 'temp': 'x' is not a number"),
        (tensor("temp", [1, 2], [[1, 2]]), "row 0, column 'temp': [1, 2] is not a number"),
        (tensor("stops", [1], [1]), "there is no input 'temp'"),
        (tensor("all", [1, 3], [1, 2, 3]), "row 0 has 3 values, the model takes 2 columns"),
    ],
)
def test_a_tensor_that_is_wrong_is_named(given: Any, said: str) -> None:
    assert said in refused(v2, MODEL, given)


def test_tensors_must_be_of_one_length_and_have_names_of_their_own() -> None:
    assert "different numbers of rows: [1, 2]" in refused(
        v2, MODEL, tensor("temp", [2], [1, 2]), tensor("stops", [1], [1])
    )
    assert "two inputs have the same name" in refused(
        v2, MODEL, tensor("temp", [1], [1]), tensor("temp", [1], [2])
    )
