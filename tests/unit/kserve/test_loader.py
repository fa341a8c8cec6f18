"""Model folders: what is loaded, and what is refused in one sentence."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from modelyard.errors import ModelyardError
from modelyard_kserve.local.runtimes import load

skops_io = pytest.importorskip("skops.io")

ROWS = pd.DataFrame({"temp": [1.0, 2.0]})
MLMODEL = """\
flavors:
  sklearn: {pickled_model: model.pkl}
signature:
  inputs: '[{"type": "double", "name": "temp", "required": true}, {"type": "long", "name": "stops"}]'
"""


class Marker:
    """Notes when it is unpickled."""

    seen = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return (_note, ())


def _note() -> int:
    Marker.seen += 1
    return Marker.seen


def fitted() -> Any:
    return DummyRegressor(strategy="constant", constant=0.25).fit(ROWS, [0.0, 0.0])


def refused(folder: Path, *, trust_pickle: bool = False, probabilities: bool = False) -> str:
    with pytest.raises(ModelyardError) as caught:
        load(folder, trust_pickle=trust_pickle, probabilities=probabilities)
    assert caught.value.code == "model-unloadable"
    assert "\n" not in caught.value.message
    return caught.value.message


def dump_pickle(model: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(model))


@pytest.mark.parametrize(
    ("name", "dump", "trust"),
    [
        ("model.skops", skops_io.dump, False),
        ("model.pkl", dump_pickle, True),
        ("model.pickle", dump_pickle, True),
        ("model.joblib", joblib.dump, True),
    ],
)
def test_a_folder_with_one_model_file_is_loaded(
    tmp_path: Path, name: str, dump: Callable[[Any, Path], None], trust: bool
) -> None:
    dump(fitted(), tmp_path / name)
    model = load(tmp_path, trust_pickle=trust, probabilities=False)
    assert model.columns == ()
    assert list(model.answer(ROWS)) == [0.25, 0.25]


def test_an_mlflow_folder_says_its_columns(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(MLMODEL)
    dump_pickle(fitted(), tmp_path / "model.pkl")
    model = load(tmp_path, trust_pickle=True, probabilities=False)
    assert [(c.name, c.kind, c.required) for c in model.columns] == [
        ("temp", "double", True),
        ("stops", "long", True),
    ]


def test_probabilities_are_asked_of_the_model(tmp_path: Path) -> None:
    skops_io.dump(DummyClassifier(strategy="prior").fit(ROWS, [0, 1]), tmp_path / "m.skops")
    model = load(tmp_path, trust_pickle=False, probabilities=True)
    assert model.answer(ROWS).tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_a_model_without_probabilities_is_refused_when_they_are_wanted(tmp_path: Path) -> None:
    skops_io.dump(fitted(), tmp_path / "m.skops")
    assert "a DummyRegressor gives no probabilities" in refused(tmp_path, probabilities=True)


# -- folders that are no model --------------------------------------------------------------


@pytest.mark.parametrize("files", [(), ("README.md",), ("a.pkl", "b.skops")])
def test_a_folder_without_one_model_is_refused(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        (tmp_path / name).write_text("x")
    models = sum(not name.endswith(".md") for name in files)
    assert f"it holds {models} model files" in refused(tmp_path, trust_pickle=True)


@pytest.mark.parametrize(
    "content", ["", "[]", "flavors: {sklearn: {}}", "{torn: [", "flavors: {}", "signature: 3"]
)
def test_an_mlmodel_that_describes_nothing_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "MLmodel").write_text(content)
    assert f"{tmp_path.name} can't be loaded: " in refused(tmp_path, trust_pickle=True)


def test_a_model_file_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(MLMODEL)
    assert "FileNotFoundError" in refused(tmp_path, trust_pickle=True)


def test_a_folder_that_is_gone_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "gone")


# -- modelFormat ----------------------------------------------------------------------------


def refused_as(model_format: str, folder: Path) -> str:
    with pytest.raises(ModelyardError) as caught:
        load(folder, model_format=model_format, trust_pickle=True)
    assert caught.value.code == "model-unloadable"
    return caught.value.message


@pytest.mark.parametrize(
    ("files", "model_format", "said"),
    [
        ("a.skops", "mlflow", "no mlflow model (MLmodel) is in it; it looks like sklearn"),
        ("model.onnx", "sklearn", "it looks like onnx: say so in modelFormat"),
        ("saved_model.pb", "pytorch", "it looks like tensorflow"),
        ("3/saved_model.pb", "onnx", "it looks like tensorflow"),
        ("config.json", "tensorflow", "it looks like huggingface"),
        ("README.txt notes.json", "onnx", "it holds 0 model files; one of *.onnx is needed"),
        ("a.pt b.pt2", "pytorch", "it holds 2 model files (a.pt, b.pt2)"),
        ("1/a.onnx 1/b.onnx", "onnx", "it holds 2 model files (a.onnx, b.onnx)"),
        ("notes.txt", "lightgbm", "it holds 0 model files"),
        ("model.bst", "lightgbm", "it does not begin as LightGBM's models do"),
        ("a.skops", "pmml", "'pmml' is not served here; known: huggingface, lightgbm, mlflow"),
    ],
)
def test_a_folder_that_does_not_hold_what_is_named_is_refused(
    tmp_path: Path, files: str, model_format: str, said: str
) -> None:
    pytest.importorskip("onnxruntime")
    for name in files.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    if model_format == "pytorch" and "pb" not in files:
        pytest.importorskip("torch")
    assert said in refused_as(model_format, tmp_path)


@pytest.mark.parametrize("model_format", ["sklearn", "xgboost", "pytorch", "huggingface"])
@pytest.mark.parametrize("content", ["flavors: {python_function: {}}", "[]", "{torn: ["])
def test_an_mlmodel_without_the_format_is_for_mlflow(tmp_path: Path, model_format: str, content: str) -> None:
    (tmp_path / "MLmodel").write_text(content)
    assert f"its MLmodel describes no {model_format} model; say modelFormat mlflow" in refused_as(
        model_format, tmp_path
    )


def test_an_mlmodel_names_no_file_outside_of_its_folder(tmp_path: Path) -> None:
    dump_pickle(Marker(), tmp_path / "evil.pkl")
    before = Marker.seen
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {sklearn: {pickled_model: ../evil.pkl}}")
    for model_format in ("sklearn", "mlflow"):
        assert "its MLmodel names ../evil.pkl, which lies outside of it" in refused_as(model_format, folder)
    assert Marker.seen == before


def test_probabilities_are_scikit_learns(tmp_path: Path) -> None:
    pytest.importorskip("xgboost")
    (tmp_path / "model.ubj").write_text("x")
    with pytest.raises(ModelyardError, match="PREDICT_PROBA is for scikit-learn's models"):
        load(tmp_path, model_format="xgboost", trust_pickle=True, probabilities=True)


# -- files that can't be loaded -------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib", "model.skops"])
@pytest.mark.parametrize(
    "content", [b"", b"\x80\x05torn", b"PK\x03\x04torn"], ids=["empty", "torn", "torn zip"]
)
def test_a_torn_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path, trust_pickle=True)


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib"])
def test_a_pickle_that_nobody_registered_is_not_even_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Marker()))
    before = Marker.seen
    assert "it is a pickle, which runs code when it is loaded" in refused(tmp_path)
    assert Marker.seen == before


def test_a_pickle_in_an_mlflow_folder_is_not_either(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(MLMODEL)
    dump_pickle(fitted(), tmp_path / "model.pkl")
    assert "model.pkl can't be loaded: it is a pickle" in refused(tmp_path)


def test_a_flavor_that_runs_its_own_code_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: os}}")
    assert "loading it runs its own code" in refused(tmp_path)


def test_a_model_whose_package_is_missing_names_it(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"cnot_installed_here.models\nForest\n.")
    assert "ModuleNotFoundError: No module named 'not_installed_here'" in refused(tmp_path, trust_pickle=True)


def test_an_mlflow_model_whose_loader_is_missing_names_it(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: not_installed_here}}")
    assert "not_installed_here" in refused(tmp_path, trust_pickle=True)


# -- skops ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (eval, "builtins.eval"),
        (functools.partial(exec, "raise SystemExit", {}), "builtins.exec"),
        (pd.read_pickle, "pandas.io.pickle.read_pickle"),
    ],
    ids=["eval", "partial", "read_pickle"],
)
def test_a_skops_file_with_a_function_that_runs_code_is_refused(
    tmp_path: Path, function: Any, name: str
) -> None:
    skops_io.dump(make_pipeline(FunctionTransformer(function), fitted()), tmp_path / "m.skops")
    said = refused(tmp_path)
    assert "it holds types that are not trusted" in said
    assert name in said


def test_the_classes_of_scikit_learn_are_trusted(tmp_path: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(max_iter=2).fit(np.arange(40.0)[:, None], np.arange(40.0))
    skops_io.dump(make_pipeline(FunctionTransformer(np.log1p), model), tmp_path / "m.skops")
    assert len(load(tmp_path, trust_pickle=False, probabilities=False).answer(np.ones((2, 1)))) == 2


def test_a_registered_model_may_use_numpys_functions(tmp_path: Path) -> None:
    skops_io.dump(make_pipeline(FunctionTransformer(np.nan_to_num), fitted()), tmp_path / "m.skops")
    assert list(load(tmp_path, trust_pickle=True, probabilities=False).answer(ROWS)) == [0.25, 0.25]
    assert "numpy.nan_to_num" in refused(tmp_path)
