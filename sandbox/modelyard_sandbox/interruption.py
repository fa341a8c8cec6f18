"""How a long command ends early: by a fault, by Ctrl-C, by SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from modelyard import console
from modelyard.errors import ModelyardError
from modelyard_sandbox.progress import Progress

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """Raised in the main thread by the first signal. Nothing that handles faults may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number


@contextmanager
def reported(progress: Progress) -> Iterator[None]:
    """Make faults and signals the last events of the stream, and the exit status.

    The first Ctrl-C or SIGTERM lets every step end and leaves nothing half-written; a second one ends the
    process at once, which the next `up` heals.
    """

    def handle(number: int, _: FrameType | None) -> None:
        def leave(number: int, _: FrameType | None) -> None:
            os._exit(128 + number)

        for one in _SIGNALS:
            signal.signal(one, leave)
        print("ending after this step; again: end at once", file=sys.stderr, flush=True)
        raise Interrupted(number)

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    except ModelyardError as fault:
        progress.emit("error", fault.message, code=fault.code, hint=fault.hint, details=fault.details)
        progress.emit("result", fault.message, ok=False, code=fault.code, exit_status=fault.exit_status)
        evidence = fault.details.get("evidence")
        for line in evidence if isinstance(evidence, list) else ():
            print(f"  {line}", file=sys.stderr)
        console.print_error(fault)
        raise click.exceptions.Exit(fault.exit_status) from None
    except Interrupted as end:
        said = "interrupted; the same command goes on where it stopped"
        progress.emit("result", said, ok=False, code="interrupted", exit_status=end.exit_status)
        print(said, file=sys.stderr)
        raise click.exceptions.Exit(end.exit_status) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
