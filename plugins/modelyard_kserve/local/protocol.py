"""What a model takes, out of the bodies of KServe's V1 and V2. A `ValueError` is the caller's fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelyard_kserve.local import by_name
from modelyard_kserve.local.messages import parsed
from modelyard_kserve.local.runtimes import Column, LoadedModel, Spec, frame
from modelyard_kserve.local.signature import Signature
from modelyard_kserve.local.tensors import NUMPY, Tensor, array

_FLOATS, _WHOLE = {"double": "f8", "float": "f4"}, {"long": "i8", "integer": "i4"}
_NESTED = {"array", "object", "map", "any"}
_NOTHING_STATED = Signature()


def v1_rows(model: LoadedModel, body: Any, signature: Signature = _NOTHING_STATED) -> Any:
    """What the model takes, out of `{"instances": [...]}`; KServe's servers take `inputs` as well."""
    said = body if isinstance(body, dict) else {}
    instances = said["instances"] if "instances" in said else said.get("inputs")
    if not isinstance(instances, list):
        raise ValueError("the body needs 'instances': a list of objects or of lists")
    if not instances:
        raise ValueError("'instances' is empty")
    if model.listed:
        return instances
    if model.inputs:
        return by_name.from_v1(model.inputs, instances)
    if not model.columns:
        return _without_columns(model, instances, signature)
    if isinstance(instances[0], dict):
        if not any(column.kind in _NESTED for column in model.columns):
            instances = _spread(instances)
        return frame(model.columns, {c.name: _objects_column(instances, c) for c in model.columns})
    made = _numbers(model.columns, instances, (len(instances), len(model.columns)))
    return frame(model.columns, _lists_columns(instances, model.columns)) if made is None else made


def v1_params(model: LoadedModel, body: Any) -> Mapping[str, Any]:
    """What is said beside the rows in MLflow's `{"instances": [...], "params": {...}}`."""
    params = body.get("params") or {}
    if not isinstance(params, dict):
        raise ValueError("'params' is no object")
    unknown = next((name for name in params if name not in model.params), None)
    if unknown is not None:
        known = ", ".join(repr(name) for name in model.params)
        takes = f"the model takes {known}" if known else "the model takes none, leave them out"
        raise ValueError(f"'{unknown:.60}' in 'params': {takes}")
    return params


