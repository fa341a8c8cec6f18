"""Models in Azure's blob storage; KServe's library leaves empty files out, and takes neighbours along."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelyard.digests import digest_of
from modelyard_kserve.storage import faults
from modelyard_kserve.storage.orders import Fetched, Order, Tell, named


def fetch(order: Order, tell: Tell) -> Fetched:
    """Fetch one blob, or all below the address."""
    client, key = _container(order.uri)
    blobs = {blob.name: blob for blob in client.list_blobs(name_starts_with=key)}
    chosen = named(blobs, key, order.uri)
    if not chosen:
        raise faults.missing(order.uri)
    version = digest_of(sorted([name, str(blobs[its].etag)] for name, its in chosen.items()))
    if version == order.known:
        return Fetched(version, same=True)
    total = sum(blobs[its].size for its in chosen.values())
    order.require_room(total)
    have = 0
    for name, its in chosen.items():
        target = order.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "wb") as file:
            for piece in _pieces(client, blobs[its]):
                file.write(piece)
                have += len(piece)
                tell(have, total)
    return Fetched(version)


def _container(uri: str) -> tuple[Any, str]:
    """The container, with the login that KServe's library reads from the environment, and the key in it."""
    from azure.storage.blob import BlobServiceClient  # type: ignore[import-not-found,unused-ignore]
    from kserve_storage import Storage  # type: ignore[import-not-found,import-untyped,unused-ignore]

    _, account, container, key = Storage._parse_azure_uri(uri)
    login = Storage._get_azure_storage_token() or Storage._get_azure_storage_access_key()
    return BlobServiceClient(account, credential=login).get_container_client(container), key


def _pieces(client: Any, blob: Any) -> Iterator[bytes]:
    """The blob as it was listed: one that was written meanwhile is refused."""
    from azure.core import MatchConditions  # type: ignore[import-not-found,unused-ignore]

    unmodified = {"etag": blob.etag, "match_condition": MatchConditions.IfNotModified}
    yield from client.download_blob(blob.name, **unmodified).chunks()
