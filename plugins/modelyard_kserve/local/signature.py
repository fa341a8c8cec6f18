"""What a model says about itself: its inputs and outputs as V2 tensors, out of MLflow's signature."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard_kserve.local.runtimes import LoadedModel, Spec
from modelyard_kserve.local.runtimes.base import innermost
from modelyard_kserve.local.tensors import datatype_of

_OF_MLFLOW = {
    "double": "FP64",
    "float": "FP32",
    "long": "INT64",
    "integer": "INT32",
    "boolean": "BOOL",
}


@dataclass(frozen=True)
class Signature:
    """What is stated; nothing where a model states nothing.

    Attributes:
        inputs, outputs: the tensors.
        by_name: it takes a mapping of its named tensors instead of one tensor.
    """

    inputs: tuple[Spec, ...] = ()
    outputs: tuple[Spec, ...] = ()
    by_name: bool = False


def of(model: LoadedModel, folder: Path) -> Signature:
    """What a loaded model says, or else what stands in its folder."""
    return Signature(model.inputs, model.outputs) if model.inputs else read(folder)


def read(folder: Path) -> Signature:
    """The signature of the model in a folder; an empty one where none is, or none that we know.

    Args:
        folder: of an MLflow model, or any other.
    """
    description = folder / "MLmodel"
    if not description.is_file():
        return Signature()
    import yaml

    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        described = yaml.safe_load(description.read_text(encoding="utf-8"))
        stated = described.get("signature") or {}
        inputs = json.loads(stated.get("inputs") or "[]")
        tensors = bool(inputs) and all(item.get("type") == "tensor" for item in inputs)
        return Signature(
            inputs=_specs(inputs),
            outputs=_specs(json.loads(stated.get("outputs") or "[]")),
            # scikit-learn's models are asked without MLflow, and take one array.
            by_name=tensors and "name" in inputs[0] and "sklearn" not in described.get("flavors", {}),
        )
    return Signature()


def _specs(items: Sequence[Any]) -> tuple[Spec, ...]:
    if len(items) == 1 and items[0].get("type") == "object" and not items[0].get("name"):
        # Rows that are objects: what is in them.
        items = [{"name": name, **said} for name, said in items[0]["properties"].items()]
    return tuple(_spec(item) for item in items)


def _spec(item: Any) -> Spec:
    """A column, or a tensor.

    Example:
        >>> _spec({"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}})
        Spec(name='', datatype='FP32', shape=(-1, 3))
        >>> _spec({"type": "long", "name": "stops"})
        Spec(name='stops', datatype='INT64', shape=None)
        >>> _spec({"type": "array", "items": {"type": "float"}, "name": "weights"})
        Spec(name='weights', datatype='FP32', shape=(-1, -1))
    """
    name = str(item.get("name", ""))
    if item.get("type") == "tensor":
        import numpy as np

        stated = item["tensor-spec"]
        return Spec(name, datatype_of(np.dtype(stated["dtype"])), tuple(stated["shape"]))
    kind, depth = innermost(item)
    return Spec(name, _OF_MLFLOW.get(kind, "BYTES"), (-1,) * (1 + depth) if depth else None)
