"""Files to where MLflow keeps them: through MLflow, or into a target's bucket without its server between.

A server that hands files on to S3 writes each to its own disk first; straight to S3 they arrive in a
tenth of the time, checked by S3 itself.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from modelyard.digests import model_digest
from modelyard.errors import CorruptStateError, EnvironmentFault, ModelyardError
from modelyard.s3 import LARGEST, Bucket, OtherBytes
from modelyard.stages import StageContext
from modelyard.state import locked
from modelyard_mlflow.store import Stores, artifacts_at


def bucket_of(context: StageContext) -> Bucket | None:
    """The bucket in which the target's MLflow keeps files, if it can be reached from here."""
    if context.target is None:
        return None
    storage = context.target.address("mlflow").storage
    if not storage.startswith("s3://"):
        return None
    try:
        bucket = Bucket(context.target.address("s3"), storage)
        bucket.require()
    except ModelyardError:  # it lies elsewhere, or behind the server alone
        return None
    return bucket


def put(
    stores: Stores, bucket: Bucket | None, uri: str, folder: Path, files: Sequence[dict[str, Any]]
) -> bool:
    """Store files below an artifact URI. Says whether each was checked where it arrived.

    Args:
        stores: MLflow's.
        bucket: see `bucket_of`.
        uri: as MLflow calls the place.
        folder: where the files lie.
        files: their manifest (`modelyard.digests.manifest`).

    Raises:
        CorruptStateError: `model-changed`: a file was changed meanwhile.
    """
    place = _place_in(bucket, uri)
    if bucket is None or place is None or any(file["size"] > LARGEST for file in files):
        _put_through_mlflow(stores, uri, folder, files)
        return False
    for file in files:
        path = folder / file["path"]
        try:
            bucket.put(f"{place}/{file['path']}".lstrip("/"), path, sha256=file["sha256"])
        except OtherBytes:
            raise CorruptStateError(
                "model-changed", f"{path} was changed while it was copied", "run this again"
            ) from None
    return True


def _place_in(bucket: Bucket | None, uri: str) -> str | None:
    """The key below which the bucket keeps what MLflow calls so; None: it lies elsewhere."""
    parts = urlsplit(uri)
    if parts.scheme == "mlflow-artifacts":
        return parts.path.strip("/")
    if bucket is not None and uri.startswith(f"{bucket.storage}/"):
        return uri.removeprefix(f"{bucket.storage}/").strip("/")
    return None


def _put_through_mlflow(stores: Stores, uri: str, folder: Path, files: Sequence[dict[str, Any]]) -> None:
    repository = artifacts_at(uri, stores)
    for file in files:
        parent = PurePosixPath(file["path"]).parent.as_posix()
        repository.log_artifact(str(folder / file["path"]), None if parent == "." else parent)


def downloaded(repository: Any, folder: Path, what: str) -> bool:
    """Bring a model here, whole or not at all, by one process at a time. Says whether there is one.

    Args:
        repository: MLflow's access to its files.
        folder: is made, unless an earlier call did.
        what: names the model in messages.
    """
    with locked(folder.with_name(f"{folder.name}.lock"), timeout=600, doing=f"downloading {what}"):
        if not (folder / "MLmodel").is_file():
            part = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)  # half of it, left by a killed download
            part.mkdir(parents=True)
            repository.download_artifacts("", str(part))
            if not (part / "MLmodel").is_file():
                return False
            part.replace(folder)
    return True


def require_same(stores: Stores, uri: str, digest: str) -> None:
    """Read a model back that came through MLflow, and see that it is the same.

    Raises:
        EnvironmentFault: `mlflow-store`: other bytes arrived.
    """
    with tempfile.TemporaryDirectory(prefix="modelyard-") as scratch:
        artifacts_at(uri, stores).download_artifacts("", scratch)
        if model_digest(Path(scratch)) != digest:
            raise EnvironmentFault(
                "mlflow-store",
                "MLflow stored other bytes of a model than it was sent",
                "look at the log of its server, then run this again",
            )
