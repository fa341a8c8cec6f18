"""What Envoy's configuration, the activator and model servers must know of gRPC: where KServe's service is,
and how something that went wrong is said: a code and a sentence in headers, and no message."""

from __future__ import annotations

from urllib.parse import quote

CONTENT_TYPE = "application/grpc"
#: Where the methods of KServe's service are.
SERVICE = "/inference.GRPCInferenceService/"
#: Codes of gRPC for the statuses that a model server answers with: 3 INVALID_ARGUMENT, 4 DEADLINE_EXCEEDED,
#: 5 NOT_FOUND, 8 RESOURCE_EXHAUSTED, 12 UNIMPLEMENTED, 14 UNAVAILABLE; all others are 13, INTERNAL.
_CODES = {400: 3, 404: 5, 405: 12, 408: 4, 413: 8, 415: 12, 501: 12, 503: 14}
#: What gRPC sends as it is in a message.
_PLAIN = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


def refusal(status: int, sentence: str) -> dict[str, str]:
    """The headers of an answer that is no message.

    Example:
        >>> refusal(400, "row 0: 'wärmer' is not a number")["grpc-message"]
        "row 0: 'w%C3%A4rmer' is not a number"
    """
    return {
        "content-type": CONTENT_TYPE,
        "grpc-status": str(_CODES.get(status, 13)),
        "grpc-message": quote(sentence, safe=_PLAIN),
    }
