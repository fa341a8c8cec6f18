"""Hears at once that a process ended, where the system can say so (Linux); elsewhere it is seen later."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection


class Deaths:
    """Watches processes, which need not be children of ours.

    Args:
        tell: is called when one ended.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._watched: dict[int, int] = {}

    def watch(self, pids: Collection[int]) -> None:
        """Watch exactly these from now on."""
        for pid in self._watched.keys() - set(pids):
            self._let_go(pid)
        for pid in set(pids) - self._watched.keys():
            # One that has gone already is seen by whoever asks for it; where there are no more files to
            # open, or no such call, everything is.
            with contextlib.suppress(OSError, AttributeError):
                descriptor = os.pidfd_open(pid)
                self._watched[pid] = descriptor
                asyncio.get_running_loop().add_reader(descriptor, self._ended, pid)

    def _ended(self, pid: int) -> None:
        self._let_go(pid)
        self._tell()

    def _let_go(self, pid: int) -> None:
        descriptor = self._watched.pop(pid)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
