"""How a model is written: skops with a computed allow-list where that works, else cloudpickle.

skops stores data, not code: loading it runs nothing that is not on the list. MLflow's own default
refuses forests and boosting ("untrusted types") because it trusts too few of scikit-learn's types.
"""

from __future__ import annotations

import pydoc
import sys
from pathlib import Path
from typing import Any

from modelyard.errors import UsageError
from modelyard_mlflow.usercode import requirements_of, stored_by_value

#: Classes below these are part of numeric libraries that the model needs anyway.
TRUSTED_PREFIXES = ("sklearn.", "numpy.", "scipy.", "builtins.", "collections.", "functools.", "pandas.")
_NATIVE = ("xgboost", "lightgbm")
_EXAMPLE_ROWS = 5


def save(model: Any, path: Path, example: Any, *, run_id: str, entity: Any, root: Path) -> Any:
    """Write an MLflow model folder at `path`; returns MLflow's `Model` (no signature without example).

    Raises:
        UsageError: `model-not-serialisable`, naming the type.
        OSError: the disk is full or can't be written.
    """
    from mlflow.models import Model

    kind = type(model)
    if not hasattr(model, "predict"):
        raise _refused(kind, "it has no predict method")
    described = Model(
        artifact_path=entity.artifact_location,
        model_uuid=entity.model_id,
        run_id=run_id,
        model_id=entity.model_id,
    )
    described.signature = _signature(model, example)
    library = kind.__module__.split(".")[0]
    try:
        if library in _NATIVE:
            _save_native(library, model, path, described)
        elif _is_sklearn(model):
            _save_sklearn(model, path, described, root)
        else:
            with stored_by_value(root):
                _save_python(model, path, described)
    except (UsageError, OSError):
        raise
    except Exception as fault:
        said = " ".join(str(fault).split())[:300]
        raise _refused(kind, f"{type(fault).__name__}: {said}") from fault
    return described


def untrusted_types(content: bytes) -> list[str]:
    """The types in skops content that skops does not trust by itself."""
    import skops.io

    found: list[str] = skops.io.get_untrusted_types(data=content)
    return found


def is_trusted(name: str) -> bool:
    """Whether a type may be put on the list of what loading the model makes: classes of the libraries
    themselves. Some of their functions run anything (`builtins.eval`, `pandas.read_pickle`)."""
    return name.startswith(TRUSTED_PREFIXES) and isinstance(pydoc.locate(name), type)


def _save_sklearn(model: Any, path: Path, described: Any, root: Path) -> None:
    import mlflow.sklearn

    trusted, reason = _trusted_types(model)
    kinds = ("sklearn", "numpy", "scipy", "pandas")
    if trusted is None:
        described.metadata = {"modelyard.format": "cloudpickle", "modelyard.format.reason": reason}
        with stored_by_value(root):
            mlflow.sklearn.save_model(
                model,
                str(path),
                mlflow_model=described,
                signature=described.signature or False,
                serialization_format="cloudpickle",
                pip_requirements=requirements_of(model, *kinds, "cloudpickle"),
                metadata=described.metadata,
            )
        return
    described.metadata = {"modelyard.format": "skops"}
    mlflow.sklearn.save_model(
        model,
        str(path),
        mlflow_model=described,
        signature=described.signature or False,
        serialization_format="skops",
        skops_trusted_types=trusted,
        pip_requirements=requirements_of(None, *kinds, "skops"),
        metadata=described.metadata,
    )


def _trusted_types(model: Any) -> tuple[list[str] | None, str]:
    """The allow-list for this model, or None and why skops can't be used."""
    import skops.io

    try:
        types = untrusted_types(skops.io.dumps(model))
    except Exception as fault:
        return (
            None,
            f"skops can't store it: {type(fault).__name__}: {' '.join(str(fault).split())[:200]}",
        )
    strange = [name for name in types if not is_trusted(name)]
    if strange:
        return None, f"it holds types of its own: {', '.join(strange[:5])}"
    return types, ""


def _save_native(flavor: str, model: Any, path: Path, described: Any) -> None:
    import importlib

    module = importlib.import_module(f"mlflow.{flavor}")
    module.save_model(
        model,
        str(path),
        mlflow_model=described,
        pip_requirements=requirements_of(None, flavor, "numpy", "pandas", "sklearn"),
    )


def _save_python(model: Any, path: Path, described: Any) -> None:
    """Any object with `predict`, by cloudpickle: what it needs at run time is the user's own code."""
    import mlflow.pyfunc

    class Wrapped(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        # Without hints: MLflow would take them for the schema of the model's input, and warn.
        def predict(self, model_input):  # type: ignore[no-untyped-def]
            return self.inner.predict(model_input)

    python_model = model if isinstance(model, mlflow.pyfunc.PythonModel) else Wrapped(model)
    described.metadata = {
        "modelyard.format": "cloudpickle",
        "modelyard.format.reason": "a Python object",
    }
    mlflow.pyfunc.save_model(
        str(path),
        python_model=python_model,
        mlflow_model=described,
        pip_requirements=requirements_of(model, "cloudpickle", "numpy", "pandas"),
        metadata=described.metadata,
    )


def _signature(model: Any, example: Any) -> Any:
    """MLflow's signature from a few rows and what the model answers to them."""
    if example is None:
        return None
    import pandas as pd
    from mlflow.models import infer_signature

    hinted = _takes_list(model)
    if isinstance(example, dict) and all(hasattr(values, "ndim") for values in example.values()):
        rows: Any = {name: tensor[:_EXAMPLE_ROWS] for name, tensor in example.items()}
    else:
        rows = pd.DataFrame([example]) if isinstance(example, dict) else example[:_EXAMPLE_ROWS]
    if isinstance(rows, list) and not hinted:
        rows = pd.DataFrame(rows)
    try:
        output = model.predict(*((None, rows) if _takes_context(model) else (rows,)))
    except Exception as fault:
        said = " ".join(str(fault).split())[:300]
        raise UsageError(
            "model-not-serialisable",
            f"a {_named(type(model))} can't predict its example: {type(fault).__name__}: {said}",
            "fit it first, and give a few rows of its input as example",
        ) from fault
    if hinted and isinstance(rows, list):
        return None
    try:
        return infer_signature(rows, output)
    except Exception:  # an answer that MLflow has no type for; the inputs are what matters
        return infer_signature(rows)


def _takes_context(model: Any) -> bool:
    """MLflow's own kind of model may still have its old form, `predict(context, rows)`."""
    import inspect

    pyfunc = sys.modules.get("mlflow.pyfunc")
    if pyfunc is None or not isinstance(model, pyfunc.PythonModel):
        return False
    return "context" in inspect.signature(model.predict).parameters


def _takes_list(model: Any) -> bool:
    """Whether the `predict` of one of MLflow's models says in Python that it takes a list: then it is given
    one, and MLflow reads the signature out of the types."""
    import typing

    hints = getattr(model, "predict_type_hints", None)
    return typing.get_origin(getattr(hints, "input", None)) is list


def _is_sklearn(model: Any) -> bool:
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(model, base.BaseEstimator)


def _named(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _refused(kind: type, why: str) -> UsageError:
    return UsageError(
        "model-not-serialisable",
        f"a {_named(kind)} can't be stored: {why}",
        "log a fitted scikit-learn, XGBoost or LightGBM model, or an object with predict(rows)",
    )
