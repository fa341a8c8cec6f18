"""V2 requests and answers in KServe's own classes, which a project's `kserve.Model` classes take and give.

A `ValueError` is the caller's fault.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from modelyard_kserve.local import answers, v2
from modelyard_kserve.local.messages import Request, parsed
from modelyard_kserve.local.tensors import Tensor, array

#: Make what was asked and answered as JSON.
Logged = tuple[Callable[[], bytes], Callable[[Any], bytes]]


def from_rest(name: str, request: Request) -> tuple[Any, Logged]:
    """The `InferRequest` in a body, and what the prediction log gets.

    KServe's decoder makes a Python object of every element of a binary tensor, and a list of them; most
    models then ask for the array.
    """
    from kserve.protocol.infer_type import InferRequest, RequestedOutput
    from kserve.protocol.rest.v2_datamodels import InferenceRequest
    from pydantic import ValidationError

    if v2.JSON_LENGTH not in request.headers:
        try:
            valid = InferenceRequest.model_validate(request.json())
        except ValidationError as fault:
            first = fault.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the body"
            raise ValueError(f"{place}: {first['msg']}") from None
        return InferRequest.from_inference_request(valid, name), (lambda: request.body, _as_json)
    heads: list[Any] = []

    def parse(raw: Any) -> Any:
        heads.append(parsed(raw))
        return heads[0]

    asked = v2.asked(request.body, request.headers[v2.JSON_LENGTH], parse)
    (said,) = heads
    made = InferRequest(
        model_name=name,
        infer_inputs=[
            _input(tensor, given.get("parameters")) for tensor, given in zip(asked.tensors, said["inputs"])
        ],
        request_id=said.get("id"),
        parameters=said.get("parameters"),
        request_outputs=[
            RequestedOutput(output["name"], output.get("parameters")) for output in said.get("outputs") or []
        ]
        or None,
    )
    return made, (lambda: _asked_as_json(asked), _as_json)


def from_grpc(message: Any) -> tuple[Any, Logged]:
    """The `InferRequest` of a message of KServe's, and what the prediction log gets."""
    from kserve.errors import InvalidInput
    from kserve.protocol.grpc.servicer import InferenceServicer
    from kserve.protocol.infer_type import InferRequest

    from modelyard_kserve.local import grpc_wire

    try:
        InferenceServicer.validate_grpc_request(message)
        made = InferRequest.from_grpc(message)
    except InvalidInput as fault:
        raise ValueError(str(fault)) from None
    return made, (lambda: _asked_as_json(grpc_wire.asked(message)), _as_json)


def to_grpc(said: Any, asked: Any, name: str, version: str) -> Any:
    """What a model answered as a `ModelInferResponse`."""
    from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferResponse
    from kserve.protocol.infer_type import InferResponse

    from modelyard_kserve.local import grpc_wire

    if isinstance(said, ModelInferResponse):
        return said
    if isinstance(said, Mapping) and "outputs" in said:
        if any("contents" in output for output in said["outputs"]):  # as KServe's gRPC server wants it
            return ModelInferResponse(**{"model_name": name, **said})
        said = InferResponse.from_rest({"model_name": name, **said})
    if hasattr(said, "to_grpc"):
        return said.to_grpc()
    return grpc_wire.answered(name, version, asked.id or "", [(one, False) for one in outputs(said)])


def outputs(said: Any) -> list[answers.Output]:
    """The tensors in an answer that is a table or an array."""
    if isinstance(said, (Mapping, bytes)):
        raise TypeError(f"the model answered {type(said).__name__}, and no outputs")
    columns = {str(c): said[c].to_numpy() for c in said} if hasattr(said, "columns") else {"output-0": said}
    return answers.outputs(columns, ())


# -- inputs ---------------------------------------------------------------------------------


def _input(tensor: Tensor, parameters: Mapping[str, Any] | None) -> Any:
    from kserve.protocol.infer_type import InferInput

    parameters = {key: value for key, value in (parameters or {}).items() if key != "binary_data_size"}
    if isinstance(tensor.values, list):
        return InferInput(tensor.name, list(tensor.shape), tensor.datatype, tensor.values, parameters)
    return _array_input()(tensor, parameters)


@functools.cache
def _array_input() -> Any:
    from kserve.protocol.infer_type import InferInput

    class ArrayInput(InferInput):  # type: ignore[misc,unused-ignore]
        """KServe's input, whose array is at hand; its list is made when somebody wants that."""

        def __init__(self, tensor: Tensor, parameters: Mapping[str, Any]) -> None:
            super().__init__(tensor.name, list(tensor.shape), tensor.datatype, parameters=parameters)
            self._array = array(tensor)

        @property
        def _data(self) -> Any:
            if self._array is not None:
                self._listed, self._array = self._array.ravel().tolist(), None
            return self._listed

        @_data.setter
        def _data(self, data: Any) -> None:
            self._listed, self._array = data, None

        def as_numpy(self) -> Any:
            """The array; of its list if somebody had that, and may have changed it."""
            return super().as_numpy() if self._array is None else self._array.reshape(self.shape)

    return ArrayInput


# -- for the prediction log -----------------------------------------------------------------


def _asked_as_json(asked: v2.Asked) -> bytes:
    return v2.as_json(answers.dumps, asked, dict)[0]()


def _as_json(said: Any) -> bytes:
    """An answer, whichever of its forms a model gave."""
    from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferResponse
    from kserve.protocol.infer_type import InferResponse

    if isinstance(said, ModelInferResponse):
        said = InferResponse.from_grpc(said)
    if isinstance(said, Mapping):
        return answers.dumps(said)
    if isinstance(said, InferResponse):
        found = [(one.name, list(one.shape), one.datatype, one.as_numpy()) for one in said.outputs]
    else:
        found = [(one.name, one.shape, one.datatype, one.values) for one in outputs(said)]
    listed = [
        {"name": name, "shape": shape, "datatype": datatype, "data": answers.flat(values)}
        for name, shape, datatype, values in found
    ]
    return answers.dumps({"outputs": listed})
