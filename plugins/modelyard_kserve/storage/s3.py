"""Models in S3; KServe's library leaves empty files out, and takes what only begins like the address, too."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from modelyard.digests import digest_of
from modelyard.state import os_errors
from modelyard_kserve.storage import faults
from modelyard_kserve.storage.orders import Fetched, Order, Tell, named

_AT_ONCE = 4


def fetch(order: Order, tell: Tell) -> Fetched:
    """Fetch one object, or all below the address."""
    client, bucket, key = _client(), *_parts(order.uri)
    objects = _objects(client, bucket, key, order.uri)
    if not objects:
        raise faults.missing(order.uri)
    version = _version(objects)
    if version == order.known:
        return Fetched(version, same=True)
    total = sum(found["Size"] for found in objects.values())
    order.require_room(total)
    lock, have = threading.Lock(), 0

    def arrived(size: int) -> None:
        nonlocal have
        with lock:
            have += size
            tell(have, total)

    def take(name: str) -> None:
        target = order.folder / name
        with os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, objects[name]["Key"], str(target), Callback=arrived)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(take, objects))
    if _version(_objects(client, bucket, key, order.uri)) != version:
        raise faults.changed(order.uri)
    return Fetched(version)


def _client() -> Any:
    import boto3  # type: ignore[import-untyped,unused-ignore]
    from kserve_storage import Storage  # type: ignore[import-not-found,import-untyped,unused-ignore]

    # The library's own reading of the environment, as on a cluster: endpoint, certificates, addressing.
    return boto3.client("s3", **Storage._get_s3_client_kwargs())


def _parts(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri, allow_fragments=False)
    return parts.netloc, parts.path.strip("/")


def _objects(client: Any, bucket: str, key: str, uri: str) -> dict[str, Any]:
    """The objects by the names that they get here."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
    found = {item["Key"]: item for page in pages for item in page.get("Contents") or ()}
    return {name: found[its_key] for name, its_key in named(found, key, uri).items()}


def _version(objects: dict[str, Any]) -> str:
    return digest_of(sorted([name, item["ETag"], item["Size"]] for name, item in objects.items()))
