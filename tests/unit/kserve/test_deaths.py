"""Who ends is heard of at once."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard_kserve.local.deaths import Deaths

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux says who ended")


def files() -> int:
    """Without those that nobody holds any more: other tests may have left some."""
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_an_end_is_told_once_and_nothing_is_left_open() -> None:
    async def run() -> None:
        told: asyncio.Queue[str] = asyncio.Queue()
        deaths = Deaths(lambda: told.put_nowait("one ended"))
        sleepers = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in "123"]
        before = files()
        pids = [one.pid for one in sleepers]
        deaths.watch(pids)
        deaths.watch(pids)
        assert files() == before + 3
        sleepers[0].kill()
        assert await asyncio.wait_for(told.get(), 60) == "one ended"
        deaths.watch(pids[1:2])
        sleepers[2].kill()  # nobody cares any more
        await asyncio.sleep(0.1)
        assert told.empty()
        sleepers[1].kill()
        deaths.watch([])
        assert files() == before
        for one in sleepers:
            one.wait()
            assert one.stdin is not None
            one.stdin.close()

    asyncio.run(run())


def test_one_that_never_was_is_not_watched() -> None:
    async def run() -> None:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        before = files()
        Deaths(lambda: None).watch([gone.pid])
        assert files() == before

    asyncio.run(run())
