"""The sandbox as its components see it: images, files of others, secrets, certificates, ports, data."""

from __future__ import annotations

import copy
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from modelyard.components import Component, Manifest, Mode, Release
from modelyard.errors import EnvironmentFault
from modelyard.kube import Cluster
from modelyard_sandbox import certificates, releases
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.node import NODE_DATA


class SandboxSite:
    """See `modelyard.components.Site`.

    Args:
        folder: the sandbox's folder.
        components: everything that the sandbox holds.
        image: upstream reference -> the image that stands for it here.
        fetch: gets the content of a release.
    """

    def __init__(
        self,
        folder: SandboxFolder,
        components: Iterable[Component],
        image: Callable[[str], str],
        fetch: Callable[[Release], bytes],
    ) -> None:
        self._folder, self._image, self._fetch = folder, image, fetch
        self._chosen = tuple(components)
        self._releases = {r.name: r for c in self._chosen for r in c.releases}

    @property
    def name(self) -> str:
        """See `Site.name`."""
        return self._folder.name

    @property
    def components(self) -> frozenset[str]:
        """See `Site.components`."""
        return frozenset(c.name for c in self._chosen)

    @property
    def mode(self) -> Mode:
        """See `Site.mode`."""
        return "Knative" if "knative" in self.components else "Standard"

    def image(self, reference: str) -> str:
        """See `Site.image`."""
        return self._image(reference)

    def release(self, name: str) -> list[Manifest]:
        """See `Site.release`."""
        found = self._releases[name]
        return copy.deepcopy(releases.documents(found, self._fetch(found)))

    def secret(self, name: str) -> str:
        """See `Site.secret`."""
        return self._folder.secret(name)

    def authority(self) -> str:
        """See `Site.authority`."""
        return self._authority[0]

    def certificate(self, service: str, namespace: str) -> tuple[str, str]:
        """See `Site.certificate`."""
        names = [f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local"]
        authority, key = self._authority
        both = self._folder.keep_secret(
            f"certificate-{service}.{namespace}",
            lambda: "".join(certificates.make_certificate(authority, key, names)),
            is_good=lambda pem: certificates.is_current(pem) and certificates.is_issued_by(pem, authority),
        )
        return _split(both)

    def port(self, name: str) -> int:
        """See `Site.port`."""
        return int(self._folder.state()["ports"][name])

    def data(self, component: str) -> str:
        """See `Site.data`."""
        return f"{NODE_DATA}/{component}"

    @cached_property
    def _authority(self) -> tuple[str, str]:
        made = self._folder.keep_secret(
            "authority",
            lambda: "".join(certificates.make_authority(f"Modelyard sandbox {self.name}")),
            is_good=certificates.is_current,
        )
        return _split(made)


class SandboxVisit:
    """See `modelyard.components.Visit`."""

    def __init__(self, cluster: Cluster, site: SandboxSite) -> None:
        self.cluster, self.site = cluster, site

    def get(self, port: str, path: str, *, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """See `Visit.get`."""
        url = f"http://127.0.0.1:{self.site.port(port)}{path}"
        request = urllib.request.Request(url, headers=dict(headers or {}))
        # A proxy for the world outside has no business between us and our own machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=5) as answer:
                return int(answer.status), bytes(answer.read())
        except urllib.error.HTTPError as fault:
            return fault.code, fault.read()
        except OSError:
            return 0, b""


def remembered_site(folder: SandboxFolder, everything: Mapping[str, Component]) -> SandboxSite:
    """A sandbox that was made before, for those who ask it and apply nothing."""
    names = folder.state().get("components") or ()

    def nothing(release: Release) -> bytes:
        raise EnvironmentFault("not-applying", f"{release.name} is read by `modelyard sandbox up` alone")

    chosen = [everything[name] for name in names if name in everything]
    return SandboxSite(folder, chosen, lambda reference: reference, nothing)


def _split(both: str) -> tuple[str, str]:
    """Certificate and key, which are kept as one text."""
    at = both.index("-----BEGIN", 1)
    return both[:at], both[at:]
