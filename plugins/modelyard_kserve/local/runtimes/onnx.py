"""ONNX models, run by onnxruntime."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard_kserve.local.runtimes.base import (
    LoadedModel,
    Spec,
    found,
    unloadable,
    versioned,
    without_probabilities,
)

_FILES = ("*.onnx",)
#: ONNX's names of numbers -> V2's.
_TYPES = {
    **{"float16": "FP16", "float": "FP32", "double": "FP64", "bool": "BOOL", "string": "BYTES"},
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def load(folder: Path, *, trusted: bool, probabilities: bool) -> LoadedModel:
    """The one model in a folder, or in its subfolder with the highest number, as Triton has it."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

    del trusted  # such a file holds a graph, and no code
    without_probabilities(folder, probabilities)
    file, _, _ = found(versioned(folder, _FILES), "onnx", _FILES)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; warnings are about the graph, and nobody's fault here
    session = onnxruntime.InferenceSession(str(file), options, providers=_providers(onnxruntime))
    inputs = tuple(_tensor(file, one) for one in session.get_inputs())
    names = [one.name for one in session.get_outputs()]

    def answer(arrays: Mapping[str, Any]) -> dict[str, Any]:
        try:
            values = session.run(names, dict(arrays))
        except (InvalidArgument, Fail, RuntimeException) as fault:
            if (said := _of_values(str(fault))) is None:
                raise
            raise ValueError(f"the model can't take these values: {said}") from fault
        return {name: _array(value) for name, value in zip(names, values)}

    return LoadedModel((), answer, inputs, tuple(_output(one) for one in session.get_outputs()))


def _of_values(fault: str) -> str | None:
    """What a step of the graph says that can't take what came to it: the number of a word that the model does
    not have, sizes that do not go together. None: something else, such as too little memory.

    Example:
        >>> _of_values("[E] : 1 : FAIL : ... while running MatMul node. Status Message: a/b.h:59 mismatch")
        'mismatch'
    """
    _, found, said = fault.rpartition("Status Message: ")
    if not found or "alloc" in said.lower():
        return None
    return re.sub(r"^\S+\.(h|cc):\d+ (.*was false\. )?", "", " ".join(said.split()))


def _providers(onnxruntime: Any) -> list[str]:
    """What runs it: a GPU of NVIDIA's if the installed onnxruntime can, and the processor."""
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return [name for name in wanted if name in onnxruntime.get_available_providers()]


def _tensor(file: Path, one: Any) -> Spec:
    datatype = _TYPES.get(_inner(one.type))
    if datatype is None:
        raise unloadable(file, f"its input '{one.name}' is a {one.type}, which no request can hold")
    return Spec(one.name, datatype, _shape(one))


def _output(one: Any) -> Spec:
    """A sequence of maps is a matrix with one column for each key; see `_array`."""
    shape = (-1, -1) if one.type.startswith("seq(map(") else _shape(one)
    return Spec(one.name, _TYPES.get(_inner(one.type), "BYTES"), shape)


def _inner(type_: str) -> str:
    """The type of the numbers, as in `tensor(float)` or `seq(map(int64,tensor(float)))`."""
    return str(type_.rpartition("tensor(")[2].rstrip(")"))


def _shape(one: Any) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else -1 for size in one.shape or ())


def _array(value: Any) -> Any:
    """skl2onnx gives probabilities as one map from class to number a row."""
    import numpy as np

    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return np.array([list(row.values()) for row in value], dtype=np.float32)
    return np.asarray(value)
