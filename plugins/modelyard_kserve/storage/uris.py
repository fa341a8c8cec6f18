"""Addresses of models: what kind of place they name, and how they are shown without their secrets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

#: The schemes that mean something here, with an example of each; a path without a scheme is a folder.
SCHEMES = {
    "models": "models:/NAME/VERSION",
    "runs": "runs:/RUN_ID/PATH",
    "dvc": "dvc://PATH?rev=REV",
    "file": "file:///FOLDER",
    "pvc": "pvc://CLAIM/PATH",
    "s3": "s3://BUCKET/PATH",
    "gs": "gs://BUCKET/PATH",
    "https": "https://HOST/PATH",
    "http": "http://HOST/PATH",
    "hf": "hf://ORG/MODEL:REVISION",
    "oci": "oci://REGISTRY/IMAGE:TAG",
    "hdfs": "hdfs://PATH",
    "webhdfs": "webhdfs://PATH",
    "modelscope": "modelscope://ORG/MODEL",
}
#: Those that only a project's own tools understand: no cluster fetches them.
OURS = ("runs", "dvc")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
#: Ways to put an image's files into a pod; here they are fetched, whatever the way.
_IMAGE = re.compile(r"oci\+(fetch|native)://")
#: Types of `storage`: in buckets, and others.
_IN_BUCKETS = ("s3", "gs")
TYPES = (*_IN_BUCKETS, "hdfs", "webhdfs")
_AZURE = re.compile(r"https://[^/?]+\.(blob|file)\.(core\.windows\.net|storage\.azure\.net)/")
_GIT = re.compile(r"https://[^?]+\.git")
#: Parameters whose values are no secrets, and that say what is meant.
_SHOWN = re.compile(r"(?i)(rev|ref|version|versionid|download|raw)=[^&]*")
#: Secrets in texts of others: what stands before an @, and what signs a request.
_IN_TEXT = (
    (re.compile(r"(?<=://)[^\s/@'\"]+@"), ""),
    (
        re.compile(r"(?i)\b(sig|signature|x-amz-[a-z-]+|token|password|key)=[^\s&'\"]+"),
        r"\1=...",
    ),
)


def scheme_of(uri: str) -> str:
    """The scheme in small letters; empty for a path.

    Example:
        >>> scheme_of("S3://models/late"), scheme_of("models/late"), scheme_of("models:/late/1")
        ('s3', '', 'models')
    """
    found = _SCHEME.match(uri)
    return found[1].lower() if found else ""


def is_azure(uri: str) -> bool:
    """Whether the address is one of Azure's blobs or file shares."""
    return bool(_AZURE.match(uri))


def is_git(uri: str) -> bool:
    """Whether the address is a git repository, as KServe tells them from files."""
    return bool(_GIT.fullmatch(uri))


def plain(uri: str) -> str:
    """The address without what says how a pod gets the files.

    Example:
        >>> plain("oci+native://registry/late:1"), plain("s3://models/late")
        ('oci://registry/late:1', 's3://models/late')
    """
    return _IMAGE.sub("oci://", uri, count=1) if _IMAGE.match(uri) else uri


def asked_for(model: Mapping[str, Any]) -> str | None:
    """The address in `spec.predictor.model`: `storageUri`, or what `storage` says without a cluster's secret.

    A secret may say the type; where a bucket is named, KServe knows none but S3.

    Example:
        >>> asked_for({"storage": {"key": "minio", "path": "late", "parameters": {"bucket": "models"}}})
        's3://models/late'
        >>> asked_for({"storage": {"path": "/late", "parameters": {"type": "hdfs"}}})
        'hdfs://late'
        >>> asked_for({"storage": {"key": "minio", "path": "late"}}) is None
        True
    """
    if model.get("storageUri"):
        return plain(str(model["storageUri"]))
    storage = model.get("storage") or {}
    said, path = storage.get("parameters") or {}, (storage.get("path") or "").lstrip("/")
    kind = said.get("type") or ("s3" if said.get("bucket") else "")
    if path and kind in _IN_BUCKETS and said.get("bucket"):
        return f"{kind}://{said['bucket']}/{path}"
    return f"{kind}://{path}" if path and kind in TYPES[len(_IN_BUCKETS) :] else None


def shown(uri: str) -> str:
    """The address for people, logs and state files: without login and signature.

    Example:
        >>> shown("https://ann:secret@host/late.zip?sig=abc")
        'https://host/late.zip?...'
        >>> shown("dvc://models/late?rev=v1"), shown("models:/late@production")
        ('dvc://models/late?rev=v1', 'models:/late@production')
    """
    if "://" not in uri:
        return uri
    head, mark, query = _bare(uri).partition("?")
    query = query.partition("#")[0]
    if not mark or all(_SHOWN.fullmatch(part) for part in query.split("&")):
        return head + mark + query
    return f"{head}?..."


def hidden(text: str, uri: str) -> str:
    """A text of somebody else's on one line, without the secrets of the address."""
    for secret in sorted(_secrets(uri), key=len, reverse=True):
        text = text.replace(secret, "...")
    for pattern, instead in _IN_TEXT:
        text = pattern.sub(instead, text)
    return " ".join(text.split())[:300]


def has_secret(uri: str) -> bool:
    """Whether the address holds a login or a signature.

    Example:
        >>> has_secret("https://ann:secret@host/late.zip"), has_secret("https://host/late.zip?download=1")
        (True, False)
    """
    return shown(uri) != uri.partition("#")[0]


def key_of(uri: str) -> str:
    """Names what was fetched from the address; a login is no part of it."""
    return hashlib.sha256(_bare(uri).encode()).hexdigest()[:32]


def _bare(uri: str) -> str:
    """Without the login; in other schemes than the web's an @ is part of the name."""
    if scheme_of(uri) not in ("http", "https", "s3", "gs"):
        return uri
    head, slashes, rest = uri.partition("://")
    place, slash, path = rest.partition("/")
    return head + slashes + place.rpartition("@")[2] + slash + path


def _secrets(uri: str) -> set[str]:
    parts = urlsplit(uri)
    if parts.scheme.lower() not in ("http", "https", "s3", "gs"):
        return set()
    login, at, _ = parts.netloc.rpartition("@")
    found = {login, login.partition(":")[2]} if at else set()
    if has_secret(urlunsplit(("https", "host", "", parts.query, ""))):
        found |= {parts.query, *(part.partition("=")[2] for part in parts.query.split("&"))}
    return {secret for secret in found if len(secret) > 2}
