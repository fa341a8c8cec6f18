"""Who comes while a model works is in its next call, and gets the same answer as alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.experimental.enable_iterative_imputer  # noqa: F401
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.decomposition import NMF, PCA, LatentDirichletAllocation
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
)
from sklearn.svm import SVC
from xgboost import XGBClassifier

from modelyard_kserve.local.answers import outputs, predictions
from modelyard_kserve.local.batching import Together, Unsplittable, joined, size_of, split
from modelyard_kserve.local.messages import Answer, Request
from modelyard_kserve.local.model_app import ModelApp
from modelyard_kserve.local.runtimes import LoadedModel, load
from modelyard_kserve.local.runtimes.sklearn import answer, is_row_by_row


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


class Theirs(TransformerMixin, BaseEstimator):  # type: ignore[misc,unused-ignore]
    """Not scikit-learn's: it looks at what lies beside a row."""

    def fit(self, X: Any, y: Any = None) -> Any:
        return self

    def transform(self, X: Any) -> Any:
        return X - np.mean(X, axis=0)


def patched() -> Any:
    model = LogisticRegression()
    model.decision_function = model.predict = len
    return model


def estimators() -> dict[str, tuple[Any, bool]]:
    logistic, columns = LogisticRegression(), make_column_transformer((OneHotEncoder(), ["a"]))
    selected = make_column_transformer((OneHotEncoder(), make_column_selector(dtype_include=object)))
    scaled = make_pipeline(StandardScaler(), logistic)
    return {
        "one": (logistic, True),
        "columns": (make_pipeline(columns, XGBClassifier()), True),
        "columns by type": (make_pipeline(selected, logistic), True),
        "texts": (make_pipeline(TfidfVectorizer(), logistic), True),
        "boosters": (LGBMRegressor(), True),
        "votes": (VotingClassifier([("a", logistic), ("b", SVC())]), True),
        "search": (GridSearchCV(scaled, {"standardscaler": ["passthrough", MinMaxScaler()]}), True),
        "search of theirs": (GridSearchCV(scaled, {"standardscaler": ["passthrough", Theirs()]}), False),
        "search of functions": (GridSearchCV(SVC(), [{"kernel": ["rbf", np.dot]}]), False),
        "function": (make_pipeline(FunctionTransformer(np.log1p), logistic), False),
        "inside": (make_column_transformer((FunctionTransformer(), ["a"]), (Theirs(), ["b"])), False),
        "kernel": (SVC(kernel=lambda a, b: a @ b.T), False),
        "chance": (DummyClassifier(strategy="uniform", random_state=0), False),
        "factors": (make_pipeline(NMF(), logistic), False),
        "gaps": (make_pipeline(IterativeImputer(), logistic), False),
        "patched": (patched(), False),
        "theirs": (Theirs(), False),
        "no estimator": (object(), False),
    }


@pytest.mark.parametrize("name", estimators())
def test_only_what_is_known_to_look_at_each_row_for_itself_is_asked_together(name: str) -> None:
    model, wanted = estimators()[name]
    assert is_row_by_row(model) is wanted


def test_boosters_of_mlflow_are_known_and_its_python_models_are_not(tmp_path: Path) -> None:
    import mlflow.lightgbm
    import mlflow.pyfunc
    import mlflow.xgboost
    from lightgbm import LGBMRegressor
    from xgboost import XGBRegressor

    class Centred(LGBMRegressor):  # type: ignore[misc]
        def predict(self, rows: Any, **_: Any) -> Any:
            made = super().predict(rows)
            return made - made.mean()

    class Ours(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input

    rows = np.random.default_rng(0).normal(size=(20, 2))
    mlflow.xgboost.save_model(XGBRegressor(n_estimators=2).fit(rows, rows[:, 0]), str(tmp_path / "booster"))
    mlflow.pyfunc.save_model(str(tmp_path / "ours"), python_model=Ours(), pip_requirements=[])
    centred = Centred(n_estimators=2, verbose=-1).fit(rows, rows[:, 0])
    mlflow.lightgbm.save_model(centred, str(tmp_path / "centred"), serialization_format="cloudpickle")
    names = ("booster", "ours", "centred")
    known = {name: load(tmp_path / name, trust_pickle=True).row_by_row for name in names}
    assert known == {"booster": True, "ours": False, "centred": False}


GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(80, 4))
HOLES = np.where(GENERATOR.random(X.shape) < 0.2, np.nan, X)
WORDS = np.array(["on time", "late", "cancelled"])[np.digitize(X[:, 0], [-0.5, 0.5])]
SEVERAL = np.c_[WORDS, np.where(X[:, 1] > 0, "north", "s")]
TEXTS = np.array(["late again and again", "", "on time", "fog über Köln"] * 20, dtype=object)
TABLE = pd.DataFrame(
    {"carrier": WORDS.astype(object), "temp": HOLES[:, 0], "stops": 1, "holiday": X[:, 1] > 0}
)
TABLE.loc[::7, "carrier"] = None


