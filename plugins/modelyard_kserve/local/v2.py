"""V2 inference by REST: JSON, and the binary tensor extension. A `ValueError` is the caller's fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelyard_kserve.local.answers import UNNAMED, Output, flat
from modelyard_kserve.local.tensors import Tensor, from_bytes, require_tensor, to_bytes

#: Says how long the JSON is before the tensors' bytes, in requests and in answers.
JSON_LENGTH = "inference-header-content-length"
#: What KServe's own servers call an output that has no name.
_KSERVES = "output-0"


@dataclass(frozen=True)
class Asked:
    """An inference request, however it came.

    Attributes:
        id: the caller's; empty if it gave none.
        tensors: the inputs.
        wanted: names of the outputs that are asked for, and whether each shall be binary; None: all.
        binary: whether outputs are binary that nobody says anything else of.
        parameters: of the request.
    """

    id: str
    tensors: Sequence[Tensor]
    wanted: Mapping[str, bool] | None = None
    binary: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def chosen(self, outputs: Sequence[Output]) -> list[tuple[Output, bool]]:
        """The outputs that are asked for, in the order in which they are, and whether each is binary.

        Raises:
            ValueError: the model has no such output.
        """
        if self.wanted is None:
            return [(output, self.binary) for output in outputs]
        there = {output.name: output for output in outputs}
        if list(there) == [UNNAMED]:
            there[_KSERVES] = replace(outputs[0], name=_KSERVES)
        unknown = next((name for name in self.wanted if name not in there), None)
        if unknown is not None:
            known = ", ".join(repr(output.name) for output in outputs)
            raise ValueError(f"the model has no output '{unknown}'; it answers {known}")
        return [(there[name], binary) for name, binary in self.wanted.items()]


def asked(body: bytes, json_length: str | None, parse: Callable[[Any], Any]) -> Asked:
    """The request in a body.

    Args:
        body: JSON, and behind it the bytes of binary tensors.
        json_length: the header `Inference-Header-Content-Length`, if there is one.
        parse: of JSON.
    """
    if json_length is None:
        return _asked(parse(body), None)
    # int() would take signs, spaces and digits of any script.
    if not re.fullmatch("[0-9]{1,12}", json_length) or int(json_length) > len(body):
        raise ValueError(
            f"the header Inference-Header-Content-Length is {json_length!r:.40}, and not the length of the "
            f"JSON in this body of {len(body)} bytes"
        )
    length = int(json_length)
    return _asked(parse(body[:length]), memoryview(body)[length:])


def _asked(said: Any, raw: memoryview | None) -> Asked:
    inputs = said.get("inputs") if isinstance(said, dict) else None
    if not isinstance(inputs, list) or not inputs:
        raise ValueError("the body needs 'inputs': a list of tensors")
    tensors, place = [], 0
    for tensor in inputs:
        made, place = _tensor(tensor, raw, place)
        tensors.append(made)
    if raw is not None and place != len(raw):
        raise ValueError(
            f"{len(raw)} bytes follow the JSON, the 'binary_data_size' of all inputs make {place} together"
        )
    request_id = said.get("id")
    if not isinstance(request_id, (str, type(None))):
        raise ValueError("'id' is text")
    parameters = _parameters(said, "the body")
    binary = _flag(parameters, "binary_data_output", False)
    wanted = _wanted(said.get("outputs"), binary)
    return Asked(request_id or "", tensors, wanted, binary, parameters)


def _tensor(tensor: Any, raw: memoryview | None, place: int) -> tuple[Tensor, int]:
    """An input, and where the bytes of the next one begin."""
    if not isinstance(tensor, dict) or not all(key in tensor for key in ("name", "shape", "datatype")):
        raise ValueError("each input needs 'name', 'shape', 'datatype' and 'data'")
    name, shape, datatype = tensor["name"], tensor["shape"], tensor["datatype"]
    require_tensor(name, datatype, shape)
    size = _parameters(tensor, f"input '{name}'").get("binary_data_size")
    if size is None:
        if "data" not in tensor:
            raise ValueError("each input needs 'name', 'shape', 'datatype' and 'data'")
        if not isinstance(tensor["data"], list):
            raise ValueError(f"input '{name}': 'data' is a list")
        return Tensor(name, datatype, shape, tensor["data"]), place
    if tensor.get("data") is not None:
        raise ValueError(f"input '{name}' has 'data' as well as 'binary_data_size'")
    if raw is None:
        raise ValueError(
            f"input '{name}' has 'binary_data_size', but no header Inference-Header-Content-Length says "
            "where its bytes begin"
        )
    if type(size) is not int or not 0 <= size <= len(raw) - place:
        raise ValueError(
            f"input '{name}': its 'binary_data_size' is {size!r:.40}, {len(raw) - place} bytes are left"
        )
    return from_bytes(name, datatype, shape, raw[place : place + size]), place + size


def _wanted(outputs: Any, binary: bool) -> dict[str, bool] | None:
    if outputs is None or outputs == []:
        return None
    if not isinstance(outputs, list) or not all(
        isinstance(output, dict) and isinstance(output.get("name"), str) for output in outputs
    ):
        raise ValueError("'outputs' is a list of objects with a 'name'")
    wanted = {}
    for output in outputs:
        name = output["name"]
        wanted[name] = _flag(_parameters(output, f"output '{name}'"), "binary_data", binary)
    return wanted


def _parameters(said: Mapping[str, Any], whose: str) -> Mapping[str, Any]:
    parameters = said.get("parameters")
    if not isinstance(parameters, (dict, type(None))):
        raise ValueError(f"the 'parameters' of {whose} are no object")
    return parameters or {}


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    said = parameters.get(name, default)
    if not isinstance(said, bool):
        raise ValueError(f"'{name}' is {said!r:.40}, and not true or false")
    return said


# -- answers --------------------------------------------------------------------------------


def answered(
    name: str, version: str, request_id: str, outputs: Sequence[tuple[Output, bool]]
) -> tuple[dict[str, Any], list[bytes]]:
    """The JSON of an answer, and the bytes that follow it."""
    described, raw = [], []
    for output, binary in outputs:
        said: dict[str, Any] = {"name": output.name, "shape": output.shape, "datatype": output.datatype}
        if binary:
            raw.append(to_bytes(output.values, output.datatype))
            said["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            said["data"] = flat(output.values)
        described.append(said)
    return {"model_name": name, "model_version": version, "id": request_id, "outputs": described}, raw


def as_json(
    dump: Callable[[Any], bytes], request: Asked, answer: Callable[[], Any]
) -> tuple[Callable[[], bytes], Callable[[], bytes]]:
    """What was asked and answered as JSON, for the prediction log, which reads nothing else; made when it is
    needed."""

    def asked() -> bytes:
        inputs = [
            {"name": t.name, "shape": list(t.shape), "datatype": t.datatype, "data": _listed(t.values)}
            for t in request.tensors
        ]
        return dump({"id": request.id, "inputs": inputs})

    return asked, lambda: dump(answer())


def _listed(values: Any) -> Any:
    return values if isinstance(values, list) else flat(values)
