"""What models answer, whatever it is, as V1's predictions and V2's tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelyard_kserve.local import by_name
from modelyard_kserve.local.runtimes import Spec
from modelyard_kserve.local.signature import Signature
from modelyard_kserve.local.tensors import NUMPY, datatype_of

#: What an output is called that has no name.
UNNAMED = "predict"


@dataclass(frozen=True)
class Output:
    """A named tensor of an answer; `values` is an array: of numbers, or of objects for BYTES."""

    name: str
    datatype: str
    values: Any

    @property
    def shape(self) -> list[int]:
        """Its shape."""
        return list(self.values.shape)


def predictions(answers: Any) -> list[Any] | dict[str, Any]:
    """V1's `predictions`: one item for each row, where there are rows. NaN, which JSON has not, becomes null
    in `dumps`, as KServe does it."""
    if hasattr(answers, "columns"):  # a DataFrame, as MLflow's own Python models like to answer
        records: list[Any] = answers.to_dict("records")
        return records
    if isinstance(answers, Mapping):
        return by_name.to_v1(answers)
    return _plain(answers)


def _plain(answers: Any) -> list[Any]:
    answers = _at_hand(answers)
    made = answers.tolist() if hasattr(answers, "tolist") else answers
    return made if isinstance(made, list) else [made]


def _at_hand(answers: Any) -> Any:
    """Sparse matrices, generators and the like as arrays and lists."""
    if hasattr(answers, "toarray"):
        return answers.toarray()
    whole = isinstance(answers, (list, str, bytes)) or hasattr(answers, "__array__")
    return answers if whole or not isinstance(answers, Iterable) else list(answers)


def outputs(answers: Any, stated: Sequence[Spec]) -> list[Output]:
    """V2's outputs: a table's columns each for itself, anything else as one tensor.

    Args:
        answers: of the model.
        stated: its outputs, where it has a signature; see `stated_outputs`.

    Raises:
        ValueError: there are values which no datatype holds.

    Example:
        >>> import numpy as np
        >>> [(o.name, o.datatype, o.shape) for o in outputs(np.ones((2, 3)), (Spec("", "FP64"),))]
        [('predict', 'FP64', [2, 3])]
    """
    import numpy as np

    if hasattr(answers, "columns"):
        named = [(str(name), _cells(answers.iloc[:, n])) for n, name in enumerate(answers.columns)]
    elif isinstance(answers, Mapping):
        named = [(str(name), _as_array(values)) for name, values in answers.items()]
    elif _are_objects(answers):
        named = [(str(name), _as_array([row[name] for row in answers])) for name in answers[0]]
    else:
        values = np.atleast_1d(_as_array(answers))
        named = [(_name(stated), values)]
        if len(stated) > 1 and values.ndim == 2 and values.shape[1] == len(stated):
            named = [(spec.name, values[:, n]) for n, spec in enumerate(stated)]
    datatypes = {spec.name or UNNAMED: spec.datatype for spec in stated}
    return [_output(name, values, datatypes.get(name, "")) for name, values in named]


def _cells(column: Any) -> Any:
    """The array of a table's column; lists of one length in it are its second axis."""
    values = column.to_numpy()
    lists = values.dtype.kind == "O" and all(hasattr(v, "__len__") and not isinstance(v, str) for v in values)
    return _as_array(values.tolist()) if lists and len(values) else values


def _are_objects(answers: Any) -> bool:
    """Whether each row is an object with the same keys, which is a table."""
    if not isinstance(answers, list) or not all(isinstance(row, Mapping) for row in answers):
        return False
    return bool(answers) and bool(answers[0]) and all(row.keys() == answers[0].keys() for row in answers)


def stated_outputs(signature: Signature, probabilities: bool) -> tuple[Spec, ...]:
    """What the answers are called and of which type, as far as it is known.

    Args:
        signature: of the model.
        probabilities: it answers with those, of which a signature says nothing.
    """
    if probabilities:
        return (Spec("predict_proba", "FP64", (-1, -1)),)
    if all(spec.name for spec in signature.outputs):
        return signature.outputs
    first, *more = signature.outputs
    return (Spec(UNNAMED, first.datatype, (-1, 1 + len(more)) if more else first.shape),)


def _name(stated: Sequence[Spec]) -> str:
    return stated[0].name if len(stated) == 1 and stated[0].name else UNNAMED