def answering() -> dict[str, tuple[Any, Any, Any]]:
    """Models, what they are fitted with, and what with."""
    logistic, forest = LogisticRegression(), RandomForestClassifier(5, random_state=0)
    words = make_pipeline(SimpleImputer(strategy="constant"), OneHotEncoder(handle_unknown="ignore"))
    columns = make_column_transformer(
        (words, ["carrier"]), (SimpleImputer(), ["temp"]), remainder="passthrough"
    )
    pandas = make_pipeline(StandardScaler(), PCA(2), logistic).set_output(transform="pandas")
    return {
        "linear": (make_pipeline(PolynomialFeatures(), logistic), X, WORDS),
        "holes": (make_pipeline(KNNImputer(add_indicator=True), Ridge()), HOLES, X[:, 0]),
        "trees with holes": (HistGradientBoostingClassifier(max_iter=5), HOLES, WORDS),
        "neighbours": (KNeighborsClassifier(algorithm="brute"), X.round(), WORDS),
        "radius": (RadiusNeighborsClassifier(0.8, outlier_label="late"), X, WORDS),
        "kernel": (SVC(), X, WORDS),
        "calibrated": (CalibratedClassifierCV(SVC(), cv=2), X, WORDS),
        "stacked": (StackingClassifier([("a", logistic), ("b", forest)], cv=2), X, WORDS),
        "votes": (VotingClassifier([("a", logistic), ("b", forest)], voting="soft"), X, WORDS),
        "search": (GridSearchCV(pandas, {"pca": [PCA(1), "passthrough"]}, cv=2), X, WORDS),
        "target": (TransformedTargetRegressor(Ridge(), transformer=StandardScaler()), X, X[:, :2]),
        "several targets": (forest, X, SEVERAL),
        "several estimators": (MultiOutputClassifier(logistic), X, SEVERAL),
        "several labels": (OneVsRestClassifier(logistic), X, (X[:, :3] > 0).astype(int)),
        "clusters": (KMeans(3, n_init=1, random_state=0), X, None),
        "outliers": (IsolationForest(n_estimators=5, random_state=0), X, None),
        "texts": (make_pipeline(TfidfVectorizer(), logistic), TEXTS, WORDS),
        "topics": (make_pipeline(CountVectorizer(), LatentDirichletAllocation(2), logistic), TEXTS, WORDS),
        "columns": (make_pipeline(columns, logistic), TABLE, WORDS),
        "xgboost": (XGBClassifier(n_estimators=3), HOLES, X[:, 0] > 0),
        "lightgbm": (LGBMClassifier(n_estimators=3, verbose=-1), HOLES, WORDS),
    }


@pytest.mark.parametrize("name", answering())
def test_together_they_answer_as_they_do_alone(name: str) -> None:
    model, given, wanted = answering()[name]
    model.fit(given, wanted)
    assert is_row_by_row(model)
    rows = [given[start : start + 1] for start in range(7)]
    for probabilities in (False, True)[: 1 + hasattr(model, "predict_proba")]:
        asked = answer(model, probabilities)
        alone = [outputs(asked(row), ()) for row in rows]
        for count in range(2, len(rows) + 1):  # among them as many as the model has targets
            parts = split(asked(joined(rows[:count])), [1] * count)
            for one, part in zip(alone, [outputs(part, ()) for part in parts]):
                assert [(o.name, o.datatype, o.shape) for o in part] == [
                    (o.name, o.datatype, o.shape) for o in one
                ]
                for mine, theirs in zip(part, one):
                    if mine.datatype == "BYTES":
                        assert mine.values.tolist() == theirs.values.tolist()
                    else:
                        np.testing.assert_allclose(mine.values, theirs.values, rtol=1e-7, atol=1e-12)


def test_probabilities_of_several_targets_are_a_row_each() -> None:
    model = MultiOutputClassifier(LogisticRegression()).fit(X, SEVERAL)
    first, second = model.predict_proba(X[:2])
    made = predictions(answer(model, True)(X[:2]))
    assert made == [
        {"predict_proba_0": a, "predict_proba_1": b} for a, b in zip(first.tolist(), second.tolist())
    ]


def test_a_list_of_as_many_answers_as_each_has_is_not_cut() -> None:
    with pytest.raises(Unsplittable):
        split([np.array([1, 2]), np.array([3, 4])], [1, 1])
    assert split([np.array([1, 2]), np.array([3, 4]), np.array([5, 6])], [1, 2])[0][0].tolist() == [1, 2]


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
