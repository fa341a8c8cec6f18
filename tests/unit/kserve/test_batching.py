"""Requests that are asked of a model in one call, and get their own answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.kserve.asked import COLUMNS, Said, app

from modelyard_kserve.local.batching import (
    Batched,
    Batches,
    Batching,
    Unsplittable,
    joinable,
    joined,
    kind_of,
    size_of,
    split,
)
from modelyard_kserve.local.messages import Request
from modelyard_kserve.local.runtimes import Spec
from modelyard_kserve.local.signature import Signature

#: Longer than any test takes: what is not full goes when it is told to, or never.
FOREVER, SOON = 60.0, 0.02


class Model:
    """Doubles; notes how many rows each call had. A row of 13 is bad, one of 7 is answered twice."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    async def __call__(self, rows: Any) -> Any:
        self.calls.append(size_of(rows))
        await asyncio.sleep(0)
        if (rows == 13).any():
            raise ValueError(f"{len(rows)} rows, of which one is bad")
        return np.concatenate([rows, rows]) * 2 if (rows == 7).any() else rows * 2


def ran(made: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(made(), 20)

    return asyncio.run(bounded())


def asked(model: Model, batching: Batching, *given: Any) -> list[Any]:
    """What callers get who ask at the same time: `Batched`, or the exception."""

    async def run() -> Any:
        batches = Batches(model, batching)
        return await asyncio.gather(*(batches(rows) for rows in given), return_exceptions=True)

    made: list[Any] = ran(run)
    return made


def column(*values: float) -> Any:
    return np.array(values, dtype=float).reshape(-1, 1)


def listed(made: Sequence[Batched]) -> list[Any]:
    return [one.answers.ravel().tolist() for one in made]


# -- gathering ------------------------------------------------------------------------------


def test_a_full_call_does_not_wait_and_everybody_gets_the_own_rows() -> None:
    model = Model()
    made = asked(model, Batching(4, FOREVER), column(1), column(2, 3), column(4))
    assert model.calls == [4]
    assert listed(made) == [[2], [4, 6], [8]]
    assert len({one.id for one in made}) == 1
    assert [one.rows for one in made] == [4, None, None], "one call is counted once"


def test_one_that_is_not_full_is_made_when_the_first_has_waited() -> None:
    model = Model()
    made = asked(model, Batching(32, SOON), column(1), column(2))
    assert model.calls == [2]
    assert listed(made) == [[2], [4]]


def test_one_caller_alone_is_answered_as_well() -> None:
    model = Model()
    (made,) = asked(model, Batching(32, SOON), column(1))
    assert (model.calls, made.rows, made.answers.tolist()) == ([1], 1, [[2]])


def test_no_call_has_more_rows_than_are_wanted() -> None:
    model = Model()
    made = asked(model, Batching(4, SOON), column(1, 2, 3), column(4, 5, 6), column(7.5))
    assert model.calls == [3, 4]
    assert listed(made) == [[2, 4, 6], [8, 10, 12], [15]]


def test_a_request_with_enough_rows_of_its_own_waits_for_nobody() -> None:
    model = Model()
    made = asked(model, Batching(3, FOREVER), column(*range(5)), column(1, 2, 3))
    assert model.calls == [5, 3]
    assert len({one.id for one in made}) == 2
    model = Model()
    assert listed(asked(model, Batching(1, FOREVER), column(1), column(2))) == [[2], [4]]
    assert model.calls == [1, 1]


def test_other_datatypes_and_sizes_are_other_calls() -> None:
    model = Model()
    narrow, wide = column(1).astype(np.float32), np.ones((1, 2))
    made = asked(model, Batching(32, SOON), column(1), narrow, wide, column(2), wide)
    assert model.calls == [2, 1, 2]
    assert [one.answers.dtype for one in made] == ["f8", "f4", "f8", "f8", "f8"]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=20), st.integers(1, 9), st.data())
@settings(max_examples=60, deadline=None)
def test_whoever_asks_gets_answers_to_the_own_rows(sizes: list[int], most: int, data: Any) -> None:
    places = np.cumsum([0, *sizes])
    rows = [column(*(100.0 + n for n in range(a, b))) for a, b in pairwise(places)]
    bad = data.draw(st.sets(st.integers(0, len(sizes) - 1), max_size=2))
    for number in bad:
        rows[number][-1] = 13
    model = Model()
    for number, made in enumerate(asked(model, Batching(most, 0.001), *rows)):
        if number in bad:
            assert str(made) == f"{sizes[number]} rows, of which one is bad"
        else:
            np.testing.assert_array_equal(made.answers, rows[number] * 2)
    assert all(call <= most or call in sizes for call in model.calls)
    if not bad:
        assert sum(model.calls) == sum(sizes)


# -- faults ---------------------------------------------------------------------------------


