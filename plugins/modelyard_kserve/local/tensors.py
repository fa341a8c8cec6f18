"""Tensors of the V2 protocol: datatypes, the bytes of binary ones, and arrays out of JSON's lists."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

#: V2's datatypes as NumPy's codes; the bytes on the wire are little-endian. BYTES is framed, see `_framed`.
NUMPY = {
    "BOOL": "b1",
    **{f"INT{8 * size}": f"i{size}" for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": f"u{size}" for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": f"f{size}" for size in (2, 4, 8)},
}
DATATYPES = (*NUMPY, "BYTES")
_OF_CODE = {code: datatype for datatype, code in NUMPY.items()}


class Tensor(NamedTuple):
    """A named tensor. `values` is an array of the shape, or a list as JSON has it: flat or nested."""

    name: str
    datatype: str
    shape: Sequence[int]
    values: Any


def require_tensor(name: Any, datatype: Any, shape: Any) -> None:
    """What every input must say, whichever way its values come.

    Raises:
        ValueError: names the input.
    """
    if not isinstance(name, str) or not _is_shape(shape):
        raise ValueError(f"input {name!r:.60}: 'name' is text and 'shape' a list of integers")
    if datatype not in DATATYPES:
        raise ValueError(f"input '{name}': {datatype!r:.60} is no datatype; known: {', '.join(DATATYPES)}")


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and all(type(size) is int for size in shape)


def from_bytes(name: str, datatype: str, shape: Sequence[int], raw: Any) -> Tensor:
    """A tensor out of its bytes: one copy, nothing per element but for BYTES. The array is ours to write
    into, and aligned, which the bytes behind a request's JSON need not be.

    Args:
        name, datatype, shape: as the request says.
        raw: bytes or a view of them.

    Raises:
        ValueError: the bytes are not those of such a tensor; the sentence names the input.

    Example:
        >>> from_bytes("x", "INT16", [2], b"\\x01\\x00\\xff\\xff").values
        array([ 1, -1], dtype=int16)
    """
    import numpy as np

    count = _count(name, shape)
    if datatype == "BYTES":
        framed = _framed(name, raw, count)  # before there is an array of a size that nobody has checked
        items = np.empty(count, dtype=object)
        items[:] = framed
        return Tensor(name, datatype, shape, items.reshape(shape))
    dtype = np.dtype(NUMPY[datatype]).newbyteorder("<")
    if len(raw) != count * dtype.itemsize:
        raise ValueError(
            f"input '{name}' came with {len(raw)} bytes, its shape {list(shape)} of {datatype} has "
            f"{count * dtype.itemsize}"
        )
    if datatype == "BOOL":  # any byte but 0 is true; a bool array with other bytes would be broken
        return Tensor(name, datatype, shape, (np.frombuffer(raw, np.uint8) != 0).reshape(shape))
    values = np.frombuffer(raw, dtype).astype(dtype.newbyteorder("=")).reshape(shape)
    return Tensor(name, datatype, shape, values)


def to_bytes(array: Any, datatype: str) -> bytes:
    """The bytes of an array, in row-major order.

    Example:
        >>> import numpy as np
        >>> to_bytes(np.array(["UA"], dtype=object), "BYTES")
        b'\\x02\\x00\\x00\\x00UA'
    """
    import numpy as np

    if datatype == "BYTES":
        given = ("" if item is None else item for item in array.ravel().tolist())
        items = [item if isinstance(item, bytes) else str(item).encode() for item in given]
        return b"".join(piece for item in items for piece in (len(item).to_bytes(4, "little"), item))
    made: bytes = np.asarray(array, np.dtype(NUMPY[datatype]).newbyteorder("<")).tobytes()
    return made


def _framed(name: str, raw: Any, count: int) -> list[bytes]:
    """Elements that each have their length in four bytes before them."""
    items: list[bytes] = []
    raw, place, end = bytes(raw), 0, len(raw)
    while place < end and len(items) <= count:
        start = place + 4
        place = start + int.from_bytes(raw[place:start], "little")
        if place > end or start > end:
            raise ValueError(f"input '{name}': element {len(items)} of its BYTES is cut off")
        items.append(raw[start:place])
    if len(items) != count:
        held = "more" if len(items) > count else str(len(items))
        raise ValueError(f"input '{name}' holds {held} elements of BYTES, its shape has {count}")
    return items


def texts(name: str, values: Any) -> Any:
    """BYTES as text, which is what JSON says and models take.

    Raises:
        ValueError: names the element that is not UTF-8.
    """
    import numpy as np

    decoded = np.empty(values.size, dtype=object)
    for place, value in enumerate(values.ravel().tolist()):
        try:
            decoded[place] = value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError:
            raise ValueError(f"input '{name}': element {place} is not UTF-8 text") from None
    return decoded.reshape(values.shape)


def array(tensor: Tensor) -> Any:
    """The tensor as an array of its shape and datatype; BYTES as text.

    Raises:
        ValueError: a value does not fit the datatype; the sentence names the input.

    Example:
        >>> array(Tensor("x", "FP32", [2, 2], [[1, 2], [3, None]]))
        array([[ 1.,  2.],
               [ 3., nan]], dtype=float32)
    """
    import numpy as np

    if isinstance(tensor.values, np.ndarray):
        return texts(tensor.name, tensor.values) if tensor.datatype == "BYTES" else tensor.values
    count = _count(tensor.name, tensor.shape)
    given = _packed(tensor.datatype, tensor.values)
    if given is None:
        given = _bare(tensor.name, tensor.values)
    if given.size != count:
        raise ValueError(
            f"input '{tensor.name}' holds {given.size} values, its shape says {list(tensor.shape)}"
        )
    return _cast(tensor.name, tensor.datatype, given).reshape(tensor.shape)


def _packed(datatype: str, values: Sequence[Any]) -> Any:
    """A flat list of numbers as an array, in a third of the time that NumPy takes to find out that it is one.
    None: it needs a closer look."""
    import numpy as np

    if datatype not in _PACKED:
        return None
    packed, code = _PACKED[datatype]
    try:
        return np.frombuffer(bytearray(struct.pack(f"{len(values)}{packed}", *values)), code)
    except (struct.error, TypeError):
        return None


#: What lists of a datatype are packed as, before they are looked at: `struct`'s name of it, and NumPy's. Its
#: own `q` is `longlong`, which is equal to `int64` and another type to libraries that look at its number.
_PACKED = {
    **{f"FP{bits}": ("d", "f8") for bits in (16, 32, 64)},
    **{f"INT{bits}": ("q", "i8") for bits in (8, 16, 32, 64)},
}


def _bare(name: str, values: Any) -> Any:
    """Lists as an array of whatever they hold."""
    import numpy as np

    try:
        given = np.array(values)
        if given.dtype.kind in "OU":  # NumPy makes texts of what is mixed with texts
            given = np.array(values, dtype=object)
    except (ValueError, RecursionError):
        raise ValueError(f"input '{name}': its lists are not of one length") from None
    return given


def _cast(name: str, datatype: str, given: Any) -> Any:
    import numpy as np

    if datatype == "BYTES":
        return _checked(name, given, lambda value: isinstance(value, str), "text")
    target, floats = np.dtype(NUMPY[datatype]), datatype.startswith("FP")
    if datatype == "BOOL":
        if given.dtype.kind != "b":
            raise _misfit(name, given, lambda value: isinstance(value, bool), "true or false")
        return given
    if given.dtype.kind == "O" and floats:  # a missing number
        given = _checked(name, given, lambda value: value is None or _is_number(value), "a number")
        try:
            given = np.array([math.nan if v is None else v for v in given.ravel().tolist()], dtype=float)
        except OverflowError:
            raise ValueError(f"input '{name}' holds a number that is too large for {datatype}") from None
    if given.size and given.dtype.kind not in "iufb":
        raise _misfit(name, given, _is_number, "a number")
    if given.dtype == target:  # nothing to lose
        return given
    with np.errstate(over="ignore", invalid="ignore"):
        cast = given.astype(target)
    lost = np.isinf(cast) & ~np.isinf(given) if floats else cast != given
    if lost.any():
        value = given[lost].ravel()[0].item()
        raise ValueError(f"input '{name}': {value!r:.60} is no {datatype}")
    return cast


def _checked(name: str, given: Any, fits: Callable[[Any], bool], wanted: str) -> Any:
    if all(fits(value) for value in given.ravel().tolist()):
        return given.astype(object)
    raise _misfit(name, given, fits, wanted)


def _misfit(name: str, given: Any, fits: Callable[[Any], bool], wanted: str) -> ValueError:
    for value in given.ravel().tolist():
        if not fits(value):
            return ValueError(f"input '{name}': {value!r:.60} is not {wanted}")
    return ValueError(f"input '{name}' holds a number that is too large")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _count(name: str, shape: Sequence[int]) -> int:
    if min(shape, default=0) < 0:
        raise ValueError(f"input '{name}': its shape {list(shape)} has a negative size")
    if len(shape) > 32:
        raise ValueError(f"input '{name}': its shape has {len(shape)} dimensions, 32 are possible")
    return math.prod(shape)


def datatype_of(dtype: Any) -> str:
    """The datatype of NumPy's numbers or truth values; BYTES of anything else.

    Example:
        >>> import numpy as np
        >>> datatype_of(np.dtype("float32")), datatype_of(np.dtype(object))
        ('FP32', 'BYTES')
    """
    return _OF_CODE.get(dtype.str[1:], "BYTES")  # `dtype.name` would take longer than all the rest


def datatype_named(name: str) -> str:
    """The datatype of a type as PyTorch and TensorFlow name it; BYTES if NumPy has no such number.

    Example:
        >>> datatype_named("float16"), datatype_named("string"), datatype_named("bfloat16")
        ('FP16', 'BYTES', 'BYTES')
    """
    import numpy as np

    try:
        return datatype_of(np.dtype(name))
    except TypeError:
        return "BYTES"
