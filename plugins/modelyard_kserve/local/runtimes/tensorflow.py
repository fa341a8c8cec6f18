"""TensorFlow's SavedModels, by their `serving_default` signature, and Keras' files."""

from __future__ import annotations

import os
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
from modelyard_kserve.local.tensors import datatype_named

_FILES = ("saved_model.pb", "*.keras")
_SIGNATURE = "serving_default"


def load(folder: Path, *, trusted: bool, probabilities: bool) -> LoadedModel:
    """The one model in a folder, or in its subfolder with the highest number, as for TensorFlow Serving."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    without_probabilities(folder, probabilities)
    threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    file, _, _ = found(versioned(folder, _FILES), "tensorflow", _FILES)
    return _keras(tf, file, trusted) if file.suffix == ".keras" else _saved(tf, file)


def _saved(tf: Any, file: Path) -> LoadedModel:
    loaded = tf.saved_model.load(str(file.parent))
    signature = loaded.signatures.get(_SIGNATURE)
    if signature is None:
        known = ", ".join(loaded.signatures) or "none"
        raise unloadable(file.parent, f"it has no signature '{_SIGNATURE}'; its signatures: {known}")
    # Each process has them in another order.
    inputs = tuple(_tensor(*one) for one in sorted(signature.structured_input_signature[1].items()))
    outputs = tuple(_tensor(*one) for one in sorted(signature.structured_outputs.items()))

    def answer(arrays: Mapping[str, Any]) -> dict[str, Any]:
        # The loaded object owns the variables; without it the signature alone would lose them.
        made = loaded.signatures[_SIGNATURE](**{name: tf.constant(a) for name, a in arrays.items()})
        return {one.name: made[one.name].numpy() for one in outputs}

    return LoadedModel((), answer, inputs, outputs)


def _keras(tf: Any, file: Path, trusted: bool) -> LoadedModel:
    """A Keras file; layers that hold Python code are loaded if they are trusted."""
    model = tf.keras.models.load_model(str(file), compile=False, safe_mode=not trusted)
    inputs = tuple(_tensor(one.name, one) for one in model.inputs)
    outputs = tuple(_tensor(one.name, one) for one in model.outputs)

    def answer(arrays: Mapping[str, Any]) -> dict[str, Any]:
        made = model([tf.constant(arrays[one.name]) for one in inputs], training=False)
        values = made if isinstance(made, (list, tuple)) else [made]
        return {one.name: value.numpy() for one, value in zip(outputs, values)}

    return LoadedModel((), answer, inputs, outputs)


def _tensor(name: str, spec: Any) -> Spec:
    dtype = getattr(spec.dtype, "name", spec.dtype)
    shape = None if spec.shape is None else tuple(-1 if size is None else int(size) for size in spec.shape)
    return Spec(name, datatype_named(dtype), shape)