def _as_array(answers: Any) -> Any:
    import numpy as np

    answers = _at_hand(answers)
    try:
        return np.asarray(answers)
    except ValueError:  # lists of different lengths
        made = np.empty(len(answers), dtype=object)
        made[:] = answers
        return made


def _output(name: str, values: Any, stated: str) -> Output:
    """The tensor, in the datatype that is stated if that loses nothing."""
    import numpy as np

    if values.dtype.kind == "O":
        values = _numbers(values)
    elif values.dtype.kind == "M":
        values = np.datetime_as_string(values).astype(object)
    elif values.dtype.kind in "USm":
        values = values.astype(object) if values.dtype.kind != "m" else values.astype(str).astype(object)
    elif values.dtype.kind == "f" and values.dtype.itemsize > 8:
        values = values.astype(float)
    if values.dtype.kind not in "iufbO":
        raise ValueError(f"the model answered {values.dtype} in '{name}', which V2 has no datatype for")
    datatype = datatype_of(values.dtype)
    differs = stated in NUMPY and datatype not in (stated, "BYTES")
    if differs and np.can_cast(values.dtype, NUMPY[stated], "safe"):
        values, datatype = values.astype(NUMPY[stated]), stated
    return Output(name, datatype, _texts(values) if datatype == "BYTES" else values)


def _numbers(values: Any) -> Any:
    """Objects that are all numbers, or missing ones, as an array of numbers; others as they are."""
    import numpy as np

    items = values.ravel().tolist()
    missing = [_is_missing(item) for item in items]
    rest = [item for item, lacks in zip(items, missing) if not lacks]
    if not rest or not all(isinstance(item, (int, float, np.number, np.bool_)) for item in rest):
        return values
    try:
        made = np.array([math.nan if lacks else item for item, lacks in zip(items, missing)])
    except (OverflowError, ValueError):
        return values
    return made.reshape(values.shape) if made.dtype.kind in "iufb" else values


def _is_missing(item: Any) -> bool:
    """None, NaN, pandas' NA and NaT: what is not equal to itself, or does not say whether it is."""
    try:
        return item is None or bool(item != item)
    except (TypeError, ValueError):
        return type(item).__name__ == "NAType"


def _texts(values: Any) -> Any:
    """Objects as texts and bytes; what is neither is said in JSON. Missing ones stay None."""
    import numpy as np

    made = np.empty(values.size, dtype=object)
    for place, item in enumerate(values.ravel().tolist()):
        if isinstance(item, (str, bytes)):
            made[place] = item
        elif not isinstance(item, (list, tuple, dict)) and _is_missing(item):
            made[place] = None
        else:
            said = dumps(item)
            made[place] = said.decode().strip('"') if said.startswith(b'"') else said.decode()
    return made.reshape(values.shape)


def flat(values: Any) -> Any:
    """A tensor's `data` in JSON: flat, in row-major order.

    Raises:
        ValueError: bytes that are no text, which only binary outputs can hold.
    """
    import numpy as np

    if values.dtype == object:
        try:
            return [v.decode() if isinstance(v, bytes) else v for v in values.ravel().tolist()]
        except UnicodeDecodeError:
            raise ValueError("the model answered bytes that are no text: ask for binary data") from None
    if values.size <= _FEW:
        return values.ravel().tolist()
    # A FP32 is said as the FP64 of the same value, as Python says it.
    wide = values.astype(float) if values.dtype.kind == "f" else values
    return np.ascontiguousarray(wide.ravel())


#: Values of an array for which Python's own list is faster than an array of which each element is asked.
_FEW = 64


def dumps(value: Any) -> bytes:
    """JSON, with NaN and infinity as null.

    Raises:
        TypeError: there is a value that JSON can't say; the sentence names its type.
    """
    import orjson

    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        pass
    try:
        return orjson.dumps(value, option=options, default=_simpler)
    except TypeError as fault:
        raise TypeError(f"the model answered what JSON can't say: {fault.__cause__ or fault}") from None


def _simpler(value: Any) -> Any:
    """Types that orjson does not know, in those that it does."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    for say in ("isoformat", "tolist"):
        if hasattr(value, say):
            return getattr(value, say)()
    if type(value).__module__ == "decimal":
        return float(value)
    raise TypeError(f"a {type(value).__name__}")
