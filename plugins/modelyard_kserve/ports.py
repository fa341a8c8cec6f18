"""What a file says of a container's ports: on clusters their names are how it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelyard_kserve.commands import named_in
from modelyard_kserve.documents import Place, Said

#: How Knative asks, by a port's name; without one it is `http1`.
_NAMES = ("h2c", "http1")
#: Of what Knative puts beside every container.
_TAKEN = (8008, 8012, 8013, 8022, 9090, 9091)
#: Where this project's model server and KServe's listen: for HTTP, and for gRPC.
_USUAL = {"http_port": "8080", "grpc_port": "8081"}
_H2C = "ports: [{name: h2c, protocol: TCP, containerPort: 8081}]"


def on_clusters(at: Place, container: Mapping[str, Any], mode: str) -> Iterator[Said]:
    """What Knative refuses, in a container or a model.

    Example:
        >>> model = {"ports": [{"name": "grpc", "containerPort": 8081}]}
        >>> [said.message for said in on_clusters(("model",), model, "Knative")]
        ["'grpc' is no name of a port that Knative takes: it refuses the revision"]
    """
    at = (*at, "ports")
    for number, port in enumerate(container.get("ports") or [] if mode == "Knative" else []):
        name, where = port.get("name") or "", port.get("containerPort")
        if number:
            message = "is one port more than Knative takes: it refuses the revision"
            hint = "leave one; on that which is named h2c this project's models answer V1 and V2, too"
            yield Said((*at, number), message, hint=hint)
        elif name and name not in _NAMES:
            message = f"{name!r:.40} is no name of a port that Knative takes: it refuses the revision"
            yield Said((*at, number, "name"), message, hint="h2c for gRPC, http1 or none for HTTP/1.1")
        if where in _TAKEN:
            message = f"{where} is a port of Knative's own: it refuses the revision"
            yield Said((*at, number, "containerPort"), message, hint="take 8081")


def of_model(at: Place, model: Mapping[str, Any], mode: str) -> Iterator[Said]:
    """Whether gRPC reaches a model on a cluster, and the port anything that listens."""
    ports = model.get("ports") or []
    if model.get("protocolVersion") == "grpc-v2" and not _asked_by_grpc(model, mode):
        message = "gRPC does not reach the model: without a port named h2c it is asked in HTTP/1.1"
        yield Said((*at, "protocolVersion"), message, "warning", _H2C)
    if mode == "Knative" or not (model.get("runtime") or "modelyard-").startswith("modelyard-"):
        return  # Knative tells the server which port it is; others have others
    listening = [named_in(model.get("args"), name)[0] or usual for name, usual in _USUAL.items()]
    for number, port in enumerate(ports):
        where = port.get("containerPort")
        if str(where) not in listening:
            message = f"nothing listens on {where} in Standard mode, unless the model's server is told to"
            hint = f'args: ["--grpc_port={where}"]'
            yield Said((*at, "ports", number, "containerPort"), message, "warning", hint)


def _asked_by_grpc(model: Mapping[str, Any], mode: str) -> bool:
    names = [port.get("name") or "" for port in model.get("ports") or []]
    if mode == "Knative":
        return "h2c" in names
    return any("h2c" in name or "grpc" in name for name in names)


def logged(at: Place, component: Mapping[str, Any], model: Mapping[str, Any], mode: str) -> Iterator[Said]:
    """Of what is asked by gRPC KServe's agent makes no JSON."""
    if component.get("logger") and _asked_by_grpc(model, mode):
        message = "logs what is asked by gRPC as its bytes, which the prediction log can't read"
        yield Said((*at, "logger"), message, "warning", "ask with V1 or V2, on the same port")
