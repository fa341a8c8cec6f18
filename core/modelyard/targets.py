"""Targets: where a project's stages run. `local` is this machine; every other one is a cluster.

The stages' protocols are the same everywhere. A provider looks at `StageContext.target`: None means
processes of this machine, anything else says how the cluster and its services are reached from here.
A later stage that trains as Kubernetes Jobs finds the cluster in the same place.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from modelyard.errors import ConfigError, NotFoundError
from modelyard.project import PROJECT_FILE
from modelyard.state import locked, os_errors, read_json, write_bytes, write_json

if TYPE_CHECKING:
    from modelyard.config import Settings
    from modelyard.kube import Cluster
    from modelyard.plugins import PluginManager
    from modelyard.stages import Services

LOCAL = "local"
#: What a target may offer: MLflow's server, S3, the monitor, and the gateway in front of Knative's models.
ServiceName = Literal["mlflow", "s3", "monitor", "gateway"]
_CHOICE = "target.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """How a service of a target is reached.

    Attributes:
        url: from this machine, without a login, e.g. `http://127.0.0.1:30500`.
        inside: from pods, e.g. `http://s3.modelyard.svc:7070`.
        user, password: the login; for S3 access key and secret key, for the monitor a token as password.
        storage: where the service keeps files, as pods read them, e.g. `s3://mlflow`; empty: nowhere.
    """

    url: str
    inside: str = ""
    user: str = ""
    password: str = ""
    storage: str = ""

    @property
    def url_with_login(self) -> str:
        """For clients that take a login from the address alone; never to be shown.

        Example:
            >>> Address(url="http://mlflow:5000", user="me", password="a/b").url_with_login
            'http://me:a%2Fb@mlflow:5000'
        """
        if not self.password:
            return self.url
        parts = urlsplit(self.url)
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return parts._replace(netloc=f"{login}@{parts.netloc}").geturl()


class Target:
    """A cluster with the services that a project uses there.

    Args:
        name: as the project calls it.
        namespace: where its InferenceServices go that name no other.
        kubeconfig: the file; None: `$KUBECONFIG` or `~/.kube/config`.
        context: one of its contexts; None: the current one.
        find: gives the address of a service, starting what is needed to reach it.
    """

    def __init__(
        self,
        name: str,
        *,
        namespace: str = "default",
        kubeconfig: Path | None = None,
        context: str | None = None,
        find: Callable[[ServiceName], Address],
    ) -> None:
        self.name, self.namespace = name, namespace
        self._kubeconfig, self._context, self._find = kubeconfig, context, find
        self._found: dict[ServiceName, Address] = {}

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster's API.

        Raises:
            ConfigError: `kubeconfig-invalid`.
        """
        from modelyard.kube import Cluster

        return Cluster(self._kubeconfig, self._context)

    def address(self, service: ServiceName) -> Address:
        """How a service is reached.

        Raises:
            NotFoundError: `target-service-unknown`: the target has none.
            EnvironmentFault: it can't be reached.
        """
        if service not in self._found:
            self._found[service] = self._find(service)
        return self._found[service]

    @property
    def access(self) -> tuple[Path | None, str | None]:
        """Kubeconfig and context, for background processes of ours."""
        return self._kubeconfig, self._context


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOffer:
    """A target that is there without being named in `modelyard.toml`.

    Attributes:
        name: e.g. `sandbox`.
        summary: one line for `modelyard target list`.
        connect: gives the target; it may raise what keeps it from being used.
    """

    name: str
    summary: str
    connect: Callable[[], Target]


# -- which one --------------------------------------------------------------------------------


def chosen(root: Path, asked: str | None = None) -> str:
    """The name of the target to use: asked for, `MODELYARD_TARGET`, `modelyard target use`, then
    `target` in `modelyard.toml`; else `local`.

    Args:
        root: the project's folder.
        asked: by a flag or argument.
    """
    if asked or (asked := os.environ.get("MODELYARD_TARGET")):
        return asked
    choice = read_json(root / ".modelyard" / _CHOICE)
    if isinstance(choice, dict) and isinstance(choice.get("use"), str):
        return str(choice["use"])
    from modelyard.toml import read_toml

    named = read_toml(root / PROJECT_FILE).get("target", LOCAL)
    return named if isinstance(named, str) else LOCAL


def use(root: Path, name: str | None) -> None:
    """Remember on this machine which target commands take; None: what `modelyard.toml` says."""
    file = root / ".modelyard" / _CHOICE
    if name is None:
        file.unlink(missing_ok=True)
    else:
        write_json(file, {"use": name})


def add_table(root: Path, table: str) -> None:
    """Append a table to `modelyard.toml`; the rest of the file stays as it is."""
    file = root / PROJECT_FILE
    with locked(root / ".modelyard" / "init.lock", doing="writing modelyard.toml"), os_errors(file):
        before = file.read_text(encoding="utf-8")
        write_bytes(file, f"{before.rstrip()}\n\n{table}\n".encode())


def state_of(state: Path, name: str) -> Path:
    """Where everything of a target is kept: ledger, processes, what providers remember."""
    return state if name == LOCAL else state / "targets" / name


def names(settings: Settings, plugins: PluginManager) -> dict[str, str]:
    """Every target that there is, with a line about it."""
    found = {LOCAL: "processes on this machine"}
    found |= {o.offer.name: o.offer.summary for o in plugins.offers("modelyard_targets")}
    for name, table in settings.targets.items():
        found[name] = f"context {table.context or '(current)'}, namespace {table.namespace}"
    return found


def connect(name: str, settings: Settings, plugins: PluginManager, services: Services) -> Target:
    """The target of that name.

    Args:
        name: not `local`.
        settings: a table of that name wins over a plugin's offer.
        plugins: may offer it.
        services: the target's own background processes.

    Raises:
        NotFoundError: `target-unknown`, with those that there are.
    """
    if name in settings.targets:
        from modelyard.kube.services import finder

        table = settings.targets[name]
        target = Target(
            name,
            namespace=table.namespace,
            kubeconfig=Path(table.kubeconfig).expanduser() if table.kubeconfig else None,
            context=table.context,
            find=lambda service: find(service),
        )
        find = finder(target, table, services)
        return target
    for offered in plugins.offers("modelyard_targets"):
        if offered.offer.name == name:
            found: Any = offered.offer.connect()
            if not isinstance(found, Target):
                raise ConfigError(
                    "target-wrong-type",
                    f"the target '{name}' of {offered.source} is a {type(found).__name__}, not a Target",
                )
            return found
    raise NotFoundError(
        "target-unknown",
        f"there is no target '{name}'; there are: {', '.join(names(settings, plugins))}",
        "modelyard sandbox up makes 'sandbox'; modelyard target add names another cluster",
    )
