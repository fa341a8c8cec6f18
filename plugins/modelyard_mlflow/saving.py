"""How a model is written: skops with a computed allow-list where that works, else cloudpickle.

skops stores data, not code: loading it runs nothing that is not on the list. MLflow's own default
refuses forests and boosting ("untrusted types") because it trusts too few of scikit-learn's types.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

from modelyard.errors import UsageError

#: Types below these are part of numeric libraries that the model needs anyway.
TRUSTED_PREFIXES = ("sklearn.", "numpy.", "scipy.", "builtins.", "collections.", "functools.", "pandas.")
_EXAMPLE_ROWS = 5


def save(model: Any, path: Path, example: Any, *, run_id: str, entity: Any) -> Any:
    """Write an MLflow model folder at `path`; returns MLflow's `Model` (no signature without example).

    Raises:
        UsageError: `model-not-serialisable`, naming the type.
    """
    from mlflow.models import Model

    described = Model(
        artifact_path=entity.artifact_location,
        model_uuid=entity.model_id,
        run_id=run_id,
        model_id=entity.model_id,
    )
    described.signature = _signature(model, example)
    kind = type(model)
    try:
        if _is_sklearn(model):
            _save_sklearn(model, path, described)
        elif kind.__module__.split(".")[0] in ("xgboost", "lightgbm"):
            _save_native(kind.__module__.split(".")[0], model, path, described)
        elif hasattr(model, "predict"):
            _save_python(model, path, described)
        else:
            raise _refused(kind, "it has no predict method")
    except UsageError:
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


def _save_sklearn(model: Any, path: Path, described: Any) -> None:
    import mlflow.sklearn

    trusted, reason = _trusted_types(model)
    requirements = _requirements(
        "scikit-learn", "numpy", "scipy", "pandas", "skops" if trusted is not None else "cloudpickle"
    )
    if trusted is None:
        described.metadata = {"modelyard.format": "cloudpickle", "modelyard.format.reason": reason}
        mlflow.sklearn.save_model(
            model,
            str(path),
            mlflow_model=described,
            signature=described.signature or False,
            serialization_format="cloudpickle",
            pip_requirements=requirements,
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
        pip_requirements=requirements,
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
    strange = [name for name in types if not name.startswith(TRUSTED_PREFIXES)]
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
        pip_requirements=_requirements(flavor, "numpy", "pandas", "scikit-learn"),
    )


def _save_python(model: Any, path: Path, described: Any) -> None:
    """Any object with `predict`, by cloudpickle: what it needs at run time is the user's own code."""
    import mlflow.pyfunc

    class Wrapped(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:  # noqa: ARG002
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
        pip_requirements=_requirements("cloudpickle", "numpy", "pandas"),
        metadata=described.metadata,
    )


def _signature(model: Any, example: Any) -> Any:
    """MLflow's signature from a few rows and what the model answers to them."""
    if example is None:
        return None
    from mlflow.models import infer_signature

    rows = example[:_EXAMPLE_ROWS] if hasattr(example, "__getitem__") else example
    if isinstance(rows, list):
        import pandas as pd

        rows = pd.DataFrame(rows)
    output = model.predict(rows) if hasattr(model, "predict") else None
    return infer_signature(rows, output)


def _requirements(*names: str) -> list[str]:
    """`NAME==VERSION` of what is installed: MLflow's own inference starts a process for six seconds."""
    found = []
    for name in names:
        try:
            found.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _is_sklearn(model: Any) -> bool:
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(model, base.BaseEstimator)


def _refused(kind: type, why: str) -> UsageError:
    return UsageError(
        "model-not-serialisable",
        f"a {kind.__module__}.{kind.__qualname__} can't be stored: {why}",
        "log a fitted scikit-learn, XGBoost or LightGBM model, or an object with predict(rows)",
    )