def test_bad_rows_fail_only_their_own_caller() -> None:
    model = Model()
    first, bad, last = asked(model, Batching(3, FOREVER), column(1), column(13), column(2))
    assert model.calls == [3, 1, 1, 1]
    assert listed([first, last]) == [[2], [4]]
    assert isinstance(bad, ValueError)
    assert str(bad) == "1 rows, of which one is bad", "it speaks of the caller's own rows"
    assert len({first.id, last.id}) == 2
    assert [first.rows, last.rows] == [1, 1]


def test_a_model_that_answers_another_number_of_rows_is_asked_for_each_alone() -> None:
    model = Model()
    made = asked(model, Batching(3, FOREVER), column(1, 2), column(7))
    assert model.calls == [3, 2, 1]
    assert listed(made) == [[2, 4], [14, 14]]


def test_a_fault_of_one_caller_alone_is_not_asked_again() -> None:
    model = Model()
    (bad,) = asked(model, Batching(32, SOON), column(13))
    assert isinstance(bad, ValueError)
    assert model.calls == [1]


def test_who_hangs_up_is_not_asked_for_and_disturbs_nobody() -> None:
    model = Model()

    async def run() -> Batched:
        batches = Batches(model, Batching(32, SOON))
        gone = asyncio.create_task(batches(column(13)))
        stays = asyncio.create_task(batches(column(1)))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    made = ran(run)
    assert made.answers.tolist() == [[2]]
    assert model.calls == [1]


def test_who_hangs_up_while_the_model_works_disturbs_nobody() -> None:
    async def run() -> Batched:
        working, go = asyncio.Event(), asyncio.Event()

        async def model(rows: Any) -> Any:
            working.set()
            await go.wait()
            return rows

        batches = Batches(model, Batching(2, FOREVER))
        gone, stays = (asyncio.create_task(batches(column(n))) for n in (1, 2))
        await working.wait()
        gone.cancel()
        await asyncio.sleep(0)
        go.set()
        return await stays

    assert ran(run).answers.tolist() == [[2]]


# -- joining and splitting ------------------------------------------------------------------

SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=5)
DTYPES = st.sampled_from(["f4", "f8", "f2", "i8", "u1", "bool", "object", "datetime64[ns]"])


def values(dtype: str, size: int, width: tuple[int, ...], seed: int) -> Any:
    numbers = np.random.default_rng(seed).integers(0, 100, (size, *width))
    return numbers.astype("i8").astype(dtype)


