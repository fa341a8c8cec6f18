"""Logs of processes that print without an end: they must not fill the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

#: Bytes after which a log begins anew.
MOST = 32 * 1024 * 1024


def bound(folder: Path, most: int = MOST) -> None:
    """Move what endpoints' logs hold to `NAME.log.1`, in place of what was there, when it became too much.

    Processes have the files open and go on writing at their end; what they write meanwhile may be lost.

    Example:
        >>> import tempfile
        >>> log = Path(tempfile.mkdtemp()) / "endpoint-late.log"
        >>> _ = log.write_text("a line\\n")
        >>> bound(log.parent, most=3)
        >>> log.read_text(), log.with_name("endpoint-late.log.1").read_text()
        ('', 'a line\\n')
    """
    for log in (*folder.glob("endpoint-*.log"), folder / "serving.log"):
        with contextlib.suppress(OSError):
            if log.stat().st_size > most:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
                os.truncate(log, 0)
