"""A registry of container images, over HTTP: manifests, blobs, tokens, and what it means when it refuses.

Images are fetched on this machine and streamed into the node, past the Docker engine: nothing is stored
twice, progress is exact, a broken download goes on where it stopped, digests stay what the registry says,
and the proxy, the certificates and the mirrors are those of the shell that `modelyard` runs in. Logins are
those of the `docker` command.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any

from modelyard.errors import UsageError
from modelyard_sandbox.errors import ImageFault
from modelyard_sandbox.oci import INDEXES, LARGEST_DOCUMENT, MANIFESTS

#: Seconds in which some bytes must come.
_TIMEOUT = 60
#: Seconds before a second try.
_PAUSE = 1.0
#: What people call Docker's registry.
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_CHALLENGE = re.compile(r'([a-z]+)="([^"]*)"')
_MIRROR = re.compile(r"([A-Za-z0-9.-]+(?::[0-9]+)?)=((?:https?://)?[A-Za-z0-9.-]+(?::[0-9]+)?(?:/[\w./-]*)?)")


class Unreachable(ImageFault):
    """The network or the registry does not work right now; what it was asked for may be had later."""


@dataclass(frozen=True, kw_only=True)
class Registries:
    """How registries are reached.

    Attributes:
        mirrors: registry -> host (with or without `https://`, with a path or none) that is asked instead.
        ca: a PEM file of further authorities to trust, or None.
    """

    mirrors: Mapping[str, str] = field(default_factory=dict)
    ca: Path | None = None

    @classmethod
    def of(cls, mirrors: Iterable[str], ca: Path | None) -> Registries:
        """By what was written on the command line: `HOST=OTHER`, and a PEM file.

        Raises:
            UsageError: `mirror-invalid`.
        """
        found: dict[str, str] = {}
        for text in mirrors:
            parts = _MIRROR.fullmatch(text)
            if parts is None:
                raise UsageError(
                    "mirror-invalid",
                    f"'{text}' does not say which host is asked instead of which",
                    "e.g. --mirror docker.io=mirror.example.org/hub",
                )
            found["docker.io" if parts[1] in _HUB else parts[1]] = parts[2]
        return cls(mirrors=found, ca=ca)

    @cached_property
    def opener(self) -> urllib.request.OpenerDirector:
        """Opens addresses; it takes the proxies of the environment.

        Raises:
            ImageFault: `ca-invalid`.
        """
        context = ssl.create_default_context()
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except (OSError, ssl.SSLError) as fault:
                raise ImageFault(
                    "ca-invalid", f"{self.ca} holds no certificates: {fault}", "--ca-cert takes a PEM file"
                ) from None
        return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))

    def repository(self, reference: str) -> Repository:
        """The repository that an image belongs to; `reference` has a tag."""
        host, _, rest = reference.partition("/")
        return Repository(self, self.mirrors.get(host, host), rest.rpartition(":")[0])


class Repository:
    """A repository of a registry.

    Args:
        registries: how it is reached.
        host: the registry's, or what is asked instead of it, e.g. `docker.io`.
        name: e.g. `library/postgres`.
    """

    def __init__(self, registries: Registries, host: str, name: str) -> None:
        self._registries, self.name = registries, name
        #: As the `docker` command names it. A mirror gets the login for the mirror, never another one.
        self.host = host.rpartition("://")[2].partition("/")[0]
        self._base = _address(host, name)
        self._authorization = ""

    def manifest(self, tag: str) -> tuple[bytes, str]:
        """A manifest or index, by tag or digest, and its media type.

        Raises:
            ImageFault: `image-not-found`, `image-denied`, `rate-limited`, `untrusted-certificate`,
                `registry-unreachable`.
        """
        return self._whole(f"manifests/{tag}", {"Accept": ", ".join((*MANIFESTS, *INDEXES))})

    def config(self, digest: str) -> bytes:
        """A configuration.

        Raises:
            ImageFault: as `manifest`.
        """
        return self._whole(f"blobs/{digest}", {})[0]

    def blob(self, digest: str, start: int) -> tuple[Any, int]:
        """The open answer for a blob, which the caller closes, and the place in the blob where it begins: a
        registry may begin anew instead of at `start`.

        Raises:
            ImageFault: as `manifest`.
        """
        answer = self._get(f"blobs/{digest}", {"Range": f"bytes={start}-"} if start else {})
        return answer, start if answer.status == 206 else 0

    def read(self, answer: Any, count: int) -> bytes:
        """What has come of an answer, at most so many bytes; nothing at its end.

        Raises:
            Unreachable: `registry-unreachable`.
        """
        with self._broken():
            content: bytes = answer.read1(count)
            return content

    # -- asking -----------------------------------------------------------------------------

    def _whole(self, path: str, headers: Mapping[str, str]) -> tuple[bytes, str]:
        try:
            return self._once(path, headers)
        except Unreachable:
            time.sleep(_PAUSE)
            return self._once(path, headers)

    def _once(self, path: str, headers: Mapping[str, str]) -> tuple[bytes, str]:
        with self._get(path, headers) as answer:
            with self._broken():
                content = answer.read(LARGEST_DOCUMENT)
            if answer.length and len(content) < LARGEST_DOCUMENT:
                raise unreachable(self.host, ConnectionError("the answer ended early"))
            return content, answer.headers.get("Content-Type", "").partition(";")[0].strip()

    def _get(self, path: str, headers: Mapping[str, str]) -> Any:
        logged_in = False
        while True:
            try:
                return self._open(path, headers)
            except urllib.error.HTTPError as fault:
                with fault:
                    if fault.code == 416 and "Range" in headers:  # it does not go on, it only begins
                        return self._get(path, {})
                    challenge = fault.headers.get("WWW-Authenticate", "")
                    if fault.code != 401 or logged_in or not self._log_in(challenge):
                        raise self._refused(fault, path) from None
                logged_in = True

    def _open(self, path: str, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(f"{self._base}/{path}", headers=dict(headers))
        if self._authorization:
            # Blobs are often elsewhere, and a store refuses a request that is authorised twice.
            request.add_unredirected_header("Authorization", self._authorization)
        return self._ask(request)

    def _ask(self, request: urllib.request.Request) -> Any:
        try:
            return self._registries.opener.open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError:
            raise
        except (OSError, HTTPException, ValueError) as fault:  # the last: no host can be called so
            raise unreachable(urllib.parse.urlsplit(request.full_url).netloc, fault) from None

    def _log_in(self, challenge: str) -> bool:
        """Answer a registry's challenge; False if there is nothing to answer."""
        kind, _, rest = challenge.partition(" ")
        asked = dict(_CHALLENGE.findall(rest))
        login = _login(self.host)
        if kind.lower() == "basic" and login:
            self._authorization = f"Basic {login}"
            return True
        if kind.lower() != "bearer" or not asked.get("realm", "").startswith(("http://", "https://")):
            return False
        query = {"service": asked.get("service", ""), "scope": f"repository:{self.name}:pull"}
        mark = "&" if "?" in asked["realm"] else "?"
        request = urllib.request.Request(f"{asked['realm']}{mark}{urllib.parse.urlencode(query)}")
        if login:
            request.add_unredirected_header("Authorization", f"Basic {login}")
        try:
            with self._ask(request) as answer, self._broken():
                found = json.loads(answer.read(LARGEST_DOCUMENT))
            token = found.get("token") or found["access_token"]
        except urllib.error.HTTPError as fault:
            with fault:
                raise self._refused(fault, "a token") from None
        except (ValueError, KeyError, AttributeError):
            raise unreachable(self.host, ConnectionError("it answers with no token")) from None
        self._authorization = f"Bearer {token}"
        return True

    @contextlib.contextmanager
    def _broken(self) -> Iterator[None]:
        try:
            yield
        except (OSError, HTTPException) as fault:
            raise unreachable(self.host, fault) from None

    def _refused(self, fault: urllib.error.HTTPError, path: str) -> ImageFault:
        try:
            said = " ".join(fault.read(2000).decode(errors="replace").split())[:150]
        except (OSError, HTTPException):
            said = ""
        what = f"{self.host}/{self.name} ({path.rpartition('/')[2]})"
        if fault.code == 404:
            return ImageFault("image-not-found", f"there is no {what}", "check the image's name")
        if fault.code == 429:
            return ImageFault(
                "rate-limited",
                f"{self.host} gives no more images to this address for now (429)",
                f"docker login {self.host}, or --mirror {self.host}=HOST, or a bundle: --bundle FILE",
            )
        if fault.code in (401, 403):
            return ImageFault(
                "image-denied",
                f"there is no {what}, or it may not be read with your login ({fault.code})",
                f"docker login {self.host}",
            )
        return Unreachable(
            "registry-unreachable",
            f"the answer for {what} is {fault.code}: {said or fault.reason}",
            "run this again later: what was fetched is kept",
        )