@given(SIZES, DTYPES, st.lists(st.integers(1, 3), max_size=2), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_arrays_come_back_as_they_went(sizes: list[int], dtype: str, width: list[int], seed: int) -> None:
    parts = [values(dtype, size, tuple(width), seed + n) for n, size in enumerate(sizes)]
    assert len({kind_of(part) for part in parts}) == 1
    for back, part in zip(split(joined(parts), sizes), parts):
        np.testing.assert_array_equal(back, part, strict=True)
    by_name = [{"a": part, "b": values("f4", len(part), (2,), seed)} for part in parts]
    assert len({kind_of(part) for part in by_name}) == 1
    for back, named in zip(split(joined(by_name), sizes), by_name):
        assert list(back) == ["a", "b"]
        for name in named:
            np.testing.assert_array_equal(back[name], named[name], strict=True)


@given(SIZES, st.lists(DTYPES, min_size=1, max_size=4), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_tables_come_back_as_they_went(sizes: list[int], dtypes: list[str], seed: int) -> None:
    parts = [
        pd.DataFrame({f"c{n}": values(dtype, size, (), seed + n) for n, dtype in enumerate(dtypes)})
        for size in sizes
    ]
    assert len({kind_of(part) for part in parts}) == 1
    whole = joined(parts)
    assert list(whole.index) == list(range(sum(sizes))), "as the table of one request"
    for back, part in zip(split(whole, sizes), parts):
        pd.testing.assert_frame_equal(back.reset_index(drop=True), part)


@given(SIZES, st.sampled_from(["list", "tuple", "series", "sparse"]))
@settings(max_examples=40, deadline=None)
def test_whatever_has_one_answer_a_row_is_split(sizes: list[int], shape: str) -> None:
    scipy = pytest.importorskip("scipy.sparse")
    numbers = list(range(sum(sizes)))
    made: Any = {
        "list": lambda: numbers,
        "tuple": lambda: tuple(numbers),
        "series": lambda: pd.Series(numbers, index=numbers[::-1]),
        "sparse": lambda: scipy.coo_matrix(np.array(numbers).reshape(-1, 1)),
    }[shape]()
    parts = split(made, sizes)
    assert [len(part) for part in parts] == sizes
    assert [n for part in parts for n in np.ravel(part).tolist()] == numbers


@pytest.mark.parametrize(
    "answers", [5, "ab", b"ab", None, [1, 2, 3], np.float64(1), (n for n in (1, 2)), {"a": [1, 2], "b": 3}]
)
def test_what_has_not_is_not(answers: Any) -> None:
    with pytest.raises(Unsplittable):
        split(answers, [1, 1])


def test_a_hole_makes_another_kind_of_column() -> None:
    whole, holed = pd.DataFrame({"stops": [1]}), pd.DataFrame({"stops": [np.nan]})
    assert kind_of(whole) != kind_of(holed)
    assert kind_of(whole) != kind_of(whole.rename(columns={"stops": "other"}))


@pytest.mark.parametrize(
    "rows", [[[1, 2]], np.float64(3), np.ones((0, 2)), {}, {"a": np.ones(2), "b": np.ones(3)}, {"a": [1]}]
)
def test_some_rows_are_asked_alone(rows: Any) -> None:
    assert kind_of(rows) is None


@pytest.mark.parametrize(
    ("shape", "is_joinable"), [(None, True), ((-1, 3), True), ((1, 3), False), ((), False)]
)
def test_a_graph_for_one_row_gets_one_row(shape: tuple[int, ...] | None, is_joinable: bool) -> None:
    assert joinable([Spec("x", "FP32", shape)]) is is_joinable


# -- the whole application ------------------------------------------------------------------


def together(of: Any, *posted: tuple[str, bytes, dict[str, str]]) -> list[Said]:
    import orjson

    async def run() -> list[Any]:
        requests = [Request("POST", path, b"", headers, body) for path, body, headers in posted]
        return await asyncio.gather(*(of(request) for request in requests))

    said = []
    for answer in ran(run):
        whole = answer.body()
        length = int(answer.headers.get("inference-header-content-length", len(whole)))
        said.append(Said(answer.status, orjson.loads(whole[:length]), whole[length:], answer))
    return said


PREDICT, INFER = "/v1/models/late:predict", "/v2/models/late/infer"


def test_v1_and_v2_as_json_and_as_bytes_are_one_call() -> None:
    import orjson

    calls = []

    def answer(rows: Any) -> Any:
        calls.append(rows)
        return rows["temp"].to_numpy() + rows["stops"].to_numpy()

    of = app(answer, COLUMNS, batching=Batching(4, FOREVER))
    v1 = {"instances": [{"temp": 1.5, "stops": 2}]}
    temp = {"name": "temp", "shape": [1], "datatype": "FP64"}
    stops = {"name": "stops", "shape": [1], "datatype": "INT64"}
    v2 = {"id": "7", "inputs": [{**temp, "data": [2.5]}, {**stops, "data": [3]}]}
    sizes = {"parameters": {"binary_data_size": 8}}
    head = orjson.dumps({"inputs": [{**temp, **sizes}, {**stops, **sizes}]})
    raw = np.float64(4.5).tobytes() + np.int64(5).tobytes()
    first, second, third, fourth = together(
        of,
        (PREDICT, orjson.dumps(v1), {}),
        (INFER, orjson.dumps(v2), {}),
        (INFER, head + raw, {"inference-header-content-length": str(len(head))}),
        (PREDICT, orjson.dumps(v1), {}),
    )
    (rows,) = calls
    assert [str(dtype) for dtype in rows.dtypes] == ["float64", "int64"]
    assert (first.json["predictions"], first.json["message"]) == ([3.5], "")
    assert first.json["batchId"] == fourth.json["batchId"]
    assert (second.json["id"], second.json["outputs"][0]["data"]) == ("7", [5.5])
    assert third.json["outputs"][0]["data"] == [9.5]
    answers = [one.answer for one in (first, second, third, fourth)]
    assert [one.rows for one in answers] == [1, 1, 1, 1]
    assert [one.batch for one in answers] == [4, None, None, None]


def test_a_callers_fault_is_a_400_for_that_caller() -> None:
    import orjson

    def answer(rows: Any) -> Any:
        if (rows < 0).any():
            raise ValueError("no negative numbers")
        return rows[:, 0]

    of = app(answer, batching=Batching(3, FOREVER))
    bodies = [orjson.dumps({"instances": [[number]]}) for number in (1, -1, 2)]
    made = together(of, *((PREDICT, body, {}) for body in bodies))
    assert [one.status for one in made] == [200, 400, 200]
    assert made[1].json == {"error": "no negative numbers"}
    assert [one.json["predictions"] for one in (made[0], made[2])] == [[1], [2]]


def test_a_model_that_states_one_row_is_asked_for_one_row() -> None:
    import orjson

    calls = []

    def answer(rows: Any) -> Any:
        calls.append(len(rows))
        return rows

    stated = Signature(inputs=(Spec("x", "FP64", (1, 2)),))
    body = orjson.dumps({"instances": [[1, 2]]})
    made = together(app(answer, stated=stated, batching=Batching(2, FOREVER)), *[(PREDICT, body, {})] * 2)
    assert calls == [1, 1]
    assert all(one.json["batchId"] for one in made)


def test_without_a_batcher_answers_are_as_ever() -> None:
    import orjson

    (made,) = together(app(), (PREDICT, orjson.dumps({"instances": [[1]]}), {}))
    assert list(made.json) == ["predictions"]
    assert (made.answer.rows, made.answer.batch) == (1, None)
