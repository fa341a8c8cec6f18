"""Who comes while a model works is in its next call, and gets the same answer as alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard_kserve.local.batching import Together, size_of
from modelyard_kserve.local.messages import Answer, Request
from modelyard_kserve.local.model_app import ModelApp
from modelyard_kserve.local.runtimes import LoadedModel, load
from modelyard_kserve.local.runtimes.sklearn import is_row_by_row


class Model:
    """Doubles, once it may; notes how many rows each call had. A row of 13 is bad."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.may = asyncio.Event()

    async def __call__(self, rows: Any) -> Any:
        self.calls.append(size_of(rows))
        await self.may.wait()
        if (np.asarray(rows) == 13).any():
            raise ValueError(f"{len(rows)} rows, of which one is bad")
        return rows * 2


def column(*values: float) -> Any:
    return np.array(values, dtype=float).reshape(-1, 1)


def asked(first: Any, *then: Any, most: int = 64, gone: int | None = None) -> tuple[list[int], list[Any]]:
    """The rows of each call, and what everybody gets: one caller, and those who come while it works.

    Args:
        gone: this one hangs up before it is asked for.
    """

    async def run() -> tuple[list[int], list[Any]]:
        model = Model()
        together = Together(model, lambda: most)
        waiting = [asyncio.ensure_future(together(first))]
        while not model.calls:
            await asyncio.sleep(0)
        waiting += [asyncio.ensure_future(together(rows)) for rows in then]
        await asyncio.sleep(0.01)
        if gone is not None:
            waiting[gone].cancel()
        model.may.set()
        return model.calls, await asyncio.gather(*waiting, return_exceptions=True)

    return asyncio.run(asyncio.wait_for(run(), 20))


def answers(made: list[Any]) -> list[Any]:
    return [one.answers.ravel().tolist() for one in made]


def test_who_comes_while_it_works_is_in_the_next_call() -> None:
    calls, made = asked(column(1), column(2), column(3, 4), column(5))
    assert calls == [1, 4]
    assert answers(made) == [[2], [4], [6, 8], [10]]
    assert [one.rows for one in made] == [1, 4, None, None], "one call is counted once"
    assert {one.id for one in made} == {""}


def test_the_first_waits_for_nobody() -> None:
    calls, made = asked(column(1))
    assert (calls, answers(made)) == ([1], [[2]])


def test_a_bad_row_is_its_own_callers_alone() -> None:
    calls, made = asked(column(1), column(2), column(13), column(3))
    assert calls == [1, 3, 1, 1, 1]
    assert answers([made[0], made[1], made[3]]) == [[2], [4], [6]]
    assert str(made[2]) == "1 rows, of which one is bad"


def test_no_call_has_more_rows_than_it_may_and_a_large_request_goes_alone() -> None:
    calls, made = asked(column(1), column(2, 3), column(4, 5, 6), column(*range(20, 30)), column(7), most=4)
    assert calls == [1, 3, 3, 10]
    assert answers(made)[1:3] == [[4, 6], [8, 10, 12]]
    assert len(made[3].answers) == 10


def test_rows_of_another_kind_wait_for_their_own_call() -> None:
    table = pd.DataFrame({"a": [1.0]})
    calls, made = asked(column(1), table, column(2), table.rename(columns={"a": "b"}), table)
    assert calls == [1, 2, 1, 1]
    assert [list(getattr(one.answers, "columns", ())) for one in made] == [[], ["a"], [], ["b"], ["a"]]


def test_tables_of_one_type_and_of_several_are_joined() -> None:
    for table in ({"a": [1.0], "b": [2.0]}, {"a": [1.0], "b": [2]}):
        calls, made = asked(column(1), pd.DataFrame(table), pd.DataFrame(table) * 2)
        assert calls == [1, 2]
        assert [one.answers.values.ravel().tolist() for one in made[1:]] == [[2, 4], [4, 8]]
        assert [str(kind) for kind in made[1].answers.dtypes] == [
            str(kind) for kind in pd.DataFrame(table).dtypes
        ]


def test_who_hung_up_is_not_asked_for() -> None:
    calls, made = asked(column(1), column(2), column(3), gone=1)
    assert calls == [1, 1]
    assert isinstance(made[1], asyncio.CancelledError)
    assert answers([made[2]]) == [[6]]


# -- which models -----------------------------------------------------------------------------


class Theirs:
    """Not scikit-learn's: who knows what it looks at."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {}


def estimators() -> dict[str, tuple[Any, bool]]:
    from lightgbm import LGBMRegressor
    from sklearn.compose import make_column_transformer
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import VotingClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
    from sklearn.svm import SVC
    from xgboost import XGBClassifier

    logistic, columns = LogisticRegression(), make_column_transformer((OneHotEncoder(), ["a"]))
    return {
        "one": (logistic, True),
        "columns": (make_pipeline(columns, XGBClassifier()), True),
        "texts": (make_pipeline(TfidfVectorizer(), logistic), True),
        "boosters": (LGBMRegressor(), True),
        "votes": (VotingClassifier([("a", logistic), ("b", SVC())]), True),
        "function": (make_pipeline(FunctionTransformer(np.log1p), logistic), False),
        "inside": (make_column_transformer((FunctionTransformer(), ["a"]), (Theirs(), ["b"])), False),
        "kernel": (SVC(kernel=lambda a, b: a @ b.T), False),
        "chance": (DummyClassifier(strategy="uniform", random_state=0), False),
        "theirs": (Theirs(), False),
        "no estimator": (object(), False),
    }


@pytest.mark.parametrize("name", estimators())
def test_only_what_is_known_to_look_at_each_row_for_itself_is_asked_together(name: str) -> None:
    model, wanted = estimators()[name]
    assert is_row_by_row(model) is wanted


def test_boosters_of_mlflow_are_known_and_its_python_models_are_not(tmp_path: Path) -> None:
    import mlflow.pyfunc
    import mlflow.xgboost
    from xgboost import XGBRegressor

    class Ours(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input

    rows = np.random.default_rng(0).normal(size=(20, 2))
    mlflow.xgboost.save_model(XGBRegressor(n_estimators=2).fit(rows, rows[:, 0]), str(tmp_path / "booster"))
    mlflow.pyfunc.save_model(str(tmp_path / "ours"), python_model=Ours(), pip_requirements=[])
    known = {name: load(tmp_path / name, trust_pickle=True).row_by_row for name in ("booster", "ours")}
    assert known == {"booster": True, "ours": False}


@pytest.mark.parametrize("row_by_row", [True, False])
def test_the_models_server_asks_together_what_may_be(row_by_row: bool) -> None:
    sizes: list[int] = []

    def answer(rows: Any) -> Any:
        sizes.append(len(rows))
        return rows[:, 0]

    body = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}]}'
    request = Request("POST", "/v2/models/m/infer", b"", {}, body)
    app = ModelApp("m", "1", LoadedModel((), answer, row_by_row=row_by_row), probabilities=False)

    async def run(made: Callable[[Request], Awaitable[Answer]]) -> list[Answer]:
        return await asyncio.gather(*(made(request) for _ in range(6)))

    made = asyncio.run(run(app))
    assert {one.body() for one in made} == {made[0].body()}
    assert sizes == ([6] if row_by_row else [1] * 6)
    assert sum(one.batch or 0 for one in made) == (6 if row_by_row else 0)
