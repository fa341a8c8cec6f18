"""gRPC in Envoy's configuration: callers speak HTTP/2, model servers get HTTP/1.1 with gRPC's messages as
they are, on the same socket and by the same routes as everything else, a revision that sleeps as well.

The paths of gRPC are fixed, so nothing in them says which endpoint is asked: its host name does
(`:authority`), or the header `x-modelyard-endpoint`; and where there is just one, nothing need be said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelyard_kserve.local.grpc_status import CONTENT_TYPE, SERVICE

#: NAME, or NAMESPACE/NAME.
HEADER = "x-modelyard-endpoint"
#: Envoy's flag -> DEADLINE_EXCEEDED. Clients ask again what was UNAVAILABLE, and a model that was too slow
#: would be asked twice. Where there is no route (NR) is another service, which Envoy says is UNIMPLEMENTED.
_CODES = {"UT": "4"}
_NOT_FOUND = "5"
_BRIDGE = "type.googleapis.com/envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig"


def bridge() -> dict[str, Any]:
    """The filter that adds to an answer the status with which gRPC ends it, and touches nothing else."""
    return {
        "name": "envoy.filters.http.grpc_http1_reverse_bridge",
        "typed_config": {"@type": _BRIDGE, "content_type": CONTENT_TYPE},
    }


def sentences(mappers: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What Envoy says instead of its own words, for gRPC as a bare sentence, without JSON around it."""
    known = list(mappers)
    asked_in_grpc = {
        "header_filter": {
            "header": {"name": "content-type", "string_match": {"prefix": CONTENT_TYPE}},
        }
    }
    bare = {"body_format_override": {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}}}
    in_grpc = [
        {**one, **bare, **_code(one), "filter": {"and_filter": {"filters": [asked_in_grpc, one["filter"]]}}}
        for one in known
    ]
    return [*in_grpc, {**bare, "filter": asked_in_grpc}, *known]


def _code(mapper: Mapping[str, Any]) -> dict[str, Any]:
    """A code that says more than the one which Envoy makes of a status of HTTP."""
    flags = mapper["filter"].get("response_flag_filter", {}).get("flags", [""])
    return {"headers_to_add": [_status(_CODES[flags[0]])]} if flags[0] in _CODES else {}


def _status(code: str) -> dict[str, Any]:
    return {
        "header": {"key": "grpc-status", "value": code},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def routes(endpoints: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The routes of gRPC for callers that name no endpoint's host.

    Args:
        endpoints: namespace and name -> the routes of everything below `SERVICE`, in their order: who has
            the endpoint's token, and who has not.
    """
    found = []
    for (namespace, name), made in endpoints.items():
        alone = sum(other == name for _, other in endpoints) == 1
        names = [f"{namespace}/{name}", *([name] if alone else [])]
        found += [_route(route, [_says(said)]) for said in names for route in made]
    nothing_said = [{"name": HEADER, "present_match": True, "invert_match": True}]
    if len(endpoints) == 1:
        found += [_route(route, nothing_said) for made in endpoints.values() for route in made]
    return [*found, _nobody()]


def _route(route: Mapping[str, Any], headers: list[dict[str, Any]]) -> dict[str, Any]:
    known = route["match"].get("headers", ())
    made = {**route, "match": {"prefix": SERVICE, "headers": [*headers, *known]}}
    if "route" in route:
        made["route"] = {key: value for key, value in route["route"].items() if key != "prefix_rewrite"}
    return made


def _says(name: str) -> dict[str, Any]:
    return {"name": HEADER, "string_match": {"exact": name}}


def _nobody() -> dict[str, Any]:
    sentence = (
        f"say which endpoint is asked: by its host name as :authority, or by its name as the header {HEADER}"
    )
    return {
        "match": {"prefix": SERVICE},
        "direct_response": {"status": 404, "body": {"inline_string": sentence}},
        "response_headers_to_add": [_status(_NOT_FOUND)],
    }