def unreachable(host: str, fault: Exception) -> ImageFault:
    """What to say of a registry that does not answer."""
    reason = getattr(fault, "reason", fault)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ImageFault(
            "untrusted-certificate",
            f"this machine does not trust the certificate of {host}: {reason.verify_message}",
            "behind a proxy that opens TLS give its certificate: --ca-cert FILE",
        )
    proxies = urllib.request.getproxies()
    through = proxies.get("https") and not urllib.request.proxy_bypass(host.partition(":")[0])
    return Unreachable(
        "registry-unreachable",
        f"{host} can't be reached{' through the proxy' if through else ''}: {reason or type(fault).__name__}",
        "check the network and HTTPS_PROXY, or use a bundle: modelyard sandbox up --bundle FILE",
    )


def _address(host: str, name: str) -> str:
    if host in _HUB:
        host = "registry-1.docker.io"
    scheme, slashes, rest = host.rpartition("://")
    if not slashes:
        scheme = "http" if rest.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    bare, _, prefix = rest.rstrip("/").partition("/")
    return f"{scheme}://{bare}/v2/{prefix + '/' if prefix else ''}{name}"


def _login(host: str) -> str:
    """User and password of the `docker` command for a registry, as HTTP's Basic takes them; or empty."""
    import docker.auth
    import docker.errors

    try:
        known = docker.auth.load_config().resolve_authconfig(host) or {}
    except (docker.errors.DockerException, OSError):
        return ""
    user = known.get("username") or known.get("Username")
    password = known.get("password") or known.get("Password")
    return base64.b64encode(f"{user}:{password}".encode()).decode() if user and password else ""
