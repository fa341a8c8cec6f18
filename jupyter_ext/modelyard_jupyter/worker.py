"""A process that answers questions about one project: `python -m modelyard_jupyter.worker FOLDER TARGET`.

The Jupyter server stays light and quick because everything heavy (MLflow, DVC, pandas) is imported here, and
everything slow waits here. Questions come on standard input, answers go to standard output:

    question   ID WHAT LENGTH\\n   then LENGTH bytes of JSON (the arguments)
    answer     ID STATUS LENGTH\\n then LENGTH bytes of JSON (the answer, or a `Problem`), or of HTML

STATUS is HTTP's. Questions of one section are answered one after the other, because the tools behind them are
not made for threads; sections do not wait for each other.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from modelyard_jupyter.answers import Answers

_IDLE_SECONDS = 15 * 60.0
#: Seconds that answers under way get when the server is gone.
_LAST_SECONDS = 5.0
_THREADS = 8


class Channel:
    """The pipes to the Jupyter server.

    Whatever libraries print would get between the answers: it goes to the log, and nobody reads from the
    keyboard.
    """

    def __init__(self) -> None:
        self.questions: IO[bytes] = os.fdopen(os.dup(0), "rb")
        self._answers: IO[bytes] = os.fdopen(os.dup(1), "wb")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def read(self) -> tuple[str, str, bytes] | None:
        """The next question: id, what, arguments; None: the server is gone."""
        head = self.questions.readline().split()
        if len(head) != 3:
            return None
        return head[0].decode(), head[1].decode(), self.questions.read(int(head[2]))

    def write(self, id: str, status: int, body: bytes) -> None:
        """One answer, whole."""
        with self._lock:
            self._answers.write(f"{id} {status} {len(body)}\n".encode() + body)
            self._answers.flush()


class Worker:
    """Reads questions until there are none any more.

    Args:
        channel: where they come from.
        answers: knows what to say.
    """

    def __init__(self, channel: Channel, answers: Answers) -> None:
        self._channel, self._answers = channel, answers
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._asked = time.monotonic()
        self._open = 0

    def run(self) -> None:
        """Until the server closes the pipe, or nobody has asked for a while."""
        threading.Thread(target=self._watch, daemon=True).start()
        pool = ThreadPoolExecutor(_THREADS)
        while question := self._channel.read():
            self._asked = time.monotonic()
            self._open += 1
            pool.submit(self._answer, *question)
        deadline = time.monotonic() + _LAST_SECONDS
        while self._open and time.monotonic() < deadline:
            time.sleep(0.05)
        os._exit(0)  # nobody waits for what is still under way

    def _answer(self, id: str, what: str, arguments: bytes) -> None:
        try:
            with self._locks[self._answers.section_of(what)]:
                status, body = self._answers.answer(what, arguments)
            self._channel.write(id, status, body)
        finally:
            self._open -= 1
            self._asked = time.monotonic()

    def _watch(self) -> None:
        while self._open or time.monotonic() - self._asked < _IDLE_SECONDS:
            time.sleep(_IDLE_SECONDS / 15)
        os._exit(0)


def main() -> int:
    """Answer about the project in the folder that the command names."""
    channel = Channel()
    Worker(channel, Answers(Path(sys.argv[1]), sys.argv[2])).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
