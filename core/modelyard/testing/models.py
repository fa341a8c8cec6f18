"""Sample models: one that needs no library, and the same as an MLflow model folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONSTANT_FILE = "constant.json"
#: The inputs of every sample model; a space in a name is what real tables have.
COLUMNS = ("temp", "wind speed")
ROWS: tuple[dict[str, float], ...] = (
    {"temp": 20.5, "wind speed": 3.0},
    {"temp": -4.0, "wind speed": 11.5},
    {"temp": 31.0, "wind speed": 0.0},
)


@dataclass(frozen=True)
class ConstantModel:
    """A model that answers `value` for every row; stored as `constant.json`, so loading runs no code.

    Example:
        >>> ConstantModel(0.25).predict([{"temp": 1.0, "wind speed": 2.0}])
        [0.25]
    """

    value: float
    columns: tuple[str, ...] = COLUMNS

    def predict(self, rows: Sequence[Any]) -> list[float]:
        """One answer per row; a row is an object with all columns or a list as long as they are.

        Raises:
            ValueError: a row does not fit.
        """
        for number, row in enumerate(rows):
            self._require_fit(number, row)
        return [self.value] * len(rows)

    def save(self, folder: Path) -> None:
        """Write the model into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {"value": self.value, "columns": list(self.columns)}
        (folder / CONSTANT_FILE).write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> ConstantModel:
        """Read the model from the folder.

        Raises:
            OSError, ValueError, KeyError: the folder holds no such model.
        """
        content = json.loads((folder / CONSTANT_FILE).read_text(encoding="utf-8"))
        return cls(float(content["value"]), tuple(content["columns"]))

    def _require_fit(self, number: int, row: object) -> None:
        if isinstance(row, Mapping):
            missing = [name for name in self.columns if name not in row]
            if missing:
                raise ValueError(f"row {number} lacks the column '{missing[0]}'")
        elif not isinstance(row, list) or len(row) != len(self.columns):
            raise ValueError(f"row {number} is not an object or list with {len(self.columns)} values")


class Unstorable:
    """Looks like a model, but holds a generator, which nothing can serialise."""

    def __init__(self) -> None:
        self.stream = (number for number in range(3))

    def predict(self, rows: Sequence[Any]) -> list[int]:
        """One number per row."""
        return [next(self.stream) for _ in rows]


def fitted_model(value: float) -> Any:
    """A scikit-learn regressor, fitted on `ROWS`, that predicts `value`."""
    import pandas as pd
    from sklearn.dummy import DummyRegressor

    model = DummyRegressor(strategy="constant", constant=value)
    return model.fit(pd.DataFrame(list(ROWS)), [0.0] * len(ROWS))


def save_mlflow_folder(folder: Path, value: float) -> None:
    """Write `fitted_model(value)` as an MLflow model folder with a signature, as the default registry
    hands it out."""
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import infer_signature

    rows = pd.DataFrame(list(ROWS))
    mlflow.sklearn.save_model(
        fitted_model(value),
        str(folder),
        signature=infer_signature(rows, [value] * len(rows)),
        # Said outright: to infer them MLflow would start a process for several seconds.
        pip_requirements=["scikit-learn"],
        serialization_format="skops",
    )
