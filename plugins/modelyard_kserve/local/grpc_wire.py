"""`GRPCInferenceService` without a gRPC server: Envoy speaks HTTP/2 with the caller and asks the model server
by HTTP/1.1, in pods `http2` does; what is left is one framed message in the body, and KServe's own classes to
read and write it.

A gRPC server in this process would cost 17 MB and seven threads in every replica, whether somebody asks by
gRPC or not, and a fork server must have one thread; the classes cost 3 MB, once.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelyard_kserve.local.answers import Output
from modelyard_kserve.local.grpc_status import CONTENT_TYPE
from modelyard_kserve.local.messages import BODY_LIMIT
from modelyard_kserve.local.tensors import Tensor, from_bytes, require_tensor, to_bytes
from modelyard_kserve.local.unpacking import unpacked
from modelyard_kserve.local.v2 import Asked

_HEAD = 5
#: Which list of typed contents holds a datatype; FP16 has none.
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **{name: f"{name.lower()}_contents" for name in ("INT64", "UINT64", "FP32", "FP64")},
    "BYTES": "bytes_contents",
}


def _messages() -> Any:
    """In a pool of their own: a model may import `tritonclient.grpc`, whose messages have the same names. The
    package is passed by: importing it takes seconds, for a Kubernetes client."""
    from google.protobuf import descriptor_pool

    package = importlib.util.find_spec("kserve")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "protocol" / "grpc" / "grpc_predict_v2_pb2.py"
    spec = importlib.util.spec_from_file_location("modelyard_kserve_messages", file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    shared, pool = descriptor_pool.Default, descriptor_pool.DescriptorPool()
    descriptor_pool.Default = lambda: pool  # which the file asks for
    try:
        spec.loader.exec_module(made)
    finally:
        descriptor_pool.Default = shared
    return made


#: KServe's classes. They are loaded with this module, so that a fork server has them.
MESSAGES: Any = _messages()


def message(kind: str, body: bytes, encoding: str, classes: Any = MESSAGES) -> Any:
    """The message in a body.

    Args:
        kind: the class, such as `ModelInferRequest`.
        body: its frame: whether it is compressed, its length in four bytes, and itself.
        encoding: the header `grpc-encoding`.
        classes: where the class is.

    Raises:
        ValueError: there is no such message.
    """
    if len(body) < _HEAD or body[0] > 1 or len(body) - _HEAD != int.from_bytes(body[1:_HEAD], "big"):
        raise ValueError("the body is not one message of gRPC")
    raw = unpacked(body[_HEAD:], encoding, BODY_LIMIT) if body[0] else body[_HEAD:]
    from google.protobuf.message import DecodeError

    try:
        return getattr(classes, kind).FromString(raw)
    except DecodeError:
        raise ValueError(f"the message is no {kind}") from None


def framed(made: Any) -> bytes:
    """A message as it is sent."""
    raw: bytes = made.SerializeToString()
    return b"\0" + len(raw).to_bytes(4, "big") + raw


#: Of answers that are messages.
HEADERS = {"content-type": CONTENT_TYPE}


def asked(request: Any) -> Asked:
    """What a `ModelInferRequest` asks. Who sends raw contents gets raw contents, as from KServe and Triton.

    Raises:
        ValueError: the caller's fault.
    """
    raw = request.raw_input_contents
    if not request.inputs:
        raise ValueError("the message needs 'inputs': a list of tensors")
    if raw and len(raw) != len(request.inputs):
        raise ValueError(f"there are {len(raw)} raw_input_contents for {len(request.inputs)} inputs")
    tensors = [_tensor(tensor, raw[n] if raw else None) for n, tensor in enumerate(request.inputs)]
    wanted = {output.name: bool(raw) for output in request.outputs} or None
    parameters = {name: _said(said) for name, said in request.parameters.items()}
    return Asked(request.id, tensors, wanted, bool(raw), parameters)


def _said(parameter: Any) -> Any:
    """The value of an `InferParameter`; None if it holds none."""
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None


def _tensor(tensor: Any, raw: bytes | None) -> Tensor:
    name, datatype, shape = tensor.name, tensor.datatype, list(tensor.shape)
    require_tensor(name, datatype, shape)
    if raw is not None:
        if tensor.HasField("contents"):
            raise ValueError(f"input '{name}' has contents as well as raw_input_contents")
        return from_bytes(name, datatype, shape, raw)
    if datatype not in _CONTENTS:
        raise ValueError(f"input '{name}': {datatype} can only come as raw_input_contents")
    contents = list(getattr(tensor.contents, _CONTENTS[datatype]))
    if datatype == "BYTES":
        try:
            contents = [item.decode() for item in contents]
        except UnicodeDecodeError:
            raise ValueError(f"input '{name}' holds BYTES that are not UTF-8 text") from None
    return Tensor(name, datatype, shape, contents)


def answered(name: str, version: str, request_id: str, outputs: Sequence[tuple[Output, bool]]) -> Any:
    """A `ModelInferResponse`. FP16 is raw, so everything beside it is, too."""
    made = MESSAGES.ModelInferResponse(model_name=name, model_version=version, id=request_id)
    raw = any(binary or output.datatype == "FP16" for output, binary in outputs)
    for output, _ in outputs:
        said = made.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        if raw:
            made.raw_output_contents.append(to_bytes(output.values, output.datatype))
            continue
        values = output.values.ravel().tolist()
        if output.datatype == "BYTES":
            values = [v if isinstance(v, bytes) else (v or "").encode() for v in values]
        getattr(said.contents, _CONTENTS[output.datatype]).extend(values)
    return made
