"""Services of a cluster reached from this machine: by an address, or by a port-forward of our own."""

from __future__ import annotations

import base64
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from modelyard.config import ServiceTable, TargetTable
from modelyard.errors import ConfigError, EnvironmentFault, NotFoundError
from modelyard.kube.api import Ref
from modelyard.stages import Services, ServiceSpec
from modelyard.targets import Address, ServiceName, Target

#: Where they are on a cluster that was set up as our sandbox is.
_USUAL: dict[str, ServiceTable] = {
    "mlflow": ServiceTable(service="modelyard/mlflow:5000", secret="modelyard/mlflow", storage="s3://mlflow"),
    "s3": ServiceTable(service="modelyard/s3:7070", secret="modelyard/s3", storage="s3://dvc"),
    "monitor": ServiceTable(service="modelyard/monitor:8080", secret="modelyard/monitor"),
    "gateway": ServiceTable(service="kourier-system/kourier:80"),
}
_USERS, _PASSWORDS = ("username", "access-key"), ("password", "secret-key", "token")
_SERVICE = re.compile(r"([a-z0-9-]+)/([a-z0-9.-]+):([0-9]+)")
_PATIENCE = 30.0


@dataclass(frozen=True)
class Place:
    """A Service and one of its ports."""

    namespace: str
    name: str
    port: int


def parse(text: str) -> Place:
    """`NAMESPACE/NAME:PORT`.

    Example:
        >>> parse("modelyard/mlflow:5000")
        Place(namespace='modelyard', name='mlflow', port=5000)

    Raises:
        ConfigError: `target-service-invalid`.
    """
    found = _SERVICE.fullmatch(text)
    if found is None:
        raise ConfigError("target-service-invalid", f"'{text}' is not NAMESPACE/NAME:PORT")
    return Place(found[1], found[2], int(found[3]))


def finder(target: Target, table: TargetTable, services: Services) -> Callable[[ServiceName], Address]:
    """What gives the addresses of a target that `modelyard.toml` describes.

    Args:
        target: the target; its cluster is asked only where something must be looked up.
        table: what the file says.
        services: the target's background processes, which get the port-forwards.
    """

    def find(name: ServiceName) -> Address:
        said = table.services.get(name) or _USUAL[name]
        user, password = _login(target, said)
        inside, url = "", said.url
        if said.service:
            place = parse(said.service)
            inside = f"http://{place.name}.{place.namespace}.svc:{place.port}"
            url = url or forwarded(target, place, services, name)
        if not url:
            raise NotFoundError(
                "target-service-unknown",
                f"the target '{target.name}' says neither url nor service of '{name}'",
                f"write [targets.{target.name}.services.{name}] into modelyard.toml",
            )
        return Address(
            url=url, inside=inside or url, user=user, password=password, storage=said.storage or ""
        )

    return find


def forwarded(target: Target, place: Place, services: Services, name: str) -> str:
    """The address on this machine of a Service, through a port-forward that outlives this command.

    Args:
        target: the target.
        place: the Service.
        services: the target's background processes.
        name: the forward's name among them is `forward-NAME`.

    Raises:
        NotFoundError: `target-service-unknown`: the cluster has no such Service.
        EnvironmentFault: the forward does not come up.
    """
    if target.cluster.get(Ref("v1", "Service", place.namespace, place.name)) is None:
        raise NotFoundError(
            "target-service-unknown",
            f"the target '{target.name}' has no Service {place.name} in {place.namespace}",
            f"say where it is: [targets.{target.name}.services.{name}] in modelyard.toml",
        )
    kubeconfig, context = target.access
    argv = [sys.executable, "-m", "modelyard.kube.forward", "--port", "{port}"]
    argv += ["--service", f"{place.namespace}/{place.name}:{place.port}"]
    argv += ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    argv += ["--context", context] if context else []
    started = services.start(ServiceSpec(name=f"forward-{name}", argv=tuple(argv)))
    _await_listener(started.port or 0, f"forward-{name}")
    return f"http://127.0.0.1:{started.port}"


def _await_listener(port: int, name: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        except OSError as fault:
            if time.monotonic() > deadline:
                raise EnvironmentFault(
                    "forward-failed", f"{name} does not listen: {fault}", f"modelyard logs {name}"
                ) from None
        time.sleep(0.05)


def _login(target: Target, said: ServiceTable) -> tuple[str, str]:
    if said.password_env:
        password = os.environ.get(said.password_env)
        if password is None:
            raise ConfigError(
                "target-password-missing",
                f"the environment has no {said.password_env}, which the target '{target.name}' names",
                f"export {said.password_env}=...",
            )
        return said.user or "", password
    if not said.secret:
        return said.user or "", ""
    namespace, _, name = said.secret.partition("/")
    secret = target.cluster.get(Ref("v1", "Secret", namespace, name))
    if secret is None:
        raise NotFoundError(
            "target-secret-missing",
            f"the target '{target.name}' has no Secret {name} in {namespace}",
            "name another secret, or user and password_env, in modelyard.toml",
        )
    values = {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
    user = next((values[key] for key in _USERS if key in values), "")
    return user, next((values[key] for key in _PASSWORDS if key in values), "")
