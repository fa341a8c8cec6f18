"""What tests do to files behind a provider's back."""

from __future__ import annotations

import shutil
from pathlib import Path


def spoil_files(folder: Path, content: bytes) -> None:
    """Change one byte of every file below the folder that holds `content`, keeping length and rights."""
    found = [each for each in folder.rglob("*") if each.is_file() and each.read_bytes() == content]
    assert found, f"nothing below {folder} holds the bytes; override the fixture `spoil`"
    for file in found:
        replace_content(file, content[:-1] + bytes([content[-1] ^ 0x01]))


def replace_content(file: Path, content: bytes) -> None:
    """Give the file other bytes, even if it is write-protected, without touching hard links to it."""
    mode = file.stat().st_mode
    file.unlink()
    file.write_bytes(content)
    file.chmod(mode)


def empty_folder(folder: Path) -> None:
    """Remove everything below the folder."""
    for child in folder.iterdir() if folder.is_dir() else ():
        remove(child)


def remove(path: Path) -> None:
    """Remove a file or folder, even if it is write-protected."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
