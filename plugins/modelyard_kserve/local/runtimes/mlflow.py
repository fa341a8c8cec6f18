"""MLflow's models: scikit-learn's without MLflow, all others as it loads them itself (pyfunc)."""

from __future__ import annotations

from pathlib import Path

from modelyard_kserve.local.runtimes import sklearn
from modelyard_kserve.local.runtimes.base import LoadedModel, columns, described, unloadable, untrusted


def load(folder: Path, *, trusted: bool, probabilities: bool) -> LoadedModel:
    """The model that the MLmodel in a folder describes."""
    if not (folder / "MLmodel").is_file():
        raise unloadable(folder, "it holds no MLmodel, so MLflow did not make it")
    inputs, flavor = columns(folder), described(folder).get("sklearn")
    if flavor and not flavor.get("code"):
        return sklearn.load(folder, trusted=trusted, probabilities=probabilities)
    if not trusted:
        raise untrusted(folder, "loading it runs its own code")
    import mlflow.pyfunc

    return LoadedModel(inputs, sklearn.answer(mlflow.pyfunc.load_model(str(folder)), probabilities))
