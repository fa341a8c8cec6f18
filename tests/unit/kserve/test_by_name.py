"""Tensors by name in V1's and V2's JSON; what does not fit is one sentence that names the input."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from modelyard_kserve.local.answers import flat, outputs
from modelyard_kserve.local.batching import size_of
from modelyard_kserve.local.by_name import from_v1, from_v2, made, to_v1
from modelyard_kserve.local.runtimes import Spec

X, Y = Spec("x", "FP32", (-1, 2)), Spec("y", "INT64", (-1, 1))
TEXT, FLAG = Spec("text", "BYTES", (-1,)), Spec("flag", "BOOL", (-1,))


def test_v1_names_inputs_or_has_the_only_one() -> None:
    only = from_v1([X], [[1, 2], [3, None]])
    assert only["x"].dtype == np.float32
    assert np.isnan(only["x"][1, 1])
    both = from_v1([X, Y], [{"x": [1, 2], "y": 3, "more": "is ignored"}])
    assert {name: array.shape for name, array in both.items()} == {"x": (1, 2), "y": (1, 1)}
    assert from_v1([TEXT], ["late", "on time"])["text"].tolist() == ["late", "on time"]


def test_v2_takes_any_order_and_any_name_of_the_only_input() -> None:
    given = [("y", "INT32", [2, 1], [1, 2]), ("x", "FP64", [2, 2], [1, 2, 3, 4])]
    arrays = from_v2([X, Y], given)
    assert arrays["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert arrays["y"].dtype == np.int64
    assert from_v2([X], [("input-0", "FP32", [1, 2], [[1, 2]])])["x"].shape == (1, 2)


@pytest.mark.parametrize(
    ("spec", "values", "shape", "said"),
    [
        (X, [[1, 2, 3]], None, "input 'x' has the shape [1, 3], the model takes [-1, 2]"),
        (X, [1, 2, 3], [2, 2], "input 'x' holds 3 values, its shape says [2, 2]"),
        (X, [1, 2], [-1, 2], "input 'x' holds 2 values, its shape says [-1, 2]"),
        (X, [[1, 2], [3]], None, "input 'x': its lists differ in length"),
        (X, [["1", 2]], None, "input 'x': '1' is not a number"),
        (X, [[{}, 2]], None, "input 'x': {} is not a number"),
        (Y, [1.5], [1, 1], "input 'y': 1.5 is not one of INT64"),
        (Y, [None], [1, 1], "input 'y': nan is not one of INT64"),
        (Spec("z", "INT8", (-1,)), [300], None, "input 'z': 300 is not one of INT8"),
        (Spec("z", "UINT8", (-1,)), [-1], None, "input 'z': -1 is not one of UINT8"),
        (FLAG, [1], None, "input 'flag': [1] is not true or false"),
        (TEXT, ["a", 1], None, "input 'text': 1 is not text"),
        (X, [2**80, 1], [1, 2], None),
    ],
)
def test_what_does_not_fit_is_named(spec: Spec, values: Any, shape: Any, said: str | None) -> None:
    if said is None:
        made(spec, values, shape)
        return
    with pytest.raises(ValueError) as caught:
        made(spec, values, shape)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([("x", "FP32", [1, 2], [1, 2])], "there is no input 'y'"),
        ([("z", "FP32", [1], [1]), ("x", "FP32", [1], [1])], "the model has no input 'z'; it has x, y"),
    ],
)
def test_inputs_that_lack_or_are_unknown_are_named(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_v2([X, Y], given)


def test_answers_are_rows_in_v1_and_tensors_in_v2() -> None:
    answers = {"sum": np.array([[1.0], [2.0]], np.float32), "late": np.array([True, False])}
    assert to_v1(answers) == [{"sum": [1.0], "late": True}, {"sum": [2.0], "late": False}]
    assert [(o.datatype, o.shape) for o in outputs(answers, ())] == [("FP32", [2, 1]), ("BOOL", [2])]
    assert to_v1({"only": np.arange(2)}) == [0, 1]
    assert to_v1({"a": np.arange(2), "b": np.arange(3)}) == {"a": [0, 1], "b": [0, 1, 2]}
    assert to_v1({"scalar": np.float32(1.5)}) == [1.5]


@pytest.mark.parametrize("single", [np.array(21.0), np.float32(21), 21.0])
def test_a_single_value_beside_rows_is_none_of_them(single: Any) -> None:
    assert to_v1({"y": np.ones((2, 1)), "total": single}) == {"y": [[1.0], [1.0]], "total": 21.0}
    assert to_v1({"total": single, "least": single}) == {"total": 21.0, "least": 21.0}


def test_a_single_value_may_be_an_input() -> None:
    scale = Spec("scale", "FP32", ())
    given = [("scale", "FP64", [], [2]), ("x", "FP32", [1, 2], [1, 2])]
    arrays = from_v2([scale, X], given)
    assert (arrays["scale"].shape, arrays["scale"].dtype, arrays["scale"].item()) == ((), np.float32, 2.0)
    assert size_of(arrays) == 1
    with pytest.raises(ValueError, match=re.escape("input 'scale' holds 2 values, its shape says []")):
        from_v2([scale], [("scale", "FP64", [], [2, 3])])


def test_what_is_no_number_is_text_in_v2() -> None:
    objects = np.empty(2, dtype=object)
    objects[:] = [{"label": "late", "score": np.float32(0.5)}, "plain"]
    (said,) = outputs({"said": objects}, ())
    assert (said.datatype, flat(said.values)) == ("BYTES", ['{"label":"late","score":0.5}', "plain"])