def v2_params(model: LoadedModel, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is said beside the tensors in V2's `parameters`, in which clients say other things as well."""
    return {name: parameters[name] for name in model.params if name in parameters}


def v2_rows(model: LoadedModel, inputs: Sequence[Tensor], signature: Signature = _NOTHING_STATED) -> Any:
    """What the model takes, out of V2's inputs: a table of its columns, or an array."""
    tensors = {tensor.name: tensor for tensor in inputs}
    if len(tensors) != len(inputs):
        raise ValueError("two inputs have the same name")
    if model.inputs:
        return by_name.from_v2(model.inputs, [(t.name, t.datatype, t.shape, t.values) for t in inputs])
    single = next((tensor.name for tensor in inputs if not tensor.shape), None)
    if single is not None:
        raise ValueError(f"input '{single}' has the shape [], a single value: the model takes rows")
    if model.listed:
        return _listed(inputs, signature)
    if not model.columns:
        if model.tables and len(tensors) > 1 and not signature.by_name:
            return _whole_table({name: _one_value_a_row(tensor) for name, tensor in tensors.items()})
        return _arrays(tensors, signature)
    names = [column.name for column in model.columns]
    if len(tensors) == 1 and not set(names) & tensors.keys():
        return _split(inputs[0], model.columns)
    lacking = [c.name for c in model.columns if c.required and c.name not in tensors]
    if lacking:
        raise ValueError(f"there is no input '{lacking[0]}'")
    columns = {c.name: _of_column(c, tensors[c.name]) for c in model.columns if c.name in tensors}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise ValueError(f"the inputs have different numbers of rows: {sorted(lengths)}")
    return _table(model.columns, columns, lengths.pop())


# -- tables ---------------------------------------------------------------------------------


def _spread(instances: Sequence[Any]) -> list[Any]:
    """The rows of objects: one of lists is as many rows as they are long, as KServe's servers read it."""
    made: list[Any] = []
    for number, row in enumerate(instances):
        if not isinstance(row, dict) or not row or not all(isinstance(v, list) for v in row.values()):
            made.append(row)
        elif len({len(values) for values in row.values()}) > 1:
            raise ValueError(f"instance {number} has columns of different lengths")
        else:
            made += [dict(zip(row, values)) for values in zip(*row.values())]
    return made


def _without_columns(model: LoadedModel, instances: list[Any], signature: Signature) -> Any:
    """What a model takes that names no columns: a table where callers name theirs, texts, or numbers."""
    if model.tables and not signature.by_name:
        if isinstance(instances[0], dict):
            rows = _spread(instances)
            names = list(rows[0]) if rows else []
            columns = {name: _objects_column(rows, Column(name, "")) for name in names}
            return _whole_table(columns)
        if all(isinstance(row, str) for row in instances):
            return array(Tensor("instances", "BYTES", [len(instances)], instances))
    return _unnamed_instances(instances, signature)


def _whole_table(columns: Mapping[str, Any]) -> Any:
    """The table of columns that callers name, with the types that their values have."""
    import pandas as pd

    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise ValueError(f"the inputs have different numbers of rows: {sorted(lengths)}")
    return pd.DataFrame(columns)


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


def _split(tensor: Tensor, columns: Sequence[Column]) -> Any:
    """The table whose rows are those of one matrix."""
    if isinstance(tensor.values, list):
        made = _numbers(columns, tensor.values, tensor.shape)
        return frame(columns, _lists_columns(_rows(tensor), columns)) if made is None else made
    if len(tensor.shape) != 2 or tensor.shape[1] != len(columns):
        raise ValueError(
            f"input '{tensor.name}' has the shape {list(tensor.shape)}, the model has {len(columns)} columns"
        )
    values = array(tensor)
    made = _numbers(columns, values, values.shape)
    if made is not None:
        return made
    return _table(columns, {c.name: values[:, n] for n, c in enumerate(columns)}, len(values))


def _numbers(columns: Sequence[Column], values: Any, shape: Sequence[int]) -> Any:
    """The table of a matrix that holds nothing but numbers, for columns of nothing but floats: one array
    instead of one for each column. None: it needs a closer look."""
    import numpy as np

    kinds = {column.kind for column in columns}
    if len(shape) != 2 or shape[1] != len(columns) or len(kinds) != 1 or not kinds <= _FLOATS.keys():
        return None
    try:
        given = np.asarray(values)
    except (ValueError, RecursionError):
        return None
    if given.dtype.kind not in "iuf" or given.ndim > 2 or given.size != shape[0] * shape[1]:
        return None
    import pandas as pd

    matrix = given.reshape(shape).astype(_FLOATS[kinds.pop()], copy=False)
    return pd.DataFrame(matrix, columns=[column.name for column in columns], copy=False)


def _table(columns: Sequence[Column], given: Mapping[str, Any], rows: int) -> Any:
    """A DataFrame out of a list or an array for each column; optional ones may lack."""
    lists = {c.name: given[c.name] for c in columns if isinstance(given.get(c.name), list)}
    lists |= {c.name: [None] * rows for c in columns if c.name not in given}
    arrays = {c.name: _typed(c, given[c.name]) for c in columns if c.name not in lists}
    lists |= {name: values for name, values in arrays.items() if isinstance(values, list)}
    made = frame([c for c in columns if c.name in lists], lists)
    if len(lists) == len(columns):
        return made
    import pandas as pd

    return pd.DataFrame(
        {c.name: made[c.name] if c.name in lists else arrays[c.name] for c in columns}, copy=False
    )


def _typed(column: Column, values: Any) -> Any:
    """An array as its column has it; otherwise a list, which `frame` looks at value by value."""
    import numpy as np

    kind = values.dtype.kind
    if column.kind in _FLOATS and kind in "iuf":
        return values.astype(_FLOATS[column.kind])
    if column.kind in _WHOLE and np.can_cast(values.dtype, _WHOLE[column.kind], "safe") and kind in "iu":
        return values.astype(_WHOLE[column.kind])
    if column.kind == "boolean" and kind == "b":
        return values
    return values.tolist()


def _of_column(column: Column, tensor: Tensor) -> Any:
    """A column's values, one for each row; lists and objects may come as JSON in texts."""
    if column.kind in _NESTED and tensor.datatype == "BYTES" and len(tensor.shape) == 1:
        return [_json(column, row, text) for row, text in enumerate(array(tensor).tolist())]
    if column.kind == "array":
        values = array(tensor)
        return values.tolist() if tensor.datatype == "BYTES" else list(values)
    return _one_value_a_row(tensor)


def _json(column: Column, row: int, text: str) -> Any:
    try:
        return parsed(text)
    except ValueError:
        raise ValueError(f"row {row}, column '{column.name}': {text!r:.60} is not JSON") from None


def _listed(inputs: Sequence[Tensor], signature: Signature) -> list[Any]:
    """What JSON would say: the rows of one tensor, or an object of each row of several."""
    stated = {spec.name: spec for spec in signature.inputs}
    only = signature.inputs[0] if len(signature.inputs) == len(inputs) == 1 else None
    values = {t.name: _as_rows(array(t), stated.get(t.name, only)).tolist() for t in inputs}
    if len(values) == 1:
        return next(iter(values.values()))
    lengths = {len(rows) for rows in values.values()}
    if len(lengths) != 1:
        raise ValueError(f"the inputs have different numbers of rows: {sorted(lengths)}")
    return [dict(zip(values, row)) for row in zip(*values.values())]


def _as_rows(values: Any, spec: Spec | None) -> Any:
    """An array whose rows are what the model states: clients like to send texts as a matrix of one column."""
    flat = spec is not None and len(spec.shape or (-1,)) == 1
    return values.reshape(-1) if flat and values.ndim == 2 and values.shape[1] == 1 else values


def _one_value_a_row(tensor: Tensor) -> Any:
    if isinstance(tensor.values, list):
        return [v[0] if isinstance(v, list) and len(v) == 1 else v for v in _rows(tensor)]
    values = array(tensor)
    if values.size != len(values):
        raise ValueError(
            f"input '{tensor.name}' has the shape {list(tensor.shape)}, a column has one value for each row"
        )
    return values.reshape(-1)


def _rows(tensor: Tensor) -> list[Any]:
    """The rows of a tensor whose data may be flat or nested."""
    name, shape, data = tensor.name, tensor.shape, tensor.values
    rows: list[Any]
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


# -- arrays ---------------------------------------------------------------------------------


def _unnamed_instances(instances: list[Any], signature: Signature) -> Any:
    """Instances without column names: one array, or one for each of the tensors that the model names."""
    if signature.by_name:
        if not all(isinstance(row, dict) for row in instances):
            names = ", ".join(repr(spec.name) for spec in signature.inputs)
            raise ValueError(f"the instances are not objects with {names}")
        return _arrays({spec.name: _stacked(spec.name, instances) for spec in signature.inputs}, signature)
    stated = signature.inputs[0].datatype if len(signature.inputs) == 1 else "FP64"
    if not all(isinstance(row, list) for row in instances) and stated != "BYTES":
        raise ValueError("the rows are not lists of numbers of one length")
    try:
        return _array(Tensor("instances", stated, [len(instances)], instances))
    except ValueError as fault:
        raise ValueError("the rows are not lists of numbers of one length") from fault


def _stacked(name: str, instances: list[dict[str, Any]]) -> Tensor:
    for number, row in enumerate(instances):
        if name not in row:
            raise ValueError(f"row {number} lacks the tensor '{name}'")
    return Tensor(name, "", [len(instances)], [row[name] for row in instances])


def _array(tensor: Tensor) -> Any:
    """Nested lists of which nobody says the whole shape."""
    import numpy as np

    try:
        shape = np.shape(np.array(tensor.values, dtype=object))
    except ValueError:
        raise ValueError(f"'{tensor.name}': the lists are not of one length") from None
    return array(Tensor(tensor.name, tensor.datatype, shape, tensor.values))


def _arrays(tensors: Mapping[str, Tensor], signature: Signature) -> Any:
    """What a model without named columns takes: one array, or a mapping of them if it names its tensors."""
    stated = {spec.name: spec.datatype for spec in signature.inputs}
    if signature.by_name:
        lacking = [name for name in stated if name not in tensors]
        if lacking:
            raise ValueError(f"there is no input '{lacking[0]}'")
        return {name: _as_stated(tensors[name], datatype) for name, datatype in stated.items()}
    if len(tensors) > 1:
        raise ValueError(f"the model takes one unnamed matrix, not {len(tensors)} inputs")
    return _as_stated(next(iter(tensors.values())), next(iter(stated.values()), ""))


def _as_stated(tensor: Tensor, datatype: str) -> Any:
    """The array, in the datatype that the signature states if that holds every value."""
    import numpy as np

    if not tensor.datatype:  # of V1, which has none
        return _array(Tensor(tensor.name, datatype, tensor.shape, tensor.values))
    values = array(tensor)
    if not datatype or datatype == tensor.datatype:
        return values
    if "BYTES" in (datatype, tensor.datatype) or not np.can_cast(values.dtype, NUMPY[datatype], "same_kind"):
        raise ValueError(f"input '{tensor.name}' is {tensor.datatype}, the model takes {datatype}")
    return values.astype(NUMPY[datatype])
