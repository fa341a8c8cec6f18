"""What KServe's own library fetches: from Google, Hugging Face, OCI registries, and rarer places."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import getproxies

from modelyard.digests import digest_of
from modelyard.errors import ConfigError
from modelyard_kserve.storage import archives
from modelyard_kserve.storage.orders import Fetched, Order, Tell
from modelyard_kserve.storage.uris import scheme_of

#: Seconds to wait for somebody to answer.
_PATIENCE = 20.0
_LOOPBACK = ("localhost", "127.0.0.1")


def fetch(order: Order, tell: Tell) -> Fetched:  # noqa: ARG001 - the library does not say how far it is
    """Fetch it as KServe's storage initializer does, unless the place says that nothing changed."""
    from kserve_storage import Storage  # type: ignore[import-not-found,import-untyped,unused-ignore]

    _take_docker_login()
    version, uri = _now(order.uri)
    if version is not None and version == order.known:
        return Fetched(version, same=True)
    # Archives are unpacked by us: the library's way has no limit.
    Storage._unpack_archive_file = staticmethod(_left_packed)
    Storage.download(uri, str(order.folder))
    archives.flatten(order.folder)
    return Fetched(version)


def _left_packed(_: str, __: str, folder: str | None = None) -> str | None:
    return folder


def _now(uri: str) -> tuple[str | None, str]:
    """What the place calls what is there now (None: it does not say), and the address of just that."""
    asked: dict[str, Callable[[str], tuple[str, str]]] = {"gs": _google, "hf": _hugging_face, "oci": _oci}
    if scheme_of(uri) in asked:
        return asked[scheme_of(uri)](uri)
    return None, uri


def _google(uri: str) -> tuple[str, str]:
    from google.auth.exceptions import DefaultCredentialsError  # type: ignore[import-untyped,unused-ignore]
    from google.cloud import storage  # type: ignore[import-untyped,attr-defined,unused-ignore]
    from google.cloud.storage.retry import DEFAULT_RETRY  # type: ignore[import-untyped,unused-ignore]

    try:
        client = storage.Client()
    except DefaultCredentialsError:
        client = storage.Client.create_anonymous_client()
    bucket, _, path = uri.partition("://")[2].partition("/")
    found = client.bucket(bucket).list_blobs(prefix=path, retry=DEFAULT_RETRY.with_timeout(_PATIENCE))
    return digest_of(sorted([blob.name, str(blob.generation)] for blob in found)), uri


def _hugging_face(uri: str) -> tuple[str, str]:
    from huggingface_hub import HfApi  # type: ignore[import-not-found,unused-ignore]

    repo, _, revision = uri.partition("://")[2].partition(":")
    if not re.fullmatch(r"[^/]+/[^/]+", repo):
        raise ConfigError(
            "storage-unknown", f"{uri} is not hf://ORG/MODEL or hf://ORG/MODEL:REVISION", "correct storageUri"
        )
    commit = str(HfApi().model_info(repo, revision=revision or None).sha)
    return commit, f"hf://{repo}:{commit}"


def _oci(uri: str) -> tuple[str, str]:
    import oras.client  # type: ignore[import-untyped,unused-ignore]
    from kserve_storage import kserve_storage as theirs

    target = uri.partition("://")[2]
    host = target.partition("/")[0]
    if host.partition(":")[0] in _LOOPBACK:  # as with docker
        os.environ.setdefault("KSERVE_OCI_INSECURE_REGISTRY", "true")
    _require_answer(host)
    insecure = os.environ.get("KSERVE_OCI_INSECURE_REGISTRY", "").lower() in ("1", "true", "yes")
    client = oras.client.OrasClient(insecure=insecure)
    if login := os.environ.get("KSERVE_OCI_DOCKER_CONFIG"):
        theirs._login_from_docker_config(client, target, login)
    manifest: Any = client.get_manifest(target)
    return digest_of(manifest), uri


def _require_answer(host: str) -> None:
    """See that somebody listens: the library would ask for minutes. Behind a proxy only that one knows."""
    name, _, port = host.partition(":")
    if not getproxies():
        socket.create_connection((name, int(port or 443)), timeout=_PATIENCE).close()


def _take_docker_login() -> None:
    """The user's own, where `docker login` puts it; on a cluster KServe names another place."""
    folder = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
    file = Path(folder) / "config.json"
    if file.is_file():
        os.environ.setdefault("KSERVE_OCI_DOCKER_CONFIG", str(file))
