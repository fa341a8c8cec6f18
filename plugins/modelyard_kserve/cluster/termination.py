"""How programs of ours end in a pod, so that whoever watches it can say why."""

from __future__ import annotations

import contextlib
from pathlib import Path

#: Trying again will not help: no model there, or one that can't be loaded.
HOPELESS = 3
#: Whatever stands here when a container ends becomes part of the pod's status, 4 KiB at most.
_LAST_WORDS = Path("/dev/termination-log")
_MOST = 1000


def say(program: str, sentence: str) -> None:
    """The reason for the end, in the log and in the pod's status."""
    print(f"{program}: {sentence}", flush=True)
    if _LAST_WORDS.exists():
        with contextlib.suppress(OSError):
            _LAST_WORDS.write_text(sentence[:_MOST], encoding="utf-8")
