"""scikit-learn's models: skops files always, pickles when they are trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.errors import ConfigError
from modelyard_kserve.local.runtimes.base import LoadedModel, found, unloadable, untrusted

#: skops content may hold types below these; anything else must be asked for by name.
_TRUSTED_PREFIXES = (*("sklearn.", "numpy.", "scipy.", "builtins.", "collections.", "functools.", "pandas."),)
#: Whose estimators look at each row for itself.
_KNOWN = ("sklearn.", "xgboost.", "lightgbm.")
#: Except these. A chance goes by a row's place; factors are searched until all rows together fit; gaps are
#: filled in rounds unless every row of a call is empty, or drawn.
_OF_ALL_ROWS = ("DummyClassifier", "NMF", "MiniBatchNMF", "IterativeImputer")
#: What a model may be asked by besides `predict` and its kin.
_METHODS = ("decision_function", "score_samples", "transform")
_FILES = ("*.skops", "*.joblib", "*.pkl", "*.pickle")


def load(folder: Path, *, trusted: bool, probabilities: bool, method: str = "predict") -> LoadedModel:
    """The one model in a folder, or that its MLmodel names.

    Args:
        folder, trusted, probabilities: see `runtimes.load`.
        method: what it is asked by, if not for probabilities.
    """
    if not method.startswith("predict") and method not in _METHODS:  # a file must not choose freely what runs
        raise unloadable(folder, f"its MLmodel has it asked by {method!r:.60}, which predicts nothing")
    file, columns, flavor = found(folder, "sklearn", _FILES, key="pickled_model")
    if file.suffix == ".skops":
        model = _from_skops(file, trusted, flavor.get("skops_trusted_types") or ())
    else:
        model = _from_pickle(file, trusted)
    asked = _as_fitted(model, answer(model, probabilities, method))
    return LoadedModel(
        columns, asked, listed=_reads_objects(model), tables=True, row_by_row=is_row_by_row(model)
    )


def is_row_by_row(model: Any) -> bool:
    """Whether rows of several requests may be in one call of the model.

    scikit-learn promises that its estimators answer mini-batches as they answer all rows (its own check is
    `check_methods_subset_invariance`), and boosters do. Classes of others and functions may look at what
    lies beside a row, and so do a few of scikit-learn's own: `_OF_ALL_ROWS`.

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
        return hasattr(model, "get_params") and _is_known(model)
    except AttributeError:  # another version wrote it, without a parameter that this one has
        return False


def _is_known(part: Any) -> bool:
    """Whether this, and all that it is made of, looks at each row for itself. Lists and mappings hold steps,
    and what a search may put in their place."""
    if isinstance(part, Mapping):
        return all(_is_known(one) for one in part.values())
    if isinstance(part, (list, tuple)):
        return all(_is_known(one) for one in part)
    if isinstance(part, type) or not (callable(part) or hasattr(part, "get_params")):
        return True
    name = type(part).__name__
    if not f"{type(part).__module__}.".startswith(_KNOWN) or name in _OF_ALL_ROWS or _is_patched(part):
        return False
    return not hasattr(part, "get_params") or _is_known(part.get_params(deep=False))


def _is_patched(part: Any) -> bool:
    """Whether somebody gave this one a method of its own."""
    own = getattr(part, "__dict__", {})
    return any(callable(value) and hasattr(type(part), name) for name, value in own.items())


def _as_fitted(model: Any, given: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A table as the model was given it. scikit-learn refuses the columns in another order than they had, and
    JSON's names have none; of a table of texts a vectorizer would read the names of the columns."""
    names = list(getattr(model, "feature_names_in_", ()))
    texts, objects = _reads_texts(model), _reads_objects(model)

    def asked(rows: Any) -> Any:
        columns = getattr(rows, "columns", ())
        if objects and not all(isinstance(row, dict) for row in rows):
            raise ValueError("the model takes objects of names and values")
        if texts and len(columns) == 1:
            return given(rows.iloc[:, 0])
        return given(rows[names] if names and set(names) <= set(columns) else rows)

    return asked


def _reads_texts(model: Any) -> bool:
    """Whether it begins with vectorizers of texts, which take a list of them."""
    return all(hasattr(part, "build_analyzer") for part in _first(model))


def _reads_objects(model: Any) -> bool:
    """Whether it begins with `DictVectorizer` or `FeatureHasher`, which take a list of dictionaries."""
    return all(
        type(part).__name__ == "DictVectorizer" or getattr(part, "input_type", "") == "dict"
        for part in _first(model)
    )


def _first(model: Any) -> list[Any]:
    """What looks at the rows before all else."""
    model = getattr(model, "best_estimator_", model)
    if steps := getattr(model, "steps", ()):
        return _first(steps[0][1])
    if union := getattr(model, "transformer_list", ()):
        return [one for _, part in union for one in _first(part)]
    return [model]


def answer(model: Any, probabilities: bool, method: str = "predict") -> Callable[[Any], Any]:
    """What such a model is asked by.

    Raises:
        ConfigError: `model-unloadable`: it gives no probabilities, and they are wanted.
    """
    if probabilities:
        method = "predict_proba"
        if not hasattr(model, method):
            raise ConfigError(
                "model-unloadable",
                f"PREDICT_PROBA is set, but a {type(model).__name__} gives no probabilities",
                "take PREDICT_PROBA out of the InferenceService",
            )
    ask: Callable[[Any], Any] = getattr(model, method)
    if method == "predict":
        return ask

    def by_target(rows: Any) -> Any:
        given = ask(rows)
        return {f"{method}_{n}": one for n, one in enumerate(given)} if isinstance(given, list) else given

    return by_target


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
