"""KServe's V1 and V2 JSON. A `ValueError` is the caller's fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelyard_kserve.local import by_name
from modelyard_kserve.local.runtimes import Column, LoadedModel, Spec, frame

_DATATYPES = {"i": "INT64", "u": "UINT64", "f": "FP64", "b": "BOOL"}
_KNOWN_DATATYPES = (
    *("BOOL", "BYTES", "FP16", "FP32", "FP64"),
    *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
)
_V2_TYPES = {"double": "FP64", "float": "FP32", "long": "INT64", "integer": "INT32", "boolean": "BOOL"}


def v1_rows(model: LoadedModel, body: Any) -> Any:
    """What the model takes, out of `{"instances": [...]}`."""
    instances = body.get("instances") if isinstance(body, dict) else None
    if not isinstance(instances, list):
        raise ValueError("the body needs 'instances': a list of objects or of lists")
    if not instances:
        raise ValueError("'instances' is empty")
    if model.inputs:
        return by_name.from_v1(model.inputs, instances)
    if not model.columns:
        return _matrix(instances)
    if isinstance(instances[0], dict):
        return frame(model.columns, {c.name: _objects_column(instances, c) for c in model.columns})
    return frame(model.columns, _lists_columns(instances, model.columns))


def v2_rows(model: LoadedModel, body: Any) -> Any:
    """What the model takes, out of `{"inputs": [...]}`."""
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(inputs, list) or not inputs:
        raise ValueError("the body needs 'inputs': a list of tensors")
    if model.inputs:
        return by_name.from_v2(model.inputs, [_checked(tensor) for tensor in inputs])
    tensors = dict(_tensor(tensor) for tensor in inputs)
    if len(tensors) != len(inputs):
        raise ValueError("two inputs have the same name")
    names = [column.name for column in model.columns]
    if not names:
        if len(tensors) > 1:
            raise ValueError(f"the model takes one unnamed matrix, not {len(tensors)} inputs")
        return _matrix(next(iter(tensors.values())))
    if len(tensors) == 1 and not set(names) & tensors.keys():
        return frame(model.columns, _lists_columns(next(iter(tensors.values())), model.columns))
    _require_columns(tensors, model.columns)
    columns = {name: [_scalar(v) for v in tensors[name]] for name in names if name in tensors}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise ValueError(f"the inputs have different numbers of rows: {sorted(lengths)}")
    rows = lengths.pop()
    return frame(model.columns, {n: columns.get(n, [None] * rows) for n in names})


def v1_response(answers: Any) -> dict[str, Any]:
    """`{"predictions": [...]}`."""
    if isinstance(answers, Mapping):
        return {"predictions": by_name.to_v1(answers)}
    return {"predictions": _plain(answers)}


def v2_response(
    name: str, version: str, request_id: str, answers: Any, probabilities: bool
) -> dict[str, Any]:
    """One output tensor, flat, in row-major order."""
    import numpy as np

    said = {"model_name": name, "model_version": version, "id": request_id}
    if isinstance(answers, Mapping):
        return {**said, "outputs": by_name.to_v2(answers)}
    array = np.asarray(answers)
    return {
        **said,
        "outputs": [
            {
                "name": "predict_proba" if probabilities else "predict",
                "shape": list(array.shape),
                "datatype": _DATATYPES.get(array.dtype.kind, "BYTES"),
                "data": _plain(array.ravel()),
            }
        ],
    }


def metadata(name: str, version: str, model: LoadedModel) -> dict[str, Any]:
    """V2 model metadata: what the model says, or its signature."""
    inputs = [
        {"name": c.name, "datatype": _V2_TYPES.get(c.kind, "BYTES"), "shape": [-1]} for c in model.columns
    ]
    outputs = [{"name": "predict", "datatype": "FP64", "shape": [-1]}]
    if model.inputs:
        inputs, outputs = _described(model.inputs), _described(model.outputs)
    return {
        "name": name,
        "versions": [version],
        "platform": model.platform,
        "inputs": inputs,
        "outputs": outputs,
    }


def _described(tensors: Sequence[Spec]) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "datatype": one.datatype or "FP32", "shape": list(one.shape or (-1,))}
        for one in tensors
    ]


def _objects_column(instances: Sequence[Any], column: Column) -> list[Any]:
    if not all(isinstance(row, dict) for row in instances):
        raise ValueError("the instances mix objects and other values")
    try:
        return [row[column.name] for row in instances]
    except KeyError:
        if not column.required:
            return [row.get(column.name) for row in instances]
        row = next(n for n, instance in enumerate(instances) if column.name not in instance)
        raise ValueError(f"row {row} lacks the column '{column.name}'") from None


def _lists_columns(rows: Sequence[Any], columns: Sequence[Column]) -> dict[str, list[Any]]:
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            size = len(row) if isinstance(row, list) else "no"
            raise ValueError(f"row {number} has {size} values, the model takes {len(columns)} columns")
    return {c.name: [row[n] for row in rows] for n, c in enumerate(columns)}


def _require_columns(tensors: Mapping[str, Any], columns: Sequence[Column]) -> None:
    lacking = [c.name for c in columns if c.required and c.name not in tensors]
    if lacking:
        raise ValueError(f"there is no input '{lacking[0]}'")


def _tensor(tensor: Any) -> tuple[str, list[Any]]:
    """Name and rows of a tensor whose data may be flat or nested."""
    name, _, shape, data = _checked(tensor)
    return name, _rows(name, shape, data)


def _checked(tensor: Any) -> tuple[str, str, list[int], list[Any]]:
    """Name, datatype, shape and data of a tensor."""
    needed = ("name", "shape", "datatype", "data")
    if not isinstance(tensor, dict) or not all(key in tensor for key in needed):
        raise ValueError("each input needs 'name', 'shape', 'datatype' and 'data'")
    name, shape, datatype, data = (tensor[key] for key in needed)
    if not isinstance(name, str) or not isinstance(data, list) or not _is_shape(shape):
        raise ValueError(f"input {name!r}: 'name' is text, 'data' a list and 'shape' a list of integers")
    if datatype not in _KNOWN_DATATYPES:
        raise ValueError(
            f"input '{name}': {datatype!r:.60} is no datatype; known: {', '.join(_KNOWN_DATATYPES)}"
        )
    return name, datatype, shape, data


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and bool(shape) and all(isinstance(size, int) for size in shape)


def _rows(name: str, shape: list[int], data: list[Any]) -> list[Any]:
    if len(shape) == 1 or (data and isinstance(data[0], list)):
        rows = data
    else:
        width = 1
        for size in shape[1:]:
            width *= size
        if width <= 0 or len(data) != shape[0] * width:
            raise ValueError(f"input '{name}' holds {len(data)} values, its shape says {shape}")
        rows = [data[start : start + width] for start in range(0, len(data), width)]
    if len(rows) != shape[0]:
        raise ValueError(f"input '{name}' holds {len(rows)} rows, its shape says {shape}")
    return rows


def _scalar(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _matrix(rows: Any) -> Any:
    import numpy as np

    if not all(isinstance(row, list) for row in rows):
        raise ValueError("the rows are not lists of numbers of one length")
    try:
        return np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=float)
    except (TypeError, ValueError):
        raise ValueError("the rows are not lists of numbers of one length") from None


def _plain(answers: Any) -> list[Any]:
    if hasattr(answers, "columns"):  # a DataFrame, as MLflow's own Python models like to answer
        records: list[Any] = answers.to_dict("records")
        return records
    return answers.tolist() if hasattr(answers, "tolist") else list(answers)
