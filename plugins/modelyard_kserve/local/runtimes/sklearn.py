"""scikit-learn's models: skops files always, pickles when they are trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modelyard.errors import ConfigError
from modelyard_kserve.local.runtimes.base import LoadedModel, found, unloadable, untrusted

#: skops content may hold types below these; anything else must be asked for by name.
_TRUSTED_PREFIXES = (*("sklearn.", "numpy.", "scipy.", "builtins.", "collections.", "functools.", "pandas."),)
#: Whose estimators look at each row for itself.
_KNOWN = ("sklearn.", "xgboost.", "lightgbm.")
_FILES = ("*.skops", "*.joblib", "*.pkl", "*.pickle")


def load(folder: Path, *, trusted: bool, probabilities: bool) -> LoadedModel:
    """The one model in a folder, or that its MLmodel names."""
    file, columns, flavor = found(folder, "sklearn", _FILES, key="pickled_model")
    if file.suffix == ".skops":
        model = _from_skops(file, trusted, flavor.get("skops_trusted_types") or ())
    else:
        model = _from_pickle(file, trusted)
    asked = _in_order(model, answer(model, probabilities))
    return LoadedModel(columns, asked, tables=True, row_by_row=is_row_by_row(model))


def is_row_by_row(model: Any) -> bool:
    """Whether rows of several requests may be in one call of the model.

    scikit-learn promises that its estimators answer mini-batches as they answer all rows (its own check is
    `check_methods_subset_invariance`), and boosters do. Classes of others and functions may look at what
    lies beside a row, and a dummy's chance goes by its place.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import FunctionTransformer, StandardScaler
        >>> is_row_by_row(make_pipeline(StandardScaler(), LogisticRegression()))
        True
        >>> is_row_by_row(make_pipeline(FunctionTransformer(abs), LogisticRegression()))
        False
    """
    try:
        parts = [model, *model.get_params(deep=True).values()]
    except AttributeError:  # no estimator, or one that another version wrote
        return False
    return all(_is_known(part) for part in parts)


def _is_known(part: Any) -> bool:
    if hasattr(part, "get_params") and not isinstance(part, type):
        name = f"{type(part).__module__}."
        return name.startswith(_KNOWN) and not name.startswith("sklearn.dummy.")
    return not callable(part) or isinstance(part, type)


def _in_order(model: Any, given: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """scikit-learn refuses the columns of a table in another order than they had; JSON's names have none."""
    names = list(getattr(model, "feature_names_in_", ()))

    def asked(rows: Any) -> Any:
        return given(rows[names] if names and set(names) <= set(getattr(rows, "columns", ())) else rows)

    return asked


def answer(model: Any, probabilities: bool) -> Callable[[Any], Any]:
    """What such a model is asked by.

    Raises:
        ConfigError: `model-unloadable`: it gives no probabilities, and they are wanted.
    """
    if not probabilities:
        predict: Callable[[Any], Any] = model.predict
        return predict
    if not hasattr(model, "predict_proba"):
        raise ConfigError(
            "model-unloadable",
            f"PREDICT_PROBA is set, but a {type(model).__name__} gives no probabilities",
            "take PREDICT_PROBA out of the InferenceService",
        )
    predict_proba: Callable[[Any], Any] = model.predict_proba
    return predict_proba


def _from_pickle(file: Path, trusted: bool) -> Any:
    if not trusted:
        raise untrusted(file, "it is a pickle, which runs code when it is loaded")
    if file.suffix == ".joblib":
        import joblib  # type: ignore[import-untyped,unused-ignore]

        return joblib.load(file)
    import pickle

    with file.open("rb") as opened:
        return pickle.load(opened)


def _from_skops(file: Path, registered: bool, asked: Sequence[str]) -> Any:
    import skops.io

    needed = skops.io.get_untrusted_types(file=file)
    strange = [name for name in needed if not _is_trusted(name, registered)]
    if strange:
        raise unloadable(file, f"it holds types that are not trusted: {', '.join(strange[:5])}")
    return skops.io.load(file, trusted=[*asked, *needed] if asked else needed)


def _is_trusted(name: str, registered: bool) -> bool:
    """Of files that nobody registered only classes are: some functions (`builtins.exec`) run anything."""
    import pydoc

    return name.startswith(_TRUSTED_PREFIXES) and (registered or isinstance(pydoc.locate(name), type))
