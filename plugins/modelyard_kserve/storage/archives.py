"""Zip and tar files, unpacked so that nothing lands outside of the folder and no disk is filled."""

from __future__ import annotations

import contextlib
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from modelyard.errors import ConfigError, ModelyardError
from modelyard.state import fault_of
from modelyard_kserve.storage import faults

#: By their names, as KServe tells them: many model files are zip files inside, and stay as they are.
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
#: Names, and what opens the content; None for folders.
_Members = Generator[tuple[str, "Callable[[], IO[bytes]] | None"], None, None]
_PIECE = 1 << 20
_MOST_FILES = 100_000


def is_archive(name: str) -> bool:
    """Whether a file is unpacked.

    Example:
        >>> is_archive("late.tar.gz"), is_archive("LATE.ZIP"), is_archive("late.skops")
        (True, True, False)
    """
    return name.lower().endswith(SUFFIXES)


def unpack(archive: Path, folder: Path, limit: float, what: str) -> None:
    """Unpack the files of an archive; rights, owners and times are not taken over.

    Args:
        archive: the file.
        folder: is made; whatever is in it after a failure is to be thrown away.
        limit: gigabytes that the files may take together.
        what: names the archive in messages.

    Raises:
        ConfigError: `archive-invalid`: it is broken, or would write elsewhere; `model-too-large`.
        EnvironmentFault: the disk is full, or can't be written.
    """
    room = int(limit * 1e9)
    files = _of_zip if archive.name.lower().endswith(".zip") else _of_tar
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(files(archive)) as members:
            for count, (name, opened) in enumerate(members):
                if count >= _MOST_FILES:
                    raise _Refusal(f"it holds more than {_MOST_FILES} files")
                target = folder / _inside(name)
                if opened is None:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                with opened() as content:
                    room -= _written(content, target, room)
                if room < 0:
                    raise faults.too_large(what, limit)
    except _Refusal as fault:
        raise _invalid(what, str(fault)) from None
    except ModelyardError:
        raise
    except Exception as fault:  # whatever unpacking broken files raises
        if isinstance(fault, OSError) and fault.errno is not None:
            raise fault_of(fault, folder) from fault
        said = " ".join(str(fault).split()) or type(fault).__name__
        raise _invalid(what, f"it is broken ({said[:200]})") from None


class _Refusal(Exception):
    """Something in an archive that is not taken."""


def _invalid(what: str, why: str) -> ConfigError:
    return ConfigError("archive-invalid", f"{what} can't be unpacked: {why}", "make the archive again")


def _of_zip(archive: Path) -> _Members:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _Refusal(f"'{member.filename:.100}' is no plain file")
            if member.flag_bits & 1:
                raise _Refusal("it wants a password")
            yield member.filename, None if member.is_dir() else partial(opened.open, member)


def _of_tar(archive: Path) -> _Members:
    with tarfile.open(archive, "r:*") as opened:
        for member in opened:
            if not (member.isfile() or member.isdir()):
                # A link may lead out of the folder, and what follows it would be written there.
                raise _Refusal(f"'{member.name:.100}' is a link or a device, not a plain file")
            yield member.name, None if member.isdir() else partial(_file_of, opened, member)
        while opened.fileobj and opened.fileobj.read(_PIECE):  # to its checksum, or where it was cut
            pass


def _file_of(opened: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    found = opened.extractfile(member)
    assert found is not None, "files have content"
    return found


def _inside(name: str) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or path.parts[:1] == ("~",):
        raise _Refusal(f"'{name:.100}' would be written outside of the folder")
    return Path(*path.parts)


def _written(content: IO[bytes], target: Path, room: int) -> int:
    """The file's bytes; not many more than there is room for are written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with open(target, "wb") as file:
        while written <= room and (piece := content.read(_PIECE)):
            file.write(piece)
            written += len(piece)
    return written


def require_inside(folder: Path, what: str) -> None:
    """See that no link leads out of what somebody else's library has fetched.

    Raises:
        ConfigError: `archive-invalid`.
    """
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise _invalid(what, f"'{path.relative_to(folder)}' leads out of it")


def flatten(folder: Path) -> None:
    """Remove what the tools that fetch write beside the files: times in it would make every fetch another."""
    for name in (".cache", ".git"):
        shutil.rmtree(folder / name, ignore_errors=True)
