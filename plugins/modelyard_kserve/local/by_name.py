"""V1 and V2 JSON for models that take and give tensors by name. A `ValueError` is the caller's fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelyard_kserve.local.runtimes.base import Spec
from modelyard_kserve.local.tensors import NUMPY


def from_v1(inputs: Sequence[Spec], instances: Sequence[Any]) -> dict[str, Any]:
    """The arrays in V1's instances: each is an object with all inputs, or the value of the only one."""
    by_name = all(isinstance(instance, dict) for instance in instances)
    if not by_name and len(inputs) > 1:
        names = ", ".join(tensor.name for tensor in inputs)
        raise ValueError(f"the model has {len(inputs)} inputs, so each instance is an object with {names}")
    if not by_name or (len(inputs) == 1 and not any(inputs[0].name in instance for instance in instances)):
        return {inputs[0].name: made(inputs[0], instances)}
    columns = {}
    for tensor in inputs:
        lacking = [row for row, instance in enumerate(instances) if tensor.name not in instance]
        if lacking:
            raise ValueError(f"row {lacking[0]} lacks the input '{tensor.name}'")
        columns[tensor.name] = made(tensor, [instance[tensor.name] for instance in instances])
    return columns


def from_v2(inputs: Sequence[Spec], given: Sequence[tuple[str, str, Sequence[int], Any]]) -> dict[str, Any]:
    """The arrays in V2's inputs: name, datatype, shape and values of each. One input may have any name."""
    by_name = {name: (datatype, shape, values) for name, datatype, shape, values in given}
    if len(inputs) == 1 and len(by_name) == 1:
        by_name = {inputs[0].name: next(iter(by_name.values()))}
    unknown = by_name.keys() - {tensor.name for tensor in inputs}
    if unknown:
        names = ", ".join(tensor.name for tensor in inputs)
        raise ValueError(f"the model has no input '{min(unknown)}'; it has {names}")
    arrays = {}
    for tensor in inputs:
        if tensor.name not in by_name:
            raise ValueError(f"there is no input '{tensor.name}'")
        datatype, shape, values = by_name[tensor.name]
        wanted = Spec(tensor.name, tensor.datatype or datatype, tensor.shape)
        arrays[tensor.name] = made(wanted, values, shape)
    return arrays


def made(tensor: Spec, values: Any, shape: Sequence[int] | None = None) -> Any:
    """The array of an input, with the type and the shape that the model takes.

    Args:
        tensor: what the model takes.
        values: nested lists, or flat ones with a shape; an array already, if they came as bytes.
        shape: what the caller says.

    Example:
        >>> made(Spec("x", "FP32", (-1, 2)), [[1, 2], [3, 4]]).dtype
        dtype('float32')
        >>> made(Spec("x", "FP32", (-1, 2)), [[1, 2, 3]])
        Traceback (most recent call last):
        ValueError: input 'x' has the shape [1, 3], the model takes [-1, 2]
    """
    import numpy as np

    if tensor.datatype == "BYTES":
        array = _texts(tensor.name, values)
    else:
        try:
            array = np.asarray(values)
        except (ValueError, OverflowError):
            raise ValueError(f"input '{tensor.name}': its lists differ in length") from None
        if array.dtype.kind not in "iufb":
            array = _numbers_among(tensor.name, values)
        array = _as_numbers(tensor, array)
    if shape is not None:
        if any(size < 0 for size in shape) or array.size != int(np.prod(shape, dtype=np.int64)):
            raise ValueError(f"input '{tensor.name}' holds {array.size} values, its shape says {list(shape)}")
        array = array.reshape(tuple(shape))
    return _fitting(tensor, array)


def to_v1(answers: Mapping[str, Any]) -> list[Any] | dict[str, Any]:
    """V1's predictions: one value a row, an object a row if there are several outputs."""
    lists = {name: _lists(values) for name, values in answers.items()}
    if len(lists) == 1:
        (only,) = lists.values()
        return only if isinstance(only, list) else [only]
    lengths = {len(values) if isinstance(values, list) else -1 for values in lists.values()}
    if len(lengths) != 1 or lengths == {-1}:  # they are not one a row
        return lists
    return [dict(zip(lists, row)) for row in zip(*lists.values())]


def plain(value: Any) -> Any:
    """The value without NumPy's types, however deep they lie."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _texts(name: str, values: Any) -> Any:
    import numpy as np

    array = np.asarray(values, dtype=object)
    for value in array.ravel():
        if not isinstance(value, (str, bytes)):
            raise ValueError(f"input '{name}': {value!r:.60} is not text")
    return array


def _lists(values: Any) -> Any:
    """As `plain`; an array of numbers holds nothing else, however large it is."""
    numbers = hasattr(values, "dtype") and values.dtype.kind in "iufb"
    return values.tolist() if numbers else plain(values)


def _numbers_among(name: str, values: Any) -> Any:
    """Numbers with holes: a missing one is NaN, as everywhere in pandas."""
    import numpy as np

    array = np.asarray(values, dtype=object)
    for value in array.ravel():
        if isinstance(value, list):
            raise ValueError(f"input '{name}': its lists differ in length")
        if value is not None and not isinstance(value, (int, float)):
            raise ValueError(f"input '{name}': {value!r:.60} is not a number")
    return array.astype(float)


def _as_numbers(tensor: Spec, array: Any) -> Any:
    import numpy as np

    wanted = np.dtype(NUMPY[tensor.datatype or "FP32"])
    kind, name = array.dtype.kind, tensor.name
    if wanted.kind == "b" and kind != "b":
        raise ValueError(f"input '{name}': {array.ravel()[:1].tolist()} is not true or false")
    if wanted.kind in "iu" and kind != "b":
        limits = np.iinfo(wanted)
        # Cutting off a fraction would answer another question.
        wrong = ~((array >= limits.min) & (array <= limits.max) & (array == np.trunc(array)))
        if wrong.any():
            value = array[wrong].ravel()[0].item()
            raise ValueError(f"input '{name}': {value!r:.60} is not one of {tensor.datatype}")
    return array.astype(wanted, copy=False)


def _fitting(tensor: Spec, array: Any) -> Any:
    """The array in the model's shape; a last axis of one value may be left out. No sizes at all stand for a
    single value, and with onnxruntime for any shape as well: the model itself looks at it."""
    wanted = tensor.shape
    if not wanted:
        return array
    if array.ndim == len(wanted) - 1 and wanted[-1] == 1:
        array = array[..., None]
    fits = array.ndim == len(wanted) and all(w in (-1, size) for w, size in zip(wanted, array.shape))
    if not fits:
        shape, takes = list(array.shape), list(wanted)
        raise ValueError(f"input '{tensor.name}' has the shape {shape}, the model takes {takes}")
    return array
