"""Load a model folder into something that answers: scikit-learn directly, anything else by MLflow."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.errors import ConfigError, ModelyardError
from modelyard_kserve.trust import CONSENT

#: skops content may hold types below these; anything else must be asked for by name.
_TRUSTED_PREFIXES = (
    "sklearn.",
    "numpy.",
    "scipy.",
    "builtins.",
    "collections.",
    "functools.",
    "pandas.",
)
_WORDS = {"boolean": "true or false", "string": "text", "datetime": "an ISO 8601 time"}
_NUMBERS = {"double", "float", "long", "integer"}


@dataclass(frozen=True)
class Column:
    """An input of the model: `kind` is MLflow's (`double`, `long`, `string`, `boolean`, ...)."""

    name: str
    kind: str
    required: bool = True


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        columns: its inputs by name; empty when it takes one unnamed matrix.
        answer: takes a DataFrame (or a matrix) of n rows, gives n answers.
    """

    columns: tuple[Column, ...]
    answer: Callable[[Any], Any]


def load(folder: Path, *, trust_pickle: bool, probabilities: bool) -> LoadedModel:
    """Load the model in a folder.

    Args:
        folder: an MLflow model folder, or one with a single .skops, .joblib or .pkl file.
        trust_pickle: pickles may be loaded: they came from the registry with their recorded digest.
        probabilities: answer with class probabilities (`PREDICT_PROBA=true`).

    Raises:
        ModelyardError: `model-unloadable`, in one sentence.
    """
    try:
        model, columns = _model(folder, trust_pickle)
        return LoadedModel(columns, _answer(model, probabilities))
    except ModelyardError:
        raise
    except Exception as fault:
        said = " ".join(str(fault).split())[:400]
        raise _unloadable(folder, f"{type(fault).__name__}: {said}") from fault


def library(folder: Path) -> str:
    """What loads the model in a folder: `sklearn`, or `mlflow`."""
    description = folder / "MLmodel"
    if not description.is_file():
        return "sklearn"
    import yaml

    with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
        described = yaml.safe_load(description.read_text(encoding="utf-8"))
        sklearn = (described.get("flavors") or {}).get("sklearn")
        return "sklearn" if sklearn and not sklearn.get("code") else "mlflow"
    return "mlflow"


def _model(folder: Path, trust_pickle: bool) -> tuple[Any, tuple[Column, ...]]:
    description = folder / "MLmodel"
    if not description.is_file():
        return _from_file(_only_file(folder), trust_pickle), ()
    import yaml

    described = yaml.safe_load(description.read_text(encoding="utf-8"))
    columns = _columns(described.get("signature") or {})
    sklearn = (described.get("flavors") or {}).get("sklearn")
    if sklearn and not sklearn.get("code"):
        return _from_file(folder / sklearn["pickled_model"], trust_pickle, sklearn), columns
    if not trust_pickle:
        raise _unloadable(
            folder, f"loading it runs its own code, and it does not come from the registry; {CONSENT}"
        )
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(folder)), columns


def _from_file(file: Path, trust_pickle: bool, flavor: Mapping[str, Any] | None = None) -> Any:
    if file.suffix == ".skops":
        return _from_skops(file, trust_pickle, (flavor or {}).get("skops_trusted_types") or ())
    if not trust_pickle:
        raise _unloadable(
            file,
            "it is a pickle, which runs code when it is loaded, and does not come from the registry; "
            f"{CONSENT}",
        )
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
        raise _unloadable(file, f"it holds types that are not trusted: {', '.join(strange[:5])}")
    return skops.io.load(file, trusted=[*asked, *needed] if asked else needed)


def _is_trusted(name: str, registered: bool) -> bool:
    """Of files that nobody registered only classes are: some functions (`builtins.exec`) run anything."""
    import pydoc

    return name.startswith(_TRUSTED_PREFIXES) and (registered or isinstance(pydoc.locate(name), type))


def _only_file(folder: Path) -> Path:
    if folder.is_file():
        return folder
    found = [p for p in sorted(folder.iterdir()) if p.suffix in (".skops", ".joblib", ".pkl", ".pickle")]
    if len(found) != 1:
        raise _unloadable(folder, f"it holds {len(found)} model files and no MLmodel; one is needed")
    return found[0]


def _columns(signature: Mapping[str, Any]) -> tuple[Column, ...]:
    inputs = json.loads(signature.get("inputs") or "[]")
    if any(item.get("type") == "tensor" or "name" not in item for item in inputs):
        return ()
    return tuple(Column(i["name"], i["type"], i.get("required", True)) for i in inputs)


def _answer(model: Any, probabilities: bool) -> Callable[[Any], Any]:
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


def frame(columns: Sequence[Column], values: Mapping[str, Sequence[Any]]) -> Any:
    """A DataFrame out of one list per column, with the dtypes that the signature states.

    Raises:
        ValueError: a value does not fit its column; the sentence names row and column.
    """
    import pandas as pd

    return pd.DataFrame({c.name: _array(c, values[c.name]) for c in columns}, copy=False)


def _array(column: Column, values: Sequence[Any]) -> Any:
    import numpy as np

    if column.kind in _NUMBERS:
        try:
            # A missing number makes a float column, as everywhere in pandas.
            given = np.array([np.nan if v is None else v for v in values])
        except ValueError:
            raise _misfit(column, values, (int, float)) from None
        # NumPy would read numbers out of texts, and a row's list as a second axis.
        if given.ndim != 1 or given.dtype.kind not in "iufb":
            raise _misfit(column, values, (int, float))
        if column.kind in ("long", "integer") and not (given.dtype.kind == "f" and np.isnan(given).any()):
            return _whole(column, values, given)
        return given.astype(float)
    if column.kind == "boolean":
        if not all(isinstance(value, bool) or value is None for value in values):
            raise _misfit(column, values, (bool,))
        return np.array(values, dtype=bool if None not in values else object)
    if column.kind == "datetime":
        import pandas as pd

        try:
            return pd.to_datetime(pd.Series(values), format="ISO8601").to_numpy()
        except (TypeError, ValueError):
            raise _misfit(column, values, (str,)) from None
    if not all(isinstance(value, str) or value is None for value in values):
        raise _misfit(column, values, (str,))
    return np.array(values, dtype=object)


def _whole(column: Column, values: Sequence[Any], given: Any) -> Any:
    """The column as 64-bit integers; cutting off a fraction would answer another question."""
    import numpy as np

    if given.dtype.kind == "f":
        wrong = np.flatnonzero((given != np.trunc(given)) | (np.abs(given) >= 2.0**63))
        if wrong.size:
            value = values[wrong[0]]
            raise ValueError(f"row {wrong[0]}, column '{column.name}': {value!r:.60} is not a whole number")
    return given.astype(np.int64)


def _misfit(column: Column, values: Sequence[Any], fits: tuple[type, ...]) -> ValueError:
    wanted = _WORDS.get(column.kind, "a number")
    for row, value in enumerate(values):
        if value is not None and (
            not isinstance(value, fits) or (isinstance(value, bool) and bool not in fits)
        ):
            return ValueError(f"row {row}, column '{column.name}': {value!r:.60} is not {wanted}")
    return ValueError(f"column '{column.name}' does not hold {wanted}")


def _unloadable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        "model-unloadable",
        f"{path.name} can't be loaded: {why}",
        "register the model, or see [providers.kserve]",
    )
