"""Models among the project's DVC data: `dvc://PATH`, or `dvc://PATH?rev=REV` as of a git revision."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, unquote

from modelyard.errors import ConfigError, CorruptStateError
from modelyard_kserve.storage import faults
from modelyard_kserve.storage.orders import Fetched, Order, Tell
from modelyard_kserve.storage.uris import shown

_PIECE = 1 << 20


def fetch(order: Order, tell: Tell) -> Fetched:
    """Fetch what the `.dvc` files say, out of the cache or the remote, each byte checked against its hash:
    DVC alone hands out tampered bytes and calls them clean."""
    path, rev = parsed(order.uri)
    root = _root(order)
    place = (order.root.resolve() / path).relative_to(root).as_posix()
    from dvc.repo import Repo
    from dvc_data.index import DataIndexDirError

    with Repo(str(root), rev=rev) as repo:
        try:
            return _fetched(order, tell, repo.datafs, place)
        except (FileNotFoundError, DataIndexDirError):
            raise faults.missing(order.uri, "neither DVC's cache nor the remote has all of it") from None


def _fetched(order: Order, tell: Tell, data: Any, place: str) -> Fetched:
    files = _files(data, place, order.uri)
    version = files[""]["md5"] if "" in files else _whole(files)
    if version == order.known:
        return Fetched(version, same=True)
    total = sum(int(info["size"] or 0) for info in files.values())
    order.require_room(total)
    have = 0
    for name, info in files.items():
        target = order.folder / (name or PurePosixPath(place).name)
        target.parent.mkdir(parents=True, exist_ok=True)
        data.get_file(f"{place}/{name}".rstrip("/"), str(target))
        _require_same(target, info["md5"], order.uri, name or place)
        have += target.stat().st_size
        tell(have, total)
    return Fetched(version)


def parsed(uri: str) -> tuple[str, str | None]:
    """Path (from the project's folder) and git revision.

    Raises:
        ConfigError: `storage-unknown`.

    Example:
        >>> parsed("dvc://models/late?rev=v1.2"), parsed("dvc://models/late")
        (('models/late', 'v1.2'), ('models/late', None))
    """
    path, _, query = uri.partition("://")[2].partition("?")
    asked = dict(parse_qsl(query, keep_blank_values=True))
    rev = asked.pop("rev", None)
    path = unquote(path).strip("/")
    if asked or not path or rev == "" or ".." in PurePosixPath(path).parts:
        raise ConfigError(
            "storage-unknown",
            f"{shown(uri)} is not dvc://PATH or dvc://PATH?rev=REV",
            "PATH is that of a data set, from the project's folder; REV a commit, branch or tag of git",
        )
    return path, rev


def _root(order: Order) -> Path:
    """The DVC repository around the project's folder."""
    root = order.root.resolve()
    for folder in (root, *root.parents):
        if (folder / ".dvc").is_dir():
            return folder
        if (folder / ".git").exists():
            break
    raise faults.missing(order.uri, "the project has no DVC repository")


def _files(data: Any, place: str, uri: str) -> dict[str, Any]:
    """The files by their names below the place; a single file has an empty name."""
    if not data.exists(place):
        raise faults.missing(uri, f"no data set of the project holds {place}; modelyard data status")
    if not data.isdir(place):
        return {"": data.info(place)}
    below = data.find(place, detail=True)
    infos = below.items() if isinstance(below, dict) else ((name, data.info(name)) for name in below)
    found = {PurePosixPath(str(name)).relative_to(place).as_posix(): info for name, info in infos}
    if not found:
        raise faults.missing(uri, "it is an empty folder")
    return found


def _whole(files: dict[str, Any]) -> str:
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{files[name]['md5']}\n".encode())
    return whole.hexdigest()


def _require_same(file: Path, md5: str, uri: str, name: str) -> None:
    read = hashlib.md5(usedforsecurity=False)
    with open(file, "rb") as opened:
        while piece := opened.read(_PIECE):
            read.update(piece)
    if read.hexdigest() != md5:
        raise CorruptStateError(
            "data-corrupt",
            f"DVC's cache or remote hold other bytes of {name} in {shown(uri)} than its hash says",
            "modelyard data verify",
        )
