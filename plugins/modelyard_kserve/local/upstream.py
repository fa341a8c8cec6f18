"""What a component asks its predictor by KServe's own clients, and what comes of that."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from modelyard_kserve.local.addresses import authority_of
from modelyard_kserve.local.messages import Answer

#: gRPC's code -> a status of HTTP; others are a 500.
_STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "UNAUTHENTICATED": 401, "UNIMPLEMENTED": 501}
_STATUS |= {"DEADLINE_EXCEEDED": 504, "UNAVAILABLE": 503, "RESOURCE_EXHAUSTED": 429}
#: Headers that are about one message on its way, and not about what it says.
_OF_ONE_MESSAGE = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "date",
    "server",
}
_OF_ONE_MESSAGE |= {"content-length", "content-encoding", "inference-header-content-length"}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")


def answer_of(fault: Exception) -> Answer | None:
    """What a caller is told when the predictor did not answer; None: this fault is another one."""
    said = getattr(fault, "response", None)
    if isinstance(getattr(said, "status_code", None), int):  # httpx.HTTPStatusError
        return Answer.error(said.status_code, _sentence(said))  # type: ignore[union-attr]
    if _is_of(fault, "httpx", "TimeoutException"):
        return Answer.error(504, "the predictor did not answer in time")
    if _is_of(fault, "httpx", "TransportError"):
        return Answer.error(503, f"the predictor can't be reached: {fault}")
    if _is_of(fault, "grpc", "RpcError"):
        name = fault.code().name  # type: ignore[attr-defined]
        return Answer.error(_STATUS.get(name, 500), f"the predictor: {fault.details()}")  # type: ignore[attr-defined]
    return None


def by_another_protocol(model: Any, payload: Any, fault: Exception) -> str:
    """What to do where KServe's own `predict` handed a request of V2 on in V1, or the other way, and the
    predictor refused it; empty: this fault is another one."""
    told, config = answer_of(fault), getattr(model, "predictor_config", None)
    if told is None or told.status != HTTPStatus.BAD_REQUEST or config is None:
        return ""
    came = "v1" if isinstance(payload, dict) else "v2" if hasattr(payload, "to_rest") else ""
    asked = str(config.protocol)
    if came in ("", asked.removeprefix("grpc-")):
        return ""
    return (
        f"{told.value['error']}; the predictor is asked in {asked}, and what it was sent is {came}'s: ask in "
        f"{asked}, let preprocess make one of the other, or start the transformer with "
        f"--predictor_protocol={came}"
    )


def passed_on(headers: Mapping[Any, Any]) -> dict[str, str]:
    """Of the headers that a class gives back those for its caller: KServe's own `predict` gives back all that
    the predictor's answer had.

    Example:
        >>> passed_on({"My-Header": "a", "Content-Length": 7, "x-envoy-upstream-service-time": "3"})
        {'my-header': 'a'}
        >>> passed_on({"split": "a\\r\\nset-cookie: b", "no name": "c"})
        {'split': 'a set-cookie: b'}
    """
    given = {str(name).lower(): " ".join(str(value).split()) for name, value in headers.items()}
    if "inference-header-content-length" in given:
        given.pop("content-type", None)  # of tensors' bytes, which this answer may not have
    return {
        name: value
        for name, value in given.items()
        if _NAME.fullmatch(name)
        and name not in _OF_ONE_MESSAGE
        and not name.startswith(("x-envoy-", "x-modelyard-"))
    }


def address_in_grpc() -> None:
    """Let KServe's gRPC client find a predictor whose address has a path: gRPC has none to give, so the
    authority says it."""
    from kserve.utils import inference_client_factory as factory

    theirs = factory.InferenceGRPCClient

    def made(url: str, **options: Any) -> Any:
        host, _, path = url.partition("/")
        if path and options.get("channel_args") is None:
            unlimited = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
            options["channel_args"] = [*unlimited, ("grpc.default_authority", authority_of(path))]
        return theirs(host, **options)

    factory.InferenceGRPCClient = made


def _is_of(fault: Exception, module: str, name: str) -> bool:
    """Whether it is one of a library that somebody imported; it is not imported for that."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(fault, kind)


def _sentence(said: Any) -> str:
    try:
        value = said.json()
    except ValueError:
        value = None
    error = (value.get("error") or value.get("detail")) if isinstance(value, dict) else None
    return f"the predictor: {error or said.reason_phrase}"
