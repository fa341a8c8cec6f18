"""XGBoost's own files, asked as KServe's xgbserver asks them: the booster's raw answer to a DMatrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelyard_kserve.local.runtimes.base import Column, LoadedModel, found, without_probabilities
from modelyard_kserve.local.runtimes.matrices import matrix

_FILES = ("*.bst", "*.json", "*.ubj")
#: XGBoost's words for the types of features -> ours; others (`c`, categories) have no column.
_KINDS = {"float": "double", "q": "double", "int": "double", "i": "double"}


def load(folder: Path, *, trusted: bool, probabilities: bool) -> LoadedModel:
    """The one booster in a folder."""
    import xgboost

    del trusted  # such a file holds trees, and no code
    without_probabilities(folder, probabilities)
    file, columns, _ = found(folder, "xgboost", _FILES)
    booster = xgboost.Booster(model_file=str(file))

    def answer(rows: Any) -> Any:
        data = xgboost.DMatrix(
            matrix(rows, booster.num_features()),
            feature_names=booster.feature_names,
            feature_types=booster.feature_types,
            enable_categorical=True,
        )
        return booster.predict(data)

    return LoadedModel(columns or _columns(booster), answer, row_by_row=True)


def _columns(booster: Any) -> tuple[Column, ...]:
    names, types = booster.feature_names or [], booster.feature_types or []
    if not names or any(kind not in _KINDS for kind in types):
        return ()
    return tuple(Column(name, "double") for name in names)
