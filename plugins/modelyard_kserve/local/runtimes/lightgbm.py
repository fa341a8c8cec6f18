"""LightGBM's own files, asked as KServe's lgbserver asks them: the booster's raw answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from modelyard_kserve.local.runtimes.base import (
    Column,
    LoadedModel,
    found,
    unloadable,
    without_probabilities,
)
from modelyard_kserve.local.runtimes.matrices import matrix

#: `.txt` is how LightGBM's own pages call them; KServe takes `.bst` alone.
_FILES = ("*.bst", "*.txt")
#: How every model's text begins.
_BEGIN = b"tree"


def load(folder: Path, *, trusted: bool, probabilities: bool) -> LoadedModel:
    """The one booster in a folder; texts beside it that are no model do not count."""
    import lightgbm

    del trusted  # such a file holds trees, and no code
    without_probabilities(folder, probabilities)
    notes = [p.name for p in folder.glob("*.txt") if not _is_model(p)] if folder.is_dir() else []
    file, columns, _ = found(folder, "lightgbm", _FILES, besides=notes)
    if not _is_model(file):
        raise unloadable(file, "it does not begin as LightGBM's models do ('tree')")
    booster = lightgbm.Booster(model_file=str(file))

    def answer(rows: Any) -> Any:
        return booster.predict(matrix(rows, booster.num_feature()))

    return LoadedModel(columns or _columns(booster), answer, row_by_row=True)


def _is_model(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(_BEGIN)) == _BEGIN


def _columns(booster: Any) -> tuple[Column, ...]:
    """The features by name, unless LightGBM made the names up."""
    names = booster.feature_name()
    if booster.pandas_categorical or all(re.fullmatch(r"Column_\d+", name) for name in names):
        return ()
    return tuple(Column(name, "double") for name in names)
