"""Fetches models into a pod before its model server starts: KServe's storage initializer, with our words.

    python -m modelyard_kserve.cluster.initializer SOURCE FOLDER [SOURCE FOLDER ...]

What can be fetched and with which credentials is KServe's own library's affair; a failure is one sentence
in the pod's status.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from modelyard_kserve.cluster.termination import HOPELESS, say

#: What the library says when the same request would fail again.
_FOR_GOOD = (
    "no model found",
    "not found",
    "does not exist",
    "denied",
    "forbidden",
    "authentication failed",
    "invalid aws credentials",
    "cannot recognize storage type",
    "cannot be empty",
)


def main(arguments: Sequence[str]) -> int:
    """Fetch every source into its folder."""
    if not arguments or len(arguments) % 2:
        say("initializer", "it takes pairs of a source and a folder")
        return 2
    for source, folder in zip(arguments[::2], arguments[1::2]):
        try:
            _fetch(source, Path(folder))
        except Exception as fault:  # whatever the library raises, somebody must read it in the pod's status
            said = " ".join(str(fault).split()) or type(fault).__name__
            say("initializer", f"{source} can't be fetched: {said}")
            return HOPELESS if any(words in said.lower() for words in _FOR_GOOD) else 1
    return 0


def _fetch(source: str, folder: Path) -> None:
    from kserve_storage import Storage  # type: ignore[import-not-found,import-untyped,unused-ignore]

    Storage.download_files([source], [str(folder)])
    if source.startswith("s3://"):
        for path in _empty_files(source):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch()


def _empty_files(source: str) -> Iterator[str]:
    """Files without content, which the library leaves out: without them a model is another one."""
    import boto3  # type: ignore[import-untyped,unused-ignore]
    from kserve_storage import Storage

    parts = urlsplit(source)
    prefix = parts.path.strip("/") + "/"
    # The library's own reading of its environment: endpoint, certificates, addressing.
    client = boto3.client("s3", **Storage._get_s3_client_kwargs())
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=parts.netloc, Prefix=prefix)
    for page in pages:
        for found in page.get("Contents") or ():
            if not found["Size"] and not found["Key"].endswith("/"):
                yield found["Key"].removeprefix(prefix)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
