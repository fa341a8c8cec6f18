"""`GRPCInferenceService` for a project's own `kserve.Model` classes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import modelyard
from modelyard_kserve.local import answers, grpc_wire, v2
from modelyard_kserve.local.messages import Answer, Request


async def answered(
    method: str,
    request: Request,
    version: str,
    models: Mapping[str, Any],
    ask: Callable[[Any, Any], Awaitable[Any]],
) -> Answer:
    """The answer to one call.

    Args:
        method: of the service.
        request: its body is one message.
        version: of the models.
        models: by name.
        ask: asks a model with an `InferRequest`.

    Raises:
        InvalidInput, ModelNotFound, NotImplementedError: of KServe, and what models raise.
    """
    from kserve.errors import InvalidInput, ModelNotFound

    if method not in _ASKED:
        raise NotImplementedError(f"{method:.60} is not answered by classes of KServe's here")
    try:
        message = grpc_wire.message(
            f"{method}Request", request.body, request.headers.get("grpc-encoding", "identity")
        )
    except ValueError as fault:
        raise InvalidInput(str(fault)) from None
    model = None
    if named := _ASKED[method]:
        model = models.get(getattr(message, named))
        if model is None:
            raise ModelNotFound(getattr(message, named))
    if method == "ModelInfer":
        return await _inferred(message, version, lambda asked: ask(model, asked))
    made = getattr(grpc_wire.MESSAGES, f"{method}Response")(
        **await _looked_at(method, version, models, model)
    )
    return Answer(200, grpc_wire.framed(made), grpc_wire.HEADERS)


#: Method -> the field of its message that names a model.
_ASKED = {"ServerLive": "", "ServerReady": "", "ServerMetadata": ""}
_ASKED |= {"ModelReady": "name", "ModelMetadata": "name", "ModelInfer": "model_name"}


async def _looked_at(method: str, version: str, models: Mapping[str, Any], model: Any) -> dict[str, Any]:
    if method == "ServerLive":
        return {"live": True}
    if method == "ServerReady":
        return {"ready": all([await one.healthy() for one in models.values()])}
    if method == "ServerMetadata":
        return {"name": "modelyard", "version": modelyard.__version__}
    if method == "ModelReady":
        return {"ready": bool(await model.healthy())}
    return {
        "name": model.name,
        "versions": [version],
        "platform": type(model).__name__,
        "inputs": model.get_input_types(),
        "outputs": model.get_output_types(),
    }


async def _inferred(message: Any, version: str, ask: Callable[[Any], Awaitable[Any]]) -> Answer:
    from kserve import InferRequest, InferResponse
    from kserve.errors import InvalidInput

    try:
        plain = grpc_wire.asked(message)  # refuses what KServe's classes stumble over, and is what is logged
    except ValueError as fault:
        raise InvalidInput(str(fault)) from None
    said = await ask(InferRequest.from_grpc(message))
    if isinstance(said, InferResponse):
        outputs = [answers.Output(one.name, one.datatype, one.as_numpy()) for one in said.outputs]
        identity = said.id or message.id
    else:
        columns = said if isinstance(said, dict) else {"output-0": said}
        outputs, identity = answers.outputs(columns, ()), message.id
    try:
        wanted = plain.chosen(outputs)
    except ValueError as fault:
        raise InvalidInput(str(fault)) from None
    made = grpc_wire.answered(message.model_name, version, identity, wanted)
    as_text = [(output, False) for output, _ in wanted]
    logged = v2.as_json(
        answers.dumps, plain, lambda: v2.answered(message.model_name, version, identity, as_text)[0]
    )
    return Answer(200, grpc_wire.framed(made), grpc_wire.HEADERS, None, logged)
