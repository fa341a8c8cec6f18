"""MLflow's models: scikit-learn's without MLflow, all others as it loads them itself (pyfunc)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelyard_kserve.local.runtimes import sklearn
from modelyard_kserve.local.runtimes.base import (
    LoadedModel,
    columns,
    described,
    mlmodel,
    unloadable,
    untrusted,
)

#: What an MLmodel says of a `predict` whose types stand in Python.
_HINTED = ("is_signature_from_type_hint", "type_hint_from_example")
#: What loads boosters, which look at each row for itself, and whose classes they are; others may do anything.
_BOOSTERS = {"mlflow.xgboost": "xgboost.", "mlflow.lightgbm": "lightgbm."}
#: The task of MLflow's ChatModel, ChatAgent and ResponsesAgent: a request of theirs is a conversation.
_AGENTS = "agent/"


def load(folder: Path, *, trusted: bool, probabilities: bool) -> LoadedModel:
    """The model that the MLmodel in a folder describes."""
    if not (folder / "MLmodel").is_file():
        raise unloadable(folder, "it holds no MLmodel, so MLflow did not make it")
    said, flavors = mlmodel(folder), described(folder)
    flavor = flavors.get("sklearn")
    if flavor and not flavor.get("code"):
        method = (flavors.get("python_function") or {}).get("predict_fn", "predict")
        return sklearn.load(folder, trusted=trusted, probabilities=probabilities, method=method)
    task = str((said.get("metadata") or {}).get("task"))
    if task.startswith(_AGENTS):
        raise unloadable(folder, f"it holds conversations ({task}), and endpoints answer rows")
    if not trusted:
        raise untrusted(folder, "loading it runs its own code")
    import mlflow.pyfunc

    # Then MLflow reads times and bytes out of texts, for models that state their types in Python.
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    model = mlflow.pyfunc.load_model(str(folder))
    inputs, hinted = columns(folder), any(said.get(key) for key in _HINTED)
    whose = _BOOSTERS.get(str((flavors.get("python_function") or {}).get("loader_module")))
    ask: Callable[..., Any] = sklearn.answer(model, probabilities)
    signature = said.get("signature") or {}

    def answer(rows: Any, params: Mapping[str, Any] | None = None) -> Any:
        return ask(rows, params=dict(params)) if params else ask(rows)

    return LoadedModel(
        inputs,
        answer,
        listed=hinted and not inputs,
        tables=not signature,
        row_by_row=whose is not None and type(model.get_raw_model()).__module__.startswith(whose),
        params=tuple(one["name"] for one in json.loads(signature.get("params") or "[]")),
    )
