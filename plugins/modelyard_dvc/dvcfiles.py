"""The `.dvc` files of a project: which data sets there are, read without importing DVC."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelyard.errors import CorruptStateError, UsageError
from modelyard.state import os_errors, write_bytes
from modelyard_dvc.memory import Memory, stamp

#: Never searched for data: version control, environments, and the state of tools.
_SKIPPED = frozenset(
    {".git", ".hg", ".dvc", ".modelyard", ".venv", "node_modules", "__pycache__", ".ipynb_checkpoints"}
)


@dataclass(frozen=True, slots=True)
class Tracked:
    """A data set as its `.dvc` file describes it.

    Attributes:
        name: what people call it.
        path: the file or folder, relative to the project, with `/`.
        file: the `.dvc` file.
        version: DVC's MD5; `.dir` at the end for folders.
        size, files: bytes and number of files.
        digest: SHA-256 of the manifest, if we wrote it down for this version.
        legacy: True when DVC 2 wrote it; its objects lie elsewhere and are hashed otherwise.
    """

    name: str
    path: str
    file: Path
    version: str
    size: int
    files: int
    digest: str | None
    legacy: bool = False


def dvc_file_of(path: Path) -> Path:
    """The `.dvc` file beside a file or folder.

    Example:
        >>> dvc_file_of(Path("data/flights.parquet")).as_posix()
        'data/flights.parquet.dvc'
    """
    return path.with_name(path.name + ".dvc")


def default_name(path: str, version: str = "") -> str:
    """The name without its ending; a folder's name has none.

    Example:
        >>> default_name("data/flights.parquet"), default_name("data/v1.2", "0cc1.dir")
        ('flights', 'v1.2')
    """
    last = Path(path).name
    return last if version.endswith(".dir") else Path(last).stem


def check_name(name: str) -> str:
    """The name in its usual Unicode form.

    Raises:
        UsageError: `data-name-invalid`.
    """
    plain = unicodedata.normalize("NFC", name)
    if not plain.strip() or len(plain) > 200 or re.search(r"[/\\\x00-\x1f\x7f]", plain):
        raise UsageError(
            "data-name-invalid",
            f"{name!r} can't name a data set: 1 to 200 characters, without slash or control characters",
            "modelyard data add PATH --name NAME",
        )
    return plain


def tracked(root: Path, memory: Memory) -> list[Tracked]:
    """All data sets of the project, by path. A `.dvc` file that didn't change is not parsed again.

    Raises:
        CorruptStateError: `data-file-invalid`: one is not what DVC writes, e.g. after a merge.
    """
    known = memory.parsed()
    now: dict[str, Any] = {}
    found: list[Tracked] = []
    for file in _find(root):
        place = file.relative_to(root).as_posix()
        with os_errors(file):
            mark = stamp(file)
        old = known.get(place)
        outs = old["outs"] if old and old["stamp"] == mark else _parse(file)
        now[place] = {"stamp": mark, "outs": outs}
        found += [item for out in outs if (item := _tracked(root, file, out))]
    if now != known:
        memory.remember_parsed(now)
    return sorted(_with_unique_names(found), key=lambda item: item.path)


def is_readable(file: Path) -> bool:
    """False when the `.dvc` file is torn or full of merge markers."""
    try:
        return bool(_parse(file))
    except CorruptStateError:
        return False


def write_meta(file: Path, *, name: str, version: str, digest: str) -> None:
    """Note name and digest in the `.dvc` file, where git carries them to everybody else. The version
    stands beside the digest, since a plain `dvc add` changes the one and knows nothing of the other."""
    from io import StringIO

    from ruamel.yaml import YAML

    yaml = YAML()
    with os_errors(file):
        text = file.read_text(encoding="utf-8")
    whole = yaml.load(text)
    wanted = {"name": name, "md5": version, "sha256": digest}
    if (whole.get("meta") or {}).get("modelyard") == wanted:
        return
    if not whole.get("meta"):
        whole["meta"] = {}
    whole["meta"]["modelyard"] = wanted
    made = StringIO()
    yaml.dump(whole, made)
    write_bytes(file, made.getvalue().encode())


def _find(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        here = set(files)
        # A folder with a .dvc file beside it is data: it may hold a million files and no .dvc file.
        # One with its own .dvc is another repository, one with pyvenv.cfg an environment.
        folders[:] = [
            name
            for name in sorted(folders)
            if name not in _SKIPPED
            and f"{name}.dvc" not in here
            and not Path(folder, name, ".dvc").is_dir()
            and not Path(folder, name, "pyvenv.cfg").is_file()
        ]
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".dvc") and name != ".dvc")


def _parse(file: Path) -> list[dict[str, Any]]:
    """The outputs of a `.dvc` file in the few fields we need."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    broken = CorruptStateError(
        "data-file-invalid",
        f"{file} is not a .dvc file as DVC writes it (half written, or a merge to resolve)",
        f"resolve it, or take the data as it lies there: modelyard data add '{file.with_suffix('')}'",
    )
    try:
        with os_errors(file):
            whole = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError):
        raise broken from None
    outs = whole.get("outs") if isinstance(whole, dict) else None
    if not isinstance(outs, list) or not all(isinstance(out, dict) and out.get("path") for out in outs):
        raise broken
    ours = (whole.get("meta") or {}).get("modelyard") or {}
    base = str(whole.get("wdir") or ".")
    return [
        {
            "path": os.path.normpath(Path(base, str(out["path"]))),
            "md5": str(out["md5"]),
            "size": int(out.get("size") or 0),
            "files": int(out.get("nfiles") or 1),
            "legacy": out.get("hash") != "md5",
            "name": str(ours.get("name", "")) if len(outs) == 1 else None,
            "digest": str(ours.get("sha256", "")) if ours.get("md5") == out["md5"] else None,
        }
        for out in outs
        if out.get("md5")  # not downloaded yet (`--no-exec`), or kept by a versioning bucket
    ]


def _tracked(root: Path, file: Path, out: dict[str, Any]) -> Tracked | None:
    path = Path(os.path.normpath(file.parent / out["path"]))
    if not path.is_relative_to(root):
        return None
    place = path.relative_to(root).as_posix()
    return Tracked(
        name=out["name"] or default_name(place, out["md5"]),
        path=place,
        file=file,
        version=out["md5"],
        size=out["size"],
        files=out["files"],
        digest=out["digest"],
        legacy=out["legacy"],
    )


def _with_unique_names(found: list[Tracked]) -> list[Tracked]:
    """Two branches may bring the same name: the second is then called by its path, and stays usable.
    A name that somebody chose goes before one that was made from a file's name."""
    taken: dict[str, str] = {}
    for item in sorted(
        found, key=lambda item: (item.name == default_name(item.path, item.version), item.path)
    ):
        taken.setdefault(item.name, item.path)
    return [item if taken[item.name] == item.path else replace(item, name=item.path) for item in found]
