"""What a part of the sandbox is: the records that `modelyard_sandbox_components` yields.

A component says which images it runs, which objects it applies and what proves that it works; the
sandbox does the rest (order, images, waiting, pruning, ports, secrets).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from modelyard.kube import Cluster

#: A Kubernetes object as the plain values of its YAML.
Manifest = dict[str, Any]
Profile = Literal["minimal", "full"]
Mode = Literal["Standard", "Knative"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A file of manifests that another project publishes; it is downloaded once and checked.

    Attributes:
        name: file name in the cache, unique, e.g. `kserve-v0.20.0-crds.yaml`.
        url: the pinned address.
        sha256: of the file.
        without: kinds in it that are not read, because another file has them; reading takes seconds.
    """

    name: str
    url: str
    sha256: str
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A NodePort of the component that is reached on 127.0.0.1 of this machine.

    Attributes:
        name: unique in the sandbox, e.g. `mlflow`.
        node_port: the Service's `nodePort`, 30000 to 32767.
        page: path of the page that people open, e.g. `/`; None: it has no pages.
    """

    name: str
    node_port: int
    page: str | None = None


class Site(Protocol):
    """The sandbox as a component sees it while it writes its objects."""

    @property
    def name(self) -> str:
        """The sandbox's name."""

    @property
    def mode(self) -> Mode:
        """How KServe deploys models: `Knative` where Knative is part of the sandbox."""

    @property
    def components(self) -> frozenset[str]:
        """The names of everything that this sandbox holds."""

    def image(self, reference: str) -> str:
        """The image that stands for an upstream reference here (a bundle may hold another)."""

    def release(self, name: str) -> list[Manifest]:
        """The documents of one of the component's releases, fresh, so that they may be changed."""

    def secret(self, name: str) -> str:
        """A random password, made once for this sandbox and remembered; letters and digits."""

    def authority(self) -> str:
        """The PEM certificate of the sandbox's own authority."""

    def certificate(self, service: str, namespace: str) -> tuple[str, str]:
        """PEM certificate and key for a Service, signed by the sandbox's own authority."""

    def port(self, name: str) -> int:
        """The port on 127.0.0.1 that was chosen for one of the component's ports."""

    def data(self, component: str) -> str:
        """A folder on the node for a `hostPath` volume; it survives `down` and every upgrade."""


class Visit(Protocol):
    """What a component may use to find out whether it works."""

    @property
    def cluster(self) -> Cluster:
        """The cluster's API."""

    @property
    def site(self) -> Site:
        """The sandbox."""

    def get(self, port: str, path: str, *, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """GET on one of the component's ports: status and body; status 0: nobody answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A part of the sandbox.

    Attributes:
        name: what `--with` and `--without` take, lower case, e.g. `mlflow`.
        summary: one line for `sandbox status`.
        version: of the program that it runs.
        objects: what is applied; order does not matter (namespaces, definitions, configuration,
            workloads, webhooks and custom resources are applied in this order, each when it can be).
        images: the upstream references that its pods run, `repository:tag`.
        profiles: the profiles that hold it without being asked.
        requires: components that must be ready before it is applied; they come along with it.
        after: components that must be ready before it where the sandbox holds them.
        releases: the files of others that `objects` reads.
        ports: what is reached from this machine.
        probe: when its workloads are available: None if it works, else what it still waits for
            (a webhook, a page); it must not change anything, dry runs aside.
        backup: called before a ready component of another version is replaced; returns the file's path
            on the node.
    """

    name: str
    summary: str
    version: str
    objects: Callable[[Site], Iterable[Manifest]]
    images: tuple[str, ...] = ()
    profiles: tuple[Profile, ...] = ()
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    releases: tuple[Release, ...] = ()
    ports: tuple[Port, ...] = ()
    probe: Callable[[Visit], str | None] = lambda _: None
    backup: Callable[[Visit], str] | None = None
